package sqlite

import (
	"context"
	"fmt"

	"sluice"
	"sluice/inventory"
)

// Limits answers the present limits; see inventory.Store. The document, which may be large, is read only where it is not
// the one that was read last.
func (s *Store) Limits(ctx context.Context) (sluice.Limits, error) {
	const query = "SELECT CASE WHEN version <> ? THEN document END FROM limits WHERE id = 1"
	known := s.limits.Load()
	var document []byte
	if err := s.read.QueryRowContext(ctx, query, known.Version).Scan(&document); err != nil {
		return sluice.Limits{}, s.classify("read the limits", err)
	}
	if document == nil {
		return *known, nil
	}
	l, err := inventory.DecodeLimits(document)
	if err != nil {
		return sluice.Limits{}, fmt.Errorf("sqlite: %w", err)
	}
	s.limits.Store(&l)
	return l, nil
}

// ChangeLimits changes the limits in one transaction; see inventory.Store.
func (s *Store) ChangeLimits(ctx context.Context, change func(*sluice.Limits) error) (sluice.Limits, error) {
	const (
		query  = "SELECT document FROM limits WHERE id = 1"
		update = "UPDATE limits SET version = ?, document = ? WHERE id = 1"
	)
	var l sluice.Limits
	var refused error // as change said it, not classified
	err := s.transact(ctx, "change the limits", func(t *tx) error {
		var document []byte
		if err := t.QueryRowContext(ctx, query).Scan(&document); err != nil {
			return fmt.Errorf("read the limits: %w", err)
		}
		l, document, refused = inventory.DecideLimits(t.now, document, change)
		if refused != nil {
			return nil // nothing is written
		}
		if _, err := t.ExecContext(ctx, update, l.Version, string(document)); err != nil {
			return fmt.Errorf("write the limits: %w", err)
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
