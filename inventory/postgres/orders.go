package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"sluice"
	"sluice/inventory"
)

// Reserve settles a batch; see inventory.Store.
func (s *Store) Reserve(ctx context.Context, batch []sluice.Order) (sluice.Changes, error) {
	sales, ids, buyers := inventory.SaleIDs(batch), uuids(inventory.OrderIDs(batch)), inventory.Buyers(batch)
	var v inventory.View
	var d inventory.Decision
	err := s.transact(ctx, "reserve", func(b *pipeline) {
		v = inventory.View{Sales: map[string]sluice.Sale{}, Settled: map[sluice.OrderID]sluice.Status{}}
		eachSale(b, func(sale sluice.Sale) { v.Sales[sale.ID] = sale }, lockSales, sales)
		readNow(b, &v.Now)
		each(b, func(rows pgx.Rows) error {
			o, err := scanOrder(rows)
			v.Settled[o.Status.Order] = o.Status
			return err
		}, selectOrders, ids)
		queueOwned(b, buyers, &v)
	}, func(b *pipeline) error {
		d = inventory.Decide(v, batch)
		queueInsert(b, d.Rows)
		queueMove(b, d.Deltas)
		return nil
	})
	if err != nil {
		return sluice.Changes{}, err
	}
	return sluice.Changes{Now: v.Now, Statuses: d.Statuses, Sales: d.Sales}, nil
}

func queueOwned(b *pipeline, buyers []inventory.Buyer, v *inventory.View) {
	v.Owned = map[inventory.Buyer]int64{}
	sales, users := make([]string, len(buyers)), make([]string, len(buyers))
	for i, buyer := range buyers {
		sales[i], users[i] = buyer.Sale, buyer.User
	}
	each(b, func(rows pgx.Rows) error {
		var buyer inventory.Buyer
		var units int64
		err := rows.Scan(&buyer.Sale, &buyer.User, &units)
		v.Owned[buyer] = units
		return err //nolint:wrapcheck // transact says what was being done
	}, selectOwned, sales, users)
}

// Pay turns a held order into a paid one; see inventory.Store.
func (s *Store) Pay(ctx context.Context, id sluice.OrderID, ref string) (sluice.Changes, error) {
	if err := inventory.CheckPaymentRef(ref); err != nil {
		return sluice.Changes{}, err //nolint:wrapcheck // a *sluice.Error is the caller's answer as it is
	}
	return s.transition(ctx, "pay", id, ref, func(now time.Time, o inventory.Stored) inventory.Transition {
		return inventory.DecidePay(now, o, ref)
	})
}

// Cancel gives a held order's units back; see inventory.Store.
func (s *Store) Cancel(ctx context.Context, id sluice.OrderID) (sluice.Changes, error) {
	return s.transition(ctx, "cancel", id, "", func(_ time.Time, o inventory.Stored) inventory.Transition {
		return inventory.DecideCancel(o)
	})
}

// locked is one order, and its sale where there is one, as they stand under the sale's lock.
type locked struct {
	now   time.Time
	sales []sluice.Sale      // none or one
	found []inventory.Stored // none or one
}

// lockOrder queues the lock of the order's sale, then reads the order. An order's sale never changes, so it may be looked
// up before the lock.
func lockOrder(b *pipeline, id sluice.OrderID, ref string, l *locked) {
	const lockSale = "SELECT " + saleColumns + ", phase FROM sales WHERE id = (SELECT sale FROM orders WHERE id = $1) FOR UPDATE"
	*l = locked{}
	eachSale(b, func(sale sluice.Sale) { l.sales = append(l.sales, sale) }, lockSale, [16]byte(id))
	readNow(b, &l.now)
	eachMoving(b, func(o inventory.Stored) { l.found = append(l.found, o) },
		"SELECT "+movingColumns+" FROM orders WHERE id = $2", ref, [16]byte(id))
}

// transition decides one order and commits the decision, a refusal's consequences included.
func (s *Store) transition(
	ctx context.Context, doing string, id sluice.OrderID, ref string,
	decide func(time.Time, inventory.Stored) inventory.Transition,
) (sluice.Changes, error) {
	leave, err := s.commands.Enter("postgres: " + doing)
	if err != nil {
		return sluice.Changes{}, err //nolint:wrapcheck // it says what was being done
	}
	defer leave()
	var l locked
	var d inventory.Transition
	err = s.transact(ctx, doing, func(b *pipeline) {
		lockOrder(b, id, ref, &l)
	}, func(b *pipeline) error {
		if len(l.found) == 0 {
			return sluice.Refuse(sluice.NoSuchOrder, "the store has no order %s", id)
		}
		if len(l.sales) == 0 && unitsMoved(l.found[0].Status.State) {
			return errMoved // it was settled between the two statements, so its sale is not locked
		}
		d = decide(l.now, l.found[0])
		queueTransition(b, l.now, l.found[0], d, ref)
		return nil
	})
	if err != nil {
		return sluice.Changes{}, err
	}
	if d.Delta != (inventory.Delta{}) {
		for i := range l.sales {
			l.sales[i] = inventory.Apply(l.sales[i], d.Delta)
		}
	}
	return sluice.Changes{Now: l.now, Statuses: []sluice.Status{d.After.Status}, Sales: l.sales}, d.Refused
}

// unitsMoved reports whether an order in this state has had units of a sale, which then exists.
func unitsMoved(s sluice.State) bool { return s != sluice.Rejected && s != sluice.Failed }

func queueTransition(b *pipeline, now time.Time, before inventory.Stored, d inventory.Transition, ref string) {
	if d.Changed {
		queueUpdate(b, []inventory.Stored{before}, []inventory.Stored{d.After})
	}
	if d.Delta != (inventory.Delta{}) {
		queueMove(b, []inventory.Delta{d.Delta})
	}
	if d.Refund != "" {
		b.wrote.RefundDue(d.After, ref, d.Refund)
		b.Queue("INSERT INTO refunds_due (order_id, payment_ref, reason, at) VALUES ($1, $2, $3, $4)", // one that is there after all has the transaction repeated
			[16]byte(d.After.Status.Order), ref, string(d.Refund), now)
	}
}

// Expire gives back the units of overdue holds; see inventory.Store.
func (s *Store) Expire(ctx context.Context, limit int) (sluice.Changes, error) {
	c, due, err := s.due(ctx, limit)
	if err != nil || len(due) == 0 {
		return c, err
	}
	var sweep sweep
	err = s.transact(ctx, "expire", func(b *pipeline) {
		sweep.queueReads(b, due, limit)
	}, func(b *pipeline) error {
		sweep.queueWrites(b)
		return nil
	})
	if err != nil {
		return sluice.Changes{}, err
	}
	return sweep.changes(), nil
}

// due looks, without a lock, for the sales that have overdue holds: most sweeps find none. The holds themselves are read
// again under the locks. One hold a sale is enough to know, so at most limit sales are.
func (s *Store) due(ctx context.Context, limit int) (c sluice.Changes, sales []string, err error) {
	const query = "SELECT clock_timestamp(), coalesce((SELECT array_agg(id) FROM (SELECT s.id FROM sales AS s, LATERAL " +
		"(SELECT FROM orders WHERE state = 'held' AND sale = s.id AND release_at <= statement_timestamp() LIMIT 1) AS o " +
		"WHERE s.held > 0 LIMIT $1) AS due), '{}')"
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err = s.pool.QueryRow(ctx, query, max(limit, 0)).Scan(&c.Now, &sales)
	c.Now = inventory.Micros(c.Now)
	return c, sales, classify("expire", err)
}

// sweep is one transaction of Expire.
type sweep struct {
	now   time.Time
	sales []sluice.Sale
	due   []inventory.Stored

	after  []inventory.Stored
	deltas []inventory.Delta
}

func (w *sweep) queueReads(b *pipeline, sales []string, limit int) {
	// statement_timestamp() can use the index, clock_timestamp() cannot. Each statement of a pipeline has its own, taken
	// when its turn comes, so behind the locks.
	const query = "SELECT o.* FROM unnest($2::text[]) AS s (id), LATERAL (SELECT " + movingColumns + " FROM orders " +
		"WHERE state = 'held' AND sale = s.id AND release_at <= statement_timestamp() ORDER BY release_at LIMIT $3) AS o LIMIT $3"
	*w = sweep{}
	eachSale(b, func(sale sluice.Sale) { w.sales = append(w.sales, sale) }, lockSales, sales)
	eachMoving(b, func(o inventory.Stored) { w.due = append(w.due, o) }, query, "", sales, limit)
	readNow(b, &w.now)
}

func (w *sweep) queueWrites(b *pipeline) {
	var sum inventory.Sum
	for _, o := range w.due {
		d := inventory.DecideExpire(o)
		w.after = append(w.after, d.After)
		sum.Add(d.Delta)
	}
	w.deltas = sum.Deltas()
	queueUpdate(b, w.due, w.after)
	queueMove(b, w.deltas)
}

func (w *sweep) changes() sluice.Changes {
	c := sluice.Changes{Now: w.now}
	for _, o := range w.after {
		c.Statuses = append(c.Statuses, o.Status)
	}
	for _, sale := range w.sales {
		for _, d := range w.deltas {
			if d.Sale == sale.ID {
				c.Sales = append(c.Sales, inventory.Apply(sale, d))
			}
		}
	}
	return c
}

// Bury keeps a dead letter; see inventory.Store.
func (s *Store) Bury(ctx context.Context, letter inventory.Letter) (sluice.Changes, error) {
	letter = letter.Clean()
	var now time.Time
	var statuses []sluice.Status
	err := s.transact(ctx, "bury", func(b *pipeline) {
		now, statuses = time.Time{}, nil
		if letter.Order != nil {
			b.Queue(lockSales, []string{letter.Order.Sale})
		}
		readNow(b, &now)
		if letter.Order != nil {
			each(b, func(rows pgx.Rows) error {
				o, err := scanOrder(rows)
				statuses = append(statuses, o.Status)
				return err
			}, selectOrders, [][16]byte{letter.Order.ID})
		}
	}, func(b *pipeline) error {
		queueLetter(b, letter, now)
		if letter.Order != nil && len(statuses) == 0 {
			row := inventory.FailedRow(*letter.Order, now)
			queueInsert(b, []inventory.Row{row})
			statuses = []sluice.Status{row.Status}
		}
		return nil
	})
	if err != nil {
		return sluice.Changes{}, fmt.Errorf("message %.80q: %w", letter.Message, err)
	}
	return sluice.Changes{Now: now, Statuses: statuses}, nil
}

func queueLetter(b *pipeline, l inventory.Letter, now time.Time) {
	var order *[16]byte
	if l.Order != nil {
		order = (*[16]byte)(&l.Order.ID)
	}
	b.Queue("INSERT INTO dead_letters (message, body, order_id, attempts, error, at) VALUES ($1, $2, $3, $4, $5, $6) "+
		"ON CONFLICT DO NOTHING", l.Message, append([]byte{}, l.Body...), order, int64(l.Attempts), l.Error, now)
}
