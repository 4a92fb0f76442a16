package pgcluster

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// own marks dir as somebody's. The lock belongs to the open file, which the server inherits, so it lasts until both the
// owner and the server have ended: also for those who cannot see either of them, because they share the temporary
// directory but not the process ids, as containers may.
func own(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make a lock: %w", err)
	}
	if err := tryLock(f); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
	}
	return f, nil
}

func tryLock(f *os.File) error {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) //nolint:wrapcheck // the caller says what it locked
}

// removeLeftovers removes the clusters in tmp whose owners were killed. Whatever is not proven to be one stays, and so
// does what cannot be removed: it is not this cluster's business to fail for another's remains.
func removeLeftovers(tmp string) {
	dirs, _ := filepath.Glob(filepath.Join(tmp, prefix+"*")) // a tmp that is a pattern itself finds nothing
	for _, dir := range dirs {
		removeLeftover(dir)
	}
}

func removeLeftover(dir string) {
	owner, ok := ownerOf(dir)
	if !ok || !ours(dir) || running(owner) {
		return
	}
	f, err := openRegular(filepath.Join(dir, lockName))
	if err != nil {
		return
	}
	defer f.Close() //nolint:errcheck // nothing was written
	if tryLock(f) != nil {
		return
	}
	if server, ok := serverOf(dir); !ok || running(server) {
		return
	}
	_ = os.RemoveAll(dir) // it does not follow links
}

// ownerOf reads the owner's process id from a directory's name.
func ownerOf(dir string) (pid int, ok bool) {
	rest, ok := strings.CutPrefix(filepath.Base(dir), prefix)
	if !ok {
		return 0, false
	}
	number, _, ok := strings.Cut(rest, "-")
	if !ok {
		return 0, false // of a version that did not say
	}
	return processID(number)
}

// serverOf reads the server's process id from its postmaster.pid; 0 where the server ended well or never began.
func serverOf(dir string) (pid int, ok bool) {
	f, err := openRegular(filepath.Join(dir, "data", "postmaster.pid"))
	if errors.Is(err, os.ErrNotExist) {
		return 0, true
	}
	if err != nil {
		return 0, false
	}
	defer f.Close() //nolint:errcheck // nothing was written
	text, err := io.ReadAll(io.LimitReader(f, 64))
	if err != nil {
		return 0, false
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	return processID(string(line))
}

func processID(text string) (int, bool) {
	pid, err := strconv.ParseInt(text, 10, 32)
	return int(pid), err == nil && pid > 0
}

// running reports whether there is such a process, or may be.
func running(pid int) bool {
	return pid > 0 && !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}

// ours reports whether dir is a directory of the user who runs our servers.
func ours(dir string) bool {
	info, err := os.Lstat(dir)
	if err != nil || !info.IsDir() {
		return false
	}
	uid := os.Geteuid()
	if who, err := account(); err != nil {
		return false
	} else if who != nil {
		uid = int(who.Uid)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == uid
}

// openRegular opens a file that is neither a link nor anything that could make us wait.
func openRegular(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err //nolint:wrapcheck // the caller only asks whether it is there
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(fmt.Errorf("%s is not a regular file", path), err, f.Close())
	}
	return f, nil
}
