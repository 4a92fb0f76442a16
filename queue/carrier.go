package queue

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"sluice"
)

// CarrierConfig says where orders go and who hears of them.
type CarrierConfig struct {
	Addr       string      // nsqd's TCP address
	TLS        *tls.Config // nil: plain text; otherwise HTTP is an HTTPS address
	HTTP       string      // nsqd's HTTP address, ours or a stock one's; empty: every new connection counts as a restart
	MaxPending int         // most orders that wait to be sent: the door's bound
	// Sent hears of orders that nsqd took in the given incarnation, Doubt of those that it may or may not have.
	// Both must be quick; ids are valid during the call only.
	Sent   func(ids []sluice.OrderID, incarnation uint64)
	Doubt  func(ids []sluice.OrderID)
	Logger *slog.Logger
}

// Carrier takes a door's orders to nsqd and notices when nsqd has forgotten them.
type Carrier struct {
	cfg         CarrierConfig
	publisher   *Publisher
	incarnation atomic.Uint64
	depth       atomic.Int64 // -1: unknown
}

const (
	probeEvery = 500 * time.Millisecond
	newborn    = 5 * time.Second // nsqd tells its start in whole seconds: one so young may be another than a moment ago
)

// NewCarrier starts a carrier; Stop ends it.
func NewCarrier(cfg CarrierConfig) (*Carrier, error) {
	c := &Carrier{cfg: cfg}
	c.depth.Store(-1)
	p, err := NewPublisher(PublisherConfig{
		Addr: cfg.Addr, TLS: cfg.TLS, Topic: TopicOrders, Logger: cfg.Logger,
		// An order in flight may be carried again, so twice the bound can wait.
		MaxPending: 2 * cfg.MaxPending, MaxPendingBytes: 2 * cfg.MaxPending * maxOrderBytes,
		Report: c.report,
	})
	if err != nil {
		return nil, fmt.Errorf("carrier: %w", err)
	}
	c.publisher = p
	return c, nil
}

// maxOrderBytes is what one order takes at the most on its way.
const maxOrderBytes = 4 << 10

func (c *Carrier) report(ids []sluice.OrderID, result Result) {
	if result == Sent {
		c.cfg.Sent(ids, c.Incarnation())
		return
	}
	c.cfg.Doubt(ids)
}

// Carry hands an order over without waiting; false where too many wait already.
func (c *Carrier) Carry(o *sluice.Order) bool {
	var room [1024]byte
	return c.publisher.Publish(o.ID, AppendOrder(room[:0], *o))
}

// Incarnation grows whenever nsqd may have forgotten what it was given.
func (c *Carrier) Incarnation() uint64 { return c.incarnation.Load() }

// Depth is how many orders nsqd holds, where it can be asked.
func (c *Carrier) Depth() (orders int64, known bool) {
	n := c.depth.Load()
	return n, n >= 0
}

// Run watches nsqd until ctx ends.
func (c *Carrier) Run(ctx context.Context) {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	var seen Sighting
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if seen.Note(c.look(ctx), now) {
				c.incarnation.Add(1)
			}
		}
	}
}

// Sighting is what one look at nsqd showed.
type Sighting struct {
	Epoch uint64    // connections made so far
	Start time.Time // of nsqd, in whole seconds; zero: nobody could be asked
}

func (c *Carrier) look(ctx context.Context) Sighting {
	s := Sighting{Epoch: c.publisher.Epoch()}
	c.depth.Store(-1)
	if c.cfg.HTTP == "" {
		return s
	}
	if health, err := Probe(ctx, c.cfg.HTTP, c.cfg.TLS); err == nil {
		s.Start = health.StartTime
		c.depth.Store(health.Total)
	}
	return s
}

// Note takes the next look in, and reports whether nsqd may have forgotten since what it had been given. An older start is kept where
// the newer look could not see one.
func (s *Sighting) Note(next Sighting, now time.Time) (forgotten bool) {
	forgotten = s.forgotten(next, now)
	if next.Start.IsZero() {
		next.Start = s.Start
	}
	*s = next
	return forgotten
}

// forgotten reports whether nsqd may have restarted between two looks. A new connection alone proves nothing where
// nsqd says that it has been up for long.
func (s *Sighting) forgotten(next Sighting, now time.Time) bool {
	reconnected := next.Epoch != s.Epoch && s.Epoch != 0
	switch {
	case next.Start.IsZero():
		return reconnected
	case s.Start.IsZero():
		return reconnected
	case !next.Start.Equal(s.Start):
		return true
	}
	return reconnected && now.Sub(next.Start) < newborn
}

// Stop sends what waits until ctx ends.
func (c *Carrier) Stop(ctx context.Context) error { return c.publisher.Stop(ctx) }
