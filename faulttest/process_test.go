package faulttest

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// process is one part of the service. Only the test's goroutine starts, kills and stops it.
type process struct {
	name    string
	args    []string
	log     string
	cmd     *exec.Cmd
	done    chan struct{} // closed when the present incarnation has ended
	wanted  atomic.Bool   // its end is the test's doing
	endedBy atomic.Pointer[string]
}

// launch starts a part and ends it with the test. A part that ends by itself fails the test.
func launch(t *testing.T, dir, name string, args ...string) *process {
	t.Helper()
	if err := build(); err != nil {
		t.Fatal(err)
	}
	p := &process{name: name, args: args, log: filepath.Join(dir, name+".log")}
	p.start(t)
	t.Cleanup(func() {
		if why := p.endedBy.Load(); why != nil {
			t.Errorf("%s ended by itself: %s", p.name, *why)
		}
		p.kill(t)
		if t.Failed() {
			t.Logf("the end of what %s said:\n%s", p.name, tail(p.log, 40))
		}
	})
	return p
}

func (p *process) start(t *testing.T) {
	t.Helper()
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close() //nolint:errcheck // the child has its own descriptor
	fmt.Fprintf(out, "--- sluice %s\n", strings.Join(p.args, " "))
	p.cmd = exec.Command(binary, p.args...) //nolint:noctx // t.Context ends before the clean-ups, which need it alive
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.SysProcAttr = out, out, dieWithParent()
	p.cmd.Env = cleanEnv()
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", p.name, err)
	}
	p.wanted.Store(false)
	p.done = make(chan struct{})
	go p.watch(p.cmd, p.done) // ends with the process; kill waits for it
}

func (p *process) watch(cmd *exec.Cmd, done chan struct{}) {
	err := cmd.Wait()
	if !p.wanted.Load() {
		why := fmt.Sprint(err)
		p.endedBy.Store(&why)
	}
	close(done)
}

// kill is kill -9, and waits until the process is gone and its ports and locks are free.
func (p *process) kill(t *testing.T) {
	t.Helper()
	p.wanted.Store(true)
	_ = p.cmd.Process.Kill() // fails only where it has ended already
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		t.Errorf("%s (pid %d) outlives kill -9", p.name, p.cmd.Process.Pid)
	}
}

func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatalf("%v to %s: %v", s, p.name, err)
	}
}

// freeze is SIGSTOP, and waits until every thread has stopped: for a while after the signal some go on. Where there is no
// /proc to tell, a pause has to do.
func (p *process) freeze(t *testing.T) {
	t.Helper()
	p.signal(t, syscall.SIGSTOP)
	tasks := fmt.Sprintf("/proc/%d/task", p.cmd.Process.Pid)
	if _, err := os.Stat(tasks); err != nil {
		time.Sleep(500 * time.Millisecond)
		return
	}
	eventually(t, 10*time.Second, p.name+" has stopped", func() error {
		stats, err := filepath.Glob(filepath.Join(tasks, "*", "stat"))
		if err != nil || len(stats) == 0 {
			return fmt.Errorf("no threads in %s: %w", tasks, err)
		}
		for _, path := range stats {
			stat, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if _, rest, _ := strings.Cut(string(stat), ") "); !strings.HasPrefix(rest, "T") {
				return fmt.Errorf("a thread goes on: %.80s", stat)
			}
		}
		return nil
	})
}

// cleanEnv keeps settings of the surrounding shell away from the service.
func cleanEnv() []string {
	var env []string
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, "SLUICE_") {
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

// Ports are handed out below those that the kernel gives to outgoing connections: while a part is dead, a buyer's
// reconnect could otherwise take the part's port, or even connect to itself.
const lowestPort, highestPort = 20_000, 31_998

// nextPort steps through even ports: none is handed out twice, and nsqd's HTTP port, the one after, is nobody else's.
var nextPort atomic.Int64

func init() { nextPort.Store(int64(mathrand.IntN((highestPort - lowestPort) / 2))) }

func freeAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		port := lowestPort + 2*(nextPort.Add(1)%((highestPort-lowestPort)/2))
		if addr := fmt.Sprintf("127.0.0.1:%d", port); free(t, addr) && free(t, fmt.Sprintf("127.0.0.1:%d", port+1)) {
			return addr
		}
	}
	t.Fatalf("no free port from %d to %d", lowestPort, highestPort)
	return ""
}

func free(t *testing.T, addr string) bool {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", addr)
	if err != nil {
		return false
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return true
}

// idKeyFile is the key that all parts share.
func idKeyFile(t *testing.T, dir string) string {
	t.Helper()
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails
	path := filepath.Join(dir, "id.key")
	if err := os.WriteFile(path, []byte(hex.EncodeToString(secret)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// eventually tries until it works, for a bounded time.
func eventually(t *testing.T, within time.Duration, what string, try func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	t.Fatalf("%s: not within %v: %v", what, within, err)
}
