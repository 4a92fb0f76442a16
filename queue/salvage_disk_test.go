package queue

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"strings"
	"syscall"
	"testing"
)

// failure is how a call fails.
type failure int

const (
	undone failure = iota // at the most half a write is done
	done                  // and told as failed
	killed                // and so is every call after it
)

// failingDisk fails at its n-th call, counted from 1.
type failingDisk struct {
	osDisk
	how      failure
	n, calls int
	err      error
}

func (d *failingDisk) call(do func() error) error {
	d.calls++
	if d.calls < d.n || (d.calls > d.n && d.how != killed) {
		return do()
	}
	if d.how == done {
		return errors.Join(d.err, do())
	}
	return d.err
}

func (d *failingDisk) ReadDir(dir string) (entries []fs.DirEntry, err error) {
	err = d.call(func() (err error) { entries, err = d.osDisk.ReadDir(dir); return err })
	return entries, err
}

func (d *failingDisk) OpenFile(name string, flag int, perm fs.FileMode) (diskHandle, error) {
	var h diskHandle
	err := d.call(func() (err error) { h, err = d.osDisk.OpenFile(name, flag, perm); return err })
	if err == nil {
		return &failingHandle{h, d}, nil
	}
	if d.how == done && h != nil {
		_ = h.Close()
	}
	return nil, err
}

func (d *failingDisk) Rename(from, to string) error {
	return d.call(func() error { return d.osDisk.Rename(from, to) })
}

func (d *failingDisk) Remove(name string) error {
	return d.call(func() error { return d.osDisk.Remove(name) })
}

type failingHandle struct {
	diskHandle
	disk *failingDisk
}

func (h *failingHandle) Read(b []byte) (n int, err error) {
	err = h.disk.call(func() (err error) { n, err = h.diskHandle.Read(b); return err })
	return n, err
}

func (h *failingHandle) ReadAt(b []byte, at int64) (n int, err error) {
	err = h.disk.call(func() (err error) { n, err = h.diskHandle.ReadAt(b, at); return err })
	return n, err
}

func (h *failingHandle) Write(b []byte) (n int, err error) {
	before := h.disk.calls
	err = h.disk.call(func() (err error) { n, err = h.diskHandle.Write(b); return err })
	if err != nil && before < h.disk.n && h.disk.how != done {
		n, _ = h.diskHandle.Write(b[:len(b)/2])
	}
	return n, err
}

func (h *failingHandle) Stat() (info fs.FileInfo, err error) {
	err = h.disk.call(func() (err error) { info, err = h.diskHandle.Stat(); return err })
	return info, err
}

func (h *failingHandle) Truncate(size int64) error {
	return h.disk.call(func() error { return h.diskHandle.Truncate(size) })
}

// Sync takes its time for nothing where no machine fails.
func (h *failingHandle) Sync() error { return h.disk.call(func() error { return nil }) }

// Close gives the file back whatever it says.
func (h *failingHandle) Close() error {
	return errors.Join(h.disk.call(func() error { return nil }), h.diskHandle.Close())
}

// Whichever call fails, and however, the error is told, nothing whole is put aside, and the next salvage ends as one that nothing
// disturbed: every message is there, in order, and none twice.
func TestSalvage_GoesOnWhereADiskFailed(t *testing.T) {
	a, b, c, d := onDisk("a"), onDisk("bb"), onDisk(strings.Repeat("c", 5000)), onDisk("dddd")
	damage := strings.Repeat("\x00", diskLength+diskLongest+1)
	errnos := []error{syscall.ENOSPC, syscall.EMFILE, syscall.EIO, syscall.EACCES}
	meta := func(depth, readFile, readPos, writeFile, writePos int) string {
		return fmt.Sprintf(diskMetaFormat, depth, readFile, readPos, writeFile, writePos)
	}
	for name, story := range map[string]struct {
		was  folder
		want string // messages
	}{
		"no metadata":               {files("", a+b+c), a + b + c},
		"forgotten messages":        {files(meta(1, 0, len(a), 0, len(a+b)), a+b+c), b + c},
		"stopped":                   {files(meta(3, 1, len(a), 2, len(d)), none, a+b+c, d), b + c + d},
		"torn":                      {files(meta(1, 0, 0, 0, len(a)), a+b[:9], c+d[:5]), a + c},
		"torn where it is read":     {files(meta(2, 0, len(a+b), 0, len(a+b+c)), a+b+c[:99]), a + b},
		"all is read":               {files(meta(1, 2, 0, 0, len(a)), a, b), ""},
		"nothing where it is read":  {files(meta(1, 0, len(a), 0, len(a+b)), a+"\x00\x00"), a},
		"torn behind what was read": {files(meta(0, 0, len(a+b), 0, len(a+b)), a+b+c[7:]), ""},
		"read files, and what nsqd began": {func() folder {
			f := files(meta(1, 2, len(a), 2, len(a+b)), a, b, a+b, c)
			f[metadata+".12.tmp"] = "1"
			return f
		}(), b + c},
		"the read file is gone, and a gap": {files(meta(2, 1, len(a), 2, len(b)), none, none, b, none, none, c, none, d), b + c + d},
		"read to its end, and nothing":     {files(meta(0, 1, len(a), 1, len(a)), none, a, "", b, "", c+d[:9], d[:9]), b + c},
		"nothing":                          {files("", "", "\x00", ""), ""},
		"two queues":                       {func() folder { f := files("", a, none, b); f["events.diskqueue.000003.dat"] = c + d[:7]; return f }(), a + b},
		"damaged tail":                     {files(meta(4, 0, len(a), 0, len(a+b+c)), a+b+damage, c), b + c},
		"damaged files":                    {files("", damage, a, damage, none, b, damage), a + b},
	} {
		t.Run(name, func(t *testing.T) {
			calm := story.was.write(t)
			counted := &failingDisk{}
			if err := salvageOn(counted, calm, slog.New(slog.DiscardHandler)); err != nil {
				t.Fatal(err)
			}
			want := readFolder(t, calm)
			readsBack(t, calm, wholeMessages(story.want))
			for n := 1; n <= counted.calls; n++ {
				for _, how := range []failure{undone, done, killed} {
					mendsAfter(t, story.was, want, &failingDisk{n: n, how: how, err: errnos[n%len(errnos)]})
				}
			}
		})
	}
}

func mendsAfter(t *testing.T, was, want folder, d *failingDisk) {
	t.Helper()
	dir := was.write(t)
	err := salvageOn(d, dir, slog.New(slog.DiscardHandler))
	left := readFolder(t, dir)
	if err == nil && !maps.Equal(left, want) || err != nil && !errors.Is(err, d.err) {
		t.Errorf("call %d fails (%d) with %v: salvage = %v, and leaves\n%.999q", d.n, d.how, d.err, err, left)
	}
	for name := range left {
		if _, damaged := want[name]; strings.HasSuffix(name, bad) && !damaged {
			t.Errorf("call %d fails (%d) with %v: %s is put aside", d.n, d.how, d.err, name)
		}
	}
	if err := salvageOn(&failingDisk{}, dir, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if got := readFolder(t, dir); !maps.Equal(got, want) {
		t.Errorf("call %d fails (%d) with %v, and the folder becomes\n%.999q, want\n%.999q", d.n, d.how, d.err, got, want)
	}
}

// The same with whatever files and metadata.
func FuzzSalvage_GoesOnWhereADiskFailed(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 0, 1, 2, 4, 1, 5, 3}, uint8(9), uint8(0))
	f.Add([]byte{1, 0, 1, 0, 3, 0, 3}, uint8(17), uint8(1))
	f.Add([]byte{1, 1, 1, 3, 2, 0, 4, 0, 1, 4, 4, 1, 3, 5, 2}, uint8(25), uint8(2))
	f.Add([]byte{1, 0, 2, 1, 2, 0, 1, 6, 4, 5, 0, 255}, uint8(30), uint8(2))
	f.Fuzz(func(t *testing.T, shape []byte, n, how uint8) {
		if len(shape) < 5 || len(shape) > 30 {
			t.Skip()
		}
		was := shaped(shape)
		calm := was.write(t)
		if err := salvageOn(&failingDisk{}, calm, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
		mendsAfter(t, was, readFolder(t, calm), &failingDisk{n: int(n), how: failure(how % 3), err: syscall.EIO})
	})
}

// shaped is a folder with metadata of the first five bytes, and files whose parts the others choose.
func shaped(shape []byte) folder {
	a, b := onDisk("a"), onDisk("bb")
	places := []int{0, len(a), len(a + b), len(a + a), len(a) - 1, len(b), 9, 99}
	place := func(b byte) int { return places[int(b)%len(places)] }
	was := folder{}
	if shape[0]%4 > 0 {
		was[metadata] = fmt.Sprintf(diskMetaFormat, shape[0], shape[1]%4, place(shape[2]), shape[3]%4, place(shape[4]))
	}
	parts, number := []string{a, b, onDisk(strings.Repeat("c", 5000)), b[:9]}, 0
	for _, part := range shape[5:] {
		switch {
		case part == 255:
			was[numberedFile(number)] += strings.Repeat("\x00", diskLength+diskLongest+1)
		case part%7 < 4:
			was[numberedFile(number)] += parts[part%7]
		case part%7 == 4:
			number++
			was[numberedFile(number)] = ""
		case part%7 == 5:
			number += 2
		default:
			was[numberedFile(number)] += "\x00\x00"
		}
	}
	return was
}
