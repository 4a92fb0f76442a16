package ingress

import (
	"context"
	"errors"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"sluice"
	"sluice/limiter"
)

var errUninformed = errors.New("no worker has told this door of its sales yet")

// board is what the door knows of the sales: the newest facts of each, and the store's clock. Readers never wait.
type board struct {
	sales atomic.Pointer[map[string]*listing]
	clock atomic.Pointer[clock]
	pace  atomic.Pointer[sluice.Pace]
	kept  atomic.Pointer[kept]

	mu sync.Mutex // writers of sales
}

// listing is one sale's place on the board.
type listing struct {
	facts   atomic.Pointer[facts]
	queued  atomic.Int64 // units that this door's outstanding orders speak for
	members limiter.Pool // credits that count in the sale's reserved share
}

// facts are a sale as it stood; heard is when this door learned that it still stands so.
type facts struct {
	sluice.Sale
	heard   time.Time
	listing *listing
}

const factsFresh = time.Second

func (f *facts) fresh(now time.Time) bool { return now.Sub(f.heard) <= factsFresh }

// clock relates the store's time to this process's monotonic clock, so that a jump of the wall clock changes nothing.
type clock struct {
	local time.Time // carries a monotonic reading
	store time.Time
}

// now is the store's time as far as the door can tell; false before the first word from a worker.
func (b *board) now() (time.Time, bool) {
	c := b.clock.Load()
	if c == nil {
		return time.Time{}, false
	}
	return c.store.Add(time.Since(c.local)), true
}

// toldAt is when facts were true that the store told at its own time t: a message may have waited in the queue.
func (b *board) toldAt(t time.Time) time.Time {
	now := time.Now()
	if store, known := b.now(); known && t.Before(store) {
		return now.Add(-store.Sub(t))
	}
	return now
}

func (b *board) informed() bool { return b.clock.Load() != nil }

// workersPace is how the workers are set to settle; as they are by default before the first word from them.
func (b *board) workersPace() sluice.Pace {
	if p := b.pace.Load(); p != nil {
		return *p
	}
	return sluice.Pace{Batch: 256}
}

// share is this door's part of all doors' bounds; 1 where it knows of no other.
func (b *board) share(bound int64) float64 {
	if all := b.workersPace().Bounds; all > bound {
		return float64(bound) / float64(all)
	}
	return 1
}

// find answers what is known of a sale, or nil.
func (b *board) find(sale []byte) *facts {
	sales := b.sales.Load()
	if sales == nil {
		return nil
	}
	l := (*sales)[string(sale)]
	if l == nil {
		return nil
	}
	return l.facts.Load()
}

// over reports whether a settled order need not be remembered any more: nothing more can become of it, and its sale ended
// before t, or no worker tells of the sale any longer and the order was settled before t.
func (b *board) over(s *sluice.Status, t time.Time) bool {
	if !s.State.Final() && !s.PayBy.Before(t) {
		return false
	}
	if f := b.find([]byte(s.Sale)); f != nil {
		return !f.EndsAt.IsZero() && f.EndsAt.Before(t)
	}
	return s.SettledAt.Before(t)
}

// update takes in facts; older versions than the known ones are ignored.
func (b *board) update(sales []sluice.Sale, heard time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	ids := make([]string, len(sales))
	for i := range sales {
		ids[i] = sales[i].ID
	}
	for i, l := range b.listLocked(ids...) {
		old := l.facts.Load()
		if old == nil || sales[i].Version >= old.Version {
			f := &facts{Sale: sales[i], heard: heard, listing: l}
			if old != nil && f.NextRelease.IsZero() {
				f.NextRelease = old.NextRelease // outcomes come without it
			}
			if old != nil && f.Version == old.Version {
				f.heard = later(f.heard, old.heard)
			}
			l.facts.Store(f)
		}
	}
}

// list answers a sale's place, made where there is none yet: orders of an earlier run are restored before the door has
// heard of any sale.
func (b *board) list(sale string) *listing {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.listLocked(sale)[0]
}

// listLocked answers the places of sales. Readers hold the map without a lock, so a new one takes its place: one for
// however many sales are new.
func (b *board) listLocked(sales ...string) []*listing {
	var known map[string]*listing
	if m := b.sales.Load(); m != nil {
		known = *m
	}
	places, grown := make([]*listing, len(sales)), false
	for i, id := range sales {
		if known[id] == nil {
			if !grown {
				known, grown = maps.Clone(known), true
			}
			if known == nil {
				known = make(map[string]*listing)
			}
			known[id] = &listing{}
		}
		places[i] = known[id]
	}
	if grown {
		b.sales.Store(&known)
	}
	return places
}

// prune takes sales off that ended before t.
func (b *board) prune(t time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	known := b.sales.Load()
	if known == nil {
		return
	}
	next := maps.Clone(*known)
	maps.DeleteFunc(next, func(_ string, l *listing) bool {
		f := l.facts.Load()
		over := f == nil || (!f.EndsAt.IsZero() && f.EndsAt.Before(t))
		return over && l.queued.Load() == 0
	})
	b.sales.Store(&next)
}

// followFacts asks for all sales again and again: outcomes bring facts sooner, but they can be lost.
func (d *Door) followFacts(ctx context.Context) {
	const interval = 400 * time.Millisecond
	d.again(ctx, interval, func() bool {
		d.noteAnswer(ctx, d.Refresh(ctx))
		return false
	})
}

// Refresh asks for all sales once, and for the store's time, the workers' pace and the limits with them. Run does it every 400 ms.
func (d *Door) Refresh(ctx context.Context) error {
	asked := time.Now() // facts are at least as young as the question
	told, err := d.askFacts(ctx, false)
	if err != nil {
		return err
	}
	arrived := time.Now()
	if told.Limits != nil {
		d.SetLimits(told.Limits)
	}
	d.board.pace.Store(&told.Pace)
	d.board.update(told.Sales, asked)
	// The store read its clock before the answer arrived: so the door's can only lag, and opens no sale early. It comes
	// after the sales: a door that knows the time knows them.
	d.board.setClock(clock{local: arrived, store: told.Now})
	if d.cfg.Identity == IdentityTicket { // nobody else can be of a class
		d.board.addUp()
	}
	return nil
}

// setClock takes a new reading unless the one it has shows a later time: each lags by its answer's way, so the later is
// the truer. After a minute the new one counts, for clocks drift.
func (b *board) setClock(c clock) {
	old := b.clock.Load()
	if old != nil && c.local.Sub(old.local) < time.Minute && old.store.Add(c.local.Sub(old.local)).After(c.store) {
		return
	}
	b.clock.Store(&c)
}
