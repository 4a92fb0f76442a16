package queue

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"sluice"
)

// CarrierConfig says where orders go and who hears of them.
type CarrierConfig struct {
	Addr       string // nsqd's TCP address
	HTTP       string // nsqd's HTTP address, ours or a stock one's; empty: every new connection counts as a restart
	MaxPending int    // most orders that wait to be sent: the door's bound
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
		Addr: cfg.Addr, Topic: TopicOrders, Logger: cfg.Logger,
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
	var seen sighting
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			next := c.look(ctx)
			if seen.forgotten(next, now) {
				c.incarnation.Add(1)
			}
			seen = next.or(seen)
		}
	}
}

// sighting is what one look at nsqd showed.
type sighting struct {
	epoch uint64    // connections made so far
	start time.Time // zero: nobody could be asked
}

func (c *Carrier) look(ctx context.Context) sighting {
	s := sighting{epoch: c.publisher.Epoch()}
	c.depth.Store(-1)
	if c.cfg.HTTP == "" {
		return s
	}
	if health, err := Probe(ctx, c.cfg.HTTP); err == nil {
		s.start = health.StartTime
		c.depth.Store(health.Total)
	}
	return s
}

// or keeps an older start where the newer look could not see one.
func (s sighting) or(older sighting) sighting {
	if s.start.IsZero() {
		s.start = older.start
	}
	return s
}

// forgotten reports whether nsqd may have restarted between two looks. A new connection alone proves nothing where
// nsqd says that it has been up for long.
func (s sighting) forgotten(next sighting, now time.Time) bool {
	reconnected := next.epoch != s.epoch && s.epoch != 0
	switch {
	case next.start.IsZero():
		return reconnected
	case s.start.IsZero():
		return reconnected
	case !next.start.Equal(s.start):
		return true
	}
	return reconnected && now.Sub(next.start) < newborn
}

// Stop sends what waits until ctx ends.
func (c *Carrier) Stop(ctx context.Context) error { return c.publisher.Stop(ctx) }
