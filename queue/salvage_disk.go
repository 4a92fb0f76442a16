package queue

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
)

// disk is where nsqd's queues lie. It may fail at any call; what a call that failed has done is not known.
type disk interface {
	ReadDir(dir string) ([]fs.DirEntry, error) // sorted by name
	OpenFile(name string, flag int, perm fs.FileMode) (diskHandle, error)
	Rename(from, to string) error
	Remove(name string) error
}

// diskHandle is what salvage uses of an *os.File.
type diskHandle interface {
	io.ReadWriteCloser
	io.ReaderAt
	Stat() (fs.FileInfo, error)
	Truncate(size int64) error
	Sync() error
}

// osDisk is the real one.
type osDisk struct{}

func (osDisk) ReadDir(dir string) ([]fs.DirEntry, error) { return os.ReadDir(dir) }
func (osDisk) Rename(from, to string) error              { return os.Rename(from, to) }
func (osDisk) Remove(name string) error                  { return os.Remove(name) }

func (osDisk) OpenFile(name string, flag int, perm fs.FileMode) (diskHandle, error) {
	return os.OpenFile(name, flag, perm)
}

// replace has a file be what is written, or as it was. Where there is no room, what was begun takes none.
func replace(d disk, file string, write func(io.Writer) error) error {
	tmp := file + ".tmp"
	f, err := d.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(write(f), f.Sync(), f.Close()); err != nil {
		return errors.Join(err, d.Remove(tmp))
	}
	if err := d.Rename(tmp, file); err != nil {
		return err
	}
	return syncDir(d, filepath.Dir(file))
}

// copyTail copies what a file has from an offset on.
func copyTail(d disk, file string, from int64, to string) error {
	in, err := d.OpenFile(file, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // it was only read
	info, err := in.Stat()
	if err != nil {
		return err
	}
	return replace(d, to, func(w io.Writer) error {
		_, err := io.Copy(w, io.NewSectionReader(in, from, info.Size()-from))
		return err
	})
}

func truncate(d disk, file string, size int64) error {
	f, err := d.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Sync(), f.Close())
}

// syncDir makes what was renamed and removed in a directory outlive the machine.
func syncDir(d disk, dir string) error {
	f, err := d.OpenFile(dir, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// bad is the end of the names of what can't be read: nsqd calls a whole file so, salvage what it had from an offset on.
const bad = ".bad"

func (q *diskQueue) badFile(number, from int64) string {
	return fmt.Sprintf("%s.%d%s", q.file(number), from, bad)
}

// badBytes are what may be kept of a queue's damage from start to start: nsqd's files have 100 MiB.
const badBytes = 256 << 20

var (
	badName = regexp.MustCompile(`^(.+)\.diskqueue\.[0-9]{6,18}\.dat(\.[0-9]+)?\.bad$`)
	// leftOver is what nsqd or salvage was killed amid writing; nsqd's metadata has a name of its own each time.
	leftOver = regexp.MustCompile(`\.diskqueue\.(meta\.dat(\.[0-9]+)?|[0-9]{6,18}\.dat\.[0-9]+\.bad)\.tmp$`)
)

// tidy removes what was not written to its end, and the oldest damage where there is too much: mending may need the room.
func tidy(d disk, dir string, log *slog.Logger) error {
	entries, err := d.ReadDir(dir)
	if err != nil {
		return err
	}
	damage := map[string][]fs.FileInfo{}
	for _, entry := range entries {
		if leftOver.MatchString(entry.Name()) {
			if err := d.Remove(filepath.Join(dir, entry.Name())); err != nil {
				return err
			}
		}
		if match := badName.FindStringSubmatch(entry.Name()); match != nil && entry.Type().IsRegular() {
			info, err := entry.Info()
			if err != nil {
				return err
			}
			damage[match[1]] = append(damage[match[1]], info)
		}
	}
	for queue, kept := range damage {
		for _, info := range beyond(kept, badBytes) {
			file := filepath.Join(dir, info.Name())
			if err := d.Remove(file); err != nil {
				return err
			}
			log.Warn("old damage of a queue on disk is removed to make room for newer", "queue", queue, "file", file, "bytes", info.Size())
		}
	}
	return nil
}

// beyond are the oldest files, which have no room with the newer ones. The newest one always has.
func beyond(files []fs.FileInfo, room int64) []fs.FileInfo {
	slices.SortFunc(files, func(a, b fs.FileInfo) int {
		return cmp.Or(b.ModTime().Compare(a.ModTime()), cmp.Compare(b.Name(), a.Name()))
	})
	for i, info := range files {
		if room -= info.Size(); room < 0 && i > 0 {
			return files[i:]
		}
	}
	return nil
}
