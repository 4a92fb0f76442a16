// Package report writes what is known of a load test, for people and for programs, and reads it again. A report is a folder that
// appears as a whole or not at all; its pages need no network and no scripts; what files and services call themselves is only ever text.
package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sluice/loadtest"
)

// Names of a report's files. The charts are besides.
const (
	RunFile      = "run.json"
	MarkdownFile = "report.md"
	HTMLFile     = "report.html"
	LogFile      = "latency.hlog"
)

// Option is a wish of Write's caller.
type Option string

// Replace has a report that is there replaced as a whole. A folder that holds anything else is refused nevertheless.
const Replace Option = "replace"

// Write writes the report of a run to the folder dir, with the log of its latencies where there are any. It labels their histograms.
// Either the whole folder is there afterwards or, with an error, it is as it was before.
func Write(dir string, run *loadtest.Run, intervals []loadtest.Interval, options ...Option) error {
	if err := write(dir, run, intervals, slices.Contains(options, Replace)); err != nil {
		return fmt.Errorf("report %s: %w", dir, withoutPath(err))
	}
	return nil
}

func write(dir string, run *loadtest.Run, intervals []loadtest.Interval, replace bool) error {
	if err := vacant(dir, replace); err != nil { // before the work; the renaming says it again
		return err
	}
	files, err := render(run, intervals)
	if err != nil {
		return err
	}
	parent := filepath.Dir(filepath.Clean(dir))
	if err := os.MkdirAll(parent, 0o755); err != nil { //nolint:gosec // reports are for everybody to read
		return err
	}
	fresh, err := os.MkdirTemp(parent, ".report-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(fresh) }() // what is left in it: all of it after an error, else what was replaced
	made := filepath.Join(fresh, "new")
	if err := fill(made, files); err != nil {
		return err
	}
	return install(made, dir, filepath.Join(fresh, "old"), replace)
}

// render makes every file of a report before one is written.
func render(run *loadtest.Run, intervals []loadtest.Interval) (map[string][]byte, error) {
	if len(run.Rounds) == 0 {
		return nil, errors.New("the run has no rounds, so there is nothing to report")
	}
	figures, err := json.MarshalIndent(run, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("the run's figures: %w", err)
	}
	files := map[string][]byte{RunFile: append(figures, '\n')}
	if len(intervals) > 0 {
		if files[LogFile], err = encodeLog(run, intervals); err != nil {
			return nil, fmt.Errorf("the log of latencies: %w", err)
		}
	}
	p, err := newPage(run)
	if err != nil {
		return nil, err
	}
	p.HasLog = len(intervals) > 0
	for _, picture := range p.Charts {
		files[picture.File] = picture.svg
	}
	if files[MarkdownFile], err = p.markdown(); err != nil {
		return nil, err
	}
	if files[HTMLFile], err = p.html(); err != nil {
		return nil, err
	}
	return files, nil
}

// fill makes a folder with files. They are synced, because a disk that is full may say so only then.
func fill(dir string, files map[string][]byte) error {
	if err := os.Mkdir(dir, 0o755); err != nil { //nolint:gosec // reports are for everybody to read
		return err
	}
	for name, content := range files {
		if err := save(filepath.Join(dir, name), content); err != nil {
			return err
		}
	}
	return nil
}

func save(path string, content []byte) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644) //nolint:gosec // reports are for everybody to read
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(content); err != nil {
		return err
	}
	return f.Sync()
}

// install moves the new folder to its place. What it replaces is moved to old, and back again where the new one can't be moved.
func install(made, dir, old string, replace bool) error {
	if err := vacant(dir, replace); err != nil {
		return err
	}
	err := os.Rename(dir, old)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	replaced := err == nil
	if err = os.Rename(made, dir); err != nil && replaced {
		err = errors.Join(err, os.Rename(old, dir))
	}
	return err
}

// vacant says why a report can't be put at a place.
func vacant(dir string, replace bool) error {
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	if !replace {
		return errors.New("it is there already; name another folder, or ask for it to be replaced")
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !ours(e) {
			return fmt.Errorf("it can't be replaced, because it has something that is not of a report: %q", e.Name())
		}
	}
	return nil
}

func ours(e fs.DirEntry) bool {
	known := []string{RunFile, MarkdownFile, HTMLFile, LogFile}
	return e.Type().IsRegular() && (slices.Contains(known, e.Name()) || strings.HasSuffix(e.Name(), ".svg"))
}

// withoutPath is what went wrong without the name of a temporary file, which nobody finds.
func withoutPath(err error) error {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return path.Err
	}
	if link, ok := errors.AsType[*os.LinkError](err); ok {
		return link.Err
	}
	return err
}
