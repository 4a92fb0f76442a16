package postgres

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

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
	const query = "SELECT CASE WHEN version <> $2 THEN document END FROM documents WHERE name = $1"
	known := d.known.Load()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var text *string
	if err := s.pool.QueryRow(ctx, query, d.Name, *d.Version(known)).Scan(&text); err != nil {
		return v, classify("read the "+d.Name, err)
	}
	if text == nil {
		return *known, nil
	}
	if v, err = d.Decode([]byte(*text)); err != nil {
		return v, fmt.Errorf("postgres: %w", err)
	}
	d.known.Store(&v)
	return v, nil
}

// change changes the document under its row's lock.
func (d *document[T]) change(ctx context.Context, s *Store, change func(*T) error) (T, error) {
	const (
		lock   = "SELECT document FROM documents WHERE name = $1 FOR UPDATE"
		update = "UPDATE documents SET version = $2, document = $3 WHERE name = $1"
	)
	var now time.Time
	var text []byte
	var v, none T
	var refused error // as change said it, not classified
	err := s.transact(ctx, "change the "+d.Name, func(b *pipeline) {
		text, refused = nil, nil
		b.Queue(lock, d.Name).QueryRow(func(row pgx.Row) error {
			return row.Scan(&text) //nolint:wrapcheck // transact says what was being done
		})
		readNow(b, &now)
	}, func(b *pipeline) error {
		v, text, refused = d.Decide(now, text, change)
		if refused == nil {
			b.Queue(update, d.Name, *d.Version(&v), string(text))
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
