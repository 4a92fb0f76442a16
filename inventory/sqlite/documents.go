package sqlite

import (
	"context"
	"fmt"
	"sync/atomic"

	"sluice"
	"sluice/inventory"
)

// documents are what operators set while the service runs.
type documents struct {
	limits document[sluice.Limits]
	pools  document[sluice.Pools]
}

func (d *documents) init() {
	d.limits.init(inventory.LimitsDocument)
	d.pools.init(inventory.PoolsDocument)
}

// Limits answers the present limits; see inventory.Store.
func (s *Store) Limits(ctx context.Context) (sluice.Limits, error) {
	return s.documents.limits.read(ctx, s)
}

// ChangeLimits changes the limits; see inventory.Store.
func (s *Store) ChangeLimits(ctx context.Context, change func(*sluice.Limits) error) (sluice.Limits, error) {
	return s.documents.limits.change(ctx, s, change)
}

// Pools answers the present settings of pools; see inventory.Store.
func (s *Store) Pools(ctx context.Context) (sluice.Pools, error) {
	return s.documents.pools.read(ctx, s)
}

// ChangePools changes the settings of pools; see inventory.Store.
func (s *Store) ChangePools(ctx context.Context, change func(*sluice.Pools) error) (sluice.Pools, error) {
	return s.documents.pools.change(ctx, s, change)
}

// document is one row of the table of documents.
type document[T any] struct {
	inventory.Document[T]
	known atomic.Pointer[T] // what was read last; never nil
}

func (d *document[T]) init(of inventory.Document[T]) {
	d.Document = of
	d.known.Store(new(T))
}

// read reads the text, which may be large, only where it is not the one that was read last.
func (d *document[T]) read(ctx context.Context, s *Store) (v T, err error) {
	const query = "SELECT CASE WHEN version <> ? THEN document END FROM documents WHERE name = ?"
	known := d.known.Load()
	var text []byte
	if err := s.read.QueryRowContext(ctx, query, *d.Version(known), d.Name).Scan(&text); err != nil {
		return v, s.classify("read the "+d.Name, err)
	}
	if text == nil {
		return *known, nil
	}
	if v, err = d.Decode(text); err != nil {
		return v, fmt.Errorf("sqlite: %w", err)
	}
	d.known.Store(&v)
	return v, nil
}

// change changes the document in one transaction.
func (d *document[T]) change(ctx context.Context, s *Store, change func(*T) error) (T, error) {
	const (
		query  = "SELECT document FROM documents WHERE name = ?"
		update = "UPDATE documents SET version = ?, document = ? WHERE name = ?"
	)
	var v, none T
	var refused error // as change said it, not classified
	err := s.transact(ctx, "change the "+d.Name, func(t *tx) error {
		var text []byte
		if err := t.QueryRowContext(ctx, query, d.Name).Scan(&text); err != nil {
			return fmt.Errorf("read the %s: %w", d.Name, err)
		}
		v, text, refused = d.Decide(t.now, text, change)
		if refused != nil {
			return nil // nothing is written
		}
		if _, err := t.ExecContext(ctx, update, *d.Version(&v), string(text), d.Name); err != nil {
			return fmt.Errorf("write the %s: %w", d.Name, err)
		}
		return nil
	})
	if refused != nil {
		err = refused
	}
	if err != nil {
		return none, err
	}
	return v, nil
}
