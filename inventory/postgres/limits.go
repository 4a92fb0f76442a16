package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"sluice"
	"sluice/inventory"
)

// Limits answers the present limits; see inventory.Store. The document, which may be large, is read only where it is not
// the one that was read last.
func (s *Store) Limits(ctx context.Context) (sluice.Limits, error) {
	const query = "SELECT CASE WHEN version <> $1 THEN document END FROM limits WHERE id = 1"
	known := s.limits.Load()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var document *string
	if err := s.pool.QueryRow(ctx, query, known.Version).Scan(&document); err != nil {
		return sluice.Limits{}, classify("read the limits", err)
	}
	if document == nil {
		return *known, nil
	}
	l, err := inventory.DecodeLimits([]byte(*document))
	if err != nil {
		return sluice.Limits{}, fmt.Errorf("postgres: %w", err)
	}
	s.limits.Store(&l)
	return l, nil
}

// ChangeLimits changes the limits under their row's lock; see inventory.Store.
func (s *Store) ChangeLimits(ctx context.Context, change func(*sluice.Limits) error) (sluice.Limits, error) {
	const (
		lock   = "SELECT document FROM limits WHERE id = 1 FOR UPDATE"
		update = "UPDATE limits SET version = $1, document = $2 WHERE id = 1"
	)
	var now time.Time
	var document []byte
	var l sluice.Limits
	var refused error // as change said it, not classified
	err := s.transact(ctx, "change the limits", func(b *pipeline) {
		document, refused = nil, nil
		b.Queue(lock).QueryRow(func(row pgx.Row) error {
			return row.Scan(&document) //nolint:wrapcheck // transact says what was being done
		})
		readNow(b, &now)
	}, func(b *pipeline) error {
		l, document, refused = inventory.DecideLimits(now, document, change)
		if refused == nil {
			b.Queue(update, l.Version, string(document))
		}
		return nil
	})
	if refused != nil {
		err = refused
	}
	if err != nil {
		return sluice.Limits{}, err
	}
	return l, nil
}
