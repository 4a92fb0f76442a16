package postgres

import (
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"sluice"
	"sluice/internal/calm"
	"sluice/internal/pgcluster"
)

// The audit reads everything, however long that takes up to auditTimeout; every other statement keeps its short limit.
// The limits are scaled down: a view makes each reading of the sales slower than the connections' limit.
func TestAudit_IsNotBoundByTheLimitOfAStatement(t *testing.T) { // P8
	ctx, url := t.Context(), pgcluster.Database(t)
	plain, err := Open(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close() //nolint:errcheck // a test's own
	if _, err := plain.CreateSale(ctx, sluice.Sale{ID: "s", Stock: 1, PerUserLimit: 1, OverAdmission: 1}); err != nil {
		t.Fatal(err)
	}
	const slow = "CREATE SCHEMA slow; CREATE VIEW slow.sales AS SELECT s.* FROM sluice.sales AS s, LATERAL " +
		"(SELECT pg_sleep(0.6) WHERE s.version > 0) AS slept"
	if _, err := plain.pool.Exec(ctx, slow); err != nil {
		t.Fatal(err)
	}
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	config.ConnConfig.RuntimeParams = maps.Clone(parameters)
	config.ConnConfig.RuntimeParams["statement_timeout"] = "300ms"
	config.ConnConfig.RuntimeParams["search_path"] = "slow,sluice"
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	s := &Store{pool: pool}
	defer s.Close() //nolint:errcheck // a test's own

	calm.Play(t, 100*time.Millisecond, func(complain calm.Complain) { // for the short limit is also that of an audit's BEGIN
		for range 2 { // before a Sales on the same connection and after it
			if a, err := s.Audit(ctx); err != nil || len(a.Sales) != 1 || !a.Balanced {
				complain("audit: got %+v, %v, want it to take its time", a, err)
			}
			_, err := s.Sales(ctx)
			if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "57014" {
				t.Errorf("a slow statement that is not the audit's: got %v, want it cancelled", err)
			}
		}
	})
}
