package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// disk is a small file system of a part's own, in memory, which a story fills and empties. The story's goroutine uses it.
type disk struct {
	dir    string
	filler *os.File // nil: nothing was filled in
}

// newDisk mounts one. Where that is not allowed the error is a skipped one.
func newDisk(mib int) (*disk, error) {
	dir, err := os.MkdirTemp("", "sluice-disk-") // PostgreSQL's user gets here, as it does not into a run's folder
	if err != nil {
		return nil, err
	}
	err = syscall.Mount("sluice", dir, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, fmt.Sprintf("size=%dm,mode=755", mib))
	if err == nil {
		return &disk{dir: dir}, nil
	}
	err = errors.Join(fmt.Errorf("mount a disk of %d MiB on %s: %w", mib, dir, err), os.Remove(dir))
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) {
		err = &skipped{err}
	}
	return nil, err
}

// fill writes until so many bytes are left, or all that there are with 0. Called again it takes what has come free meanwhile.
func (d *disk) fill(leave uint64) (err error) {
	if d.filler == nil {
		if d.filler, err = os.Create(filepath.Join(d.dir, "filler")); err != nil {
			return err
		}
	}
	block := make([]byte, os.Getpagesize()) // what a disk in memory counts in
	for {
		free, err := d.free()
		if err != nil {
			return err
		}
		if free <= leave {
			return nil
		}
		if _, err := d.filler.Write(block); errors.Is(err, syscall.ENOSPC) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// free is how many bytes are.
func (d *disk) free() (uint64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(d.dir, &s); err != nil {
		return 0, fmt.Errorf("how full %s is: %w", d.dir, err)
	}
	return s.Bavail * uint64(s.Bsize), nil //nolint:gosec // a block's size is positive
}

// empty gives back what was filled in.
func (d *disk) empty() error {
	if d.filler == nil {
		return nil
	}
	err := errors.Join(os.Remove(d.filler.Name()), d.filler.Close())
	d.filler = nil
	return err
}

// close unmounts it, once its users have ended.
func (d *disk) close() (err error) {
	err = d.empty()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		e := syscall.Unmount(d.dir, 0)
		if e == nil {
			return errors.Join(err, os.Remove(d.dir))
		}
		if time.Now().After(end) {
			return errors.Join(err, fmt.Errorf("unmount %s: %w", d.dir, e))
		}
	}
}
