package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"sluice"
	"sluice/inventory"
)

// CreateSale opens a sale; see inventory.Store.
func (s *Store) CreateSale(ctx context.Context, sale sluice.Sale) (sluice.Changes, error) {
	sale, err := inventory.NewSale(sale)
	if err != nil {
		return sluice.Changes{}, err //nolint:wrapcheck // a *sluice.Error is the caller's answer as it is
	}
	const insert = "INSERT INTO sales (" + saleColumns + ") VALUES " +
		"($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)"
	var now time.Time
	var exists bool
	err = s.transact(ctx, "create sale", func(b *pipeline) {
		exists = false
		eachSale(b, func(sluice.Sale) { exists = true }, lockSales, []string{sale.ID})
		readNow(b, &now)
	}, func(b *pipeline) error {
		if exists {
			return sluice.Refuse(sluice.SaleExists, "sale %s exists already", sale.ID)
		}
		b.wrote.Locked(sale, inventory.PhasePlanned)
		b.Queue(insert, sale.ID, sale.SKU, sale.Stock, sale.TopUps, sale.Free, sale.Held, sale.Sold,
			sale.PerUserLimit, orNull(sale.StartsAt), orNull(sale.EndsAt), int64(sale.PaymentWindow), int64(sale.MaxAge),
			sale.CheckoutURL, sale.OverAdmission, sale.Paused, sale.Version, sale.ReservedFor, sale.ReservedShare,
			int64(sale.PaymentGrace))
		return nil
	})
	if err != nil {
		return sluice.Changes{}, err
	}
	return sluice.Changes{Now: now, Sales: []sluice.Sale{sale}}, nil
}

// TopUp adds units to a sale or takes free ones away; see inventory.Store.
func (s *Store) TopUp(ctx context.Context, id string, units int64) (sluice.Changes, error) {
	return s.changeSale(ctx, "top up", id, func(_ time.Time, sale sluice.Sale) (sluice.Sale, bool, error) {
		sale, err := inventory.DecideTopUp(sale, units)
		return sale, true, err
	})
}

// End closes a sale's admission now; see inventory.Store.
func (s *Store) End(ctx context.Context, id string) (sluice.Changes, error) {
	return s.changeSale(ctx, "end", id, func(now time.Time, sale sluice.Sale) (sluice.Sale, bool, error) {
		sale, changed := inventory.DecideEnd(now, sale)
		return sale, changed, nil
	})
}

// changeSale decides one sale's facts under its lock and writes them.
func (s *Store) changeSale(
	ctx context.Context, doing, id string, decide func(time.Time, sluice.Sale) (sluice.Sale, bool, error),
) (sluice.Changes, error) {
	if !sluice.ValidSaleID(id) { // nor could PostgreSQL be asked for any text
		return sluice.Changes{}, noSale(id)
	}
	var now time.Time
	var sales []sluice.Sale
	err := s.transact(ctx, doing, func(b *pipeline) {
		sales = nil
		eachSale(b, func(sale sluice.Sale) { sales = append(sales, sale) }, lockSales, []string{id})
		readNow(b, &now)
	}, func(b *pipeline) error {
		if len(sales) == 0 {
			return noSale(id)
		}
		sale, changed, err := decide(now, sales[0])
		if changed && err == nil {
			queueFacts(b, sale)
		}
		sales[0] = sale
		return err
	})
	if err != nil {
		return sluice.Changes{}, err
	}
	return sluice.Changes{Now: now, Sales: sales}, nil
}

// queueFacts queues all that changeSale may have changed.
func queueFacts(b *pipeline, s sluice.Sale) {
	const update = "UPDATE sales SET sku = $2, topups = $3, free = $4, per_user_limit = $5, starts_at = $6, ends_at = $7, payment_window = $8, " +
		"payment_grace = $9, max_age = $10, checkout_url = $11, over_admission = $12, paused = $13, reserved_for = $14, reserved_share = $15, " +
		"version = $16 WHERE id = $1"
	b.wrote.Changed(s)
	b.Queue(update, s.ID, s.SKU, s.TopUps, s.Free, s.PerUserLimit, orNull(s.StartsAt), orNull(s.EndsAt), int64(s.PaymentWindow),
		int64(s.PaymentGrace), int64(s.MaxAge), s.CheckoutURL, s.OverAdmission, s.Paused, s.ReservedFor, s.ReservedShare, s.Version)
}

// Sales answers sales in id order; see inventory.Store.
func (s *Store) Sales(ctx context.Context, ids ...string) (sluice.Changes, error) {
	const all = "SELECT " + saleColumns + " FROM sales ORDER BY id"
	var c sluice.Changes
	scan := func(rows pgx.Rows) error {
		sale, err := scanSale(rows)
		c.Sales = append(c.Sales, sale)
		return err
	}
	err := s.look(ctx, "read sales", func(b *pipeline) {
		readNow(b, &c.Now)
		if len(ids) == 0 {
			each(b, scan, all)
		} else {
			each(b, scan, selectSales, ids)
		}
		each(b, func(rows pgx.Rows) error {
			var sale string
			var due time.Time
			if err := rows.Scan(&sale, &due); err != nil {
				return err //nolint:wrapcheck // look says what was being done
			}
			inventory.SetNextRelease(c.Sales, sale, due)
			return nil
		}, nextReleases)
	})
	return c, err
}

// Statuses answers settled orders; see inventory.Store.
func (s *Store) Statuses(ctx context.Context, ids []sluice.OrderID) (sluice.Changes, error) {
	var c sluice.Changes
	err := s.look(ctx, "read orders", func(b *pipeline) {
		readNow(b, &c.Now)
		each(b, func(rows pgx.Rows) error {
			o, err := scanOrder(rows)
			c.Statuses = append(c.Statuses, o.Status)
			return err
		}, selectOrders, uuids(ids))
	})
	return c, err
}

// look reads without a lock, in one round trip.
func (s *Store) look(ctx context.Context, doing string, read func(*pipeline)) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return classify(doing, fmt.Errorf("acquire a connection: %w", err))
	}
	defer conn.Release()
	ctx, end := outlasting(ctx)
	defer end()
	b := &pipeline{Batch: &pgx.Batch{}}
	read(b)
	return classify(doing, conn.SendBatch(ctx, b.Batch).Close())
}

// Audit compares counters and orders in one snapshot; see inventory.Store.
func (s *Store) Audit(ctx context.Context) (sluice.Audit, error) {
	ctx, cancel := context.WithTimeout(ctx, auditTimeout)
	defer cancel()
	var audit sluice.Audit
	snapshot := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err := pgx.BeginTxFunc(ctx, s.pool, snapshot, func(tx pgx.Tx) (err error) {
		audit, err = readLedger(ctx, tx)
		return err
	})
	return audit, classify("audit", err)
}

func readLedger(ctx context.Context, tx pgx.Tx) (sluice.Audit, error) {
	const tally = "SELECT sale, state, count(*), coalesce(sum(quantity) FILTER (WHERE state IN ('held', 'paid')), 0)::bigint " +
		"FROM orders GROUP BY sale, state"
	b := &pipeline{Batch: &pgx.Batch{}}
	b.Queue(fmt.Sprintf("SET LOCAL statement_timeout = %d", auditTimeout.Milliseconds()))
	b.Queue("SET LOCAL enable_seqscan = on") // this one does read the whole table
	var sales []sluice.Sale
	each(b, func(rows pgx.Rows) error {
		sale, err := scanSale(rows)
		sales = append(sales, sale)
		return err
	}, "SELECT "+saleColumns+" FROM sales")
	var tallies []inventory.Tally
	each(b, func(rows pgx.Rows) error {
		var t inventory.Tally
		err := rows.Scan(&t.Sale, (*string)(&t.State), &t.Orders, &t.Units)
		tallies = append(tallies, t)
		return err //nolint:wrapcheck // the caller says what was being done
	}, tally)
	if err := tx.SendBatch(ctx, b.Batch).Close(); err != nil {
		return sluice.Audit{}, fmt.Errorf("read the ledger: %w", err)
	}
	return inventory.Balance(sales, tallies), nil
}
