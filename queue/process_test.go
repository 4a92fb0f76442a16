//go:build unix

package queue

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
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

func TestRealProcess_StoppedNsqdBlocksNobodyAndGoesOn(t *testing.T) {
	noLeaks(t)
	addr := freeAddr(t)
	nsqd := startChild(t, addr, t.TempDir())
	var r reports
	var in inbox
	p := startPublisher(t, PublisherConfig{Addr: addr, MaxBatch: 100, Deadline: 500 * time.Millisecond, Report: r.report})
	startConsumer(t, ConsumerConfig{Addr: addr, Handle: in.finish})
	publish(t, p, 0, 100)
	eventually(t, "the first handled", func() bool { return in.distinct() == 100 && r.count(Sent) == 100 })

	if err := nsqd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	publish(t, p, 100, 1000)
	if d := time.Since(began); d > 400*time.Millisecond {
		t.Errorf("900 calls of Publish took %v against a stopped nsqd", d)
	}
	eventually(t, "the batch on the wire ambiguous", func() bool { return r.count(Ambiguous) > 0 })
	if err := nsqd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventually(t, "each sent or ambiguous", func() bool { return r.count(Sent)+r.count(Ambiguous) == 1000 })
	// An ambiguous one did land here: the stopped nsqd found it in its socket. That is why it must be looked up.
	eventually(t, "all handled", func() bool { return in.distinct() == 1000 })
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

	kill(nsqd)
	eventually(t, "both to know", func() bool { return !p.Connected() && !c.Connected() })
	publish(t, p, 0, 1000) // none of which can be ambiguous
	startChild(t, addr, dir)
	began := time.Now()
	eventually(t, "all handled", func() bool { return in.distinct() == 1000 })
	if d := time.Since(began); d > 2*time.Second {
		t.Errorf("it took %v after the restart", d)
	}
	eventually(t, "all sent", func() bool { return r.count(Sent) == 1000 })
	if p.Epoch() != 2 || r.count(Ambiguous) != 0 {
		t.Errorf("epoch %d, %d ambiguous; want 2 and 0", p.Epoch(), r.count(Ambiguous))
	}
	if err := p.Stop(context.Background()); err != nil {
		t.Error(err)
	}
}
