package sqlite

import (
	"context"
	"fmt"
	"time"

	"sluice"
	"sluice/inventory"
)

// Reserve settles a batch; see inventory.Store.
func (s *Store) Reserve(ctx context.Context, batch []sluice.Order) (sluice.Changes, error) {
	var c sluice.Changes
	err := s.transact(ctx, "reserve", func(t *tx) error {
		v, err := t.view(ctx, batch)
		if err != nil {
			return err
		}
		d := inventory.Decide(v, batch)
		c = sluice.Changes{Now: v.Now, Statuses: d.Statuses, Sales: d.Sales}
		if err := t.insert(ctx, d.Rows); err != nil {
			return err
		}
		return t.move(ctx, d.Deltas...)
	})
	return known(c, err)
}

// known makes sure that an error comes without changes: nothing is known to have happened.
func known(c sluice.Changes, err error) (sluice.Changes, error) {
	if err != nil {
		return sluice.Changes{}, err
	}
	return c, nil
}

// view reads what inventory.Decide must know.
func (t *tx) view(ctx context.Context, batch []sluice.Order) (v inventory.View, err error) {
	v = inventory.View{
		Now:     t.now,
		Sales:   map[string]sluice.Sale{},
		Settled: map[sluice.OrderID]sluice.Status{},
		Owned:   map[inventory.Buyer]int64{},
	}
	stored, err := t.orders(ctx, inventory.OrderIDs(batch))
	if err != nil {
		return v, err
	}
	for id, o := range stored {
		v.Settled[id] = o.Status
	}
	for _, id := range inventory.SaleIDs(batch) {
		sale, ok, err := t.sale(ctx, id)
		if err != nil {
			return v, err
		}
		if ok {
			v.Sales[id] = sale
		}
	}
	return v, t.allOwned(ctx, inventory.Buyers(batch), v)
}

// allOwned asks once for each run of buyers of one sale.
func (t *tx) allOwned(ctx context.Context, buyers []inventory.Buyer, v inventory.View) error {
	for len(buyers) > 0 {
		sale := buyers[0].Sale
		var users []string
		for len(buyers) > 0 && buyers[0].Sale == sale {
			users = append(users, buyers[0].User)
			buyers = buyers[1:]
		}
		if _, ok := v.Sales[sale]; !ok {
			continue
		}
		if err := t.owned(ctx, sale, users, v.Owned); err != nil {
			return err
		}
	}
	return nil
}

// Pay turns a held order into a paid one; see inventory.Store.
func (s *Store) Pay(ctx context.Context, id sluice.OrderID, ref string) (sluice.Changes, error) {
	if err := inventory.CheckPaymentRef(ref); err != nil {
		return sluice.Changes{}, err
	}
	return s.transition(ctx, "pay", id, ref, func(t *tx, o inventory.Stored) inventory.Transition {
		return inventory.DecidePay(t.now, o, ref)
	})
}

// Cancel gives a held order's units back; see inventory.Store.
func (s *Store) Cancel(ctx context.Context, id sluice.OrderID) (sluice.Changes, error) {
	return s.transition(ctx, "cancel", id, "", func(_ *tx, o inventory.Stored) inventory.Transition {
		return inventory.DecideCancel(o)
	})
}

// transition decides one order and commits the decision, a refusal's consequences included.
func (s *Store) transition(
	ctx context.Context, doing string, id sluice.OrderID, ref string,
	decide func(*tx, inventory.Stored) inventory.Transition,
) (sluice.Changes, error) {
	leave, err := s.commands.Enter("sqlite: " + doing)
	if err != nil {
		return sluice.Changes{}, err
	}
	defer leave()
	var c sluice.Changes
	var refused error
	err = s.transact(ctx, doing, func(t *tx) error {
		o, err := t.moving(ctx, id, ref)
		if err != nil {
			return err
		}
		d := decide(t, o)
		refused = d.Refused
		if err := t.write(ctx, o, d, ref); err != nil {
			return err
		}
		c, err = t.changes(ctx, d.After.Status)
		return err
	})
	if err != nil {
		return sluice.Changes{}, err
	}
	return c, refused
}

func (t *tx) write(ctx context.Context, before inventory.Stored, d inventory.Transition, ref string) error {
	if d.Changed {
		if err := t.update(ctx, before, d.After); err != nil {
			return err
		}
	}
	if d.Delta != (inventory.Delta{}) {
		if err := t.move(ctx, d.Delta); err != nil {
			return err
		}
	}
	if d.Refund == "" {
		return nil
	}
	t.wrote.RefundDue(d.After, ref, d.Refund)
	const insert = "INSERT INTO refunds_due (order_id, payment_ref, reason, at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
	if _, err := t.ExecContext(ctx, insert, d.After.Status.Order[:], ref, string(d.Refund), micros(t.now)); err != nil {
		return fmt.Errorf("record a refund due: %w", err)
	}
	return nil
}

// changes is an order's status with its sale as the transaction leaves it.
func (t *tx) changes(ctx context.Context, status sluice.Status) (sluice.Changes, error) {
	c := sluice.Changes{Now: t.now, Statuses: []sluice.Status{status}}
	sale, ok, err := t.sale(ctx, status.Sale)
	if ok {
		c.Sales = []sluice.Sale{sale}
	}
	return c, err
}

// Expire gives back the units of overdue holds; see inventory.Store.
func (s *Store) Expire(ctx context.Context, limit int) (sluice.Changes, error) {
	c := sluice.Changes{Now: s.clock.now()}
	if limit <= 0 {
		return c, nil
	}
	due, err := s.anyDue(ctx, c.Now)
	if err != nil || !due {
		return c, err
	}
	err = s.transact(ctx, "expire", func(t *tx) (err error) {
		c, err = t.expire(ctx, limit)
		return err
	})
	return known(c, err)
}

// anyDue looks without the write lock: most sweeps find nothing.
func (s *Store) anyDue(ctx context.Context, at time.Time) (due bool, err error) {
	const query = "SELECT EXISTS (SELECT 1 FROM sales CROSS JOIN orders WHERE sales.held > 0 AND orders.sale = sales.id " +
		"AND orders.state = 'held' AND orders.release_at <= ?)"
	err = s.read.QueryRowContext(ctx, query, micros(at)).Scan(&due)
	return due, s.classify("expire", err)
}

func (t *tx) expire(ctx context.Context, limit int) (sluice.Changes, error) {
	c := sluice.Changes{Now: t.now}
	var due []inventory.Stored
	rows, err := t.prepared(ctx, t.stmts.selectDue).QueryContext(ctx, "", micros(t.now), limit) //nolint:sqlclosecheck // the transaction closes it
	err = collect(rows, err, func() error {
		o, err := scanMoving(rows)
		due = append(due, o)
		return err
	})
	if err != nil {
		return c, fmt.Errorf("read overdue holds: %w", err)
	}
	var sum inventory.Sum
	for _, o := range due {
		d := inventory.DecideExpire(o)
		if err := t.update(ctx, o, d.After); err != nil {
			return c, err
		}
		sum.Add(d.Delta)
		c.Statuses = append(c.Statuses, d.After.Status)
	}
	return c, t.moveAll(ctx, sum.Deltas(), &c)
}

// moveAll moves the counters and adds the sales to the changes.
func (t *tx) moveAll(ctx context.Context, deltas []inventory.Delta, c *sluice.Changes) error {
	if err := t.move(ctx, deltas...); err != nil {
		return err
	}
	for _, d := range deltas {
		sale, ok, err := t.sale(ctx, d.Sale)
		if err != nil {
			return err
		}
		if ok {
			c.Sales = append(c.Sales, sale)
		}
	}
	return nil
}

// Bury keeps a dead letter; see inventory.Store.
func (s *Store) Bury(ctx context.Context, letter inventory.Letter) (sluice.Changes, error) {
	letter = letter.Clean()
	var c sluice.Changes
	err := s.transact(ctx, "bury", func(t *tx) error {
		c = sluice.Changes{Now: t.now}
		if err := t.keep(ctx, letter); err != nil || letter.Order == nil {
			return err
		}
		status, err := t.fail(ctx, *letter.Order)
		c.Statuses = []sluice.Status{status}
		return err
	})
	return known(c, err)
}

func (t *tx) keep(ctx context.Context, l inventory.Letter) error {
	const insert = "INSERT INTO dead_letters (message, body, order_id, attempts, error, at) VALUES (?, ?, ?, ?, ?, ?) " +
		"ON CONFLICT DO NOTHING"
	var order []byte
	if l.Order != nil {
		order = l.Order.ID[:]
	}
	_, err := t.ExecContext(ctx, insert, l.Message, append([]byte{}, l.Body...), order, l.Attempts, l.Error, micros(t.now))
	if err != nil {
		return fmt.Errorf("keep a dead letter: %w", err)
	}
	return nil
}

// fail settles the order as failed where it is not settled yet.
func (t *tx) fail(ctx context.Context, o sluice.Order) (sluice.Status, error) {
	found, err := t.orders(ctx, []sluice.OrderID{o.ID})
	if err != nil {
		return sluice.Status{}, err
	}
	if stored, settled := found[o.ID]; settled {
		return stored.Status, nil
	}
	row := inventory.FailedRow(o, t.now)
	return row.Status, t.insert(ctx, []inventory.Row{row})
}
