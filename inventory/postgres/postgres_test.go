package postgres_test

import (
	"context"
	"database/sql"
	"os"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"sluice/internal/pgcluster"
	"sluice/inventory"
	"sluice/inventory/inventorytest"
	"sluice/inventory/postgres"
)

func TestMain(m *testing.M) { os.Exit(pgcluster.Main(m)) }

func place(t testing.TB) inventorytest.Place {
	t.Helper()
	url := pgcluster.Database(t)
	return inventorytest.Place{
		Open: func(ctx context.Context) (inventory.Store, error) { return postgres.Open(ctx, url) },
		SQL:  func() (*sql.DB, error) { return inside(url) },
		Old:  func(ctx context.Context) error { return makeOld(ctx, url) },
	}
}

// inside connects to a test's database where sluice has its tables.
func inside(url string) (*sql.DB, error) { return sql.Open("pgx", url+"&search_path=sluice") }

// makeOld makes a database as it was when only the first migration existed.
func makeOld(ctx context.Context, url string) error {
	db, err := inside(url)
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // a test's own connection
	if _, err := db.ExecContext(ctx, "CREATE SCHEMA sluice"); err != nil {
		return err
	}
	data, err := os.ReadFile("testdata/version1.sql")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, os.DirFS("migrations"),
		goose.WithTableName("schema_version"), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	if _, err := p.UpTo(ctx, 1); err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, string(data))
	return err
}

func TestStore(t *testing.T) { inventorytest.Run(t, place) }

func open(t *testing.T, url string) *postgres.Store {
	t.Helper()
	return opened(t, url, postgres.Open)
}

// openPatient opens a store whose statements wait for a lock for as long as a test may hold it.
func openPatient(t *testing.T, url string) *postgres.Store {
	t.Helper()
	return opened(t, url, postgres.OpenPatient)
}

func opened(t *testing.T, url string, open func(context.Context, string) (*postgres.Store, error)) *postgres.Store {
	t.Helper()
	s, err := open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func BenchmarkReserve(b *testing.B) { inventorytest.Benchmark(b, place) }
