package postgres

import (
	"context"
	"time"

	"sluice"
	"sluice/inventory"
)

// PatchSale changes a sale's terms; see inventory.Desk.
func (s *Store) PatchSale(ctx context.Context, id string, patch sluice.SalePatch) (sluice.Changes, error) {
	return s.changeSale(ctx, "patch sale", id, func(_ time.Time, sale sluice.Sale) (sluice.Sale, bool, error) {
		return inventory.DecidePatch(sale, patch)
	})
}

// ExtendHolds moves the deadlines of holds; see inventory.Desk.
func (s *Store) ExtendHolds(ctx context.Context, id string, until time.Time, limit int) (sluice.Changes, error) {
	const query = "SELECT " + movingColumns + " FROM orders WHERE state = 'held' AND sale = $2 AND pay_by < $3 " +
		"ORDER BY release_at LIMIT $4"
	if err := inventory.CheckPage(limit); err != nil {
		return sluice.Changes{}, err //nolint:wrapcheck // a *sluice.Error is the caller's answer as it is
	}
	if !sluice.ValidSaleID(id) {
		return sluice.Changes{}, noSale(id)
	}
	until = inventory.Micros(until)
	var c sluice.Changes
	var before, after []inventory.Stored
	err := s.transact(ctx, "extend holds", func(b *pipeline) {
		c, before, after = sluice.Changes{}, nil, nil
		eachSale(b, func(sale sluice.Sale) { c.Sales = append(c.Sales, sale) }, lockSales, []string{id})
		readNow(b, &c.Now)
		eachMoving(b, func(o inventory.Stored) {
			before, after = append(before, o), append(after, inventory.DecideExtend(o, until))
		}, query, "", id, until, limit)
	}, func(b *pipeline) error {
		if len(c.Sales) == 0 {
			return noSale(id)
		}
		queueExtend(b, before, after)
		return inventory.CheckExtension(c.Now, until)
	})
	if err != nil {
		return sluice.Changes{}, err
	}
	c.Statuses = inventory.Statuses(after)
	return c, nil
}

// queueExtend queues the change of deadlines, guarded as queueUpdate guards it.
func queueExtend(b *pipeline, before, after []inventory.Stored) {
	const update = "WITH moved AS (UPDATE orders SET pay_by = u.pay_by, release_at = u.release_at, version = u.version " +
		"FROM unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[], $4::bigint[], $5::bigint[]) " +
		"AS u (id, pay_by, release_at, version, old_version) " +
		"WHERE orders.id = u.id AND orders.version = u.old_version RETURNING 1) " +
		"SELECT 1 / (count(*) = cardinality($1::uuid[]))::int FROM moved"
	if len(after) == 0 {
		return
	}
	n := len(after)
	ids, payBy, release := make([][16]byte, n), make([]time.Time, n), make([]time.Time, n)
	versions, oldVersions := make([]int64, n), make([]int64, n)
	for i, o := range after {
		ids[i], payBy[i], release[i], versions[i] = o.Status.Order, o.Status.PayBy, o.ReleaseAt, o.Status.Version
		oldVersions[i] = before[i].Status.Version
		b.wrote.Updated(before[i], o)
	}
	b.Queue(update, ids, payBy, release, versions, oldVersions)
}

func noSale(id string) error {
	return sluice.Refuse(sluice.NoSuchSale, "the store has no sale %.80q", id)
}
