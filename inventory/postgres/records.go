package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"sluice"
	"sluice/inventory"
)

const recordColumns = orderColumns + ", key, attempt, attributes, accepted_at, replay_of"

// Orders lists settled orders; see inventory.Desk.
func (s *Store) Orders(ctx context.Context, q inventory.OrderQuery) ([]inventory.Record, error) {
	if err := inventory.CheckPage(q.Limit); err != nil {
		return nil, err //nolint:wrapcheck // a *sluice.Error is the caller's answer as it is
	}
	query, args := ordersQuery(q)
	return list(ctx, s, "list orders", scanRecord, query, args...)
}

// ordersQuery is one of a few statements, so that each is planned once. Orders of a buyer are gathered first, from the
// index where they lie together: without statistics, the planner might walk through all orders by id instead.
func ordersQuery(q inventory.OrderQuery) (string, []any) {
	q = q.Clean()
	where, args := "id > $1", []any{[16]byte(q.After), q.Limit}
	and := func(column, value string) {
		if value != "" {
			args = append(args, value)
			where += fmt.Sprintf(" AND %s = $%d", column, len(args))
		}
	}
	and("sale", q.Sale)
	and("state", string(q.State))
	from := "orders"
	if q.User != "" {
		args = append(args, q.User)
		from = fmt.Sprintf("(SELECT * FROM orders WHERE buyer = $%d OFFSET 0) AS o", len(args))
	}
	return "SELECT " + recordColumns + " FROM " + from + " WHERE " + where + " ORDER BY id LIMIT $2", args
}

// Order answers one settled order; see inventory.Desk.
func (s *Store) Order(ctx context.Context, id sluice.OrderID) (inventory.Record, error) {
	const query = "SELECT " + recordColumns + " FROM orders WHERE id = $1"
	records, err := list(ctx, s, "read an order", scanRecord, query, [16]byte(id))
	if err == nil && len(records) == 0 {
		err = sluice.Refuse(sluice.NoSuchOrder, "the store has no order %s", id)
	}
	if err != nil {
		return inventory.Record{}, err
	}
	return records[0], nil
}

func scanRecord(row pgx.Row) (r inventory.Record, err error) {
	var attributes string
	var accepted *time.Time
	var replayOf *[16]byte
	o, err := scanOrder(beyond{row, []any{&r.Order.Key, &r.Order.Attempt, &attributes, &accepted, &replayOf}})
	r.Order.AcceptedAt, r.ReplayOf = orZero(accepted), orNone(replayOf)
	return inventory.NewRecord(r, o, attributes), err
}

// beyond scans columns beyond those of another scan.
type beyond struct {
	pgx.Row
	more []any
}

func (b beyond) Scan(dest ...any) error {
	return b.Row.Scan(append(dest, b.more...)...) //nolint:wrapcheck // the caller says what was being read
}

func orNone(id *[16]byte) sluice.OrderID {
	if id == nil {
		return sluice.OrderID{}
	}
	return *id
}

// list answers the rows of one statement.
func list[T any](ctx context.Context, s *Store, doing string, scan func(pgx.Row) (T, error), query string, args ...any) ([]T, error) {
	var out []T
	err := s.look(ctx, doing, func(b *pipeline) {
		each(b, func(rows pgx.Rows) error {
			v, err := scan(rows)
			out = append(out, v)
			return err
		}, query, args...)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

const refundColumns = "SELECT r.id, r.order_id, o.sale, o.buyer, o.quantity, r.payment_ref, r.reason, r.at, r.given_at FROM "

// Refunds lists refunds due; see inventory.Desk.
func (s *Store) Refunds(ctx context.Context, after int64, limit int, all bool) ([]inventory.Refund, error) {
	const (
		from  = refundColumns + "refunds_due AS r JOIN orders AS o ON o.id = r.order_id WHERE r.id > $1 "
		due   = "AND r.given_at IS NULL "
		order = "ORDER BY r.id LIMIT $2"
	)
	if err := inventory.CheckPage(limit); err != nil {
		return nil, err //nolint:wrapcheck // a *sluice.Error is the caller's answer as it is
	}
	query := from + due + order
	if all {
		query = from + order
	}
	return list(ctx, s, "list refunds", scanRefund, query, after, limit)
}

// RefundGiven notes that a refund was given back; see inventory.Desk.
func (s *Store) RefundGiven(ctx context.Context, id int64) (inventory.Refund, error) {
	const query = "WITH r AS (UPDATE refunds_due SET given_at = coalesce(given_at, clock_timestamp()) WHERE id = $1 RETURNING *) " +
		refundColumns + "r JOIN orders AS o ON o.id = r.order_id"
	refunds, err := list(ctx, s, "give a refund", scanRefund, query, id)
	if err == nil && len(refunds) == 0 {
		err = inventory.NoRefund(id)
	}
	if err != nil {
		return inventory.Refund{}, err
	}
	return refunds[0], nil
}

func scanRefund(row pgx.Row) (r inventory.Refund, err error) {
	var at, given *time.Time
	err = row.Scan(&r.ID, (*[16]byte)(&r.Order), &r.Sale, &r.User, &r.Units, &r.PaymentRef, (*string)(&r.Reason), &at, &given)
	r.At, r.GivenAt = orZero(at), orZero(given)
	return r, err //nolint:wrapcheck // the caller says what was being read
}
