package simulate

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

	"sluice"
	"sluice/api"
	"sluice/ingress"
	"sluice/journal"
)

// door is a front door through all its lives.
type door struct {
	w       *World
	n       int
	name    string
	content *vfs.MemFS // of the disk, while the door is down
	life    *doorLife  // nil: it is down
	bound   int64      // that it was told
	highest int64      // of all bounds so far
	allowed int64      // the highest bound that a request of the last step goes by
	before  int64      // outstanding after the last step
	shown   map[sluice.OrderID]shown
	owed    map[sluice.OrderID]bool // 202s of it that are not settled, but those of a disk that is gone
}

// shown is what a buyer saw last of an order.
type shown struct {
	version  int64
	state    sluice.State
	position int64
}

// doorLife is a door from start to crash, with all that it does at the moment.
type doorLife struct {
	door     *door
	real     *ingress.Door
	journal  *journal.Journal
	disk     *disk
	carrier  *carrier
	ctx      context.Context //nolint:containedctx // it is the life
	end      context.CancelFunc
	running  sync.WaitGroup
	requests []*request
	passes   [passes]bool // under way; owned by the world's lock
	dead     bool

	listens  int              // the life of nsqd that its channel of outcomes is in; 0: it has none
	gap      bool             // it has missed something and does not know yet
	outcomes []sluice.Changes // in the channel
	hearing  *news            // nil: none is being heard

	restored map[sluice.OrderID]bool
}

// pass is something that a door's own loops do again and again.
type pass int

const (
	refreshing pass = iota
	reconciling
	inquiring
	passes
)

var passNames = [passes]string{"facts", "reconciliation", "inquiry"}

// news are messages of outcomes on their way into a door.
type news struct {
	changes []sluice.Changes
	done    bool
	err     error
}

func (w *World) newDoor(n int) *door {
	return &door{
		w: w, n: n, name: string(rune('a' + n)), content: vfs.NewCrashableMem(), bound: int64(w.setup.Bound), highest: int64(w.setup.Bound),
		shown: map[sluice.OrderID]shown{}, owed: map[sluice.OrderID]bool{},
	}
}

// journalMemory is enough for the few hundred orders of a run: most of the time that a start takes is to clear memory.
const journalMemory = 512 << 10

// begin starts the door on what its disk has.
func (d *door) begin() error {
	l := &doorLife{door: d, disk: &disk{MemFS: d.content, lies: d.w.planted(DiskLies)}, restored: map[sluice.OrderID]bool{}}
	log := slog.New(slog.DiscardHandler)
	var err error
	l.journal, err = journal.Open(journal.Options{
		Dir: "journal", FS: l.disk, Logger: log, Memory: journalMemory, Fatal: func(err error) { panic(fmt.Sprint("simulate: the journal gives up: ", err)) },
	})
	if err != nil {
		return fmt.Errorf("door %s: %w", d.name, err)
	}
	cfg := ingress.DefaultConfig()
	cfg.Name, cfg.Bound, cfg.MaxWait, cfg.BuyerRate, cfg.Callers = d.name, int64(d.w.setup.Bound), 0, ingress.RateOf(0), 1
	if d.w.planted(IgnoresBound) {
		cfg.Bound++
	}
	l.carrier = &carrier{life: l, most: 2 * d.w.setup.Bound, depth: -1}
	l.real, err = ingress.New(cfg, ingress.Parts{
		Keys: d.w.keys, Journal: l.journal, Carrier: l.carrier, Truth: truth{l}, Logger: log, Metrics: prometheus.NewRegistry(),
	})
	if err != nil {
		return fmt.Errorf("door %s: %w", d.name, err)
	}
	if err := l.journal.Outstanding(func(o sluice.Order, _ uint64) error { l.restored[o.ID] = true; return nil }); err != nil {
		return fmt.Errorf("door %s: %w", d.name, err)
	}
	l.ctx, l.end = context.WithCancel(context.Background())
	d.life, d.content, d.bound = l, nil, int64(d.w.setup.Bound)
	d.before = l.real.Outstanding()
	if d.w.queue.up {
		l.listens = d.w.queue.life
	}
	return nil
}

// What a crash leaves of a door's disk.
const (
	diskSynced  = iota // what was synced
	diskWritten        // what was written, too
	diskLost           // nothing, ever again
	diskOrderly        // everything: the door was told to stop
)

// crash ends the door's life. Whatever it was doing goes on, on a disk that nobody sees any more, until it ends.
func (d *door) crash(left int) error {
	l := d.life
	if left == diskOrderly {
		return d.stop()
	}
	switch left {
	case diskLost:
		d.content = vfs.NewCrashableMem()
		d.shown = map[sluice.OrderID]shown{}
		d.w.check.diskLost(d)
	default:
		d.content = l.disk.crashed(left == diskWritten)
	}
	d.w.mu.Lock()
	l.dead = true
	d.w.mu.Unlock()
	for _, r := range l.requests {
		r.cut = true
		d.w.check.over(r, true)
	}
	d.life = nil
	return l.close()
}

// stop ends the door's life as SIGTERM does: whoever waits is answered, and what was appended is confirmed.
func (d *door) stop() error {
	l := d.life
	l.disk.release()
	for l.goOn(0) {
	}
	l.real.Close()
	synctest.Wait()
	d.w.settle()
	d.w.mu.Lock()
	l.dead = true
	d.w.mu.Unlock()
	d.life = nil
	l.end()
	l.running.Wait()
	if err := l.journal.Close(); err != nil {
		return fmt.Errorf("close the journal of door %s: %w", d.name, err)
	}
	d.content = l.disk.crashed(false)
	return nil
}

func (l *doorLife) close() error {
	l.end()
	l.real.Close()
	l.disk.release()
	for l.goOn(0) {
	}
	l.running.Wait()
	if err := l.journal.Close(); err != nil {
		return fmt.Errorf("close the journal of door %s: %w", l.door.name, err)
	}
	return nil
}

// truth is ingress.Truth: what the store says, when the schedule lets it.
type truth struct{ life *doorLife }

func (t truth) Statuses(ctx context.Context, ids []sluice.OrderID) (c sluice.Changes, err error) {
	l := t.life
	asks := inquiring
	if ctx.Value(passKey{}) == reconciling {
		asks = reconciling
	}
	err = l.door.w.park(ctx, l, l.owner(asks), func() error {
		c = l.door.w.store.statuses(ids)
		return nil
	})
	return c, err
}

func (t truth) Facts(ctx context.Context, who api.Door) (f api.Facts, err error) {
	l := t.life
	err = l.door.w.park(ctx, nil, l.owner(refreshing), func() error {
		s := l.door.w.store
		f = api.Facts{Changes: s.facts(), Pace: sluice.Pace{Batch: 2}}
		l.door.w.mu.Lock()
		defer l.door.w.mu.Unlock()
		for _, d := range l.door.w.doors {
			f.Bounds += d.bound
		}
		if s.limits.Version != who.LimitsVersion {
			limits := s.limits
			limits.Bounds = maps.Clone(limits.Bounds)
			f.Limits = &limits
		}
		return nil
	})
	if err == nil && f.Limits != nil {
		l.door.told(f.Limits)
	}
	return f, err
}

// told notes the bound that the door goes by from now on.
func (d *door) told(l *sluice.Limits) {
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	d.bound = int64(d.w.setup.Bound)
	if b, ok := l.Bounds[d.name]; ok {
		d.bound = b
	}
	d.highest = max(d.highest, d.bound)
}

func (l *doorLife) owner(p pass) string { return "door " + l.door.name + " " + passNames[p] }

type passKey struct{}

// pass begins one of the passes, unless it is under way.
func (l *doorLife) pass(p pass, do func(context.Context)) bool {
	w := l.door.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if l.passes[p] {
		return false
	}
	l.passes[p] = true
	ctx := context.WithValue(l.ctx, passKey{}, p)
	l.running.Go(func() {
		do(ctx)
		w.mu.Lock()
		defer w.mu.Unlock()
		l.passes[p] = false
	})
	return true
}

// mayHear reports whether nothing holds the door's lock of what it hears: while a disk stalls, another one who wants it would wait in
// a way that synctest does not see the end of.
func (l *doorLife) mayHear() bool {
	l.door.w.mu.Lock()
	defer l.door.w.mu.Unlock()
	if l.hearing != nil {
		return false
	}
	for _, p := range []pass{reconciling, inquiring} {
		if l.passes[p] && l.door.w.calls[l.owner(p)] == nil {
			return false
		}
	}
	return true
}

// hear begins to hear some messages of outcomes at once.
func (l *doorLife) hear(at, count int) bool {
	if len(l.outcomes) == 0 || !l.mayHear() {
		return false
	}
	n := &news{}
	for ; count > 0 && len(l.outcomes) > 0; count-- {
		at %= len(l.outcomes)
		n.changes = append(n.changes, l.outcomes[at])
		l.outcomes = slices.Delete(l.outcomes, at, at+1)
	}
	l.hearing = n
	l.running.Go(func() {
		err := l.real.Hear(l.ctx, n.changes...)
		l.door.w.mu.Lock()
		defer l.door.w.mu.Unlock()
		n.err, n.done = err, true
	})
	return true
}

// settledToo reports whether the journal has an order both in its line and as settled.
func (l *doorLife) settledToo(id sluice.OrderID) bool {
	_, settled, err := l.journal.Settled(id)
	if err == nil && settled {
		settled = false
		err = l.journal.Outstanding(func(o sluice.Order, _ uint64) error { settled = settled || o.ID == id; return nil })
	}
	if err != nil {
		panic(fmt.Sprintf("simulate: read the journal of door %s: %v", l.door.name, err))
	}
	return settled
}

// heard notes that messages were heard, or puts them back.
func (l *doorLife) heard() {
	if n := l.hearing; n != nil && n.done {
		if n.err != nil {
			l.outcomes = append(l.outcomes, n.changes...)
		}
		l.hearing = nil
	}
}
