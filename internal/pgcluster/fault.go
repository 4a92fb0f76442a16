package pgcluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Kill is kill -9 of every process of the server, of the first one first: nobody tidies up. Restart brings it back. It needs /proc.
func (c *Cluster) Kill() error {
	if c.process == nil {
		return errors.New("kill PostgreSQL: it does not run")
	}
	if err := c.process.Signal(syscall.SIGSTOP); err != nil { // so that it starts no further process once they are listed
		return fmt.Errorf("kill PostgreSQL: %w", err)
	}
	children, err := childrenOf(c.process.Pid)
	if err != nil {
		return errors.Join(err, c.process.Signal(syscall.SIGCONT))
	}
	if err := c.process.Kill(); err != nil {
		return fmt.Errorf("kill PostgreSQL: %w", err)
	}
	for _, pid := range children { // they would end by themselves, but some not before the server starts again
		if e := syscall.Kill(pid, syscall.SIGKILL); e != nil && !errors.Is(e, syscall.ESRCH) {
			err = errors.Join(err, fmt.Errorf("kill PostgreSQL's process %d: %w", pid, e))
		}
	}
	<-c.done
	c.process = nil
	return err
}

// Restart runs a server that was killed, on the port that it had.
func (c *Cluster) Restart(ctx context.Context) error {
	bin, err := binaries()
	if err != nil {
		return err
	}
	return c.run(ctx, bin)
}

// Freeze stops every process of the server (SIGSTOP): it keeps its connections and its locks and answers nobody, until Thaw.
// It needs /proc.
func (c *Cluster) Freeze() error { return c.signalAll(syscall.SIGSTOP) }

// Thaw lets a frozen server go on.
func (c *Cluster) Thaw() error { return c.signalAll(syscall.SIGCONT) }

// signalAll signals the server first, so that it starts no further process, then those that it has started.
func (c *Cluster) signalAll(sig syscall.Signal) error {
	if c.process == nil {
		return errors.New("signal PostgreSQL: it does not run")
	}
	if err := c.process.Signal(sig); err != nil {
		return fmt.Errorf("signal PostgreSQL: %w", err)
	}
	children, err := childrenOf(c.process.Pid)
	for _, pid := range children {
		if e := syscall.Kill(pid, sig); e != nil && !errors.Is(e, syscall.ESRCH) {
			err = errors.Join(err, fmt.Errorf("signal PostgreSQL's process %d: %w", pid, e))
		}
	}
	return err
}

// childrenOf lists the processes that pid has started, by what /proc says of their parents.
func childrenOf(pid int) (children []int, err error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || len(stats) == 0 {
		return nil, errors.Join(errors.New("there is no /proc that lists processes"), err)
	}
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(text), ") ")
		fields := strings.Fields(rest) // state, parent, …
		if len(fields) > 1 && fields[1] == strconv.Itoa(pid) {
			child, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			if err != nil {
				return nil, fmt.Errorf("read %s: %w", path, err)
			}
			children = append(children, child)
		}
	}
	return children, nil
}
