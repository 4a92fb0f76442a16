package postgres_test

import (
	"context"
	"database/sql"
	"os"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"

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
		SQL:  func() (*sql.DB, error) { return sql.Open("pgx", url) },
	}
}

func TestStore(t *testing.T) { inventorytest.Run(t, place) }

func open(t *testing.T, url string) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), url)
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
