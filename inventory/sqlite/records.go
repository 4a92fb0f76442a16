package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"sluice"
	"sluice/inventory"
)

const selectRecords = "SELECT " + orderColumns + ", key, attempt, attributes, accepted_at, replay_of FROM orders"

// Orders lists settled orders; see inventory.Desk.
func (s *Store) Orders(ctx context.Context, q inventory.OrderQuery) ([]inventory.Record, error) {
	if err := inventory.CheckPage(q.Limit); err != nil {
		return nil, err //nolint:wrapcheck // a *sluice.Error is the caller's answer as it is
	}
	query, args := ordersQuery(q)
	records, err := s.records(ctx, query, args...)
	return records, s.classify("list orders", err)
}

// ordersQuery picks the index: orders of a buyer lie together, those of a sale, and all, are looked for in id order.
func ordersQuery(q inventory.OrderQuery) (string, []any) {
	q = q.Clean()
	index := ""
	where, args := []string{"id > ?"}, []any{q.After[:]}
	for _, c := range []struct{ column, value string }{{"buyer", q.User}, {"sale", q.Sale}, {"state", string(q.State)}} {
		if c.value != "" {
			where, args = append(where, c.column+" = ?"), append(args, c.value)
		}
	}
	if q.User != "" {
		index = " INDEXED BY orders_owned"
	}
	return selectRecords + index + " WHERE " + strings.Join(where, " AND ") + " ORDER BY id LIMIT ?", append(args, q.Limit)
}

// Order answers one settled order; see inventory.Desk.
func (s *Store) Order(ctx context.Context, id sluice.OrderID) (inventory.Record, error) {
	records, err := s.records(ctx, selectRecords+" WHERE id = ?", id[:])
	switch {
	case err != nil:
		return inventory.Record{}, s.classify("read an order", err)
	case len(records) == 0:
		return inventory.Record{}, sluice.Refuse(sluice.NoSuchOrder, "the store has no order %s", id)
	}
	return records[0], nil
}

func (s *Store) records(ctx context.Context, query string, args ...any) ([]inventory.Record, error) {
	var records []inventory.Record
	rows, err := s.read.QueryContext(ctx, query, args...)
	err = collect(rows, err, func() error {
		r, err := scanRecord(rows)
		records = append(records, r)
		return err
	})
	return records, err
}

func scanRecord(row scanner) (r inventory.Record, err error) {
	var attributes string
	var accepted sql.NullInt64
	var replayOf []byte
	o, err := scanOrder(beyond{row, []any{&r.Order.Key, &r.Order.Attempt, &attributes, &accepted, &replayOf}})
	if err != nil {
		return r, fmt.Errorf("read an order: %w", err)
	}
	copy(r.ReplayOf[:], replayOf)
	r.Order.AcceptedAt = moment(accepted)
	return inventory.NewRecord(r, o, attributes), nil
}

// beyond scans columns beyond those of another scan.
type beyond struct {
	scanner
	more []any
}

func (b beyond) Scan(dest ...any) error {
	return b.scanner.Scan(append(dest, b.more...)...) //nolint:wrapcheck // the caller says what was being read
}

// Refunds lists refunds due; see inventory.Desk.
func (s *Store) Refunds(ctx context.Context, after int64, limit int, all bool) ([]inventory.Refund, error) {
	if err := inventory.CheckPage(limit); err != nil {
		return nil, err //nolint:wrapcheck // a *sluice.Error is the caller's answer as it is
	}
	query := selectRefunds + " WHERE r.id > ?"
	if !all {
		query += " AND r.given_at IS NULL"
	}
	refunds, err := readRefunds(ctx, s.read, query+" ORDER BY r.id LIMIT ?", after, limit)
	return refunds, s.classify("list refunds", err)
}

// RefundGiven notes that a refund was given back; see inventory.Desk.
func (s *Store) RefundGiven(ctx context.Context, id int64) (inventory.Refund, error) {
	const update = "UPDATE refunds_due SET given_at = ? WHERE id = ? AND given_at IS NULL"
	var refunds []inventory.Refund
	err := s.transact(ctx, "give a refund", func(t *tx) (err error) {
		if _, err = t.ExecContext(ctx, update, micros(t.now), id); err != nil {
			return fmt.Errorf("update: %w", err)
		}
		if refunds, err = readRefunds(ctx, t, selectRefunds+" WHERE r.id = ?", id); err == nil && len(refunds) == 0 {
			return inventory.NoRefund(id)
		}
		return err
	})
	if err != nil {
		return inventory.Refund{}, err
	}
	return refunds[0], nil
}

const selectRefunds = "SELECT r.id, r.order_id, o.sale, o.buyer, o.quantity, r.payment_ref, r.reason, r.at, r.given_at " +
	"FROM refunds_due AS r CROSS JOIN orders AS o ON o.id = r.order_id"

func readRefunds(ctx context.Context, q querier, query string, args ...any) ([]inventory.Refund, error) {
	var refunds []inventory.Refund
	rows, err := q.QueryContext(ctx, query, args...)
	err = collect(rows, err, func() error {
		var r inventory.Refund
		var order []byte
		var at, given sql.NullInt64
		err := rows.Scan(&r.ID, &order, &r.Sale, &r.User, &r.Units, &r.PaymentRef, &r.Reason, &at, &given)
		copy(r.Order[:], order)
		r.At, r.GivenAt = moment(at), moment(given)
		refunds = append(refunds, r)
		return err //nolint:wrapcheck // below
	})
	if err != nil {
		return nil, fmt.Errorf("read refunds: %w", err)
	}
	return refunds, nil
}
