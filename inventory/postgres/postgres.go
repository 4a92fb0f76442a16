// Package postgres is the inventory of a shop that runs on PostgreSQL 15 or later: it decides under row locks on the
// database's own clock. It never waits longer than its time limits and never leaves a hot sale's row locked behind it.
package postgres

import (
	"context"
	"fmt"
	"maps"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"sluice/inventory"
)

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
	pool      *pgxpool.Pool
	documents documents
	closed    atomic.Bool
	commands  inventory.Commands
}

var _ inventory.Store = (*Store)(nil)

// Open connects to the database that url names and brings its schema up to date. Any number of processes may do so at
// once. Everything lies in a schema named sluice, with the published views in public as well, unless the URL names a
// search_path: then there alone. What waiting may mend is inventory.ErrUnavailable; what an operator must mend is not.
// The URL may bound the connections with pool_max_conns; else it is the larger of 4 and the number of processors.
func Open(ctx context.Context, url string) (*Store, error) {
	config, err := parse(url)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	own := inOwnSchema(config.ConnConfig)
	if err := migrate(ctx, *config.ConnConfig.Copy(), own); err != nil {
		return nil, opening(fmt.Sprintf("open the PostgreSQL database %s", place(config.ConnConfig)), err)
	}
	maps.Copy(config.ConnConfig.RuntimeParams, parameters)
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open the PostgreSQL database %s: %w", place(config.ConnConfig), classify("connect", err))
	}
	s := &Store{pool: pool}
	s.commands.Limit(int(pool.Config().MaxConns))
	s.documents.init()
	return s, nil
}

// place names a database without its password.
func place(c *pgx.ConnConfig) string {
	return fmt.Sprintf("%s at %s:%d", c.Database, c.Host, c.Port)
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
