// Package ingress is the front door: it answers every buyer at once, admits orders up to an exact bound (P4) and never
// says 202 before the order is on disk (P3). It holds no database credentials: it hears what it must know.
package ingress

import (
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"sluice"
	"sluice/journal"
	"sluice/limiter"
)

// Carrier takes orders towards the workers. It may lose and may repeat; the door looks after both.
type Carrier interface {
	// Carry hands a durable order over without waiting; false where too many wait already.
	Carry(o *sluice.Order) bool
	// Incarnation changes whenever the queue may have forgotten what it was given.
	Incarnation() uint64
	// Depth is how many messages the queue holds, in flight and deferred ones included; known is false where it
	// can't be told.
	Depth() (messages int64, known bool)
}

// Truth is the workers' query API. Its answers are the database's; errors mean that nobody could be asked.
type Truth interface {
	// Statuses answers the settled orders among ids; at most MaxInquiry of them are asked for at once.
	Statuses(ctx context.Context, ids []sluice.OrderID) (sluice.Changes, error)
	// Facts answers every sale as it stands, with the store's time, and the pace that the workers are set to.
	Facts(ctx context.Context) (sluice.Changes, sluice.Pace, error)
}

// MaxInquiry is the most orders that a door asks for in one question.
const MaxInquiry = 500

// Config is what an operator decides about a door.
type Config struct {
	Bound          int64         // most outstanding orders of this door
	MaxWait        time.Duration // longest wait in the queue to admit for; 0: any
	BuyerRate      limiter.Rate  // new orders that one buyer may ask for
	Buyers         int           // how many buyers' rates are remembered
	Answer         time.Duration // longest wait for the disk before 503 unavailable
	MaxWaiting     int           // most requests that may wait for an outcome at once
	MaxConnections int           // most connections at once
	Retention      time.Duration // how long settled orders of an ended sale are remembered
}

// DefaultConfig holds the defaults of the public contract.
func DefaultConfig() Config {
	return Config{
		Bound: 10_000, MaxWait: 30 * time.Second, Answer: 2 * time.Second,
		BuyerRate: limiter.Rate{PerSecond: 10, Burst: 20}, Buyers: 1 << 20,
		MaxWaiting: 50_000, MaxConnections: 10_000, Retention: 24 * time.Hour,
	}
}

// Parts are what a door is made of. All are required.
type Parts struct {
	Keys    *sluice.IDKey
	Journal *journal.Journal
	Carrier Carrier
	Truth   Truth
	Logger  *slog.Logger
	Metrics prometheus.Registerer
}

// Door admits orders and knows what became of them. Make one with New, give it time with Run.
type Door struct {
	Parts
	cfg     Config
	credits *limiter.Credits[*outstanding]
	board   board
	began   time.Time // rates are measured from here, by the monotonic clock
	buyers  *limiter.Buckets
	seed    maphash.Seed // of the buyers' hashes: nobody can choose to share another's bucket
	waiting waitingRoom
	ask     inquiries
	metrics *metrics

	admitted atomic.Uint64  // orders ever given a credit; an order's own number is its place in the line
	released atomic.Uint64  // credits ever given back
	bound    atomic.Int64   // in force now
	complain rate.Sometimes // keeps what every request may meet from filling the log
	rate     atomic.Uint64  // float64 bits: orders a second that leave the queue; 0 unknown

	hearing sync.Mutex // one set of changes at a time: a status is compared with what the journal shows
	stop    chan struct{}
}

// New makes a door and restores what its journal says is outstanding.
func New(cfg Config, parts Parts) (*Door, error) {
	d := &Door{
		Parts:    parts,
		cfg:      cfg,
		credits:  limiter.NewCredits[*outstanding](),
		buyers:   limiter.NewBuckets(cfg.Buyers),
		began:    time.Now(),
		seed:     maphash.MakeSeed(),
		stop:     make(chan struct{}),
		complain: rate.Sometimes{First: 1, Interval: time.Second},
	}
	d.waiting.most = cfg.MaxWaiting
	d.bound.Store(cfg.Bound)
	if err := d.restore(); err != nil {
		return nil, fmt.Errorf("restore outstanding orders: %w", err)
	}
	d.metrics = newMetrics(parts.Metrics, d)
	return d, nil
}

// restore makes every promise of an earlier run outstanding again. Whether the queue still knows them is doubtful.
func (d *Door) restore() error {
	err := d.Journal.Outstanding(func(o sluice.Order) error {
		l := d.board.list(o.Sale)
		l.queued.Add(int64(o.Quantity))
		d.credits.Restore(o.ID, &outstanding{order: o, sale: l, place: d.admitted.Add(1), phase: doubtful})
		return nil
	})
	if n := d.credits.Outstanding(); n > 0 {
		d.Logger.Info("orders restored from the journal", "outstanding", n)
	}
	return err
}

// Run keeps the door informed and its orders carried until ctx ends.
func (d *Door) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { d.followFacts(ctx) })
	wg.Go(func() { d.followRate(ctx) })
	wg.Go(func() { d.reconcile(ctx) })
	wg.Go(func() { d.inquire(ctx) })
	wg.Go(func() { d.forget(ctx) })
	wg.Wait()
}

// Close lets go of everyone who waits for an outcome: they get the status as it is. Call it before the server stops.
func (d *Door) Close() { close(d.stop) }

// Ready says why the door can't durably accept orders, or nil. Shedding is ready.
func (d *Door) Ready() error {
	if err := d.Journal.Admitting(); err != nil {
		return err
	}
	if !d.board.informed() {
		return errUninformed
	}
	return nil
}

// drainRate is the best guess of how many orders leave the queue in a second; 0 where there is none.
func (d *Door) drainRate() float64 { return math.Float64frombits(d.rate.Load()) }

// followRate samples the drain rate and turns it into the bound in force.
func (d *Door) followRate(ctx context.Context) {
	const interval = 500 * time.Millisecond
	tick := time.NewTicker(interval)
	defer tick.Stop()
	var measured limiter.DrainRate
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			pace := d.board.workersPace()
			twoBatches := int64(2 * pace.Batch)
			measured.Observe(now, d.released.Load(), d.credits.Outstanding() >= twoBatches)
			rate := measured.Rate(now)
			if rate == 0 {
				rate = pace.DrainRate // faster than that they are not
			}
			d.bound.Store(limiter.EffectiveBound(d.cfg.Bound, twoBatches, rate, d.cfg.MaxWait))
			d.rate.Store(math.Float64bits(rate))
		}
	}
}

// forget drops settled orders of sales that ended long ago, now and then.
func (d *Door) forget(ctx context.Context) {
	tick := time.NewTicker(10 * time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			d.forgetOnce()
		}
	}
}

func (d *Door) forgetOnce() {
	now, known := d.board.now()
	if !known {
		return
	}
	before := now.Add(-d.cfg.Retention)
	n, err := d.Journal.Forget(func(s sluice.Status) bool { return d.board.over(&s, before) })
	d.board.prune(before)
	if err != nil || n > 0 {
		d.Logger.Info("settled orders of ended sales dropped", "orders", n, "error", err)
	}
}
