package ingress

import (
	"context"
	"time"

	"sluice"
)

// Hear takes in what a worker or the database says of orders and sales. When it returns nil the outcomes are durable,
// readers see them and the credits are back. Hearing the same twice changes nothing.
func (d *Door) Hear(ctx context.Context, changes ...sluice.Changes) error {
	d.hearing.Lock()
	defer d.hearing.Unlock()
	var news news
	for i := range changes {
		d.board.update(changes[i].Sales, d.board.toldAt(changes[i].Now))
		if err := d.gather(&news, changes[i].Statuses); err != nil {
			return err
		}
	}
	if len(news.statuses) == 0 {
		return nil
	}
	commit, err := d.Journal.Settle(news.statuses)
	if err != nil {
		return err
	}
	select {
	case <-commit.Done():
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	now := int64(time.Since(d.began))
	for i := range news.statuses {
		d.announce(&news.statuses[i], now)
	}
	return nil
}

// announce gives the order's credit back and wakes whoever waits for it. Its status is durable by now, in nanoseconds after d began.
func (d *Door) announce(s *sluice.Status, now int64) {
	if o, held := d.credits.Release(s.Order); held {
		d.leftAt.Store(now)
		d.released.Add(1)
		d.noteSlack()
		o.sale.queued.Add(-int64(o.order.Quantity))
		d.metrics.settled(s.State)
	}
	d.waiting.wake(s.Order)
}

// news are statuses later than what the door knew, one an order.
type news struct {
	statuses []sluice.Status
	at       map[sluice.OrderID]int
}

func (n *news) add(s sluice.Status) {
	if n.at == nil {
		n.at = make(map[sluice.OrderID]int)
	}
	i, ok := n.at[s.Order]
	switch {
	case !ok:
		n.at[s.Order] = len(n.statuses)
		n.statuses = append(n.statuses, s)
	case s.Version > n.statuses[i].Version:
		n.statuses[i] = s
	}
}

// gather adds the statuses that are later than what this door knows (P10).
func (d *Door) gather(n *news, statuses []sluice.Status) error {
	for _, s := range statuses {
		if s.State == sluice.Queued {
			continue
		}
		known, ok, err := d.Journal.Settled(s.Order)
		if err != nil {
			return err
		}
		if !ok || s.Version > known.Version {
			n.add(s)
		} else if _, held := d.credits.Get(s.Order); held {
			n.add(known) // settled before, but its credit is still out: a context ended between the two
		}
	}
	return nil
}
