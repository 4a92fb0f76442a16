package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	labs "sluice/loadtest/lab"
)

// lab is where rows are measured: programs, data, and the processes that run at the moment. One goroutine uses it.
type lab struct {
	short bool
	*labs.Lab
	programs map[string]string
	machine  labs.Machine
	commit   string
	progress io.Writer

	postgres   string       // URL of the server; empty: none was needed yet
	stopServer func() error // nil: it is not ours
}

func newLab(o options, progress io.Writer) (*lab, error) {
	inner, err := labs.New(o.work)
	if err != nil {
		return nil, err
	}
	l := &lab{short: o.short, Lab: inner, programs: map[string]string{}, progress: progress}
	if l.machine, err = labs.ReadMachine(l.Dir()); err != nil {
		return nil, errors.Join(err, l.close())
	}
	l.commit = commit()
	return l, nil
}

// close ends what still runs and removes all data.
func (l *lab) close() error {
	err := l.End()
	if l.stopServer != nil {
		err = errors.Join(err, l.stopServer())
	}
	return errors.Join(err, l.Close())
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
	program = filepath.Join(l.Dir(), "bin", name)
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
	cmd.Env = labs.CleanEnv()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", filepath.Base(program), err, out)
	}
	return nil
}

// commit names the source that is measured. Without git it is not known.
func commit() string {
	out, err := exec.Command("git", "describe", "--always", "--dirty", "--exclude=*").Output() //nolint:noctx // it ends at once
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}
