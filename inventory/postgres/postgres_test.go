package postgres_test

import (
	"context"
	"database/sql"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"

	"sluice"
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

// P1, P6, P8: an order that is settled between a transition's look for its sale and its look at the order must not be
// changed without the sale's lock: of a payment and a cancellation, one wins. The clock is made slow, for the first
// look to be over when the order comes in.
func TestStore_APaymentAndACancellationThatRaceTheReservationEndInOne(t *testing.T) {
	ctx, url := t.Context(), pgcluster.Database(t)
	s := open(t, url)
	sale := sluice.Sale{ID: "d", Stock: 10, PerUserLimit: 1, PaymentWindow: sluice.Duration(time.Hour), OverAdmission: 1.5}
	if _, err := s.CreateSale(ctx, sale); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	const slowClock = `CREATE SCHEMA slow; CREATE FUNCTION slow.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql
		VOLATILE AS $$ BEGIN PERFORM pg_sleep(0.5); RETURN pg_catalog.clock_timestamp(); END $$`
	if _, err := db.ExecContext(ctx, slowClock); err != nil {
		t.Fatal(err)
	}
	slow := open(t, url+"&search_path=public,slow,pg_catalog")
	order := sluice.Order{ID: sluice.OrderID{9}, Sale: "d", User: "u", Quantity: 1}
	var pay, cancel error
	var wg sync.WaitGroup
	wg.Go(func() { _, pay = slow.Pay(ctx, order.ID, "ref") })
	wg.Go(func() { _, cancel = slow.Cancel(ctx, order.ID) })
	time.Sleep(200 * time.Millisecond) // into the half second between the two looks
	if _, err := s.Reserve(ctx, []sluice.Order{order}); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if (pay == nil) == (cancel == nil) {
		t.Errorf("pay: %v, cancel: %v; want exactly one to succeed", pay, cancel)
	}
	if a, err := s.Audit(ctx); err != nil || !a.Balanced {
		t.Errorf("audit %+v, %v", a, err)
	}
}

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

func TestCheckURL_TellsWhatIsWrongWithoutThePassword(t *testing.T) {
	if err := postgres.CheckURL("postgres://u:secret@127.0.0.1:5432/shop?pool_max_conns=8"); err != nil {
		t.Errorf("a good URL: %v", err)
	}
	for _, bad := range []string{"postgres://u:secret@h:notaport/db", "postgres://u:secret@h/db?sslmode=perhaps", "postgres://u:secret@[::1/db"} {
		if err := postgres.CheckURL(bad); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("CheckURL(%q) = %v", bad, err)
		}
	}
}

func BenchmarkReserve(b *testing.B) { inventorytest.Benchmark(b, place) }
