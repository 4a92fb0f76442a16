package worker

import (
	"context"
	"errors"
	"sync"
	"time"

	"sluice"
	"sluice/inventory"
	"sluice/queue"
)

const (
	messageTimeout  = 15 * time.Second // after which nsqd gives a dead worker's messages to another
	storePatience   = 8 * time.Second  // how long a batch waits for the store before it goes back to the queue
	storeBackoff    = 100 * time.Millisecond
	storeMaxBackoff = 2 * time.Second
	putBack         = 2 * time.Second // before a message that could not be settled comes again
)

// delivery is a message with the order in it.
type delivery struct {
	message *queue.Message
	order   sluice.Order
}

// settle is the path of orders on the worker's side: read, pace, one transaction, tell the doors, finish.
func (w *Worker) settle(ctx context.Context, batch []*queue.Message) {
	deliveries := make([]delivery, 0, len(batch))
	for _, m := range batch {
		order, err := queue.DecodeOrder(m.Body)
		if err != nil {
			w.bury(ctx, m, nil, err)
			continue
		}
		w.pace.Take()
		deliveries = append(deliveries, delivery{m, order})
	}
	if len(deliveries) > 0 {
		w.reserve(ctx, deliveries)
	}
}

// reserve settles deliveries in one transaction. While the store is unavailable it waits: then nothing else could be
// settled either, and the queue holds the rest back. A store that answers but fails on the batch has met a bad
// order: the batch is halved until it stands alone.
func (w *Worker) reserve(ctx context.Context, deliveries []delivery) {
	orders := make([]sluice.Order, len(deliveries))
	for i := range deliveries {
		orders[i] = deliveries[i].order
	}
	began := time.Now()
	changes, err := w.patiently(ctx, func() (sluice.Changes, error) { return w.Store.Reserve(ctx, orders) })
	switch {
	case err == nil:
		w.metrics.committed(time.Since(began), changes)
		w.announce(changes)
		for i := range deliveries {
			w.failures.forget(deliveries[i].order.ID)
			deliveries[i].message.Finish()
		}
	case errors.Is(err, inventory.ErrUnavailable) || ctx.Err() != nil:
		for i := range deliveries {
			deliveries[i].message.Requeue(putBack)
		}
	case len(deliveries) > 1:
		half := len(deliveries) / 2
		w.reserve(ctx, deliveries[:half])
		w.reserve(ctx, deliveries[half:])
	default:
		w.refused(ctx, &deliveries[0], err)
	}
}

// patiently repeats what the store could not do for being unavailable, up to storePatience.
func (w *Worker) patiently(ctx context.Context, do func() (sluice.Changes, error)) (sluice.Changes, error) {
	deadline := time.Now().Add(storePatience)
	for wait := storeBackoff; ; wait = min(2*wait, storeMaxBackoff) {
		changes, err := do()
		if err == nil {
			w.metrics.storeUp.Set(1)
			return changes, nil
		}
		if !errors.Is(err, inventory.ErrUnavailable) || time.Now().After(deadline) {
			return changes, err
		}
		if w.metrics.storeDown() {
			w.Logger.Warn("the store is unavailable; orders wait", "error", err)
		}
		select {
		case <-ctx.Done():
			return changes, err
		case <-time.After(wait):
		}
	}
}

// refused counts a failure of one order that stood alone while the store was healthy: those alone are attempts.
func (w *Worker) refused(ctx context.Context, d *delivery, err error) {
	attempts := w.failures.count(d.order.ID)
	if attempts < w.cfg.MaxAttempts {
		w.complain.Do(func() {
			w.Logger.Warn("an order could not be settled", "order", d.order.ID.String(), "attempts", attempts, "error", err)
		})
		d.message.Requeue(putBack)
		return
	}
	w.bury(ctx, d.message, &d.order, err)
	w.failures.forget(d.order.ID)
}

// failures counts isolated failures by order. nsqd's own count will not do: it counts outages and time-outs too. Many
// orders failing at once is no reason to grow: beyond maxFailures counts are lost, and those orders tried more often.
type failures struct {
	mu     sync.Mutex
	counts map[sluice.OrderID]int
}

const maxFailures = 10_000

func (f *failures) count(id sluice.OrderID) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.counts == nil || len(f.counts) >= maxFailures {
		f.counts = make(map[sluice.OrderID]int)
	}
	f.counts[id]++
	return f.counts[id]
}

func (f *failures) forget(id sluice.OrderID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.counts, id)
}

// bury keeps a message that can't be settled for the operator; its order, if it has one, becomes failed.
func (w *Worker) bury(ctx context.Context, m *queue.Message, order *sluice.Order, cause error) {
	letter := inventory.Letter{
		Message: string(m.ID[:]), Body: m.Body[:min(len(m.Body), inventory.MaxLetterBytes)],
		Order: order, Attempts: m.Attempts, Error: cause.Error(),
	}
	changes, err := w.patiently(ctx, func() (sluice.Changes, error) { return w.Store.Bury(ctx, letter) })
	if err != nil {
		w.complain.Do(func() {
			w.Logger.Error("a dead letter could not be kept; it comes again", "message", letter.Message, "error", err)
		})
		m.Requeue(putBack)
		return
	}
	w.metrics.buried.Inc()
	w.complain.Do(func() { w.Logger.Error("dead letter", "message", letter.Message, "cause", cause) })
	w.announce(changes)
	m.Finish()
}
