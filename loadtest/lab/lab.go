// Package lab is where services are measured: it starts processes on free ports with data of their own, tells what they use, and
// leaves nothing behind. It knows nothing of what they do.
package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Lab is a folder with data, and processes that run at the moment. One goroutine uses it.
type Lab struct {
	dir     string // gone at the end
	address string // of all its ports; empty: 127.0.0.1
	nice    int    // of what is started
	running []*Process
	port    int // the last one handed out
	scenes  int
}

// New makes a lab in a fresh folder inside a folder.
func New(inside string) (*Lab, error) {
	dir, err := os.MkdirTemp(inside, "sluice-lab-")
	if err != nil {
		return nil, fmt.Errorf("a folder for data: %w", err)
	}
	return &Lab{dir: dir}, nil
}

// Yield has everything that is started from now on give way to whoever measures it: on processors that both share, requests must
// leave when they are due, as they would from another machine.
func (l *Lab) Yield() { l.nice = yielding }

const yielding = 10 // of nice values, which go to 19

// At has all ports from now on at an address of this machine. Labs at addresses of their own, which 127.0.0.0/8 has enough of, take no
// port from each other, not even that of a process that is dead for a while.
func (l *Lab) At(address string) { l.address = address }

func (l *Lab) host() string {
	if l.address == "" {
		return "127.0.0.1"
	}
	return l.address
}

// Dir is the lab's folder.
func (l *Lab) Dir() string { return l.dir }

// Data makes a folder for one scene.
func (l *Lab) Data() (string, error) {
	l.scenes++
	dir := filepath.Join(l.dir, fmt.Sprintf("data-%d", l.scenes))
	return dir, os.Mkdir(dir, 0o700)
}

// Close kills what still runs and removes all data.
func (l *Lab) Close() error { return errors.Join(l.End(), os.RemoveAll(l.dir)) }

// Eventually tries until it works, for a bounded time.
func Eventually(ctx context.Context, within time.Duration, what string, try func() error) error {
	var err error
	for end := time.Now().Add(within); time.Now().Before(end); {
		if err = try(); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
	return fmt.Errorf("%s: not within %v: %w", what, within, err)
}
