package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"sluice"
	"sluice/inventory"
)

const selectLetters = "SELECT id, message, body, order_id, attempts, error, at, replayed_as FROM dead_letters"

// Letters lists dead letters; see inventory.Desk.
func (s *Store) Letters(ctx context.Context, after int64, limit int, all bool) ([]inventory.Buried, error) {
	if err := inventory.CheckPage(limit); err != nil {
		return nil, err //nolint:wrapcheck // a *sluice.Error is the caller's answer as it is
	}
	query := selectLetters + " WHERE id > ?"
	if !all {
		query += " AND replayed_as IS NULL"
	}
	letters, err := readLetters(ctx, s.read, query+" ORDER BY id LIMIT ?", after, limit)
	return letters, s.classify("list dead letters", err)
}

// Letter answers one dead letter; see inventory.Desk.
func (s *Store) Letter(ctx context.Context, message string) (inventory.Buried, error) {
	letter, err := readLetter(ctx, s.read, message)
	return letter, s.classify("read a dead letter", err)
}

// DropLetter forgets a dead letter; see inventory.Desk.
func (s *Store) DropLetter(ctx context.Context, message string) error {
	return s.transact(ctx, "drop a dead letter", func(t *tx) error {
		r, err := t.ExecContext(ctx, "DELETE FROM dead_letters WHERE message = ?", inventory.CleanMessage(message))
		if err != nil {
			return fmt.Errorf("delete: %w", err)
		}
		if n, err := r.RowsAffected(); err != nil || n == 0 {
			return inventory.NoLetter(message)
		}
		return nil
	})
}

// Replay settles the order that was made of a dead letter; see inventory.Desk.
func (s *Store) Replay(ctx context.Context, message string, order sluice.Order) (sluice.Changes, error) {
	var c sluice.Changes
	err := s.transact(ctx, "replay", func(t *tx) error {
		letter, err := readLetter(ctx, t, message)
		if err != nil {
			return err
		}
		if letter.ReplayedAs != (sluice.OrderID{}) {
			made, err := t.moving(ctx, letter.ReplayedAs, "")
			if err == nil {
				c, err = t.changes(ctx, made.Status)
			}
			return err
		}
		c, err = t.replay(ctx, letter, order)
		return err
	})
	return known(c, err)
}

func (t *tx) replay(ctx context.Context, letter inventory.Buried, order sluice.Order) (sluice.Changes, error) {
	v, err := t.view(ctx, []sluice.Order{order})
	if err != nil {
		return sluice.Changes{}, err
	}
	failed, err := t.orders(ctx, []sluice.OrderID{letter.Order})
	if err != nil {
		return sluice.Changes{}, err
	}
	for id, o := range failed {
		v.Settled[id] = o.Status
	}
	d, err := inventory.DecideReplay(v, letter.Order, order)
	if err != nil {
		return sluice.Changes{}, err //nolint:wrapcheck // a *sluice.Error is the caller's answer as it is
	}
	if err := t.insert(ctx, d.Rows); err != nil {
		return sluice.Changes{}, err
	}
	if err := t.move(ctx, d.Deltas...); err != nil {
		return sluice.Changes{}, err
	}
	if len(d.Rows) > 0 && letter.Order != (sluice.OrderID{}) {
		if _, err := t.ExecContext(ctx, "UPDATE orders SET replay_of = ? WHERE id = ?", letter.Order[:], order.ID[:]); err != nil {
			return sluice.Changes{}, fmt.Errorf("link the orders: %w", err)
		}
	}
	if _, err := t.ExecContext(ctx, "UPDATE dead_letters SET replayed_as = ? WHERE id = ?", order.ID[:], letter.ID); err != nil {
		return sluice.Changes{}, fmt.Errorf("mark the letter: %w", err)
	}
	return sluice.Changes{Now: v.Now, Statuses: d.Statuses, Sales: d.Sales}, nil
}

// readLetter refuses where there is none.
func readLetter(ctx context.Context, q querier, message string) (inventory.Buried, error) {
	letters, err := readLetters(ctx, q, selectLetters+" WHERE message = ?", inventory.CleanMessage(message))
	if err == nil && len(letters) == 0 {
		err = inventory.NoLetter(message)
	}
	if err != nil {
		return inventory.Buried{}, err
	}
	return letters[0], nil
}

func readLetters(ctx context.Context, q querier, query string, args ...any) ([]inventory.Buried, error) {
	var letters []inventory.Buried
	rows, err := q.QueryContext(ctx, query, args...)
	err = collect(rows, err, func() error {
		var l inventory.Buried
		var order, replayed []byte
		var at sql.NullInt64
		err := rows.Scan(&l.ID, &l.Message, &l.Body, &order, &l.Attempts, &l.Error, &at, &replayed)
		copy(l.Order[:], order)
		copy(l.ReplayedAs[:], replayed)
		l.At = moment(at)
		l.Body = append([]byte{}, l.Body...) // the driver answers an empty one with nil
		letters = append(letters, l)
		return err //nolint:wrapcheck // below
	})
	if err != nil {
		return nil, fmt.Errorf("read dead letters: %w", err)
	}
	return letters, nil
}
