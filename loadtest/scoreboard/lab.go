package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// lab is where rows are measured: programs, data, and the processes that run at the moment. One goroutine uses it.
type lab struct {
	short    bool
	dir      string // gone at the end
	programs map[string]string
	running  []*process
	port     int // the last one handed out
	scenes   int
	machine  machine
	commit   string
	progress io.Writer

	postgres   string       // URL of the server; empty: none was needed yet
	stopServer func() error // nil: it is not ours
}

func newLab(o options, progress io.Writer) (*lab, error) {
	dir, err := os.MkdirTemp(o.work, "sluice-scoreboard-")
	if err != nil {
		return nil, fmt.Errorf("a folder for programs and data: %w", err)
	}
	l := &lab{short: o.short, dir: dir, programs: map[string]string{}, progress: progress}
	if l.machine, err = readMachine(dir); err != nil {
		return nil, errors.Join(err, l.close())
	}
	l.commit = commit()
	return l, nil
}

// close ends what still runs and removes all data.
func (l *lab) close() error {
	err := l.end()
	if l.stopServer != nil {
		err = errors.Join(err, l.stopServer())
	}
	return errors.Join(err, os.RemoveAll(l.dir))
}

func (l *lab) say(format string, args ...any) {
	fmt.Fprintf(l.progress, time.Now().Format(time.TimeOnly)+" "+format+"\n", args...)
}

// command is how a reader repeats a row.
func (l *lab) command(r row) string {
	c := "make scoreboard ONLY=" + r.id
	if l.short {
		c += " SHORT=1"
	}
	return c
}

// build builds a program from a package of this source tree, once; folder is where its go.mod is.
func (l *lab) build(ctx context.Context, folder, pkg string) (program string, err error) {
	name := filepath.Base(pkg)
	if program := l.programs[name]; program != "" {
		return program, nil
	}
	program = filepath.Join(l.dir, "bin", name)
	l.say("build %s", name)
	cmd := exec.CommandContext(ctx, "go", "build", "-o", program, pkg)
	cmd.Dir = folder
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", name, err, out)
	}
	l.programs[name] = program
	return program, nil
}

// peer builds a rival from the module that rivals have of their own.
func (l *lab) peer(ctx context.Context, name string) (program string, err error) {
	return l.build(ctx, filepath.Join("loadtest", "peers"), "./"+name)
}

// do runs a program to its end.
func (l *lab) do(ctx context.Context, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = cleanEnv()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", filepath.Base(program), err, out)
	}
	return nil
}

// data makes a folder for one scene of a row.
func (l *lab) data() (string, error) {
	l.scenes++
	dir := filepath.Join(l.dir, fmt.Sprintf("data-%d", l.scenes))
	return dir, os.Mkdir(dir, 0o700)
}

// commit names the source that is measured. Without git it is not known.
func commit() string {
	out, err := exec.Command("git", "describe", "--always", "--dirty", "--exclude=*").Output() //nolint:noctx // it ends at once
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

// eventually tries until it works, for a bounded time.
func eventually(ctx context.Context, within time.Duration, what string, try func() error) error {
	var err error
	for end := time.Now().Add(within); time.Now().Before(end); {
		if err = try(); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	return fmt.Errorf("%s: not within %v: %w", what, within, err)
}
