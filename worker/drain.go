package worker

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"sluice"
	"sluice/inventory"
	"sluice/knsq"
	"sluice/queue"
)

const (
	messageTimeout = 15 * time.Second // after which nsqd gives a dead worker's messages to another
	longInHand     = messageTimeout / 2
	putBack        = 2 * time.Second // before a message that could not be settled comes again
)

// delivery is a message with the order in it.
type delivery struct {
	message *knsq.Message
	order   sluice.Order
}

// settle is the path of orders on the worker's side: read, pace, one transaction, tell the doors, finish. The batch that
// came is cut up where the rate has a smaller one; and where the rate or the store has become so slow that nsqd would
// soon give up on what is in hand, the rest goes back.
//
// It answers every message by itself. The error is for middlewares: the last reason why one is not settled.
func (p *pool) settle(ctx context.Context, messages []*knsq.Message) error {
	p.inHand.Add(int64(len(messages)))
	defer p.inHand.Add(-int64(len(messages)))
	deliveries, why := p.read(ctx, messages)
	batch := make([]delivery, 0, len(deliveries))
	for _, d := range deliveries {
		if time.Since(d.message.Received) > longInHand || ctx.Err() != nil {
			d.message.Requeue(putBack)
			why = errNoTime
			continue
		}
		p.pace.take()
		batch = append(batch, d)
		if len(batch) >= int(p.batch.Load()) {
			why = cmp.Or(p.reserve(ctx, batch), why)
			batch = batch[:0]
		}
	}
	if len(batch) > 0 {
		why = cmp.Or(p.reserve(ctx, batch), why)
	}
	return why
}

// errNoTime is why orders went back to the queue untried.
var errNoTime = errors.New("there was no time left to settle them")

// read answers the orders in messages; what is none is a dead letter.
func (p *pool) read(ctx context.Context, messages []*knsq.Message) (deliveries []delivery, why error) {
	deliveries = make([]delivery, 0, len(messages))
	for _, m := range messages {
		order, err := queue.DecodeOrder(m.Body)
		if err != nil {
			p.worker.bury(ctx, m, nil, err)
			why = err
			continue
		}
		deliveries = append(deliveries, delivery{m, order})
	}
	return deliveries, why
}

// reserve settles deliveries in one transaction. While the store is unavailable it waits: then nothing else could be
// settled either, and the queue holds the rest back. A store that answers but fails on the batch has met a bad
// order: the batch is halved until it stands alone.
func (p *pool) reserve(ctx context.Context, deliveries []delivery) (why error) {
	w := p.worker
	orders := make([]sluice.Order, len(deliveries))
	for i := range deliveries {
		orders[i] = deliveries[i].order
	}
	changes, err := p.commit(ctx, orders)
	switch {
	case err == nil:
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
		err = p.reserve(ctx, deliveries[:half])
		err = cmp.Or(p.reserve(ctx, deliveries[half:]), err)
	default:
		w.refused(ctx, &deliveries[0], err)
	}
	return err
}

// commit has the store settle orders, and the window know how long that took it.
func (p *pool) commit(ctx context.Context, orders []sluice.Order) (changes sluice.Changes, err error) {
	began := time.Now()
	full := len(orders) >= int(p.batch.Load())
	err = p.worker.outage.patiently(ctx, func() (err error) {
		tried := time.Now()
		changes, err = p.worker.Store.Reserve(ctx, orders)
		switch {
		case err == nil:
			p.sampled(sample{began: tried, took: time.Since(tried), orders: settledNow(changes), full: full})
		case errors.Is(err, inventory.ErrUnavailable) && ctx.Err() == nil:
			p.sampled(sample{began: tried, failed: true})
		}
		return err
	})
	if err == nil {
		p.worker.metrics.committed(p.cfg.Name, time.Since(began), changes)
	}
	return changes, err
}

// settledNow counts the orders that a transaction settled; the others were repeats.
func settledNow(c sluice.Changes) (n int) {
	for i := range c.Statuses {
		if c.Statuses[i].SettledAt.Equal(c.Now) {
			n++
		}
	}
	return n
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

// bury makes a dead letter of a message that can't be settled; its order, if it has one, becomes failed.
func (w *Worker) bury(ctx context.Context, m *knsq.Message, order *sluice.Order, cause error) {
	letter := inventory.Letter{Message: string(m.ID[:]), Body: m.Body, Order: order, Attempts: m.Attempts, Error: cause.Error()}
	if err := w.keep(ctx, letter); err != nil {
		w.complain.Do(func() {
			w.Logger.Error("a dead letter could not be kept; it comes again", "message", letter.Message, "error", err)
		})
		m.Requeue(putBack)
		return
	}
	w.complain.Do(func() { w.Logger.Error("dead letter", "message", letter.Message, "cause", cause) })
	m.Finish()
}

// deadLetter keeps what a middleware has given up.
func (w *Worker) deadLetter(ctx context.Context, l knsq.Letter) error {
	letter := inventory.Letter{Message: l.ID, Body: l.Body, Attempts: l.Attempts, Error: l.Err.Error()}
	if order, err := queue.DecodeOrder(l.Body); err == nil {
		letter.Order = &order
	}
	return w.keep(ctx, letter)
}

// keep has the store keep a dead letter for the operator, and tells the doors.
func (w *Worker) keep(ctx context.Context, l inventory.Letter) error {
	l.Body, l.Error = l.Body[:min(len(l.Body), inventory.MaxLetterBytes)], bounded(l.Error)
	var changes sluice.Changes
	err := w.outage.patiently(ctx, func() (err error) {
		changes, err = w.Store.Bury(ctx, l)
		return err
	})
	if err != nil {
		return err
	}
	w.metrics.buried.Inc()
	w.announce(changes)
	return nil
}
