package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"sluice"
	"sluice/inventory"
)

const deliveryColumns = "seq, key, type, at, state, attempts, first_at, next_at, last_error"

// AddWebhook notes an endpoint; see inventory.Deliveries.
func (s *Store) AddWebhook(ctx context.Context, name, address string) (source string, disabled bool, err error) {
	const upsert = "INSERT INTO webhooks (name, address, seen_at) VALUES ($1, $2, clock_timestamp()) " +
		"ON CONFLICT (name) DO UPDATE SET address = excluded.address, seen_at = excluded.seen_at " +
		"RETURNING disabled, (SELECT id FROM event_source)"
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err = s.pool.QueryRow(ctx, upsert, name, address).Scan(&disabled, &source)
	return source, disabled, classify("add a webhook", err)
}

// NoteWebhook keeps how an endpoint does; see inventory.Deliveries.
func (s *Store) NoteWebhook(ctx context.Context, name string, h sluice.WebhookHealth, disable bool) error {
	const update = "UPDATE webhooks SET seen_at = clock_timestamp(), failing_since = $1, last_error = $2, disabled = disabled OR $3 WHERE name = $4"
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	h = inventory.CleanHealth(h)
	_, err := s.pool.Exec(ctx, update, orNull(h.FailingSince), h.LastError, disable, name)
	return classify("note a webhook's health", err)
}

// ResumeWebhook enables an endpoint again; see inventory.Deliveries.
func (s *Store) ResumeWebhook(ctx context.Context, name string) error {
	const update = "UPDATE webhooks SET disabled = false, failing_since = NULL, last_error = '' WHERE name = $1"
	return s.changeOne(ctx, "resume a webhook", inventory.NoWebhook(name), update, name)
}

// Webhooks answers every endpoint; see inventory.Deliveries.
func (s *Store) Webhooks(ctx context.Context) ([]sluice.Webhook, error) {
	const query = "SELECT name, address, seen_at, failing_since, last_error, disabled, " +
		"(SELECT count(*) FROM webhook_deliveries WHERE endpoint = name AND state IN ('waiting', 'again')), " +
		"(SELECT count(*) FROM webhook_deliveries WHERE endpoint = name AND state = 'dead') FROM webhooks ORDER BY name"
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	rows, err := s.pool.Query(ctx, query)
	if err != nil {
		return nil, classify("read the webhooks", err)
	}
	hooks, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (h sluice.Webhook, err error) {
		var since *time.Time
		err = row.Scan(&h.Name, &h.Address, &h.SeenAt, &since, &h.LastError, &h.Disabled, &h.Waiting, &h.Dead)
		h.SeenAt, h.FailingSince = inventory.Micros(h.SeenAt), orZero(since)
		return h, err //nolint:wrapcheck // below
	})
	return hooks, classify("read the webhooks", err)
}

// SaveDeliveries writes and forgets deliveries; see inventory.Deliveries.
func (s *Store) SaveDeliveries(ctx context.Context, endpoint string, put []sluice.Delivery, done []int64, keep int) (forgotten int, err error) {
	const (
		upsert = "INSERT INTO webhook_deliveries (endpoint, " + deliveryColumns + ", body) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) " +
			"ON CONFLICT (endpoint, seq) DO UPDATE SET state = excluded.state, attempts = excluded.attempts, " +
			"first_at = excluded.first_at, next_at = excluded.next_at, last_error = excluded.last_error"
		forget = "DELETE FROM webhook_deliveries WHERE endpoint = $1 AND seq = ANY($2)"
		prune  = "DELETE FROM webhook_deliveries WHERE endpoint = $1 AND state = 'dead' AND seq <= " +
			"(SELECT seq FROM webhook_deliveries WHERE endpoint = $1 AND state = 'dead' ORDER BY seq DESC LIMIT 1 OFFSET $2)"
	)
	err = s.transact(ctx, "save deliveries", func(*pipeline) {}, func(b *pipeline) error {
		for _, d := range put {
			d = inventory.CleanDelivery(d)
			b.Queue(upsert, endpoint, d.Seq, d.Key, string(d.Type), d.At, string(d.State), d.Attempts,
				orNull(d.FirstAt), orNull(d.NextAt), d.LastError, string(d.Body))
		}
		if len(done) > 0 {
			b.Queue(forget, endpoint, done)
		}
		b.Queue(prune, endpoint, keep).Exec(func(tag pgconn.CommandTag) error {
			forgotten = int(tag.RowsAffected())
			return nil
		})
		return nil
	})
	return forgotten, err
}

// ListDeliveries answers a page of deliveries; see inventory.Deliveries.
func (s *Store) ListDeliveries(
	ctx context.Context, endpoint string, state sluice.DeliveryState, after int64, limit int,
) ([]sluice.Delivery, error) {
	const query = "SELECT " + deliveryColumns + " FROM webhook_deliveries WHERE endpoint = $1 AND state = $2 AND seq > $3 ORDER BY seq LIMIT $4"
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	rows, err := s.pool.Query(ctx, query, endpoint, string(state), after, limit)
	if err != nil {
		return nil, classify("read deliveries", err)
	}
	page, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (sluice.Delivery, error) { return scanDelivery(row) })
	return page, classify("read deliveries", err)
}

// Delivery answers one delivery; see inventory.Deliveries.
func (s *Store) Delivery(ctx context.Context, endpoint string, seq int64) (sluice.Delivery, error) {
	const query = "SELECT " + deliveryColumns + ", body FROM webhook_deliveries WHERE endpoint = $1 AND seq = $2"
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var body string
	d, err := scanDelivery(s.pool.QueryRow(ctx, query, endpoint, seq), &body)
	if errors.Is(err, pgx.ErrNoRows) {
		return d, inventory.NoDelivery(endpoint, seq, "delivery")
	}
	d.Body = []byte(body)
	return d, classify("read a delivery", err)
}

// ReplayDelivery has a dead delivery tried again; see inventory.Deliveries.
func (s *Store) ReplayDelivery(ctx context.Context, endpoint string, seq int64) (sluice.Delivery, error) {
	const update = "UPDATE webhook_deliveries SET state = 'again', attempts = 0, first_at = NULL, next_at = NULL " +
		"WHERE endpoint = $1 AND seq = $2 AND state IN ('dead', 'again')"
	if err := s.changeOne(ctx, "replay a delivery", inventory.NoDelivery(endpoint, seq, "dead delivery"), update, endpoint, seq); err != nil {
		return sluice.Delivery{}, err
	}
	return s.Delivery(ctx, endpoint, seq)
}

// DropDelivery forgets a dead delivery; see inventory.Deliveries.
func (s *Store) DropDelivery(ctx context.Context, endpoint string, seq int64) error {
	const forget = "DELETE FROM webhook_deliveries WHERE endpoint = $1 AND seq = $2 AND state = 'dead'"
	return s.changeOne(ctx, "drop a delivery", inventory.NoDelivery(endpoint, seq, "dead delivery"), forget, endpoint, seq)
}

// changeOne runs a statement that must touch a row, and answers none where it does not.
func (s *Store) changeOne(ctx context.Context, doing string, none error, statement string, args ...any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	tag, err := s.pool.Exec(ctx, statement, args...)
	if err == nil && tag.RowsAffected() == 0 {
		return none
	}
	return classify(doing, err)
}

// scanDelivery reads deliveryColumns and what follows them.
func scanDelivery(row pgx.Row, more ...any) (d sluice.Delivery, err error) {
	var first, next *time.Time
	err = row.Scan(append([]any{&d.Seq, &d.Key, &d.Type, &d.At, &d.State, &d.Attempts, &first, &next, &d.LastError}, more...)...)
	d.At = inventory.Micros(d.At)
	d.FirstAt, d.NextAt = orZero(first), orZero(next)
	return d, err //nolint:wrapcheck // the caller says what was being read
}
