package examples

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// Build builds sluice and the examples into a folder, where Run finds them.
func Build(ctx context.Context, into string, flags ...string) error {
	args := append([]string{"build", "-o", into + string(filepath.Separator)}, flags...)
	for _, program := range []string{"cmd/sluice", "examples/points", "examples/coupons", "examples/notifications", "examples/report"} {
		args = append(args, "sluice/"+program)
	}
	if out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("build the examples: %w\n%s", err, out)
	}
	return nil
}

// stage is where processes run: with a temporary folder for their files, on loopback. One goroutine owns it.
type stage struct {
	programs  string // folder
	dir       string
	processes []*process
}

func newStage(programs string) (*stage, error) {
	programs, err := filepath.Abs(programs)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "sluice-examples-")
	return &stage{programs: programs, dir: dir}, err
}

// close stops what runs, the last started first, and removes the folder. What did not stop as it should is an error.
func (s *stage) close() error {
	var errs error
	for _, p := range slices.Backward(s.processes) {
		errs = errors.Join(errs, p.stop())
	}
	return errors.Join(errs, os.RemoveAll(s.dir))
}

// logs writes the end of what each process said.
func (s *stage) logs(to io.Writer) {
	for _, p := range s.processes {
		b, _ := os.ReadFile(p.log) // nothing said, nothing written
		lines := strings.Split(strings.TrimSpace(string(b)), "\n")
		fmt.Fprintf(to, "--- the end of what %s said\n%s\n", p.name, strings.Join(lines[max(0, len(lines)-15):], "\n"))
	}
}

// process is one program, which may be killed and started again.
type process struct {
	name, program string
	args          []string
	log, dir      string
	cmd           *exec.Cmd // nil while it is not running
	ended         chan error
}

// start starts a program.
func (s *stage) start(name, program string, args ...string) (*process, error) {
	p := &process{name: name, program: filepath.Join(s.programs, program), args: args, log: filepath.Join(s.dir, name+".log"), dir: s.dir}
	s.processes = append(s.processes, p)
	return p, p.start()
}

func (p *process) start() error {
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()                         //nolint:errcheck // the child has its own descriptor
	cmd := exec.Command(p.program, p.args...) //nolint:noctx // it is ended in order, by stop
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = p.dir, out, out, dieWithParent()
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, "SLUICE_") { // settings of the surrounding shell
			cmd.Env = append(cmd.Env, pair)
		}
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	p.cmd, p.ended = cmd, make(chan error, 1)
	go func() { p.ended <- cmd.Wait() }() // ends with the process; kill and stop wait for it
	return nil
}

// kill is kill -9.
func (p *process) kill() error {
	if p.cmd == nil {
		return nil
	}
	if err := p.cmd.Process.Kill(); err != nil {
		return fmt.Errorf("kill %s: %w", p.name, err)
	}
	err := <-p.ended
	if p.cmd = nil; err == nil {
		return fmt.Errorf("%s had ended before it was killed", p.name)
	}
	return nil
}

// stop asks a process to finish, and waits until it has.
func (p *process) stop() error {
	if p.cmd == nil {
		return nil
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("%s ended by itself: %w", p.name, <-p.ended)
	}
	select {
	case err := <-p.ended:
		if p.cmd = nil; err != nil {
			return fmt.Errorf("%s did not end well: %w", p.name, err)
		}
		return nil
	case <-time.After(30 * time.Second):
		return errors.Join(fmt.Errorf("%s did not stop within 30 s", p.name), p.kill())
	}
}

// nextPort steps through even ports from a random one: none is handed out twice.
var nextPort atomic.Int64

func init() { nextPort.Store(rand.Int64N(6_000)) }

// freeAddress is one whose port is free, and the next one too. Ports are below those that the kernel gives to outgoing
// connections: while a process is dead, nobody else gets its port.
func freeAddress(ctx context.Context) (string, error) {
	for range 100 {
		port := 20_000 + 2*(nextPort.Add(1)%6_000)
		if address := fmt.Sprintf("127.0.0.1:%d", port); free(ctx, address) && free(ctx, fmt.Sprintf("127.0.0.1:%d", port+1)) {
			return address, nil
		}
	}
	return "", errors.New("no free port from 20000 to 32000")
}

func free(ctx context.Context, address string) bool {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	return err == nil && l.Close() == nil
}

// eventually tries until it works, for a bounded time.
func eventually(ctx context.Context, within time.Duration, what string, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%s: not within %v: %w", what, within, err)
		}
	}
}
