package main

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
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a program that the scoreboard started and will end.
type process struct {
	name string
	log  string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// start starts a program whose output goes to a file. It runs in a process group of its own: an interrupt in a terminal
// is for the scoreboard, which ends everything in order.
func (l *lab) start(name, program string, args ...string) (*process, error) {
	p := &process{name: name, log: filepath.Join(l.dir, name+".log"), done: make(chan struct{})}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()                      //nolint:errcheck // the child has its own descriptor
	p.cmd = exec.Command(program, args...) //nolint:noctx // it is ended by end, after it was asked whether it still runs
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Env = out, out, cleanEnv()
	p.cmd.SysProcAttr = apart()
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() { // ends with the process; end waits for it
		_ = p.cmd.Wait()
		close(p.done)
	}()
	l.running = append(l.running, p)
	return p, nil
}

// end kills everything that runs, the last started first; nothing that they know is needed any more. One that had ended by
// itself is an error.
func (l *lab) end() (err error) {
	for _, p := range slices.Backward(l.running) {
		select {
		case <-p.done:
			err = errors.Join(err, fmt.Errorf("%s ended by itself: %v; it said:\n%s", p.name, p.cmd.ProcessState, tail(p.log, 20)))
			continue
		default:
		}
		_ = p.cmd.Process.Kill() // fails only where it has ended already
		select {
		case <-p.done:
		case <-time.After(10 * time.Second):
			err = errors.Join(err, fmt.Errorf("%s (pid %d) outlives kill -9", p.name, p.cmd.Process.Pid))
		}
	}
	l.running = nil
	return err
}

func (p *process) signal(s syscall.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("%v to %s: %w", s, p.name, err)
	}
	return nil
}

// freeze is SIGSTOP, and waits until every thread has stopped: for a while after the signal some go on.
func (p *process) freeze(ctx context.Context) error {
	if err := p.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	return eventually(ctx, 10*time.Second, p.name+" has stopped", func() error {
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

// cpu is the processor time that the process has used, in user and in kernel mode.
func (p *process) cpu() (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("processor time of %s: %w", p.name, err)
	}
	// The name, in parentheses, may hold anything; utime and stime are the 14th and 15th field (proc_pid_stat(5)).
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("processor time of %s: can't read %q", p.name, stat)
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return 0, fmt.Errorf("processor time of %s: %w", p.name, err)
	}
	return time.Duration(user+system) * tick, nil
}

// cleanEnv keeps settings of the surrounding shell away from what is measured.
func cleanEnv() []string {
	var env []string
	for _, pair := range os.Environ() {
		if name, _, _ := strings.Cut(pair, "="); !strings.HasPrefix(name, "SLUICE_") && name != "GOMAXPROCS" && name != "GOGC" && name != "GODEBUG" {
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

// freeAddress finds an even port that is free with the one after it, which is nsqd's for HTTP. None is handed out twice.
func (l *lab) freeAddress() (string, error) {
	if l.port == 0 {
		l.port = lowestPort + 2*rand.IntN((highestPort-lowestPort)/2)
	}
	for range 200 {
		if l.port += 2; l.port > highestPort {
			l.port = lowestPort
		}
		if free(l.port) && free(l.port+1) {
			return fmt.Sprintf("127.0.0.1:%d", l.port), nil
		}
	}
	return "", fmt.Errorf("no free port from %d to %d", lowestPort, highestPort)
}

func free(port int) bool {
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
	if err != nil {
		return false
	}
	return listener.Close() == nil
}
