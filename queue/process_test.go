//go:build unix

package queue

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/internal/calm"
)

func startChild(t *testing.T, addr, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = slices.Concat(os.Environ(), []string{childAddr + "=" + addr, childDir + "=" + dir})
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kill(cmd) })
	if line, err := bufio.NewReader(stdout).ReadString('\n'); strings.TrimSpace(line) != "ready" {
		t.Fatalf("the nsqd said %q, %v", line, err)
	}
	return cmd
}

func kill(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

// stop returns when the whole of it stands still: on a busy machine some of its threads go on for a while after the signal.
func stop(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var status syscall.WaitStatus
	for !status.Stopped() {
		if _, err := syscall.Wait4(cmd.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil && !errors.Is(err, syscall.EINTR) {
			t.Fatalf("it does not stop: %v", err)
		}
	}
}

func TestRealProcess_StoppedNsqdBlocksNobodyAndGoesOn(t *testing.T) {
	noLeaks(t)
	addr := freeAddr(t)
	nsqd := startChild(t, addr, t.TempDir())
	var r reports
	var in inbox
	p := startPublisher(t, PublisherConfig{Addr: addr, MaxBatch: 100, Deadline: 500 * time.Millisecond, Report: r.report})
	startConsumer(t, ConsumerConfig{Addr: addr, Handle: in.finish})
	all := 100
	settled := func() bool { // a pause of the child can make any of them ambiguous
		return r.count(Sent)+r.count(Ambiguous) == all && in.distinct() == all
	}
	publish(t, p, 0, all)
	eventually(t, "the first handled", settled)

	calm.Play(t, 50*time.Millisecond, func(complain calm.Complain) {
		eventually(t, "an OK, so that there is a connection", func() bool {
			sent := r.count(Sent)
			publish(t, p, all, all+1)
			all++
			eventually(t, "one more handled", settled)
			return r.count(Sent) > sent
		})
		stop(t, nsqd)
		ambiguous, began := r.count(Ambiguous), time.Now()
		publish(t, p, all, all+900)
		if d := time.Since(began); d > 400*time.Millisecond {
			complain("900 calls of Publish took %v against a stopped nsqd", d)
		}
		all += 900
		eventually(t, "the batch on the wire ambiguous", func() bool { return r.count(Ambiguous) > ambiguous })
		if err := nsqd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		// An ambiguous one did land here: the stopped nsqd found it in its socket. That is why it must be looked up.
		eventually(t, "each sent or ambiguous, and all handled", settled)
	})
}

func TestRealProcess_KilledNsqdIsFoundAgain(t *testing.T) {
	noLeaks(t)
	addr, dir := freeAddr(t), t.TempDir()
	nsqd := startChild(t, addr, dir)
	var r reports
	var in inbox
	p := startPublisher(t, PublisherConfig{Addr: addr, Report: r.report})
	c := startConsumer(t, ConsumerConfig{Addr: addr, Handle: in.finish})
	eventually(t, "both connected", func() bool { return p.Connected() && c.Connected() })

	kills := 0
	calm.Play(t, 200*time.Millisecond, func(complain calm.Complain) {
		kill(nsqd)
		kills++
		eventually(t, "both to know", func() bool { return !p.Connected() && !c.Connected() })
		publish(t, p, 1000*(kills-1), 1000*kills) // none of which can be ambiguous
		nsqd = startChild(t, addr, dir)
		began := time.Now()
		eventually(t, "all handled", func() bool { return in.distinct() == 1000*kills })
		if d := time.Since(began); d > 2*time.Second {
			complain("it took %v after the restart", d)
		}
		eventually(t, "all sent", func() bool { return r.count(Sent) == 1000*kills })
		if p.Epoch() != uint64(1+kills) || r.count(Ambiguous) != 0 {
			t.Errorf("epoch %d, %d ambiguous; want %d and 0", p.Epoch(), r.count(Ambiguous), 1+kills)
		}
	})
	if err := p.Stop(context.Background()); err != nil {
		t.Error(err)
	}
}
