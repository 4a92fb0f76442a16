package queue

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"sluice"
	"sluice/internal/calm"
)

func TestPublisher_SendsEachMessageOnceAndSaysSo(t *testing.T) {
	noLeaks(t)
	s := startServer(t, ServerConfig{HTTP: "127.0.0.1:0", Channels: settle})
	var r reports
	p := startPublisher(t, PublisherConfig{Addr: s.Addr(), Report: r.report})
	publish(t, p, 0, 5000)
	eventually(t, "all sent", func() bool { return r.count(Sent) == 5000 })
	if n := r.count(Ambiguous); n != 0 {
		t.Errorf("%d messages were ambiguous with a healthy nsqd", n)
	}

	var in inbox
	startConsumer(t, ConsumerConfig{Addr: s.Addr(), Handle: in.finish})
	eventually(t, "all received", func() bool { return in.distinct() == 5000 })
	for body, n := range in.seen {
		if n != 1 {
			t.Errorf("message %s came %d times", body, n)
		}
	}
	if p.Pending() != 0 {
		t.Errorf("Pending() = %d after all were sent", p.Pending())
	}
}

func TestPublisher_BatchesGrowWithTheLoad(t *testing.T) {
	noLeaks(t)
	s := startServer(t, ServerConfig{Channels: settle})
	first, gate := make(chan struct{}, 1), make(chan struct{})
	var r reports
	p := startPublisher(t, PublisherConfig{Addr: s.Addr(), MaxBatch: 400, Report: func(refs []sluice.OrderID, result Result) {
		r.report(refs, result)
		select {
		case first <- struct{}{}:
			<-gate
		default:
		}
	}})
	publish(t, p, 0, 1)
	within(t, "the first batch", first)
	publish(t, p, 1, 1001) // while the first is still under way
	first <- struct{}{}
	close(gate)
	eventually(t, "all sent", func() bool { return r.count(Sent) == 1001 })
	if got, want := fmt.Sprint(r.batches), "[1 400 400 200]"; got != want {
		t.Errorf("batches %s, want %s", got, want)
	}
}

func TestPublisher_KeepsABatchWithinItsBytes(t *testing.T) {
	noLeaks(t)
	s := startServer(t, ServerConfig{Channels: settle})
	var r reports
	p := startPublisher(t, PublisherConfig{Addr: s.Addr(), MaxBatchBytes: 2 * MaxMessageBytes, Report: r.report})
	body := bytes.Repeat([]byte("x"), MaxMessageBytes)
	for n := range 10 {
		if !p.Publish(ref(n), body) {
			t.Fatalf("Publish of message %d, the largest there is, = false", n)
		}
	}
	eventually(t, "all sent", func() bool { return r.count(Sent) == 10 })
	for _, n := range r.batches {
		if n != 1 { // two would be over by their frames
			t.Errorf("a batch has %d messages of %d bytes; at most %d bytes are allowed", n, len(body), 2*MaxMessageBytes)
		}
	}
	if p.Publish(ref(11), append(body, 'x')) || p.Publish(ref(12), nil) {
		t.Error("Publish took a message that nsqd would refuse")
	}
}

// P9
func TestPublisher_TakesNoMoreThanMaxPending(t *testing.T) {
	noLeaks(t)
	p := startPublisher(t, PublisherConfig{Addr: freeAddr(t), MaxPending: 100})
	publish(t, p, 0, 100)
	if p.Publish(ref(100), []byte("one more")) {
		t.Error("Publish took the 101st message of 100")
	}
	if p.Pending() != 100 {
		t.Errorf("Pending() = %d, want 100", p.Pending())
	}

	small := startPublisher(t, PublisherConfig{Addr: freeAddr(t), MaxPendingBytes: 100})
	if !small.Publish(ref(0), make([]byte, 60)) || small.Publish(ref(1), make([]byte, 60)) {
		t.Error("MaxPendingBytes 100: want the first 60 bytes to be taken and the second refused")
	}
}

func TestPublisher_AFrozenNsqdMakesItsBatchAmbiguousAndBlocksNobody(t *testing.T) {
	noLeaks(t)
	calm.Play(t, 200*time.Millisecond, func(complain calm.Complain) { publishToAFrozenNsqd(t, complain) })
}

func publishToAFrozenNsqd(t *testing.T, complain calm.Complain) {
	t.Helper()
	s := startServer(t, ServerConfig{Channels: settle})
	px := startProxy(t, s.Addr())
	var r reports
	p := startPublisher(t, PublisherConfig{
		Addr: px.addr(), MaxPending: 1000, MaxBatch: 100, Deadline: time.Second, Report: r.report,
	})
	eventually(t, "connected", p.Connected)
	px.freeze(true)

	began := time.Now()
	publish(t, p, 0, 1)
	taken := 1
	for n := 1; n < 3000; n++ {
		if p.Publish(ref(n), []byte("body")) {
			taken++
		}
	}
	if d := time.Since(began); d > time.Second {
		complain("3000 calls of Publish took %v against a frozen nsqd, longer than its deadline", d)
	}
	if taken > 1000 { // a batch that is settled meanwhile makes room
		complain("%d taken; MaxPending is 1000", taken)
	}
	if n := p.Pending(); n > 1000 {
		t.Errorf("%d pending; MaxPending is 1000", n)
	}
	eventually(t, "the batch on the wire ambiguous", func() bool { return r.count(Ambiguous) > 0 })
	eventually(t, "seen as lost", func() bool { return !p.Connected() })
	if d := time.Since(began); d > 5*time.Second {
		complain("the deadline of 1 s took %v", d)
	}
	if r.count(Sent) != 0 || r.count(Ambiguous) > 100 {
		t.Errorf("of a frozen nsqd: %d sent, %d ambiguous; want none and at most one batch of 100",
			r.count(Sent), r.count(Ambiguous))
	}

	px.freeze(false)
	eventually(t, "the rest sent after the thaw", func() bool { return r.count(Sent)+r.count(Ambiguous) == taken })
	for id, results := range r.results {
		if len(results) != 1 {
			t.Errorf("message %s was reported %v", id, results)
		}
	}
	if p.Epoch() < 2 {
		t.Errorf("Epoch() = %d after a reconnect", p.Epoch())
	}
}

func TestPublisher_ARefusedDialKeepsMessagesUntilTheyCanBeSent(t *testing.T) {
	noLeaks(t)
	addr := freeAddr(t)
	var r reports
	p := startPublisher(t, PublisherConfig{Addr: addr, Report: r.report, BackoffMax: 100 * time.Millisecond})
	publish(t, p, 0, 50)
	if p.Connected() || p.Epoch() != 0 || p.Pending() != 50 {
		t.Errorf("without nsqd: connected %v, epoch %d, pending %d", p.Connected(), p.Epoch(), p.Pending())
	}
	startServer(t, ServerConfig{Listen: addr, Channels: settle})
	eventually(t, "all sent", func() bool { return r.count(Sent) == 50 })
	if n := r.count(Ambiguous); n != 0 {
		t.Errorf("%d messages that were never written are ambiguous", n)
	}
}

func TestPublisher_NoticesARestartWithoutAnythingToSend(t *testing.T) {
	noLeaks(t)
	s := startServer(t, ServerConfig{})
	px := startProxy(t, s.Addr())
	p := startPublisher(t, PublisherConfig{Addr: px.addr()})
	eventually(t, "connected", func() bool { return p.Epoch() == 1 })
	px.cut()
	eventually(t, "a second connection", func() bool { return p.Epoch() == 2 && p.Connected() })
}

func TestPublisher_StopSendsWhatItHas(t *testing.T) {
	noLeaks(t)
	s := startServer(t, ServerConfig{HTTP: "127.0.0.1:0", Channels: settle})
	p := startPublisher(t, PublisherConfig{Addr: s.Addr(), MaxBatch: 10})
	publish(t, p, 0, 2000)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := p.Stop(ctx); err != nil {
		t.Fatalf("Stop: %v", err)
	}
	eventually(t, "nsqd to have them all", func() bool { return totals(t, s) == 2000 })
	if p.Publish(ref(1), []byte("late")) {
		t.Error("Publish took a message after Stop")
	}
}

func TestPublisher_StopReturnsWhenItsContextEnds(t *testing.T) {
	noLeaks(t)
	calm.Play(t, 200*time.Millisecond, func(complain calm.Complain) {
		var r reports
		p := startPublisher(t, PublisherConfig{Addr: freeAddr(t), Report: r.report})
		publish(t, p, 0, 3)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		began := time.Now()
		err := p.Stop(ctx)
		if err == nil || !strings.Contains(err.Error(), "3 messages were not sent") {
			t.Errorf("Stop = %v, want an error that counts the 3 messages", err)
		}
		if d := time.Since(began); d > time.Second {
			complain("Stop took %v", d)
		}
		if len(r.results) != 0 {
			t.Errorf("messages that were never sent were reported: %v", r.results)
		}
	})
}

func TestPublisher_StopDoesNotWaitForADialThatNobodyNeeds(t *testing.T) {
	noLeaks(t)
	s := startServer(t, ServerConfig{})
	px := startProxy(t, s.Addr())
	px.freeze(true)
	calm.Play(t, 200*time.Millisecond, func(complain calm.Complain) {
		p := startPublisher(t, PublisherConfig{Addr: px.addr()})
		began := time.Now()
		if err := p.Stop(t.Context()); err != nil {
			t.Errorf("Stop = %v", err)
		}
		if d := time.Since(began); d > time.Second {
			complain("Stop took %v", d)
		}
	})
}

// P9: what the package says of ephemeral topics.
func TestPublisher_AnEphemeralTopicWithoutChannelsDropsInsteadOfGrowing(t *testing.T) {
	noLeaks(t)
	dir := t.TempDir()
	s := startServer(t, ServerConfig{DataDir: dir, MemQueueSize: 100})
	var r reports
	p := startPublisher(t, PublisherConfig{Addr: s.Addr(), Topic: TopicOutcomes, Report: r.report})
	publish(t, p, 0, 1000)
	eventually(t, "all accepted", func() bool { return r.count(Sent) == 1000 })
	topics := s.nsqd.GetStats(TopicOutcomes, "", false).Topics
	if len(topics) != 1 || topics[0].Depth != 100 || topics[0].MessageCount != 1000 {
		t.Errorf("topics %+v; want one that took 1000 messages and keeps 100", topics)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if strings.Contains(f.Name(), "outcomes") {
			t.Errorf("%s: an ephemeral topic went to disk", f.Name())
		}
	}
}

func BenchmarkPublisher(b *testing.B) {
	s, err := StartServer(ServerConfig{Listen: "127.0.0.1:0", DataDir: b.TempDir(), MemQueueSize: 1 << 20, Channels: settle})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Stop(context.Background()) }()
	drain, err := NewConsumer(ConsumerConfig{
		Addr: s.Addr(), Topic: TopicOrders, Channel: ChannelSettle, MaxInFlight: 2500,
		Handle: func(_ context.Context, batch []*Message) {
			for _, m := range batch {
				m.Finish()
			}
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	for _, consuming := range []bool{false, true} {
		b.Run(fmt.Sprintf("consumed=%v", consuming), func(b *testing.B) {
			if consuming {
				drain.Start(context.Background())
			}
			sent := 0
			all := make(chan struct{})
			p, err := NewPublisher(PublisherConfig{
				Addr: s.Addr(), Topic: TopicOrders, MaxPending: 20_000,
				Report: func(refs []sluice.OrderID, _ Result) {
					if sent += len(refs); sent == b.N {
						close(all)
					}
				},
			})
			if err != nil {
				b.Fatal(err)
			}
			body := AppendOrder(nil, sampleOrder())
			b.ReportAllocs()
			b.ResetTimer()
			for n := range b.N {
				for !p.Publish(ref(n), body) {
					time.Sleep(100 * time.Microsecond)
				}
			}
			<-all
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
			b.StopTimer()
			_ = p.Stop(context.Background())
		})
	}
	_ = drain.Stop(context.Background())
}
