// Package ingress is the front door: it answers every buyer at once, admits orders up to an exact bound (P4) and never
// says 202 before the order is on disk (P3). It holds no database credentials: it hears what it must know.
package ingress

import (
	"context"
	"crypto/rand"
	"fmt"
	"hash/maphash"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"
	"golang.org/x/time/rate"

	"sluice"
	"sluice/api"
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
	// Facts tells of the door, and answers every sale as it stands, with the store's time, the pace that the workers are
	// set to and the operators' limits where the door has another version of them.
	Facts(ctx context.Context, door api.Door) (api.Facts, error)
}

// MaxInquiry is the most orders that a door asks for in one question.
const MaxInquiry = 500

// Config is what an operator decides about a door.
type Config struct {
	Name               string          // no two doors share one
	Bound              int64           // most outstanding orders of this door
	MaxWait            time.Duration   // longest wait in the queue to admit for; 0: any
	Identity           Identity        // how a buyer is known
	IdentityHeader     string          // in which trusted proxies name the buyer
	TicketCookie       string          // that may hold a ticket
	Proxies            limiter.Proxies // whose word on who and where a buyer is counts
	AddressHeader      string          // in which they list addresses
	BuyerRate          limiter.Rate    // new orders that one buyer may ask for
	AddressRate        limiter.Rate    // what one address may ask for without an identity
	Callers            int             // how many buyers' and how many addresses' rates are remembered
	Answer             time.Duration   // longest wait for the disk before 503 unavailable
	MaxWaiting         int             // most requests that may wait for an outcome at once
	MaxConnections     int             // most connections at once
	AddressConnections int             // most of them of one address; 0: a quarter
	Retention          time.Duration   // how long settled orders of an ended sale are remembered
	BasePath           string          // where the door is mounted, such as /sluice; empty: at the root
	CORSOrigins        []string        // whose pages may read its answers: exact origins, or "*" alone
	WaitingPage        string          // URL with {order} and {sale} for browsers whose order is in; empty: the door's own page
	BusyPage           string          // URL with {sale} and {reason} for browsers that are refused; empty: the door's own page
}

// DefaultConfig holds the defaults of the public contract.
func DefaultConfig() Config {
	return Config{
		Bound: 10_000, MaxWait: 30 * time.Second, Answer: 2 * time.Second,
		Identity: IdentityOpen, IdentityHeader: "Sluice-User", TicketCookie: "sluice_ticket", AddressHeader: fasthttp.HeaderXForwardedFor,
		BuyerRate: RateOf(10), Callers: 1 << 20,
		MaxWaiting: 50_000, MaxConnections: 10_000, Retention: 24 * time.Hour,
	}
}

// Parts are what a door is made of. All are required, Tickets where they are the identity.
type Parts struct {
	Keys    *sluice.IDKey
	Journal *journal.Journal
	Carrier Carrier
	Truth   Truth
	Tickets Tickets
	Logger  *slog.Logger
	Metrics prometheus.Registerer
}

// Door admits orders and knows what became of them. Make one with New, give it time with Run.
type Door struct {
	Parts
	Connections *Connections // put it in front of the listener

	cfg     Config
	credits *limiter.Credits[*outstanding]
	common  limiter.Pool // the credits that count in no sale's reserved share
	returns limiter.Returns
	board   board
	waiting waitingRoom
	ask     inquiries
	metrics *metrics
	timers  sync.Pool // of *time.Timer, stopped
	cors    *cors     // nil: pages of other origins read nothing
	streams tempo

	base       []byte // of every path
	ordersHref string // what an order's id is appended to

	instance   string                       // tells this run of the door from every other
	turnedAway atomic.Pointer[sluice.Error] // why the worker last refused to talk to this door; nil: it did not
	unheard    string                       // why its last answer failed; of who asks for facts

	began     time.Time    // rates are measured from here, by the monotonic clock
	seed      maphash.Seed // of callers' hashes: nobody can choose to share another's bucket
	buyers    *limiter.Buckets
	addresses *limiter.Buckets

	gone      uint64        // orders that had left the line before this run; fixed
	released  atomic.Uint64 // credits given back in this run
	leftAt    atomic.Int64  // when the last of them was, in nanoseconds after began
	limits    atomic.Pointer[limits]
	drainable atomic.Int64   // orders that drain within the longest wait
	rate      atomic.Uint64  // float64 bits: orders a second that leave the queue; 0 unknown
	complain  rate.Sometimes // keeps what every request may meet from filling the log

	rebounding sync.Mutex // one at a time works out drainable: an older one must not be the last

	slack atomic.Bool // fewer than a batch were outstanding since the drain was last looked at

	hearing sync.Mutex // one set of changes at a time: a status is compared with what the journal shows
	stop    chan struct{}
}

// New makes a door and restores what its journal says is outstanding.
func New(cfg Config, parts Parts) (*Door, error) {
	d := &Door{
		Parts: parts,
		cfg:   cfg,

		Connections: NewConnections(0, 0, cfg.Proxies.Trust),

		credits:   limiter.NewCredits[*outstanding](),
		instance:  rand.Text(),
		began:     time.Now(),
		seed:      maphash.MakeSeed(),
		buyers:    limiter.NewBuckets(cfg.Callers),
		addresses: limiter.NewBuckets(cfg.Callers),
		stop:      make(chan struct{}),
		complain:  rate.Sometimes{First: 1, Interval: time.Second},

		cors:       newCORS(cfg.CORSOrigins),
		streams:    defaultTempo,
		base:       []byte(cfg.BasePath),
		ordersHref: cfg.BasePath + ordersPath,
	}
	d.waiting.most = cfg.MaxWaiting
	l := limitsOf(&d.cfg, &sluice.Limits{})
	d.limits.Store(l)
	d.drainable.Store(math.MaxInt64)
	d.Connections.SetLimits(l.connections, l.addressConnections)
	if err := d.restore(); err != nil {
		return nil, fmt.Errorf("restore outstanding orders: %w", err)
	}
	d.metrics = newMetrics(parts.Metrics, d)
	return d, nil
}

// restore makes every promise of an earlier run outstanding again, in the order in which they were made: nobody's position
// grows. Whether the queue still knows them is doubtful. A door with another id key does not start: workers with that key would
// keep its promises for forged.
func (d *Door) restore() error {
	err := d.Journal.Outstanding(func(o sluice.Order, place uint64) error {
		if !d.Keys.Issued(&o) {
			return fmt.Errorf("order %s was admitted with another id key: start this door with that one until nothing is outstanding", o.ID)
		}
		l := d.board.list(o.Sale)
		l.queued.Add(int64(o.Quantity))
		d.credits.Restore(o.ID, &outstanding{order: o, sale: l, place: place, phase: doubtful}, &d.common)
		return nil
	})
	n := d.credits.Outstanding()
	d.gone = d.Journal.Appended() - uint64(n)
	if n > 0 {
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
	d.leave(ctx)
}

// Close lets go of everyone who waits for an outcome: they get the status as it is. Call it before the server stops.
func (d *Door) Close() { close(d.stop) }

// Ready says why the door can't durably accept orders, or nil. Shedding is ready.
func (d *Door) Ready() error {
	if err := d.Journal.Admitting(); err != nil {
		return err
	}
	if err := d.introduced(); err != nil {
		return err
	}
	if !d.board.informed() {
		return errUninformed
	}
	return nil
}

// drainRate is the best guess of how many orders leave the queue in a second; 0 where there is none.
func (d *Door) drainRate() float64 { return math.Float64frombits(d.rate.Load()) }

// backlog reports whether a full batch was outstanding all the time since the last look. Fewer leave only by an outcome, which
// notes it.
func (d *Door) backlog() bool {
	slack := d.slack.Swap(false)
	return !d.noteSlack() && !slack
}

func (d *Door) noteSlack() bool {
	slack := d.credits.Outstanding() < int64(d.board.workersPace().Batch)
	if slack && !d.slack.Load() {
		d.slack.Store(true)
	}
	return slack
}

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
		case <-tick.C:
			now, pace := time.Now(), d.board.workersPace() // a busy machine looks later than the tick says
			released := d.released.Load()                  // first: what leaves meanwhile is counted with its time at the next look
			measured.Observe(now, released, d.began.Add(time.Duration(d.leftAt.Load())), d.backlog())
			rate := measured.Rate(now)
			if rate == 0 {
				rate = pace.DrainRate * d.board.share(d.limits.Load().bound) // faster than that they are not
			}
			d.rate.Store(math.Float64bits(rate))
			d.rebound()
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
