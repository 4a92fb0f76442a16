package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Process is a program that a lab started and will end.
type Process struct {
	name string
	log  string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// Name is what it was started as.
func (p *Process) Name() string { return p.name }

// PID is its number. It is nobody's, or somebody else's, once the process has ended.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Ended says whether it has ended.
func (p *Process) Ended() bool { return p.alive() != nil }

// Said is the end of what it wrote, in lines.
func (p *Process) Said(lines int) string { return tail(p.log, lines) }

// Command is a program and what it is started with.
type Command struct {
	Name    string // which its output is kept under
	Program string
	Args    []string
	Env     []string // NAME=value, beside what the lab's own environment leaves
	Files   int      // most open files; 0: as many as the lab itself may have
}

// Start starts a program with arguments alone.
func (l *Lab) Start(name, program string, args ...string) (*Process, error) {
	return l.Run(Command{Name: name, Program: program, Args: args})
}

// Run starts a program whose output goes to a file. It runs in a process group of its own: an interrupt in a terminal
// is for whoever started the lab, which ends everything in order.
func (l *Lab) Run(c Command) (*Process, error) {
	name, program, args := c.Name, c.Program, c.Args
	p := &Process{name: name, log: filepath.Join(l.dir, name+".log"), done: make(chan struct{})}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()                                                 //nolint:errcheck // the child has its own descriptor
	if nice, err := exec.LookPath("nice"); err == nil && l.nice > 0 { // it execs: the process stays the same
		program, args = nice, append([]string{"-n", strconv.Itoa(l.nice), program}, args...)
	}
	if c.Files > 0 { // the shell execs too
		program, args = "/bin/sh", append([]string{"-c", fmt.Sprintf(`ulimit -n %d && exec "$@"`, c.Files), "sh", program}, args...)
	}
	p.cmd = exec.Command(program, args...) //nolint:noctx // it is ended by the lab, after it was asked whether it still runs
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.SysProcAttr = out, out, Apart()
	p.cmd.Env = append(append(CleanEnv(), "XDG_CONFIG_HOME="+l.dir), c.Env...) // nor has a configuration of the user's own a say
	started := make(chan error)
	go func() { // ends with the process; whoever ends it waits for it
		// The kernel sends the death signal when the thread that started the child ends: this one must not.
		runtime.LockOSThread()
		defer close(p.done)
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // how it ended is in its state
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	l.running = append(l.running, p)
	return p, nil
}

// End kills everything that runs, the last started first; nothing that they know is needed any more. One that had ended by
// itself is an error.
func (l *Lab) End() (err error) {
	for _, p := range slices.Backward(l.running) {
		err = errors.Join(err, p.end())
	}
	l.running = nil
	return err
}

// Kill is kill -9 of one of them, on purpose, and waits until it is gone and its ports and locks are free. One that had ended by
// itself is an error.
func (l *Lab) Kill(p *Process) error {
	l.forget(p)
	return p.end()
}

// Gone forgets one of them that has ended by itself, as it was expected to.
func (l *Lab) Gone(p *Process) error {
	if !p.Ended() {
		return fmt.Errorf("%s still runs", p.name)
	}
	l.forget(p)
	return nil
}

// Quit asks one of them to end, as Stop does.
func (l *Lab) Quit(ctx context.Context, p *Process) error {
	l.forget(p)
	return p.stop(ctx)
}

func (l *Lab) forget(p *Process) {
	l.running = slices.DeleteFunc(l.running, func(r *Process) bool { return r == p })
}

// Stop asks everything that runs to end, the last started first, and waits for each; what does not end before ctx is killed, which is
// an error, and so is one that had ended by itself, and one whose status says that it failed.
func (l *Lab) Stop(ctx context.Context) (err error) {
	for _, p := range slices.Backward(l.running) {
		err = errors.Join(err, p.stop(ctx))
	}
	l.running = nil
	return err
}

// Stop is Stop for one of them.
func (p *Process) stop(ctx context.Context) error {
	if err := p.alive(); err != nil {
		return err
	}
	_ = p.Signal(syscall.SIGTERM) // fails only where it has ended already
	_ = p.Signal(syscall.SIGCONT) // or a frozen one would not hear
	select {
	case <-p.done:
		return p.obeyed()
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("%s did not end in time; it said:\n%s", p.name, p.Said(20)), p.end())
	}
}

// obeyed is nil for a process that ended well after SIGTERM, or by it where it has no other way.
func (p *Process) obeyed() error {
	state := p.cmd.ProcessState
	if status, ok := state.Sys().(syscall.WaitStatus); state.Success() || ok && status.Signaled() && status.Signal() == syscall.SIGTERM {
		return nil
	}
	return fmt.Errorf("%s failed as it ended: %v; it said:\n%s", p.name, state, p.Said(20))
}

func (p *Process) alive() error {
	select {
	case <-p.done:
		return fmt.Errorf("%s ended by itself: %v; it said:\n%s", p.name, p.cmd.ProcessState, p.Said(20))
	default:
		return nil
	}
}

func (p *Process) end() error {
	if err := p.alive(); err != nil {
		return err
	}
	_ = p.cmd.Process.Kill() // fails only where it has ended already
	select {
	case <-p.done:
		return nil
	case <-time.After(10 * time.Second):
		return fmt.Errorf("%s (pid %d) outlives kill -9", p.name, p.PID())
	}
}

// Signal sends it a signal.
func (p *Process) Signal(s syscall.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("%v to %s: %w", s, p.name, err)
	}
	return nil
}

// Freeze is SIGSTOP, and waits until every thread has stopped: for a while after the signal some go on.
func (p *Process) Freeze(ctx context.Context) error {
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	return Eventually(ctx, 10*time.Second, p.name+" has stopped", func() error {
		stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.cmd.Process.Pid))
		if err != nil || len(stats) == 0 {
			return fmt.Errorf("its threads can't be seen: %w", err)
		}
		for _, path := range stats {
			stat, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if state := stat[bytes.LastIndexByte(stat, ')')+1:]; !bytes.HasPrefix(state, []byte(" T")) {
				return fmt.Errorf("a thread goes on: %.80s", stat)
			}
		}
		return nil
	})
}

// tick is what /proc counts processor time in, on every architecture that Linux runs on.
const tick = 10 * time.Millisecond

// CPU is the processor time that the process has used, in user and in kernel mode; also when it has ended.
func (p *Process) CPU() (time.Duration, error) {
	if p.Ended() {
		return p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime(), nil
	}
	own, _, err := used(p.PID())
	if err != nil {
		return 0, fmt.Errorf("processor time of %s: %w", p.name, err)
	}
	return own, nil
}

// used is the processor time of a process, and that of its children that have ended.
func used(pid int) (own, ended time.Duration, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	// The name, in parentheses, may hold anything; utime, stime, cutime and cstime are the 14th to 17th field (proc_pid_stat(5)).
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 15 {
		return 0, 0, fmt.Errorf("can't read %q", stat)
	}
	var ticks [4]time.Duration
	for i := range ticks {
		n, err := strconv.ParseInt(fields[11+i], 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("can't read %q", stat)
		}
		ticks[i] = time.Duration(n) * tick
	}
	return ticks[0] + ticks[1], ticks[2] + ticks[3], nil
}

// Memory is what of it is resident, in bytes. What has ended has none, which is an error.
func (p *Process) Memory() (int64, error) {
	if err := p.alive(); err != nil {
		return 0, err
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.PID()))
	if err != nil {
		return 0, fmt.Errorf("memory of %s: %w", p.name, err)
	}
	fields := strings.Fields(string(text)) // in pages; the second is resident (proc_pid_statm(5))
	if len(fields) < 2 {
		return 0, fmt.Errorf("memory of %s: can't read %q", p.name, text)
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// CleanEnv keeps settings of the surrounding shell away from what is measured.
func CleanEnv() []string {
	var env []string
	for _, pair := range os.Environ() {
		if name, _, _ := strings.Cut(pair, "="); !strings.HasPrefix(name, "SLUICE_") && name != "GOMAXPROCS" && name != "GOGC" && name != "GOMEMLIMIT" &&
			name != "GODEBUG" && name != "XDG_CONFIG_HOME" {
			env = append(env, pair)
		}
	}
	return env
}

func tail(path string, lines int) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// Ports are taken below those that the kernel gives to outgoing connections.
const lowestPort, highestPort = 20_000, 31_998

// FreeAddress finds an even port that is free with the one after it, which is nsqd's for HTTP. None is handed out twice.
func (l *Lab) FreeAddress() (string, error) {
	if l.port == 0 {
		l.port = lowestPort + 2*rand.IntN((highestPort-lowestPort)/2)
	}
	for range 200 {
		if l.port += 2; l.port > highestPort {
			l.port = lowestPort
		}
		if l.free(l.port) && l.free(l.port+1) {
			return fmt.Sprintf("%s:%d", l.host(), l.port), nil
		}
	}
	return "", fmt.Errorf("no free port from %d to %d", lowestPort, highestPort)
}

func (l *Lab) free(port int) bool {
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.ParseIP(l.host()), Port: port})
	if err != nil {
		return false
	}
	return listener.Close() == nil
}
