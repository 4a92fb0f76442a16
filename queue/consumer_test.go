package queue

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nsqio/nsq/nsqd"

	"sluice/internal/calm"
)

// fill publishes messages from..to and waits until nsqd has them.
func fill(t *testing.T, s *Server, from, to int) {
	t.Helper()
	var r reports
	p := startPublisher(t, PublisherConfig{Addr: s.Addr(), Report: r.report})
	publish(t, p, from, to)
	eventually(t, "published", func() bool { return r.count(Sent) == to-from })
}

func TestConsumer_TakesWhatIsThereInBatches(t *testing.T) {
	noLeaks(t)
	s := startServer(t, ServerConfig{HTTP: "127.0.0.1:0", Channels: settle})
	fill(t, s, 0, 3000)
	var in inbox
	startConsumer(t, ConsumerConfig{
		Addr: s.Addr(), MaxInFlight: 1000, MaxBatch: 100, Workers: 2, Flush: 50 * time.Millisecond, Handle: in.finish,
	})
	eventually(t, "all handled", func() bool { return in.distinct() == 3000 })
	eventually(t, "all finished", func() bool { return totals(t, s) == 0 })
	if most := slices.Max(in.batches); most != 100 {
		t.Errorf("the largest batch of %d has %d messages, want 100", len(in.batches), most)
	}
	if len(in.batches) > 60 {
		t.Errorf("3000 messages came in %d batches of at most 100", len(in.batches))
	}
	first := in.all[0]
	if first.Attempts != 1 || time.Since(first.Received) > patience {
		t.Errorf("first message: %d attempts, received %v", first.Attempts, first.Received)
	}
}

func TestConsumer_WithoutFlushALoneMessageDoesNotWait(t *testing.T) {
	noLeaks(t)
	s := startServer(t, ServerConfig{Channels: settle})
	got := make(chan *Message, 1)
	c := startConsumer(t, ConsumerConfig{Addr: s.Addr(), Handle: func(_ context.Context, batch []*Message) {
		batch[0].Finish()
		got <- batch[0]
	}})
	eventually(t, "connected", c.Connected)
	p := startPublisher(t, PublisherConfig{Addr: s.Addr()})
	calm.Play(t, 100*time.Millisecond, func(complain calm.Complain) {
		began := time.Now()
		for n := range 20 {
			publish(t, p, n, n+1)
			within(t, "the message", got)
		}
		if d := time.Since(began); d > 2500*time.Millisecond {
			complain("20 lone messages took %v: nsqd's default of 250 ms each must not apply", d)
		}
	})
}

func TestConsumer_AMessageIsAnsweredOnce(t *testing.T) {
	noLeaks(t)
	s := startServer(t, ServerConfig{HTTP: "127.0.0.1:0", Channels: settle})
	fill(t, s, 0, 1)
	got := make(chan *Message, 10)
	startConsumer(t, ConsumerConfig{Addr: s.Addr(), Handle: func(_ context.Context, batch []*Message) {
		for _, m := range batch {
			if m.Attempts == 1 {
				m.Requeue(0)
			}
			m.Finish()
			m.Requeue(0)
			got <- m
		}
	}})
	first, second := within(t, "the message", got), within(t, "its second delivery", got)
	if first.Attempts != 1 || second.Attempts != 2 || first.ID != second.ID {
		t.Errorf("deliveries %d and %d of %s and %s", first.Attempts, second.Attempts, first.ID, second.ID)
	}
	eventually(t, "finished", func() bool { return totals(t, s) == 0 })
	if len(got) != 0 {
		t.Error("the message came a third time")
	}
}

func TestConsumer_PutsBackWhatHandleLeavesUnanswered(t *testing.T) {
	noLeaks(t)
	s := startServer(t, ServerConfig{Channels: settle})
	fill(t, s, 0, 1)
	got := make(chan *Message, 10)
	startConsumer(t, ConsumerConfig{Addr: s.Addr(), Handle: func(_ context.Context, batch []*Message) {
		if batch[0].Attempts == 2 {
			batch[0].Finish()
		}
		got <- batch[0]
	}})
	first, second := within(t, "the message", got), within(t, "its second delivery", got)
	if d := second.Received.Sub(first.Received); d < aside/2 {
		t.Errorf("it came back after %v, want about %v", d, aside)
	}
}

func TestConsumer_IsBackWithinTwoSecondsOfACut(t *testing.T) {
	noLeaks(t)
	s := startServer(t, ServerConfig{HTTP: "127.0.0.1:0", Channels: settle})
	px := startProxy(t, s.Addr())
	var in inbox
	c := startConsumer(t, ConsumerConfig{Addr: px.addr(), Handle: in.finish})
	eventually(t, "connected", c.Connected)
	all := 0
	for round := range 3 {
		calm.Play(t, 200*time.Millisecond, func(complain calm.Complain) {
			epoch := c.Epoch()
			began := time.Now()
			px.cut()
			eventually(t, "another connection", func() bool { return c.Epoch() > epoch && c.Connected() })
			fill(t, s, all, all+10)
			all += 10
			eventually(t, "messages of after the cut", func() bool { return in.distinct() == all })
			if d := time.Since(began); d > 2*time.Second {
				complain("cut %d: back after %v", round, d)
			}
		})
	}
}

func TestConsumer_OutlivesARestartAndNeedsNoNsqdAtItsStart(t *testing.T) {
	noLeaks(t)
	addr := freeAddr(t)
	var in inbox
	c := startConsumer(t, ConsumerConfig{Addr: addr, Handle: in.finish})
	if c.Connected() || c.Epoch() != 0 {
		t.Error("connected without nsqd")
	}
	for life := range 2 {
		s := startServer(t, ServerConfig{Listen: addr, Channels: settle})
		fill(t, s, life*10, life*10+10)
		eventually(t, "messages of this life", func() bool { return in.distinct() == life*10+10 })
		stopServer(t, s)
		eventually(t, "the loss noticed", func() bool { return !c.Connected() })
	}
}

func TestConsumer_AFrozenNsqdOnlyDelays(t *testing.T) {
	noLeaks(t)
	s := startServer(t, ServerConfig{HTTP: "127.0.0.1:0", Channels: settle})
	px := startProxy(t, s.Addr())
	var in inbox
	c := startConsumer(t, ConsumerConfig{Addr: px.addr(), Handle: in.finish})
	eventually(t, "connected", c.Connected)
	px.freeze(true)
	fill(t, s, 0, 500)
	px.freeze(false)
	eventually(t, "all handled after the thaw", func() bool { return in.distinct() == 500 })
	eventually(t, "all finished", func() bool { return totals(t, s) == 0 })
}

func TestConsumer_PausesAndResumes(t *testing.T) {
	noLeaks(t)
	s := startServer(t, ServerConfig{HTTP: "127.0.0.1:0", Channels: settle})
	var in inbox
	c := startConsumer(t, ConsumerConfig{Addr: s.Addr(), Handle: in.finish})
	fill(t, s, 0, 10)
	eventually(t, "the first handled", func() bool { return in.distinct() == 10 })
	c.SetMaxInFlight(0)
	eventually(t, "nsqd to know", func() bool { return window(s) == 0 })
	fill(t, s, 10, 110)
	if n := in.distinct(); n != 10 {
		t.Errorf("%d messages were handled during the pause", n-10)
	}
	c.SetMaxInFlight(50)
	eventually(t, "all handled after the pause", func() bool { return in.distinct() == 110 })
	if got := window(s); got != 50 {
		t.Errorf("nsqd's window is %d, want 50", got)
	}
}

// window is the RDY of the one consumer of settle.
func window(s *Server) int {
	for _, topic := range s.nsqd.GetStats(TopicOrders, ChannelSettle, true).Topics {
		for _, channel := range topic.Channels {
			for _, client := range channel.Clients {
				if stats, ok := client.(nsqd.ClientV2Stats); ok {
					return int(stats.ReadyCount)
				}
			}
		}
	}
	return -1
}

func TestConsumer_AWindowBeyondNsqdsOwnIsCut(t *testing.T) {
	noLeaks(t)
	s := startServer(t, ServerConfig{Channels: settle, MaxRDY: 20})
	var in inbox
	c := startConsumer(t, ConsumerConfig{Addr: s.Addr(), MaxInFlight: 5000, Handle: in.finish})
	fill(t, s, 0, 100)
	eventually(t, "all handled", func() bool { return in.distinct() == 100 })
	if c.Epoch() != 1 {
		t.Errorf("nsqd threw the consumer out %d times", c.Epoch()-1)
	}
}

// holder is a Handle that answers nothing until it is released, and knows how much it was given.
type holder struct {
	release chan struct{}
	given   atomic.Int64
}

func (h *holder) handle(ctx context.Context, batch []*Message) {
	h.given.Add(int64(len(batch)))
	select {
	case <-h.release:
	case <-ctx.Done():
	}
	for _, m := range batch {
		m.Finish()
	}
	h.given.Add(-int64(len(batch)))
}

// P9
func TestConsumer_NeverHoldsMoreThanItsWindow(t *testing.T) {
	noLeaks(t)
	s := startServer(t, ServerConfig{HTTP: "127.0.0.1:0", Channels: settle, MsgTimeout: 100 * time.Millisecond})
	px := startProxy(t, s.Addr())
	fill(t, s, 0, 1000)
	h := holder{release: make(chan struct{})}
	c := startConsumer(t, ConsumerConfig{Addr: px.addr(), MaxInFlight: 100, MaxBatch: 10, Workers: 4, Handle: h.handle})
	check := func(when string) {
		t.Helper()
		c.mu.Lock()
		held := c.held
		c.mu.Unlock()
		if held > 100 {
			t.Errorf("%s: %d messages are held; the window is 100", when, held)
		}
	}
	eventually(t, "the window full", func() bool { return c.queued()+int(h.given.Load()) == 100 })
	check("while Handle is stuck")
	epoch := c.Epoch()
	px.cut()
	eventually(t, "another connection", func() bool { return c.Epoch() > epoch })
	check("after a cut")
	timeouts := func() uint64 {
		return s.nsqd.GetStats(TopicOrders, ChannelSettle, false).Topics[0].Channels[0].TimeoutCount
	}
	eventually(t, "nsqd to have timed out the messages", func() bool { return timeouts() >= 100 })
	for range 20 {
		check("while nsqd sends again what timed out")
		time.Sleep(10 * time.Millisecond)
	}
	close(h.release)
	eventually(t, "all finished", func() bool { return totals(t, s) == 0 })
}

func TestConsumer_StopLetsHandleFinishAndPutsTheRestBack(t *testing.T) {
	noLeaks(t)
	s := startServer(t, ServerConfig{HTTP: "127.0.0.1:0", Channels: settle})
	fill(t, s, 0, 100)
	h := holder{release: make(chan struct{})}
	c := startConsumer(t, ConsumerConfig{Addr: s.Addr(), MaxInFlight: 100, MaxBatch: 10, Handle: h.handle})
	eventually(t, "a batch in hand and the rest queued", func() bool {
		given := int(h.given.Load())
		return given > 0 && given+c.queued() == 100
	})
	rest := c.queued()
	stopped := make(chan error, 1)
	go func() { stopped <- c.Stop(context.Background()) }()

	var in inbox
	startConsumer(t, ConsumerConfig{Addr: s.Addr(), Handle: in.finish})
	eventually(t, "somebody else to get the rest", func() bool { return in.distinct() == rest })
	close(h.release)
	if err := within(t, "stopped", stopped); err != nil {
		t.Errorf("Stop: %v", err)
	}
	eventually(t, "nothing left, so Handle's answers arrived", func() bool { return totals(t, s) == 0 })
	if n := in.distinct(); n != rest {
		t.Errorf("somebody else got %d messages, want the %d that were put back", n, rest)
	}
}

func TestConsumer_StopIsBoundByItsContext(t *testing.T) {
	t.Run("when Handle is stuck", func(t *testing.T) {
		noLeaks(t)
		calm.Play(t, 200*time.Millisecond, func(complain calm.Complain) {
			s := startServer(t, ServerConfig{Channels: settle})
			fill(t, s, 0, 1)
			h := holder{release: make(chan struct{})}
			c := startConsumer(t, ConsumerConfig{Addr: s.Addr(), Handle: h.handle})
			eventually(t, "a message in hand", func() bool { return h.given.Load() == 1 })
			stopInTime(t, c, complain)
		})
	})
	t.Run("when nsqd is frozen", func(t *testing.T) {
		noLeaks(t)
		s := startServer(t, ServerConfig{Channels: settle})
		calm.Play(t, 200*time.Millisecond, func(complain calm.Complain) {
			px := startProxy(t, s.Addr())
			c := startConsumer(t, ConsumerConfig{Addr: px.addr(), Handle: new(inbox).finish})
			eventually(t, "connected", c.Connected)
			px.freeze(true)
			stopInTime(t, c, complain)
		})
	})
}

func stopInTime(t *testing.T, c *Consumer, complain calm.Complain) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := c.Stop(ctx); err == nil {
		t.Error("Stop said that all went well")
	}
	if d := time.Since(began); d > time.Second {
		complain("Stop took %v", d)
	}
}

func TestConsumer_StopIsQuickWithoutNsqd(t *testing.T) {
	noLeaks(t)
	calm.Play(t, 200*time.Millisecond, func(complain calm.Complain) {
		c := startConsumer(t, ConsumerConfig{Addr: freeAddr(t), Handle: new(inbox).finish})
		began := time.Now()
		if err := c.Stop(t.Context()); err != nil {
			t.Errorf("Stop = %v", err)
		}
		if d := time.Since(began); d > time.Second {
			complain("Stop took %v", d)
		}
	})
	idle, err := NewConsumer(ConsumerConfig{Addr: freeAddr(t), Topic: "t", Channel: "c", Handle: new(inbox).finish})
	if err != nil {
		t.Fatal(err)
	}
	if err := idle.Stop(t.Context()); err != nil {
		t.Errorf("Stop of a consumer that was never started: %v", err)
	}
	idle.Start(t.Context())
}

func TestConsumer_EndsWithTheContextOfStart(t *testing.T) {
	noLeaks(t)
	s := startServer(t, ServerConfig{Channels: settle})
	fill(t, s, 0, 10)
	h := holder{release: make(chan struct{})}
	c, err := NewConsumer(ConsumerConfig{Addr: s.Addr(), Topic: TopicOrders, Channel: ChannelSettle, Handle: h.handle})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	c.Start(ctx)
	eventually(t, "messages in hand", func() bool { return h.given.Load() > 0 })
	cancel()
	within(t, "ended", c.ended)
	if err := c.Stop(t.Context()); err != nil {
		t.Errorf("Stop: %v", err)
	}
}

func TestConsumer_ADoorHearsOutcomesAndLeavesNothingBehind(t *testing.T) {
	noLeaks(t)
	s := startServer(t, ServerConfig{})
	channel, err := DoorChannel("a")
	if err != nil {
		t.Fatal(err)
	}
	var in inbox
	c := startConsumer(t, ConsumerConfig{Addr: s.Addr(), Topic: TopicOutcomes, Channel: channel, Handle: in.finish})
	eventually(t, "connected", c.Connected)
	p := startPublisher(t, PublisherConfig{Addr: s.Addr(), Topic: TopicOutcomes})
	publish(t, p, 0, 100)
	eventually(t, "all heard", func() bool { return in.distinct() == 100 })
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "topic and channel gone", func() bool { return len(s.nsqd.GetStats("", "", false).Topics) == 0 })
}

func TestNewConsumer_NamesWhatIsWrong(t *testing.T) {
	handle := new(inbox).finish
	for _, c := range []struct {
		cfg  ConsumerConfig
		want string
	}{
		{ConsumerConfig{Topic: "a b", Channel: "c", Handle: handle}, `"a b"`},
		{ConsumerConfig{Topic: "t", Channel: "", Handle: handle}, "channel"},
		{ConsumerConfig{Topic: "t", Channel: "c"}, "nobody"},
	} {
		if _, err := NewConsumer(c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("NewConsumer(%+v) = %v; want an error with %q", c.cfg, err, c.want)
		}
	}
	if _, err := NewPublisher(PublisherConfig{Topic: "#"}); err == nil {
		t.Error("NewPublisher took a bad topic")
	}
}

func BenchmarkConsumer(b *testing.B) {
	s, err := StartServer(ServerConfig{Listen: "127.0.0.1:0", DataDir: b.TempDir(), MemQueueSize: 1 << 21, Channels: settle})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Stop(context.Background()) }()
	p, err := NewPublisher(PublisherConfig{Addr: s.Addr(), Topic: TopicOrders, MaxPending: 100_000})
	if err != nil {
		b.Fatal(err)
	}
	body := AppendOrder(nil, sampleOrder())
	for n := range b.N {
		for !p.Publish(ref(n), body) {
			time.Sleep(time.Millisecond)
		}
	}
	if err := p.Stop(context.Background()); err != nil {
		b.Fatal(err)
	}
	var handled atomic.Int64
	all := make(chan struct{})
	c, err := NewConsumer(ConsumerConfig{
		Addr: s.Addr(), Topic: TopicOrders, Channel: ChannelSettle, MaxInFlight: 2500,
		Handle: func(_ context.Context, batch []*Message) {
			for _, m := range batch {
				m.Finish()
			}
			if handled.Add(int64(len(batch))) == int64(b.N) {
				close(all)
			}
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	c.Start(context.Background())
	<-all
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
	b.StopTimer()
	_ = c.Stop(context.Background())
}
