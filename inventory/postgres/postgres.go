// Package postgres is the inventory of a shop that runs on PostgreSQL 15 or later: it decides under row locks on the
// database's own clock. It never waits longer than its time limits and never leaves a hot sale's row locked behind it.
package postgres

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"maps"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"sluice"
	"sluice/inventory"
)

//go:embed migrations/*.sql
var migrations embed.FS

const (
	callTimeout  = 15 * time.Second // the server's own limits are shorter; this one is for a network that swallows answers
	auditTimeout = 5 * time.Minute
	openTimeout  = 2 * time.Minute
	cleanUp      = 2 * time.Second
	maxTries     = 5 // of a transaction that PostgreSQL asks to repeat
)

// parameters hold for every connection. A frozen worker must free the hot row (idle_in_transaction_session_timeout),
// and a waiting one must not pile up (lock_timeout).
//
// The plans: during a sale the tables grow from nothing faster than their statistics, and a plan that was right for an
// empty table would scan a full one. Every statement here but the audit's is meant for an index, so it is told so.
var parameters = map[string]string{
	"application_name":                    "sluice",
	"timezone":                            "UTC",
	"lock_timeout":                        "2s",
	"statement_timeout":                   "10s",
	"idle_in_transaction_session_timeout": "5s",
	"default_transaction_isolation":       "read committed",
	"plan_cache_mode":                     "force_generic_plan",
	"enable_seqscan":                      "off",
	"enable_hashjoin":                     "off",
	"enable_mergejoin":                    "off",
	"jit":                                 "off", // a forbidden plan's cost would have short statements compiled
}

// Store implements inventory.Store. Open makes it; it is safe for concurrent use.
type Store struct {
	inventory.Unfinished
	pool   *pgxpool.Pool
	limits atomic.Pointer[sluice.Limits] // the last that were read; never nil
	closed atomic.Bool
}

var _ inventory.Store = (*Store)(nil)

// Open connects to the database that url names and brings its schema up to date. Any number of processes may do so at
// once. The URL may bound the connections with pool_max_conns; else it is the larger of 4 and the number of processors.
func Open(ctx context.Context, url string) (*Store, error) {
	config, err := parse(url)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if err := migrate(ctx, *config.ConnConfig.Copy()); err != nil {
		return nil, fmt.Errorf("open the PostgreSQL database %s: %w", place(config.ConnConfig), classify("migrate", err))
	}
	maps.Copy(config.ConnConfig.RuntimeParams, parameters)
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open the PostgreSQL database %s: %w", place(config.ConnConfig), classify("connect", err))
	}
	s := &Store{pool: pool}
	s.limits.Store(&sluice.Limits{})
	return s, nil
}

// place names a database without its password.
func place(c *pgx.ConnConfig) string {
	return fmt.Sprintf("%s at %s:%d", c.Database, c.Host, c.Port)
}

// migrate holds an advisory lock of the server, so that of several processes one migrates and the others wait. It uses
// a connection without the pool's time limits.
func migrate(ctx context.Context, config pgx.ConnConfig) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return fmt.Errorf("read the migrations: %w", err)
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 60), lock.WithUnlockTimeout(1, 5))
	if err != nil {
		return fmt.Errorf("make the migration lock: %w", err)
	}
	db := stdlib.OpenDB(config)
	defer db.Close() //nolint:errcheck // the migrations are committed or not by now
	p, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithSessionLocker(locker),
		goose.WithLogger(goose.NopLogger()), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("read the migrations: %w", err)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// Ping says whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return classify("ping", s.pool.Ping(ctx))
}

// Close waits for running calls and closes the connections.
func (s *Store) Close() error {
	if !s.closed.Swap(true) {
		s.pool.Close()
	}
	return nil
}
