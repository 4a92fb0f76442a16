package worker

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"sluice"
	"sluice/inventory"
	"sluice/inventory/sqlite"
	"sluice/queue"
)

// post is a store with events, an nsqd and relays between them.
type post struct {
	t     *testing.T
	store inventory.Store
	addr  string // nsqd's, TCP
	http  string
	nsqd  *queue.Server
	made  int64 // events so far
}

func newPost(t *testing.T) *post {
	t.Helper()
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "inventory.db"))
	must(t, err)
	t.Cleanup(func() { must(t, store.Close()) })
	p := &post{t: t, store: store, addr: unused(t), http: unused(t)}
	p.startQueue()
	t.Cleanup(func() { p.stopQueue() })
	_, err = store.CreateSale(t.Context(), sluice.Sale{ID: "s", Stock: 1_000_000, PerUserLimit: 1, OverAdmission: 1.5})
	must(t, err)
	p.made = 1 // sale.opened
	return p
}

func unused(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	must(t, l.Close())
	return l.Addr().String()
}

// startQueue starts an nsqd that remembers nothing of earlier ones.
func (p *post) startQueue() {
	p.t.Helper()
	var err error
	p.nsqd, err = queue.StartServer(queue.ServerConfig{Listen: p.addr, HTTP: p.http, DataDir: p.t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	must(p.t, err)
}

func (p *post) stopQueue() {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	must(p.t, p.nsqd.Stop(ctx))
}

// happen makes n events.
func (p *post) happen(n int) {
	p.t.Helper()
	batch := make([]sluice.Order, n)
	for i := range batch {
		batch[i] = sluice.Order{ID: sluice.OrderID{1, byte(p.made >> 16), byte(p.made >> 8), byte(p.made)}, Sale: "s", User: fmt.Sprint(p.made), Quantity: 1}
		p.made++
	}
	_, err := p.store.Reserve(p.t.Context(), batch)
	must(p.t, err)
}

func (p *post) relay(change func(*relayConfig)) *relay {
	p.t.Helper()
	cfg := relayConfig{nsqd: p.addr, nsqdHTTP: p.http, channels: []string{"points", "coupons"}, backlog: 1_000_000}
	if change != nil {
		change(&cfg)
	}
	r := newRelay(cfg, p.store, newRelayMetrics(prometheus.NewRegistry()), slog.New(slog.DiscardHandler))
	r.start(p.t.Context())
	p.t.Cleanup(r.stop)
	return r
}

// subscriber notes the numbers of the events that it gets.
type subscriber struct {
	mu   sync.Mutex
	seqs []int64
}

func (p *post) subscribe(channel string) *subscriber {
	p.t.Helper()
	s := &subscriber{}
	c, err := queue.NewConsumer(queue.ConsumerConfig{Addr: p.addr, Topic: queue.TopicEvents, Channel: channel, Handle: func(_ context.Context, batch []*queue.Message) {
		for _, m := range batch {
			e, err := queue.DecodeEvent(m.Body)
			if err != nil {
				p.t.Errorf("an event that can't be read: %v", err)
			}
			s.mu.Lock()
			s.seqs = append(s.seqs, e.Seq)
			s.mu.Unlock()
			m.Finish()
		}
	}})
	must(p.t, err)
	c.Start(p.t.Context())
	p.t.Cleanup(func() { must(p.t, c.Stop(context.Background())) })
	return s
}

func (s *subscriber) got() []int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.seqs)
}

// hasAll waits until the subscriber has every event that happened.
func (p *post) hasAll(s *subscriber) {
	p.t.Helper()
	eventually(p.t, fmt.Sprintf("all of %d events", p.made), func() bool {
		seqs := s.got()
		slices.Sort(seqs)
		return int64(len(slices.Compact(seqs))) == p.made
	})
}

func TestRelay_BringsEveryEventInOrderToEveryChannel(t *testing.T) {
	p := newPost(t)
	r := p.relay(nil)
	points := p.subscribe("points")
	p.happen(1200)
	r.nudge()
	p.hasAll(points)
	if seqs := points.got(); !slices.IsSorted(seqs) {
		t.Errorf("the events came in the order %v …", seqs[:20])
	}
	p.happen(10)
	p.hasAll(points)
	p.hasAll(p.subscribe("coupons")) // its channel was made before anybody listened to it
}

// What an nsqd had is lost with it, and what it had delivered comes again: at least once.
func TestRelay_SendsEverythingAgainToAnNsqdThatHasRestarted(t *testing.T) {
	p := newPost(t)
	r := p.relay(nil)
	p.happen(300)
	eventually(t, "the events are with nsqd", func() bool { return reading(t, r.metrics.relayed) == 301 })
	p.stopQueue()
	p.happen(50)
	p.startQueue()
	p.hasAll(p.subscribe("points"))
	p.hasAll(p.subscribe("coupons"))
}

// The worker was down when nsqd restarted: nobody saw it, and still everything is sent again.
func TestRelay_NoticesARestartThatItDidNotSee(t *testing.T) {
	p := newPost(t)
	r := p.relay(nil)
	p.happen(300)
	eventually(t, "the events are with nsqd", func() bool { return reading(t, r.metrics.relayed) == 301 })
	r.stop()
	p.stopQueue()
	p.startQueue()
	p.relay(nil)
	p.hasAll(p.subscribe("points"))
}

// Without nsqd's HTTP port every connection may be to an nsqd that has forgotten.
func TestRelay_WithoutHTTPSendsEverythingAgainOverANewConnection(t *testing.T) {
	p := newPost(t)
	r := p.relay(func(c *relayConfig) { c.nsqdHTTP = "" })
	p.happen(300)
	eventually(t, "the events are with nsqd", func() bool { return reading(t, r.metrics.relayed) == 301 })
	p.stopQueue()
	p.startQueue()
	p.hasAll(p.subscribe("points"))
}

func TestRelay_WaitsWhereNobodyHasAChannel(t *testing.T) {
	p := newPost(t)
	r := p.relay(func(c *relayConfig) { c.channels = nil })
	p.happen(10)
	eventually(t, "the relay waits", func() bool { return reading(t, r.metrics.paused) == 1 })
	if n := reading(t, r.metrics.relayed); n != 0 {
		t.Errorf("%v events were sent to nobody", n)
	}
	p.hasAll(p.subscribe("late"))
}

// P9: a channel whose subscriber is away holds no more than it may; the others get theirs once it is back.
func TestRelay_WaitsWhereAChannelIsFull(t *testing.T) {
	p := newPost(t)
	const backlog = 1000
	r := p.relay(func(c *relayConfig) { c.backlog = backlog })
	for range 10 {
		p.happen(500)
	}
	eventually(t, "the relay waits", func() bool { return reading(t, r.metrics.paused) == 1 })
	stats, err := queue.ProbeTopic(t.Context(), p.http, queue.TopicEvents)
	must(t, err)
	t.Logf("nsqd holds %v", stats.Channels)
	if n := stats.Channels["coupons"]; n != backlog {
		t.Errorf("channel coupons holds %d events; it may hold %d", n, backlog)
	}
	points := p.subscribe("points")
	p.hasAll(p.subscribe("coupons"))
	p.hasAll(points)
}

// Two workers: one relays, and when it freezes or ends the other goes on where it was.
func TestRelay_OneOfManyHasTheLease(t *testing.T) {
	p := newPost(t)
	first := p.relay(nil)
	eventually(t, "the first relays", func() bool { return reading(t, first.metrics.held) == 1 })
	second := p.relay(nil)
	points := p.subscribe("points")
	p.happen(100)
	p.hasAll(points)
	if n := reading(t, second.metrics.relayed); n != 0 {
		t.Errorf("the second relayed %v events beside the first", n)
	}
	first.stop()
	p.happen(100)
	p.hasAll(points)
	if n := reading(t, second.metrics.relayed); n != 100 {
		t.Errorf("the second relayed %v events; 100 happened after the first ended", n)
	}
}

// What was settled last is with nsqd when the worker has stopped.
func TestRelay_StopTakesAlongWhatIsThere(t *testing.T) {
	p := newPost(t)
	r := p.relay(nil)
	eventually(t, "it relays", func() bool { return reading(t, r.metrics.relayed) == 1 })
	p.happen(2000)
	r.stop()
	if n := reading(t, r.metrics.relayed); n != 2001 {
		t.Errorf("%v of 2001 events were relayed before the stop", n)
	}
	position, held, err := p.store.Claim(t.Context(), readerOf(t, p), "another", time.Second)
	must(t, err)
	if !held || position != 2001 {
		t.Errorf("the lease after the stop: position %d, held %v; want 2001, true", position, held)
	}
}

func readerOf(t *testing.T, p *post) string {
	t.Helper()
	stats, err := queue.ProbeTopic(t.Context(), p.http, queue.TopicEvents)
	must(t, err)
	return fmt.Sprintf("nsq@%d", stats.StartTime.Unix())
}

// reading is the value of a counter or a gauge.
func reading(t *testing.T, m prometheus.Metric) float64 {
	t.Helper()
	var d dto.Metric
	must(t, m.Write(&d))
	return d.GetCounter().GetValue() + d.GetGauge().GetValue()
}

// eventually waits for what no channel announces.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}
