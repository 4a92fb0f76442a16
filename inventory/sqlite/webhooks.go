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

const deliveryColumns = "seq, key, type, at, state, attempts, first_at, next_at, last_error"

// AddWebhook notes an endpoint; see inventory.Deliveries.
func (s *Store) AddWebhook(ctx context.Context, name, address string) (source string, disabled bool, err error) {
	const upsert = "INSERT INTO webhooks (name, address, seen_at) VALUES (?, ?, ?) " +
		"ON CONFLICT (name) DO UPDATE SET address = excluded.address, seen_at = excluded.seen_at " +
		"RETURNING disabled, (SELECT id FROM event_source)"
	err = s.transact(ctx, "add a webhook", func(t *tx) error {
		return t.QueryRowContext(ctx, upsert, name, address, micros(t.now)).Scan(&disabled, &source)
	})
	return source, disabled, err
}

// NoteWebhook keeps how an endpoint does; see inventory.Deliveries.
func (s *Store) NoteWebhook(ctx context.Context, name string, h sluice.WebhookHealth, disable bool) error {
	const update = "UPDATE webhooks SET seen_at = ?, failing_since = ?, last_error = ?, disabled = disabled OR ? WHERE name = ?"
	return s.transact(ctx, "note a webhook's health", func(t *tx) error {
		h = inventory.CleanHealth(h)
		_, err := t.ExecContext(ctx, update, micros(t.now), micros(h.FailingSince), h.LastError, disable, name)
		return err //nolint:wrapcheck // transact says what was being done
	})
}

// ResumeWebhook enables an endpoint again; see inventory.Deliveries.
func (s *Store) ResumeWebhook(ctx context.Context, name string) error {
	return s.transact(ctx, "resume a webhook", func(t *tx) error {
		const update = "UPDATE webhooks SET disabled = 0, failing_since = NULL, last_error = '' WHERE name = ?"
		return t.changeOne(ctx, inventory.NoWebhook(name), update, name)
	})
}

// Webhooks answers every endpoint; see inventory.Deliveries.
func (s *Store) Webhooks(ctx context.Context) ([]sluice.Webhook, error) {
	const query = "SELECT name, address, seen_at, failing_since, last_error, disabled, " +
		"(SELECT count(*) FROM webhook_deliveries WHERE endpoint = name AND state IN ('waiting', 'again')), " +
		"(SELECT count(*) FROM webhook_deliveries WHERE endpoint = name AND state = 'dead') FROM webhooks ORDER BY name"
	var hooks []sluice.Webhook
	rows, err := s.read.QueryContext(ctx, query)
	err = collect(rows, err, func() error {
		var h sluice.Webhook
		var seen, since sql.NullInt64
		err := rows.Scan(&h.Name, &h.Address, &seen, &since, &h.LastError, &h.Disabled, &h.Waiting, &h.Dead)
		h.SeenAt, h.FailingSince = moment(seen), moment(since)
		hooks = append(hooks, h)
		return err //nolint:wrapcheck // below
	})
	return hooks, s.classify("read the webhooks", err)
}

// SaveDeliveries writes and forgets deliveries; see inventory.Deliveries.
func (s *Store) SaveDeliveries(ctx context.Context, endpoint string, put []sluice.Delivery, done []int64, keep int) (forgotten int, err error) {
	const (
		upsert = "INSERT INTO webhook_deliveries (endpoint, " + deliveryColumns + ", body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) " +
			"ON CONFLICT (endpoint, seq) DO UPDATE SET state = excluded.state, attempts = excluded.attempts, " +
			"first_at = excluded.first_at, next_at = excluded.next_at, last_error = excluded.last_error"
		forget = "DELETE FROM webhook_deliveries WHERE endpoint = ? AND seq = ?"
		prune  = "DELETE FROM webhook_deliveries WHERE endpoint = ?1 AND state = 'dead' AND seq <= " +
			"(SELECT seq FROM webhook_deliveries WHERE endpoint = ?1 AND state = 'dead' ORDER BY seq DESC LIMIT 1 OFFSET ?2)"
	)
	err = s.transact(ctx, "save deliveries", func(t *tx) error {
		for _, d := range put {
			d = inventory.CleanDelivery(d)
			if _, err := t.ExecContext(ctx, upsert, endpoint, d.Seq, d.Key, string(d.Type), d.At.UnixMicro(), string(d.State), d.Attempts,
				micros(d.FirstAt), micros(d.NextAt), d.LastError, string(d.Body)); err != nil {
				return fmt.Errorf("write delivery %d: %w", d.Seq, err)
			}
		}
		for _, seq := range done {
			if _, err := t.ExecContext(ctx, forget, endpoint, seq); err != nil {
				return fmt.Errorf("forget delivery %d: %w", seq, err)
			}
		}
		pruned, err := t.ExecContext(ctx, prune, endpoint, keep)
		if err != nil {
			return fmt.Errorf("forget dead deliveries: %w", err)
		}
		n, err := pruned.RowsAffected()
		forgotten = int(n)
		return err //nolint:wrapcheck // transact says what was being done
	})
	return forgotten, err
}

// ListDeliveries answers a page of deliveries; see inventory.Deliveries.
func (s *Store) ListDeliveries(
	ctx context.Context, endpoint string, state sluice.DeliveryState, after int64, limit int,
) ([]sluice.Delivery, error) {
	const query = "SELECT " + deliveryColumns + " FROM webhook_deliveries WHERE endpoint = ? AND state = ? AND seq > ? ORDER BY seq LIMIT ?"
	var page []sluice.Delivery
	rows, err := s.read.QueryContext(ctx, query, endpoint, string(state), after, limit)
	err = collect(rows, err, func() error {
		d, err := scanDelivery(rows)
		page = append(page, d)
		return err
	})
	return page, s.classify("read deliveries", err)
}

// Delivery answers one delivery; see inventory.Deliveries.
func (s *Store) Delivery(ctx context.Context, endpoint string, seq int64) (sluice.Delivery, error) {
	const query = "SELECT " + deliveryColumns + ", body FROM webhook_deliveries WHERE endpoint = ? AND seq = ?"
	var body string
	d, err := scanDelivery(s.read.QueryRowContext(ctx, query, endpoint, seq), &body)
	if errors.Is(err, sql.ErrNoRows) {
		return d, inventory.NoDelivery(endpoint, seq, "delivery")
	}
	d.Body = []byte(body)
	return d, s.classify("read a delivery", err)
}

// ReplayDelivery has a dead delivery tried again; see inventory.Deliveries.
func (s *Store) ReplayDelivery(ctx context.Context, endpoint string, seq int64) (sluice.Delivery, error) {
	const update = "UPDATE webhook_deliveries SET state = 'again', attempts = 0, first_at = NULL, next_at = NULL " +
		"WHERE endpoint = ? AND seq = ? AND state IN ('dead', 'again')"
	err := s.transact(ctx, "replay a delivery", func(t *tx) error {
		return t.changeOne(ctx, inventory.NoDelivery(endpoint, seq, "dead delivery"), update, endpoint, seq)
	})
	if err != nil {
		return sluice.Delivery{}, err
	}
	return s.Delivery(ctx, endpoint, seq)
}

// DropDelivery forgets a dead delivery; see inventory.Deliveries.
func (s *Store) DropDelivery(ctx context.Context, endpoint string, seq int64) error {
	const forget = "DELETE FROM webhook_deliveries WHERE endpoint = ? AND seq = ? AND state = 'dead'"
	return s.transact(ctx, "drop a delivery", func(t *tx) error {
		return t.changeOne(ctx, inventory.NoDelivery(endpoint, seq, "dead delivery"), forget, endpoint, seq)
	})
}

// changeOne runs a statement that must touch a row, and answers none where it does not.
func (t *tx) changeOne(ctx context.Context, none error, statement string, args ...any) error {
	r, err := t.ExecContext(ctx, statement, args...)
	if err != nil {
		return err //nolint:wrapcheck // transact says what was being done
	}
	n, err := r.RowsAffected()
	if err == nil && n == 0 {
		return none
	}
	return err //nolint:wrapcheck // transact says what was being done
}

// scanDelivery reads deliveryColumns and what follows them.
func scanDelivery(row scanner, more ...any) (d sluice.Delivery, err error) {
	var at int64
	var first, next sql.NullInt64
	err = row.Scan(append([]any{&d.Seq, &d.Key, &d.Type, &at, &d.State, &d.Attempts, &first, &next, &d.LastError}, more...)...)
	d.At = time.UnixMicro(at).UTC()
	d.FirstAt, d.NextAt = moment(first), moment(next)
	return d, err //nolint:wrapcheck // the caller says what was being read
}
