package main

import (
	"errors"
	"maps"
	"slices"
)

// skipped says why a run could not be played on this machine.
type skipped struct{ err error }

func (s *skipped) Error() string { return s.err.Error() }
func (s *skipped) Unwrap() error { return s.err }

// mount gives parts disks of their own, as the story says.
func (s *scene) mount() error {
	s.mounted = map[string]*disk{}
	for _, name := range slices.Sorted(maps.Keys(s.disks)) {
		if name == "postgres" && s.store != "postgres" {
			continue
		}
		d, err := newDisk(s.disks[name])
		if err != nil {
			return err
		}
		s.mounted[name] = d
	}
	return nil
}

// diskOf is the folder of a part's own disk; empty where it has none.
func (s *scene) diskOf(name string) string {
	if d := s.mounted[name]; d != nil {
		return d.dir
	}
	return ""
}

func (s *scene) unmount() (err error) {
	for _, name := range slices.Sorted(maps.Keys(s.mounted)) {
		err = errors.Join(err, s.mounted[name].close())
	}
	return err
}
