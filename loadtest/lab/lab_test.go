package lab

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func newLab(t *testing.T) *Lab {
	t.Helper()
	l, err := New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func start(t *testing.T, l *Lab, name, program string, args ...string) *Process {
	t.Helper()
	p, err := l.Start(name, program, args...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A part that ends by itself is told, and nothing outlives the lab.
func TestLab_EndsWhatItStarted(t *testing.T) {
	l := newLab(t)
	sleeper := start(t, l, "sleeper", "sleep", "600")
	if err := sleeper.Freeze(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := sleeper.CPU(); err != nil {
		t.Error(err)
	}
	if memory, err := sleeper.Memory(); err != nil || memory < 4<<10 || memory > 100<<20 { // it may have been stopped before it began
		t.Errorf("%d bytes of memory (%v)", memory, err)
	}
	quick := start(t, l, "quick", "sh", "-c", "echo broken; exit 3")
	<-quick.done
	if err := l.Close(); err == nil || !strings.Contains(err.Error(), "quick ended by itself") || !strings.Contains(err.Error(), "broken") ||
		strings.Contains(err.Error(), "sleeper") {
		t.Errorf("got %v", err)
	}
	<-sleeper.done
	if _, err := os.Stat(l.Dir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its folder is still there: %v", err)
	}
}

func TestLab_StopsInOrderAndKillsWhatDoesNotEnd(t *testing.T) {
	l := newLab(t)
	polite := start(t, l, "polite", "sh", "-c", "trap 'echo thanks; exit 0' TERM; echo ready; while :; do sleep 0.05; done")
	deaf := start(t, l, "deaf", "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done")
	for _, p := range []*Process{polite, deaf} {
		if err := Eventually(t.Context(), 5*time.Second, "ready", func() error {
			if !strings.Contains(p.Said(1), "ready") {
				return errors.New(p.Said(1))
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	err := deaf.stop(ctx)
	if err == nil || !strings.Contains(err.Error(), "deaf did not end in time") {
		t.Errorf("got %v", err)
	}
	l.running = l.running[:1]
	if err := l.Stop(t.Context()); err != nil || polite.Said(1) != "thanks" {
		t.Errorf("it says %q (%v)", polite.Said(5), err)
	}
	<-deaf.done
	if err := deaf.Signal(syscall.SIGTERM); err == nil {
		t.Error("who has ended can be told nothing")
	}
}

func TestMachine_IsDescribed(t *testing.T) {
	then := Now()
	m, err := ReadMachine(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if m = m.Since(then); m.Cores < 1 || m.Kernel == "" || m.CPU == "" || m.Sync <= 0 || m.Load == "" || m.Steal < 0 || m.Steal > 100 {
		t.Errorf("%+v", m)
	}
	if text := m.Describe(); !strings.Contains(text, m.Kernel) || !strings.Contains(text, "steal") {
		t.Error(text)
	}
	if s := (Moment{all: Now().all - 200, steal: Now().steal - 50}).Steal(); s < 20 || s > 30 {
		t.Errorf("a quarter was stolen, and it says %v %%", s)
	}
}

func TestStop_TellsWhoFailedAndWakesWhoIsFrozen(t *testing.T) {
	l := newLab(t)
	frozen := start(t, l, "frozen", "sleep", "600")
	if err := frozen.Freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
	failing := start(t, l, "failing", "sh", "-c", "trap 'echo no disk; exit 4' TERM; echo ready; while :; do sleep 0.05; done")
	said(t, failing, "ready")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err := l.Stop(ctx)
	if err == nil || !strings.Contains(err.Error(), "failing failed as it ended: exit status 4") || !strings.Contains(err.Error(), "no disk") ||
		strings.Contains(err.Error(), "frozen") {
		t.Errorf("got %v", err)
	}
}

// Whoever needs the queue ends before it does.
func TestStop_AsksTheLastStartedFirst(t *testing.T) {
	l := newLab(t)
	first := start(t, l, "first", "sleep", "600")
	const looks = `trap 'kill -0 "$0" && exit 0; exit 1' TERM; echo ready; while :; do sleep 0.01; done`
	second := start(t, l, "second", "sh", "-c", looks, strconv.Itoa(first.PID()))
	said(t, second, "ready")
	if err := l.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestStart_KeepsSettingsAway(t *testing.T) {
	for _, name := range []string{"SLUICE_BOUND", "GOGC", "GOMEMLIMIT", "XDG_CONFIG_HOME"} {
		t.Setenv(name, "100")
	}
	l := newLab(t)
	p := start(t, l, "shell", "sh", "-c", `echo "[$SLUICE_BOUND$GOGC$GOMEMLIMIT] $XDG_CONFIG_HOME"; exec sleep 600`)
	said(t, p, "[] "+l.Dir())
}

func TestCPU_IsKnownWhenTheProcessHasEnded(t *testing.T) {
	l := newLab(t)
	p := start(t, l, "busy", "sh", "-c", "while :; do :; done")
	var before time.Duration
	err := Eventually(t.Context(), 20*time.Second, "it uses a processor", func() (err error) {
		if before, err = p.CPU(); err == nil && before < 3*tick {
			err = errors.New(before.String())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if err := l.End(); err != nil {
		t.Error(err)
	}
	if used, err := p.CPU(); err != nil || used < before {
		t.Errorf("it had used %v, and in the end %v (%v)", before, used, err)
	}
	if _, err := p.Memory(); err == nil || !p.Ended() {
		t.Error("what has ended has memory")
	}
}

// said waits until a process has said something.
func said(t *testing.T, p *Process, want string) {
	t.Helper()
	err := Eventually(t.Context(), 10*time.Second, p.Name()+" says "+want, func() error {
		if got := p.Said(5); !strings.Contains(got, want) {
			return errors.New(got)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// What a case does to a part on purpose is no failure of the lab, and what it starts again is the lab's too.
func TestKillAndQuit_AreOnPurpose(t *testing.T) {
	l := newLab(t)
	killed, asked := start(t, l, "killed", "sleep", "600"), start(t, l, "asked", "sh", "-c", "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done")
	said(t, asked, "ready")
	if err := l.Kill(killed); err != nil || !killed.Ended() {
		t.Errorf("killed: %v, ended: %t", err, killed.Ended())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := l.Quit(ctx, asked); err != nil || !asked.Ended() || asked.Said(1) != "bye" {
		t.Errorf("asked: %v, ended: %t; it says %q", err, asked.Ended(), asked.Said(5))
	}
	again := start(t, l, "killed", "sh", "-c", "echo again; exec sleep 600")
	said(t, again, "again")
	quick := start(t, l, "quick", "sh", "-c", "exit 3")
	<-quick.done
	if err := l.Kill(quick); err == nil || !strings.Contains(err.Error(), "quick ended by itself") {
		t.Errorf("a part that had ended by itself: %v", err)
	}
	if err := l.End(); err != nil || !again.Ended() {
		t.Errorf("the end: %v, ended: %t", err, again.Ended())
	}
}

// One that does not obey is an error, and gone all the same.
func TestQuit_KillsWhoDoesNotObey(t *testing.T) {
	l := newLab(t)
	deaf := start(t, l, "deaf", "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done")
	said(t, deaf, "ready")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := l.Quit(ctx, deaf); err == nil || !strings.Contains(err.Error(), "deaf did not end in time") || !deaf.Ended() {
		t.Errorf("%v, ended: %t", err, deaf.Ended())
	}
}

func TestRun_SetsEnvironmentAndLimits(t *testing.T) {
	l := newLab(t)
	p, err := l.Run(Command{Name: "limited", Program: "sh", Args: []string{"-c", `echo "$(ulimit -n) $FLAVOUR [$1]"; exec sleep 600`, "sh", "a b"}, Env: []string{"FLAVOUR=mint"}, Files: 64})
	if err != nil {
		t.Fatal(err)
	}
	said(t, p, "64 mint [a b]")
	if _, err := l.Run(Command{Name: "nothing", Program: l.Dir() + "/nothing"}); err == nil {
		t.Error("a program that is not there was started")
	}
}

// Labs at addresses of their own take no port from each other.
func TestAt_GivesPortsAtAnAddress(t *testing.T) {
	l := newLab(t)
	l.At("127.45.6.7")
	first, err := l.FreeAddress()
	second, err2 := l.FreeAddress()
	if err = errors.Join(err, err2); err != nil || !strings.HasPrefix(first, "127.45.6.7:") || !strings.HasPrefix(second, "127.45.6.7:") || first == second {
		t.Errorf("%s, %s (%v)", first, second, err)
	}
}
