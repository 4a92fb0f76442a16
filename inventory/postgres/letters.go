package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"sluice"
	"sluice/inventory"
)

const selectLetters = "SELECT id, message, body, order_id, attempts, error, at, replayed_as FROM dead_letters "

// Letters lists dead letters; see inventory.Desk.
func (s *Store) Letters(ctx context.Context, after int64, limit int, all bool) ([]inventory.Buried, error) {
	const (
		fresh = "AND replayed_as IS NULL "
		order = "ORDER BY id LIMIT $2"
	)
	if err := inventory.CheckPage(limit); err != nil {
		return nil, err //nolint:wrapcheck // a *sluice.Error is the caller's answer as it is
	}
	query := selectLetters + "WHERE id > $1 " + fresh + order
	if all {
		query = selectLetters + "WHERE id > $1 " + order
	}
	return list(ctx, s, "list dead letters", scanLetter, query, after, limit)
}

const selectLetter = selectLetters + "WHERE message = $1"

// Letter answers one dead letter; see inventory.Desk.
func (s *Store) Letter(ctx context.Context, message string) (inventory.Buried, error) {
	letters, err := list(ctx, s, "read a dead letter", scanLetter, selectLetter, inventory.CleanMessage(message))
	if err == nil && len(letters) == 0 {
		err = inventory.NoLetter(message)
	}
	if err != nil {
		return inventory.Buried{}, err
	}
	return letters[0], nil
}

// DropLetter forgets a dead letter; see inventory.Desk.
func (s *Store) DropLetter(ctx context.Context, message string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	tag, err := s.pool.Exec(ctx, "DELETE FROM dead_letters WHERE message = $1", inventory.CleanMessage(message))
	if err == nil && tag.RowsAffected() == 0 {
		err = inventory.NoLetter(message)
	}
	return classify("drop a dead letter", err)
}

func scanLetter(row pgx.Row) (l inventory.Buried, err error) {
	var order, replayed *[16]byte
	var at *time.Time
	err = row.Scan(&l.ID, &l.Message, &l.Body, &order, &l.Attempts, &l.Error, &at, &replayed)
	l.Order, l.ReplayedAs, l.At = orNone(order), orNone(replayed), orZero(at)
	return l, err //nolint:wrapcheck // the caller says what was being read
}

// replay is one transaction of Replay.
type replay struct {
	letters []inventory.Buried // none or one
	v       inventory.View
	made    []inventory.Stored // what an earlier replay made of the letter: none or one
}

// queueReads locks the sale first, as everybody does, then the letter.
func (r *replay) queueReads(b *pipeline, message string, order sluice.Order) {
	const (
		made   = "SELECT " + orderColumns + " FROM orders WHERE id = (SELECT replayed_as FROM dead_letters WHERE message = $1)"
		failed = "SELECT " + orderColumns + " FROM orders WHERE id = (SELECT order_id FROM dead_letters WHERE message = $1)"
	)
	*r = replay{v: inventory.View{Sales: map[string]sluice.Sale{}, Settled: map[sluice.OrderID]sluice.Status{}}}
	eachSale(b, func(sale sluice.Sale) { r.v.Sales[sale.ID] = sale }, lockSales, []string{order.Sale})
	each(b, func(rows pgx.Rows) error {
		l, err := scanLetter(rows)
		r.letters = append(r.letters, l)
		return err
	}, selectLetter+" FOR UPDATE", message)
	readNow(b, &r.v.Now)
	settled := func(rows pgx.Rows) error {
		o, err := scanOrder(rows)
		r.v.Settled[o.Status.Order] = o.Status
		return err
	}
	each(b, settled, selectOrders, [][16]byte{order.ID})
	each(b, settled, failed, message)
	each(b, func(rows pgx.Rows) error {
		o, err := scanOrder(rows)
		r.made = append(r.made, o)
		return err
	}, made, message)
	queueOwned(b, inventory.Buyers([]sluice.Order{order}), &r.v)
}

// decide queues what the replay writes, and answers what it changes.
func (r *replay) decide(b *pipeline, message string, order sluice.Order) (sluice.Changes, error) {
	if len(r.letters) == 0 {
		return sluice.Changes{}, inventory.NoLetter(message)
	}
	if len(r.made) > 0 {
		c := sluice.Changes{Now: r.v.Now, Statuses: inventory.Statuses(r.made)}
		if sale, ok := r.v.Sales[r.made[0].Status.Sale]; ok {
			c.Sales = []sluice.Sale{sale}
		}
		return c, nil
	}
	letter := r.letters[0]
	d, err := inventory.DecideReplay(r.v, letter.Order, order)
	if err != nil {
		return sluice.Changes{}, err //nolint:wrapcheck // a *sluice.Error is the caller's answer as it is
	}
	queueInsert(b, d.Rows)
	queueMove(b, d.Deltas)
	if len(d.Rows) > 0 && letter.Order != (sluice.OrderID{}) {
		b.Queue("UPDATE orders SET replay_of = $2 WHERE id = $1", [16]byte(order.ID), [16]byte(letter.Order))
	}
	b.Queue("UPDATE dead_letters SET replayed_as = $2 WHERE id = $1", letter.ID, [16]byte(order.ID))
	return sluice.Changes{Now: r.v.Now, Statuses: d.Statuses, Sales: d.Sales}, nil
}

// Replay settles the order that was made of a dead letter; see inventory.Desk.
func (s *Store) Replay(ctx context.Context, message string, order sluice.Order) (c sluice.Changes, err error) {
	message = inventory.CleanMessage(message)
	var r replay
	err = s.transact(ctx, "replay", func(b *pipeline) {
		r.queueReads(b, message, order)
	}, func(b *pipeline) (err error) {
		c, err = r.decide(b, message, order)
		return err
	})
	if err != nil {
		return sluice.Changes{}, err
	}
	return c, nil
}
