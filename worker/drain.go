package worker

import (
	"cmp"
	"context"
	"errors"
	"time"

	"sluice"
	"sluice/inventory"
	"sluice/knsq"
)

const (
	messageTimeout = 15 * time.Second // after which nsqd gives a dead worker's messages to another
	longInHand     = messageTimeout / 2
)

// settle is the path of orders on the worker's side: read, pace, one transaction, tell the doors, finish. The batch that
// came is cut up where the rate has a smaller one; and where the rate or the store has become so slow that nsqd would
// soon give up on what is in hand, the rest goes back.
//
// It answers every message by itself. The error is for middlewares: the last reason why one is not settled.
func (p *pool) settle(ctx context.Context, messages []*knsq.Message) error {
	p.inHand.Add(int64(len(messages)))
	defer p.inHand.Add(-int64(len(messages)))
	deliveries, why := p.read(ctx, messages)
	batch := make([]Delivery, 0, len(deliveries))
	for i := range deliveries {
		if d := &deliveries[i]; time.Since(d.received.Received) > longInHand || ctx.Err() != nil {
			d.received.Requeue(putBack)
			why = errNoTime
			continue
		}
		p.pace.take()
		batch = append(batch, deliveries[i].Delivery)
		if len(batch) >= int(p.batch.Load()) {
			why = cmp.Or(p.worker.settler.Settle(ctx, batch, p.commit), why)
			batch = batch[:0]
		}
	}
	if len(batch) > 0 {
		why = cmp.Or(p.worker.settler.Settle(ctx, batch, p.commit), why)
	}
	return why
}

// errNoTime is why orders went back to the queue untried.
var errNoTime = errors.New("there was no time left to settle them")

// delivery is one that came from nsqd.
type delivery struct {
	Delivery
	received *knsq.Message
}

// read answers the orders in messages; what is none is a dead letter.
func (p *pool) read(ctx context.Context, messages []*knsq.Message) (deliveries []delivery, why error) {
	deliveries = make([]delivery, 0, len(messages))
	for _, m := range messages {
		d, err := p.worker.settler.Read(ctx, received{m}, m.Body)
		if err != nil {
			why = err
			continue
		}
		deliveries = append(deliveries, delivery{d, m})
	}
	return deliveries, why
}

// received is a message of nsqd.
type received struct{ *knsq.Message }

// Letter is all that is kept of it but the order and the error.
func (m received) Letter() inventory.Letter {
	return inventory.Letter{Message: string(m.ID[:]), Body: m.Body, Attempts: m.Attempts}
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

// deadLetter keeps what a middleware has given up.
func (w *Worker) deadLetter(ctx context.Context, l knsq.Letter) error {
	letter := inventory.Letter{Message: l.ID, Body: l.Body, Attempts: l.Attempts, Error: l.Err.Error()}
	if order, err := readOrder(w.Keys, l.Body); err == nil {
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
