package lab

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Tree is a process that somebody else started and will end, with its children, as a database server has them: what they use is
// told for all together.
type Tree struct {
	name string
	pid  int
}

// NewTree is the tree under a process.
func NewTree(name string, pid int) *Tree { return &Tree{name, pid} }

// Yield has it give way, and the children that it starts from now on, as Lab.Yield does.
func (t *Tree) Yield() error { return syscall.Setpriority(syscall.PRIO_PROCESS, t.pid, yielding) }

// Name is what it is called.
func (t *Tree) Name() string { return t.name }

// CPU is the processor time that all have used, those that have ended too.
func (t *Tree) CPU() (sum time.Duration, err error) {
	own, ended, err := used(t.pid)
	if err != nil {
		return 0, fmt.Errorf("processor time of %s: %w", t.name, err)
	}
	sum = own + ended
	return sum, t.children(func(pid int) error {
		own, ended, err := used(pid)
		sum += own + ended
		return err
	})
}

// Memory is what is resident of all, in bytes. What they share counts once.
func (t *Tree) Memory() (int64, error) {
	own, shared, err := resident(t.pid)
	if err != nil {
		return 0, fmt.Errorf("memory of %s: %w", t.name, err)
	}
	err = t.children(func(pid int) error {
		anonymous, mapped, err := resident(pid)
		own, shared = own+anonymous, max(shared, mapped)
		return err
	})
	return own + shared, err
}

// children visits each; one that ends meanwhile is none any more.
func (t *Tree) children(visit func(pid int) error) error {
	list, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", t.pid, t.pid))
	if err != nil {
		return fmt.Errorf("children of %s: %w", t.name, err)
	}
	for field := range strings.FieldsSeq(string(list)) {
		pid, err := strconv.Atoi(field)
		if err == nil {
			err = visit(pid)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("a child of %s: %w", t.name, err)
		}
	}
	return nil
}

// resident is what of a process is in memory and its own, and what it may share (proc_pid_status(5)).
func resident(pid int) (own, shared int64, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	for lines := bufio.NewScanner(bytes.NewReader(status)); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), ":")
		kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		switch name {
		case "RssAnon":
			own = kib << 10
		case "RssFile", "RssShmem":
			shared += kib << 10
		}
	}
	return own, shared, nil
}
