package sqlite

import (
	"context"
	"fmt"
	"time"

	"sluice"
	"sluice/inventory"
)

// PatchSale changes a sale's terms; see inventory.Desk.
func (s *Store) PatchSale(ctx context.Context, id string, patch sluice.SalePatch) (sluice.Changes, error) {
	return s.changeSale(ctx, "patch sale", id, func(_ *tx, sale sluice.Sale) (sluice.Sale, bool, error) {
		return inventory.DecidePatch(sale, patch)
	})
}

// ExtendHolds moves the deadlines of holds; see inventory.Desk.
func (s *Store) ExtendHolds(ctx context.Context, id string, until time.Time, limit int) (sluice.Changes, error) {
	if err := inventory.CheckPage(limit); err != nil {
		return sluice.Changes{}, err //nolint:wrapcheck // a *sluice.Error is the caller's answer as it is
	}
	var c sluice.Changes
	err := s.transact(ctx, "extend holds", func(t *tx) error {
		sale, ok, err := t.sale(ctx, id)
		if err != nil {
			return err
		}
		if !ok {
			return sluice.Refuse(sluice.NoSuchSale, "the store has no sale %.80q", id)
		}
		if err := inventory.CheckExtension(t.now, until); err != nil {
			return err //nolint:wrapcheck // a *sluice.Error is the caller's answer as it is
		}
		c = sluice.Changes{Now: t.now, Sales: []sluice.Sale{sale}}
		c.Statuses, err = t.extend(ctx, id, inventory.Micros(until), limit)
		return err
	})
	return known(c, err)
}

func (t *tx) extend(ctx context.Context, sale string, until time.Time, limit int) ([]sluice.Status, error) {
	const query = "SELECT " + movingColumns + " FROM orders WHERE sale = ? AND state = 'held' AND pay_by < ? " +
		"ORDER BY release_at LIMIT ?"
	var holds []inventory.Stored
	rows, err := t.QueryContext(ctx, query, "", sale, micros(until), limit)
	err = collect(rows, err, func() error {
		before, err := scanMoving(rows)
		after := inventory.DecideExtend(before, until)
		t.wrote.Updated(before, after)
		holds = append(holds, after)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read holds: %w", err)
	}
	update := t.prepared(ctx, t.stmts.extendOrder) //nolint:sqlclosecheck // the transaction closes it
	for _, o := range holds {
		if _, err := update.ExecContext(ctx, micros(o.Status.PayBy), micros(o.ReleaseAt), o.Status.Version, o.Status.Order[:]); err != nil {
			return nil, fmt.Errorf("extend a hold: %w", err)
		}
	}
	return inventory.Statuses(holds), nil
}
