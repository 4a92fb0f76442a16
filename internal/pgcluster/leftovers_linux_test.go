package pgcluster

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestStart_RemovesWhatAKilledOwnerLeft(t *testing.T) {
	owner := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	owner.Env, owner.Stderr = append(os.Environ(), ownerEnv+"=1"), os.Stderr
	stdin, err := owner.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close() //nolint:errcheck // a test's own pipe
	out, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	defer owner.Wait() //nolint:errcheck // it was killed
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	dir := strings.TrimSpace(line)
	if pid, ok := ownerOf(dir); !ok || pid != owner.Process.Pid {
		t.Fatalf("the directory %q does not name its owner %d", dir, owner.Process.Pid)
	}
	removeLeftovers(os.TempDir())
	server, ok := serverOf(dir)
	if !ok || !running(server) {
		t.Fatalf("a running cluster was taken for a leftover: server %d of %s", server, dir)
	}

	if err := syscall.Kill(server, syscall.SIGSTOP); err != nil { // it must not notice, for now, that its owner ends
		t.Fatal(err)
	}
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = owner.Wait() // it was killed
	removeLeftovers(os.TempDir())
	_, gone := os.Stat(filepath.Join(dir, "data", "PG_VERSION"))
	if err := syscall.Kill(server, syscall.SIGCONT); err != nil || gone != nil {
		t.Fatalf("a server without its owner still runs, its files: %v; wake it: %v", gone, err)
	}

	for deadline := time.Now().Add(stopLimit); ; time.Sleep(10 * time.Millisecond) {
		removeLeftovers(os.TempDir())
		if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is still there", dir)
		}
	}
}

func TestRemoveLeftovers_KeepsWhateverMayBeAlive(t *testing.T) {
	dead := deadPID(t)
	self := os.Getpid()
	for _, c := range []struct {
		name, dir  string
		postmaster string
		prepare    func(t *testing.T, dir string)
		stays      bool
	}{
		{name: "owner and server dead", dir: leftover(dead), postmaster: strconv.Itoa(dead) + "\n/data\n"},
		{name: "owner dead, server ended well", dir: leftover(dead)},
		{name: "owner lives", dir: leftover(self), stays: true},
		{name: "server lives", dir: leftover(dead), postmaster: strconv.Itoa(self) + "\n", stays: true},
		{name: "server not readable", dir: leftover(dead), postmaster: "\n", stays: true},
		{name: "server negative", dir: leftover(dead), postmaster: "-1\n", stays: true},
		{name: "no owner in the name", dir: prefix + "123456", stays: true},
		{name: "no number in the name", dir: prefix + "x-1", stays: true},
		{name: "owner 0", dir: leftover(0), stays: true},
		{name: "another program's", dir: fmt.Sprintf("other-%d-1", dead), stays: true},
		{name: "locked by a process of another container", dir: leftover(dead), prepare: func(t *testing.T, dir string) {
			t.Helper()
			f, err := own(dir)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = f.Close() })
		}, stays: true},
		{name: "not locked yet", dir: leftover(dead), prepare: func(t *testing.T, dir string) {
			t.Helper()
			if err := os.Remove(filepath.Join(dir, lockName)); err != nil {
				t.Fatal(err)
			}
		}, stays: true},
		{name: "a lock that would make us wait", dir: leftover(dead), prepare: func(t *testing.T, dir string) {
			t.Helper()
			path := filepath.Join(dir, lockName)
			if err := errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)); err != nil {
				t.Fatal(err)
			}
		}, stays: true},
		{name: "somebody else's", dir: leftover(dead), prepare: func(t *testing.T, dir string) {
			t.Helper()
			if os.Geteuid() != 0 {
				t.Skip("only root can give a directory away")
			}
			if err := os.Chown(dir, 12345, 12345); err != nil {
				t.Fatal(err)
			}
		}, stays: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			tmp := t.TempDir()
			dir := filepath.Join(tmp, c.dir)
			if err := os.MkdirAll(filepath.Join(dir, "data"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(give(dir), os.WriteFile(filepath.Join(dir, lockName), nil, 0o600)); err != nil {
				t.Fatal(err)
			}
			if c.postmaster != "" {
				if err := os.WriteFile(filepath.Join(dir, "data", "postmaster.pid"), []byte(c.postmaster), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if c.prepare != nil {
				c.prepare(t, dir)
			}
			removeLeftovers(tmp)
			if _, err := os.Stat(dir); (err == nil) != c.stays {
				t.Errorf("%s: stays: %v, want %v", c.dir, err == nil, c.stays)
			}
		})
	}
}

func TestRemoveLeftovers_DoesNotFollowLinks(t *testing.T) {
	tmp, elsewhere := t.TempDir(), t.TempDir()
	precious := filepath.Join(elsewhere, "precious")
	if err := errors.Join(os.WriteFile(precious, nil, 0o600), os.WriteFile(filepath.Join(elsewhere, lockName), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	dead := deadPID(t)
	inside := filepath.Join(tmp, leftover(dead)+"1")
	err := errors.Join(
		os.Symlink(elsewhere, filepath.Join(tmp, leftover(dead))),
		os.Mkdir(inside, 0o700), give(inside), os.Symlink(elsewhere, filepath.Join(inside, "data")),
		os.WriteFile(filepath.Join(inside, lockName), nil, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	removeLeftovers(tmp)
	if _, err := os.Stat(precious); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(inside); err == nil {
		t.Errorf("%s is still there", inside)
	}
}

func leftover(pid int) string { return fmt.Sprintf("%s%d-1", prefix, pid) }

// deadPID is the id of a process that has just ended; ids are given out in turn, so it is not used again soon.
func deadPID(t *testing.T) int {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}
