package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"sluice"
	"sluice/inventory"
)

// tx is one write transaction: the whole file is locked for it, so no row needs a lock of its own.
type tx struct {
	*sql.Tx
	stmts *statements
	now   time.Time
	wrote inventory.Written
}

// prepared is a statement inside this transaction, which closes it when it ends.
func (t *tx) prepared(ctx context.Context, stmt *sql.Stmt) *sql.Stmt { return t.StmtContext(ctx, stmt) }

// sale reads one sale; false where there is none.
func (t *tx) sale(ctx context.Context, id string) (sluice.Sale, bool, error) {
	var said inventory.Phase
	sale, err := scanSale(t.prepared(ctx, t.stmts.selectSale).QueryRowContext(ctx, id), &said) //nolint:sqlclosecheck // the transaction closes it
	if errors.Is(err, sql.ErrNoRows) {
		return sale, false, nil
	}
	if err != nil {
		return sale, false, fmt.Errorf("read sale: %w", err)
	}
	t.wrote.Locked(sale, said)
	return sale, true, nil
}

// orders reads those of the orders that are settled.
func (t *tx) orders(ctx context.Context, ids []sluice.OrderID) (map[sluice.OrderID]inventory.Stored, error) {
	found := map[sluice.OrderID]inventory.Stored{}
	for len(ids) > 0 {
		stmt, size := t.stmts.selectOrders.padded(len(ids))
		args := make([]any, size)
		n := min(size, len(ids))
		for i := range ids[:n] {
			args[i] = ids[i][:]
		}
		ids = ids[n:]
		rows, err := t.prepared(ctx, stmt).QueryContext(ctx, args...) //nolint:sqlclosecheck // the transaction closes it
		err = collect(rows, err, func() error {
			o, err := scanOrder(rows)
			found[o.Status.Order] = o
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("read orders: %w", err)
		}
	}
	return found, nil
}

// owned adds the held and paid units of one sale's buyers to units.
func (t *tx) owned(ctx context.Context, sale string, users []string, units map[inventory.Buyer]int64) error {
	for len(users) > 0 {
		stmt, size := t.stmts.selectOwned.padded(len(users))
		args := make([]any, 1+size)
		args[0] = sale
		n := min(size, len(users))
		for i, user := range users[:n] {
			args[1+i] = user
		}
		users = users[n:]
		rows, err := t.prepared(ctx, stmt).QueryContext(ctx, args...) //nolint:sqlclosecheck // the transaction closes it
		err = collect(rows, err, func() error {
			buyer, n := inventory.Buyer{Sale: sale}, int64(0)
			err := rows.Scan(&buyer.User, &n)
			units[buyer] = n
			return err //nolint:wrapcheck // below
		})
		if err != nil {
			return fmt.Errorf("read the buyers' units: %w", err)
		}
	}
	return nil
}

// insert stores new orders in a few statements.
func (t *tx) insert(ctx context.Context, rows []inventory.Row) error {
	t.wrote.Inserted(rows...)
	for len(rows) > 0 {
		stmt, n := t.stmts.insertOrders.exact(len(rows))
		args := make([]any, 0, n*14)
		for i := range rows[:n] {
			args = appendRow(args, &rows[i])
		}
		rows = rows[n:]
		if _, err := t.prepared(ctx, stmt).ExecContext(ctx, args...); err != nil { //nolint:sqlclosecheck // the transaction closes it
			return fmt.Errorf("insert orders: %w", err)
		}
	}
	return nil
}

// appendRow appends the values of insertColumns.
func appendRow(args []any, r *inventory.Row) []any {
	o, s := &r.Order, &r.Status
	return append(args, o.ID[:], o.Sale, o.User, o.Key, int64(o.Attempt), int64(o.Quantity), string(o.Attributes),
		micros(o.AcceptedAt), string(s.State), string(s.Reason), s.Version, micros(s.PayBy), micros(s.SettledAt), micros(r.ReleaseAt))
}

// move moves the sales' counters, one step of the version each.
func (t *tx) move(ctx context.Context, deltas ...inventory.Delta) error {
	for _, d := range deltas {
		if !t.wrote.Has(d.Sale) {
			if _, _, err := t.sale(ctx, d.Sale); err != nil {
				return err
			}
		}
		t.wrote.Moved(d)
		_, err := t.prepared(ctx, t.stmts.moveSale).ExecContext(ctx, d.Free, d.Held, d.Sold, d.Sale) //nolint:sqlclosecheck // the transaction closes it
		if err != nil {
			return fmt.Errorf("move the counters of sale %s: %w", d.Sale, err)
		}
	}
	return nil
}

// update writes what became of a stored order.
func (t *tx) update(ctx context.Context, before, o inventory.Stored) error {
	t.wrote.Updated(before, o)
	_, err := t.prepared(ctx, t.stmts.updateOrder).ExecContext(ctx, //nolint:sqlclosecheck // the transaction closes it
		string(o.Status.State), o.Status.Version, o.PaymentRef, o.Status.Order[:])
	if err != nil {
		return fmt.Errorf("update order: %w", err)
	}
	return nil
}

// collect calls scan for each row and closes the rows, whatever happens.
func collect(rows *sql.Rows, err error, scan func() error) error {
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(); err != nil {
			return err
		}
	}
	return rows.Err() //nolint:wrapcheck // the caller says what was being read
}

type scanner interface{ Scan(dest ...any) error }

func scanSale(row scanner, more ...any) (s sluice.Sale, err error) {
	var starts, ends sql.NullInt64
	err = row.Scan(append([]any{
		&s.ID, &s.SKU, &s.Stock, &s.TopUps, &s.Free, &s.Held, &s.Sold, &s.PerUserLimit, &starts, &ends,
		&s.PaymentWindow, &s.MaxAge, &s.CheckoutURL, &s.OverAdmission, &s.Paused, &s.Version,
		&s.ReservedFor, &s.ReservedShare, &s.PaymentGrace,
	}, more...)...)
	s.StartsAt, s.EndsAt = moment(starts), moment(ends)
	return s, err //nolint:wrapcheck // the caller says what was being read
}

func scanOrder(row scanner, more ...any) (o inventory.Stored, err error) {
	var id []byte
	var payBy, settled, release sql.NullInt64
	s := &o.Status
	err = row.Scan(append([]any{
		&id, &s.Sale, &s.User, &s.State, &s.Reason, &s.Version, &s.Units, &payBy, &settled,
		&o.PaymentRef, &release,
	}, more...)...)
	copy(s.Order[:], id)
	s.PayBy, s.SettledAt, o.ReleaseAt = moment(payBy), moment(settled), moment(release)
	return o, err //nolint:wrapcheck // the caller says what was being read
}

// micros is a time as it is stored: nil where it is zero.
func micros(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

func moment(us sql.NullInt64) time.Time {
	if !us.Valid {
		return time.Time{}
	}
	return time.UnixMicro(us.Int64).UTC()
}
