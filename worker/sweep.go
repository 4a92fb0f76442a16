package worker

import (
	"context"
	"time"

	"sluice"
)

const (
	sweepEvery = time.Second
	sweepChunk = 1000 // holds in one transaction
	pruneEvery = 5 * time.Second
	pruneChunk = 10_000                 // events in one transaction
	pruneFor   = 500 * time.Millisecond // at a time: the sweep has other things to do
)

// sweep does what time asks for, once a second: it gives overdue holds back, for the deadline in the database is what
// counts (P6), announces sales that have begun or ended, and forgets old events.
func (w *Worker) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	var pruned time.Time
	for failing := false; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := w.expire(ctx)
		if err == nil {
			err = w.tick(ctx)
		}
		if err == nil && time.Since(pruned) > pruneEvery {
			pruned = time.Now()
			err = w.prune(ctx)
		}
		if (err != nil) != failing && ctx.Err() == nil {
			failing = err != nil
			w.Logger.Warn("the sweep of what is overdue", "working", !failing, "error", err)
		}
	}
}

// expire gives overdue holds back, chunk after chunk until none is left.
func (w *Worker) expire(ctx context.Context) error {
	for ctx.Err() == nil {
		changes, err := w.change(w.Store.Expire(ctx, sweepChunk))
		if err != nil || len(changes.Statuses) < sweepChunk {
			return err
		}
	}
	return nil
}

// tick announces sales that have begun or ended.
func (w *Worker) tick(ctx context.Context) error {
	changes, err := w.Store.Tick(ctx)
	if len(changes.Sales) > 0 {
		w.announce(sluice.Changes{Now: changes.Now, Sales: changes.Sales})
	}
	return err
}

// prune forgets events after their time.
func (w *Worker) prune(ctx context.Context) error {
	for began := time.Now(); ; {
		n, err := w.Store.PruneEvents(ctx, w.cfg.EventRetention, pruneChunk)
		if err != nil || n < pruneChunk || time.Since(began) > pruneFor {
			return err
		}
	}
}
