package ingress

import (
	"cmp"
	"context"
	"slices"
	"time"

	"sluice"
)

const (
	reconcileEvery = 500 * time.Millisecond // it looks at every outstanding order
	firstPatience  = 15 * time.Second       // an order that was sent so long ago and is not settled is asked after
	firstBackoff   = time.Second            // between two times that a doubtful order is carried
	longestBackoff = time.Minute
)

// carry hands a durable order to the carrier. Where that is full, reconcile tries again.
func (d *Door) carry(o *outstanding) {
	o.mu.Lock()
	o.phase = carried
	o.tries++
	o.again = time.Now().Add(backoff(o.tries))
	o.mu.Unlock()
	if !d.Carrier.Carry(&o.order) {
		o.moved(doubtful, 0)
	}
}

func backoff(tries int) time.Duration {
	return min(firstBackoff<<min(tries-1, 10), longestBackoff)
}

// Sent notes that the queue took these orders in its given life.
func (d *Door) Sent(ids []sluice.OrderID, incarnation uint64) {
	for _, id := range ids {
		if o, held := d.credits.Get(id); held {
			o.taken(incarnation)
		}
	}
}

// taken notes that the queue took the order, and when to ask after it, as one: between the two Missed would be undone, and Reconcile would
// carry the order twice.
func (o *outstanding) taken(incarnation uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.phase, o.incarnation = sent, incarnation
	o.waitForLocked(firstPatience)
}

// waitFor puts off the next look at an order that is where it should be; longer each time that it was carried.
func (o *outstanding) waitFor(patience time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.waitForLocked(patience)
}

func (o *outstanding) waitForLocked(patience time.Duration) {
	o.again = time.Now().Add(patience << min(max(o.tries-1, 0), 4))
}

// Missed notes that outcomes may have gone past this door: whatever the queue took is asked after now.
func (d *Door) Missed() {
	d.credits.Each(func(_ sluice.OrderID, o *outstanding) {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.phase == sent {
			o.again = time.Time{}
		}
	})
}

// Doubt notes that the queue may or may not have these orders.
func (d *Door) Doubt(ids []sluice.OrderID) {
	for _, id := range ids {
		if o, held := d.credits.Get(id); held {
			o.moved(doubtful, 0)
		}
	}
}

// reconcile looks after outstanding orders until ctx ends.
func (d *Door) reconcile(ctx context.Context) {
	tick := time.NewTicker(reconcileEvery)
	defer tick.Stop()
	for failing := false; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := d.Reconcile(ctx)
		if (err != nil) != failing && ctx.Err() == nil {
			failing = err != nil
			d.Logger.Warn("asking after outstanding orders", "answered", !failing, "error", err)
		}
	}
}

// Reconcile looks once after orders that may have been lost on the way: the database is asked first, and only what it does
// not know is carried again. Run does it twice a second.
func (d *Door) Reconcile(ctx context.Context) error {
	lost := d.overdue(time.Now(), d.Carrier.Incarnation())
	for len(lost) > 0 && ctx.Err() == nil {
		n := min(len(lost), MaxInquiry)
		if err := d.recover(ctx, lost[:n]); err != nil {
			return err
		}
		lost = lost[n:]
	}
	return nil
}

// overdue lists orders that are doubtful, were sent to a queue that has restarted since, or wait for unusually long; who came
// first is first in the queue again.
func (d *Door) overdue(now time.Time, incarnation uint64) []*outstanding {
	var lost []*outstanding
	d.credits.Each(func(_ sluice.OrderID, o *outstanding) {
		if o.overdue(now, incarnation) {
			lost = append(lost, o)
		}
	})
	slices.SortFunc(lost, func(a, b *outstanding) int { return cmp.Compare(a.place, b.place) })
	return lost
}

func (o *outstanding) overdue(now time.Time, incarnation uint64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch o.phase {
	case promised: // its request carries it, or gave up waiting for the disk
		return o.durable() && now.After(o.again)
	case carried: // the carrier keeps it until it knows more
		return false
	case sent:
		return o.incarnation != incarnation || now.After(o.again)
	case doubtful:
		return now.After(o.again)
	}
	return false
}

// recover asks the database after orders, settles those it knows and carries the others again.
func (d *Door) recover(ctx context.Context, orders []*outstanding) error {
	asked, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	ids := make([]sluice.OrderID, len(orders))
	for i, o := range orders {
		ids[i] = o.order.ID
	}
	incarnation := d.Carrier.Incarnation()
	changes, err := d.Truth.Statuses(asked, ids)
	if err != nil {
		return err
	}
	if err := d.Hear(ctx, changes); err != nil {
		return err
	}
	for _, o := range orders {
		if _, still := d.credits.Get(o.order.ID); still {
			d.carryAgain(o, incarnation)
		}
	}
	return nil
}

// carryAgain sends an order that the database does not know. Where the queue has not restarted the order is probably
// still in it: then it is sent only while the queue, which other doors fill too, holds less than this door's bound, so
// copies never pile up.
func (d *Door) carryAgain(o *outstanding, incarnation uint64) {
	o.mu.Lock()
	waiting := o.phase == sent && o.incarnation == incarnation
	o.mu.Unlock()
	if waiting {
		if depth, known := d.Carrier.Depth(); known && depth >= max(d.cfg.Bound, d.limits.Load().bound) {
			o.waitFor(firstPatience)
			return
		}
	}
	d.metrics.carriedAgain.Inc()
	d.carry(o)
}
