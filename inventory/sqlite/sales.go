package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"sluice"
	"sluice/inventory"
)

// CreateSale opens a sale; see inventory.Store.
func (s *Store) CreateSale(ctx context.Context, sale sluice.Sale) (sluice.Changes, error) {
	sale, err := inventory.NewSale(sale)
	if err != nil {
		return sluice.Changes{}, err //nolint:wrapcheck // a *sluice.Error is the caller's answer as it is
	}
	c := sluice.Changes{Sales: []sluice.Sale{sale}}
	err = s.transact(ctx, "create sale", func(t *tx) error {
		c.Now = t.now
		t.wrote.Locked(sale, inventory.PhasePlanned)
		const insert = "INSERT INTO sales (" + saleColumns + ") VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING"
		r, err := t.ExecContext(ctx, insert, sale.ID, sale.SKU, sale.Stock, sale.TopUps, sale.Free, sale.Held, sale.Sold,
			sale.PerUserLimit, micros(sale.StartsAt), micros(sale.EndsAt), int64(sale.PaymentWindow), int64(sale.MaxAge),
			sale.CheckoutURL, sale.OverAdmission, sale.Paused, sale.Version, sale.ReservedFor, sale.ReservedShare,
			int64(sale.PaymentGrace))
		if err != nil {
			return fmt.Errorf("insert sale %s: %w", sale.ID, err)
		}
		if n, err := r.RowsAffected(); err != nil || n == 0 {
			return errors.Join(sluice.Refuse(sluice.SaleExists, "sale %s exists already", sale.ID), err)
		}
		return nil
	})
	return known(c, err)
}

// TopUp adds units to a sale or takes free ones away; see inventory.Store.
func (s *Store) TopUp(ctx context.Context, id string, units int64) (sluice.Changes, error) {
	return s.changeSale(ctx, "top up", id, func(_ *tx, sale sluice.Sale) (sluice.Sale, bool, error) {
		sale, err := inventory.DecideTopUp(sale, units)
		return sale, true, err
	})
}

// End closes a sale's admission now; see inventory.Store.
func (s *Store) End(ctx context.Context, id string) (sluice.Changes, error) {
	return s.changeSale(ctx, "end", id, func(t *tx, sale sluice.Sale) (sluice.Sale, bool, error) {
		sale, changed := inventory.DecideEnd(t.now, sale)
		return sale, changed, nil
	})
}

// changeSale decides one sale's facts and writes them.
func (s *Store) changeSale(
	ctx context.Context, doing, id string, decide func(*tx, sluice.Sale) (sluice.Sale, bool, error),
) (sluice.Changes, error) {
	var c sluice.Changes
	err := s.transact(ctx, doing, func(t *tx) error {
		sale, ok, err := t.sale(ctx, id)
		if err != nil {
			return err
		}
		if !ok {
			return sluice.Refuse(sluice.NoSuchSale, "the store has no sale %.80q", id)
		}
		sale, changed, err := decide(t, sale)
		if err != nil {
			return err
		}
		c = sluice.Changes{Now: t.now, Sales: []sluice.Sale{sale}}
		if !changed {
			return nil
		}
		return t.writeFacts(ctx, sale)
	})
	return known(c, err)
}

func (t *tx) writeFacts(ctx context.Context, sale sluice.Sale) error {
	t.wrote.Changed(sale)
	const update = "UPDATE sales SET sku = ?, topups = ?, free = ?, per_user_limit = ?, starts_at = ?, ends_at = ?, payment_window = ?, " +
		"payment_grace = ?, max_age = ?, checkout_url = ?, over_admission = ?, paused = ?, reserved_for = ?, reserved_share = ?, " +
		"version = ? WHERE id = ?"
	_, err := t.ExecContext(ctx, update, sale.SKU, sale.TopUps, sale.Free, sale.PerUserLimit, micros(sale.StartsAt), micros(sale.EndsAt),
		int64(sale.PaymentWindow), int64(sale.PaymentGrace), int64(sale.MaxAge), sale.CheckoutURL, sale.OverAdmission, sale.Paused,
		sale.ReservedFor, sale.ReservedShare, sale.Version, sale.ID)
	if err != nil {
		return fmt.Errorf("update sale %s: %w", sale.ID, err)
	}
	return nil
}

// Sales answers sales in id order; see inventory.Store.
func (s *Store) Sales(ctx context.Context, ids ...string) (sluice.Changes, error) {
	query, args := selectSales, make([]any, len(ids))
	if len(ids) > 0 {
		query += " WHERE id IN (" + repeat("?", len(ids)) + ")"
	}
	for i, id := range ids {
		args[i] = id
	}
	sales, err := readSales(ctx, s.read, query+" ORDER BY id", args...)
	if err == nil {
		err = s.nextReleases(ctx, sales)
	}
	return sluice.Changes{Now: s.clock.now(), Sales: sales}, s.classify("read sales", err)
}

const nextReleases = "SELECT id, (SELECT min(release_at) FROM orders WHERE state = 'held' AND sale = sales.id) " +
	"FROM sales WHERE free = 0 AND held > 0"

// nextReleases fills in when the first hold falls due of the sales that have no free unit.
func (s *Store) nextReleases(ctx context.Context, sales []sluice.Sale) error {
	rows, err := s.read.QueryContext(ctx, nextReleases) //nolint:sqlclosecheck // collect closes them
	return collect(rows, err, func() error {
		var sale string
		var due sql.NullInt64
		if err := rows.Scan(&sale, &due); err != nil {
			return err //nolint:wrapcheck // Sales says what was being read
		}
		inventory.SetNextRelease(sales, sale, moment(due))
		return nil
	})
}

// Statuses answers settled orders; see inventory.Store.
func (s *Store) Statuses(ctx context.Context, ids []sluice.OrderID) (sluice.Changes, error) {
	const most = 1000 // parameters of one statement
	c := sluice.Changes{}
	for len(ids) > 0 {
		n := min(most, len(ids))
		args := make([]any, n)
		for i := range ids[:n] {
			args[i] = ids[i][:]
		}
		ids = ids[n:]
		rows, err := s.read.QueryContext(ctx, fmt.Sprintf(selectOrders, repeat("?", n)), args...)
		err = collect(rows, err, func() error {
			o, err := scanOrder(rows)
			c.Statuses = append(c.Statuses, o.Status)
			return err
		})
		if err != nil {
			return sluice.Changes{}, s.classify("read orders", err)
		}
	}
	c.Now = s.clock.now()
	return c, nil
}

// Audit compares counters and orders in one snapshot; see inventory.Store.
func (s *Store) Audit(ctx context.Context) (sluice.Audit, error) {
	audit, err := s.audit(ctx)
	return audit, s.classify("audit", err)
}

func (s *Store) audit(ctx context.Context) (sluice.Audit, error) {
	t, err := s.read.BeginTx(ctx, nil) // a reader's transaction is one snapshot
	if err != nil {
		return sluice.Audit{}, fmt.Errorf("begin: %w", err)
	}
	defer t.Rollback()
	sales, err := readSales(ctx, t, selectSales)
	if err != nil {
		return sluice.Audit{}, err
	}
	var tallies []inventory.Tally
	rows, err := t.QueryContext(ctx,
		"SELECT sale, state, count(*), sum(CASE WHEN state IN ('held', 'paid') THEN quantity ELSE 0 END) FROM orders GROUP BY sale, state")
	err = collect(rows, err, func() error {
		var y inventory.Tally
		err := rows.Scan(&y.Sale, &y.State, &y.Orders, &y.Units)
		tallies = append(tallies, y)
		return err //nolint:wrapcheck // below
	})
	if err != nil {
		return sluice.Audit{}, fmt.Errorf("count the orders: %w", err)
	}
	return inventory.Balance(sales, tallies), nil
}

type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func readSales(ctx context.Context, q querier, query string, args ...any) ([]sluice.Sale, error) {
	var sales []sluice.Sale
	rows, err := q.QueryContext(ctx, query, args...)
	err = collect(rows, err, func() error {
		sale, err := scanSale(rows)
		sales = append(sales, sale)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read sales: %w", err)
	}
	return sales, nil
}
