package postgres

import (
	"time"

	"github.com/jackc/pgx/v5"

	"sluice"
	"sluice/inventory"
)

const (
	saleColumns = "id, sku, stock, topups, free, held, sold, per_user_limit, starts_at, ends_at, payment_window, " +
		"max_age, checkout_url, over_admission, paused, version, reserved_for, reserved_share, payment_grace"
	orderColumns = "id, sale, buyer, state, reason, version, quantity, pay_by, settled_at, payment_ref, release_at"

	selectSales  = "SELECT " + saleColumns + " FROM sales WHERE id = ANY ($1::text[]) ORDER BY id"
	lockSales    = "SELECT " + saleColumns + ", phase FROM sales WHERE id = ANY ($1::text[]) ORDER BY id FOR UPDATE" // always in id order, so that nobody waits in a circle
	nextReleases = "SELECT s.id, o.release_at FROM sales AS s, LATERAL (SELECT release_at FROM orders WHERE state = 'held' AND sale = s.id " +
		"ORDER BY release_at LIMIT 1) AS o WHERE s.free = 0 AND s.held > 0"
	selectOrders = "SELECT " + orderColumns + " FROM orders WHERE id = ANY ($1::uuid[])"

	// movingColumns are for eachMoving, in a statement whose $1 is a payment's reference.
	movingColumns = orderColumns + ", attributes, replay_of, EXISTS (SELECT 1 FROM refunds_due AS r WHERE r.order_id = orders.id AND r.payment_ref = $1)"

	selectOwned = "SELECT b.sale, b.buyer, o.units FROM unnest($1::text[], $2::text[]) AS b (sale, buyer), LATERAL " +
		"(SELECT sum(quantity)::bigint AS units FROM orders WHERE orders.sale = b.sale AND orders.buyer = b.buyer " +
		"AND state IN ('held', 'paid')) AS o WHERE o.units > 0"

	insertOrders = "INSERT INTO orders (id, sale, buyer, key, attempt, quantity, attributes, accepted_at, state, reason, " +
		"version, pay_by, settled_at, release_at) SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[], " +
		"$6::bigint[], $7::text[], $8::timestamptz[], $9::text[], $10::text[], $11::bigint[], $12::timestamptz[], " +
		"$13::timestamptz[], $14::timestamptz[])"

	moveSales = "UPDATE sales AS s SET free = s.free + d.free, held = s.held + d.held, sold = s.sold + d.sold, " +
		"version = s.version + 1 FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[]) " +
		"AS d (id, free, held, sold) WHERE s.id = d.id"

	// updateOrders moves orders that still are what was read. Where one is not, the server itself must fail the
	// transaction, by a division by zero: the counters' move and COMMIT are in the same pipeline, on their way already
	// when the client learns how many rows were changed.
	updateOrders = "WITH moved AS (UPDATE orders SET state = u.state, version = u.version, payment_ref = u.payment_ref " +
		"FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::text[], $5::bigint[], $6::text[]) " +
		"AS u (id, state, version, payment_ref, old_version, old_ref) " +
		"WHERE orders.id = u.id AND orders.version = u.old_version AND orders.payment_ref = u.old_ref RETURNING 1) " +
		"SELECT 1 / (count(*) = cardinality($1::uuid[]))::int FROM moved"
)

// queueInsert queues one statement for all new orders. It is a plain INSERT: an order that is there after all fails
// the transaction, which is then repeated and finds it.
func queueInsert(b *pipeline, rows []inventory.Row) {
	if len(rows) == 0 {
		return
	}
	n := len(rows)
	ids, attempts, quantities, versions := make([][16]byte, n), make([]int64, n), make([]int64, n), make([]int64, n)
	sales, users, keys, attributes := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	states, reasons := make([]string, n), make([]string, n)
	accepted, payBy, settled := make([]*time.Time, n), make([]*time.Time, n), make([]time.Time, n)
	release := make([]*time.Time, n)
	for i := range rows {
		o, s := &rows[i].Order, &rows[i].Status
		ids[i], sales[i], users[i], keys[i] = o.ID, o.Sale, o.User, o.Key
		attempts[i], quantities[i], versions[i] = int64(o.Attempt), int64(o.Quantity), s.Version
		attributes[i], states[i], reasons[i] = string(o.Attributes), string(s.State), string(s.Reason)
		accepted[i], payBy[i], settled[i] = orNull(o.AcceptedAt), orNull(s.PayBy), s.SettledAt
		release[i] = orNull(rows[i].ReleaseAt)
	}
	b.wrote.Inserted(rows...)
	b.Queue(insertOrders, ids, sales, users, keys, attempts, quantities, attributes, accepted, states, reasons,
		versions, payBy, settled, release)
}

func queueMove(b *pipeline, deltas []inventory.Delta) {
	if len(deltas) == 0 {
		return
	}
	n := len(deltas)
	ids, free, held, sold := make([]string, n), make([]int64, n), make([]int64, n), make([]int64, n)
	for i, d := range deltas {
		ids[i], free[i], held[i], sold[i] = d.Sale, d.Free, d.Held, d.Sold
	}
	b.wrote.Moved(deltas...)
	b.Queue(moveSales, ids, free, held, sold)
}

// queueUpdate queues the change of orders from what was read to what was decided. An order that is no longer as it was
// read fails the transaction, which is then repeated: the sale's lock forbids it, and this is the second line.
func queueUpdate(b *pipeline, before, after []inventory.Stored) {
	if len(after) == 0 {
		return
	}
	n := len(after)
	ids, states := make([][16]byte, n), make([]string, n)
	versions, oldVersions := make([]int64, n), make([]int64, n)
	refs, oldRefs := make([]string, n), make([]string, n)
	for i, o := range after {
		ids[i], states[i], versions[i], refs[i] = o.Status.Order, string(o.Status.State), o.Status.Version, o.PaymentRef
		oldVersions[i], oldRefs[i] = before[i].Status.Version, before[i].PaymentRef
		b.wrote.Updated(before[i], o)
	}
	b.Queue(updateOrders, ids, states, versions, refs, oldVersions, oldRefs)
}

func scanSale(row pgx.Row, more ...any) (s sluice.Sale, err error) {
	var starts, ends *time.Time
	err = row.Scan(append([]any{
		&s.ID, &s.SKU, &s.Stock, &s.TopUps, &s.Free, &s.Held, &s.Sold, &s.PerUserLimit, &starts, &ends,
		(*int64)(&s.PaymentWindow), (*int64)(&s.MaxAge), &s.CheckoutURL, &s.OverAdmission, &s.Paused, &s.Version,
		&s.ReservedFor, &s.ReservedShare, (*int64)(&s.PaymentGrace),
	}, more...)...)
	s.StartsAt, s.EndsAt = orZero(starts), orZero(ends)
	return s, err //nolint:wrapcheck // the caller says what was being read
}

func scanOrder(row pgx.Row, more ...any) (o inventory.Stored, err error) {
	var payBy, settled, release *time.Time
	s := &o.Status
	err = row.Scan(append([]any{
		(*[16]byte)(&s.Order), &s.Sale, &s.User, (*string)(&s.State), (*string)(&s.Reason), &s.Version,
		&s.Units, &payBy, &settled, &o.PaymentRef, &release,
	}, more...)...)
	s.PayBy, s.SettledAt, o.ReleaseAt = orZero(payBy), orZero(settled), orZero(release)
	return o, err //nolint:wrapcheck // the caller says what was being read
}

func uuids(ids []sluice.OrderID) [][16]byte {
	out := make([][16]byte, len(ids))
	for i, id := range ids {
		out[i] = id
	}
	return out
}

func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return inventory.Micros(*t)
}
