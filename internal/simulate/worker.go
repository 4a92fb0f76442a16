package simulate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"sluice"
	"sluice/inventory"
	"sluice/worker"
)

const (
	mostBatches = 2 // of one worker at a time
	mostTries   = 3 // of a batch while the store is away
)

// workerLife is one life of a worker: a Settler whose store is the schedule's.
type workerLife struct {
	w       *World
	name    string
	ctx     context.Context //nolint:containedctx // it is the life
	end     context.CancelFunc
	settler worker.Settler
	busy    [mostBatches]bool // owned by the world's lock
	running sync.WaitGroup
}

func (w *World) newWorker(n int) *workerLife {
	l := &workerLife{w: w, name: fmt.Sprint("worker ", n)}
	l.ctx, l.end = context.WithCancel(context.Background())
	l.settler = worker.Settler{Keys: w.keys, Announce: l.announce, Keep: l.keep, MaxAttempts: 5, Logger: slog.New(slog.DiscardHandler)}
	return l
}

// take begins a batch of messages.
func (l *workerLife) take(ms []*message) bool {
	w := l.w
	slot := slices.Index(l.busy[:], false)
	if slot < 0 || len(ms) == 0 {
		return false
	}
	l.busy[slot] = true
	ds := make([]*delivery, len(ms))
	for i, m := range ms {
		m.attempts++
		ds[i] = &delivery{w: w, life: l, m: m, queue: w.queue.life, at: time.Now()}
		m.inFlight = ds[i]
	}
	l.running.Go(func() {
		l.settle(slot, ds)
		w.mu.Lock()
		defer w.mu.Unlock()
		l.busy[slot] = false
	})
	return true
}

type slotKey struct{}

// settle is what a pool does with a batch, but for the pace.
func (l *workerLife) settle(slot int, ds []*delivery) {
	ctx := context.WithValue(l.ctx, slotKey{}, slot)
	batch := make([]worker.Delivery, 0, len(ds))
	for _, d := range ds {
		if l.w.planted(FinishesFirst) {
			d.Finish()
		}
		if read, err := l.settler.Read(ctx, d, d.m.body); err == nil {
			batch = append(batch, read)
		}
	}
	if len(batch) > 0 {
		_ = l.settler.Settle(ctx, batch, l.commit) // for middlewares: the messages are answered
	}
}

// call has the store do something, patiently while it is away.
func (l *workerLife) call(ctx context.Context, what string, do func() error) (err error) {
	owner := fmt.Sprintf("%s batch %d %s", l.name, ctx.Value(slotKey{}), what)
	for try := 1; ; try++ {
		err = l.w.park(ctx, nil, owner, do)
		if !errors.Is(err, inventory.ErrUnavailable) || ctx.Err() != nil || try == mostTries {
			return err
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

func (l *workerLife) commit(ctx context.Context, orders []sluice.Order) (changes sluice.Changes, err error) {
	s := l.w.store
	var view inventory.View
	if l.w.planted(NoLock) || l.w.planted(AnnouncesFirst) {
		view = s.view(orders)
	}
	if l.w.planted(AnnouncesFirst) {
		l.announce(sluice.Changes{Now: view.Now, Statuses: inventory.Decide(view, orders).Statuses})
	}
	err = l.call(ctx, "reserves", func() error {
		if s.choking(orders) {
			return errChokes
		}
		if !l.w.planted(NoLock) {
			view = s.view(orders)
		}
		if l.w.planted(ForgetsSettled) {
			clear(view.Settled)
		}
		changes = s.write(view.Now, inventory.Decide(view, orders))
		return nil
	})
	return changes, err
}

func (l *workerLife) keep(ctx context.Context, letter inventory.Letter) error {
	var changes sluice.Changes
	err := l.call(ctx, "buries", func() error {
		changes = l.w.store.bury(letter)
		return nil
	})
	if err == nil {
		l.announce(changes)
	}
	return err
}

func (l *workerLife) announce(c sluice.Changes) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	if l.ctx.Err() == nil {
		l.w.announce(c)
	}
}

// announce brings changes into the channel of every door that listens. The caller has the lock.
func (w *World) announce(c sluice.Changes) {
	if c.Empty() || !w.queue.up {
		return
	}
	if w.planted(LiesOfVersions) {
		c.Statuses = slices.Clone(c.Statuses)
		for i := range c.Statuses {
			if c.Statuses[i].State == sluice.Held {
				c.Statuses[i].Version += 10
			}
		}
	}
	for _, d := range w.doors {
		if l := d.life; l != nil && l.listens == w.queue.life && len(l.outcomes) < mostOutcomes {
			l.outcomes = append(l.outcomes, c)
		}
	}
}
