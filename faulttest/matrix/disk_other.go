//go:build !linux

package main

import "errors"

// disk is a file system that a story fills, which takes Linux.
type disk struct{ dir string }

func newDisk(int) (*disk, error) {
	return nil, &skipped{errors.New("disks in memory are mounted on Linux only")}
}

func (d *disk) fill(uint64) error     { return nil }
func (d *disk) free() (uint64, error) { return 0, nil }
func (d *disk) empty() error          { return nil }
func (d *disk) close() error          { return nil }
