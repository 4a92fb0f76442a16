package postgres_test

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"testing"
	"time"

	"sluice"
	"sluice/internal/pgcluster"
	"sluice/inventory/postgres"
)

// behind is a store with one sale "s" of ten units, and a connection behind its back.
func behind(t *testing.T) (url string, store *postgres.Store, db *sql.DB) {
	t.Helper()
	url = pgcluster.Database(t)
	store = open(t, url)
	sale := sluice.Sale{ID: "s", Stock: 10, PerUserLimit: 10, PaymentWindow: sluice.Duration(time.Hour), OverAdmission: 1.5}
	if _, err := store.CreateSale(t.Context(), sale); err != nil {
		t.Fatal(err)
	}
	db, err := inside(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return url, store, db
}

// waiting returns when n connections to the test's database wait for a lock.
func waiting(t *testing.T, db *sql.DB, n int) {
	t.Helper()
	const query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		var got int
		if err := db.QueryRowContext(t.Context(), query).Scan(&got); err != nil {
			t.Fatal(err)
		}
		if got == n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d connections wait for a lock, want %d", got, n)
		}
	}
}

// The order is settled between a transition's look for its sale and its look at the order. The transition must lock the
// sale all the same: of a payment and a cancellation one wins, and each tells the sale's facts (P1, P6, P8). The store's
// reading of the clock, which lies between the two looks, waits here for the test.
func TestTransition_LocksTheSaleOfAnOrderThatAppearsMeanwhile(t *testing.T) {
	ctx := t.Context()
	url, store, db := behind(t)
	const gate = `CREATE SCHEMA gated; CREATE FUNCTION gated.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql VOLATILE
		SET lock_timeout = 0 AS $$ BEGIN PERFORM pg_advisory_lock_shared(1); PERFORM pg_advisory_unlock_shared(1);
		RETURN pg_catalog.clock_timestamp(); END $$`
	if _, err := db.ExecContext(ctx, gate); err != nil {
		t.Fatal(err)
	}
	gated := open(t, url+"&search_path=sluice,gated,pg_catalog")
	keeper, err := db.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer keeper.Close() //nolint:errcheck // a test's own connection
	if _, err := keeper.ExecContext(ctx, "SELECT pg_advisory_lock(1)"); err != nil {
		t.Fatal(err)
	}

	order := sluice.Order{ID: sluice.OrderID{9}, Sale: "s", User: "u", Quantity: 2}
	var wg sync.WaitGroup
	var paid, cancelled sluice.Changes
	var pay, cancel error
	wg.Go(func() { paid, pay = gated.Pay(ctx, order.ID, "ref") })
	wg.Go(func() { cancelled, cancel = gated.Cancel(ctx, order.ID) })
	waiting(t, db, 2)
	if _, err := store.Reserve(ctx, []sluice.Order{order}); err != nil {
		t.Fatal(err)
	}
	if _, err := keeper.ExecContext(ctx, "SELECT pg_advisory_unlock(1)"); err != nil {
		t.Fatal(err)
	}
	wg.Wait()

	if (pay == nil) == (cancel == nil) {
		t.Errorf("pay: %v, cancel: %v, want one of them to win", pay, cancel)
	}
	if len(paid.Sales)+len(cancelled.Sales) != 2 {
		t.Errorf("pay told of sales %+v, cancel of %+v, want one each", paid.Sales, cancelled.Sales)
	}
	if a, err := store.Audit(ctx); err != nil || !a.Balanced {
		t.Errorf("the books: %+v, %v", a, err)
	}
}

// An order without a sale has no lock to wait for; it is refused as what it is.
func TestTransition_RefusesAnOrderWhoseSaleDoesNotExist(t *testing.T) {
	_, store, _ := behind(t)
	order := sluice.Order{ID: sluice.OrderID{9}, Sale: "nowhere", User: "u", Quantity: 2}
	if _, err := store.Reserve(t.Context(), []sluice.Order{order}); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Pay(t.Context(), order.ID, "ref"); sluice.RefusalOf(err) != sluice.TooLate {
		t.Errorf("pay: got %v, want %s", err, sluice.TooLate)
	}
	if _, err := store.Cancel(t.Context(), order.ID); sluice.RefusalOf(err) != sluice.NotHeld {
		t.Errorf("cancel: got %v, want %s", err, sluice.NotHeld)
	}
}

// Somebody changes an order without its sale's lock, after it was read and before it is written. Nothing of what was
// decided on the old order may be committed, the sale's counters included: the transaction begins again.
func TestTransition_CommitsNothingThatWasDecidedOnAChangedOrder(t *testing.T) {
	held := "UPDATE orders SET pay_by = now() - interval '1 minute', release_at = now() - interval '1 minute'" // overdue, for the sweep
	for _, c := range []struct {
		name, first, change string
		call                func(context.Context, *postgres.Store, sluice.OrderID) error
		want                sluice.Refusal
	}{
		{"pay", "", "UPDATE orders SET state = 'cancelled', version = version + 1", func(ctx context.Context, s *postgres.Store, id sluice.OrderID) error {
			_, err := s.Pay(ctx, id, "ref")
			return err
		}, sluice.TooLate},
		{"cancel", "", "UPDATE orders SET state = 'paid', payment_ref = 'x', version = version + 1", func(ctx context.Context, s *postgres.Store, id sluice.OrderID) error {
			_, err := s.Cancel(ctx, id)
			return err
		}, sluice.NotHeld},
		{"expire", held, "UPDATE orders SET state = 'paid', payment_ref = 'x', version = version + 1", func(ctx context.Context, s *postgres.Store, _ sluice.OrderID) error {
			c, err := s.Expire(ctx, 10)
			return errors.Join(err, refuseAny(c))
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx := t.Context()
			url, _, db := behind(t)
			store := openPatient(t, url)
			order := sluice.Order{ID: sluice.OrderID{9}, Sale: "s", User: "u", Quantity: 2}
			if _, err := store.Reserve(ctx, []sluice.Order{order}); err != nil {
				t.Fatal(err)
			}
			if _, err := db.ExecContext(ctx, c.first); err != nil {
				t.Fatal(err)
			}
			other, err := db.BeginTx(ctx, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer other.Rollback()
			if _, err := other.ExecContext(ctx, c.change); err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			var got error
			wg.Go(func() { got = c.call(ctx, store, order.ID) })
			waiting(t, db, 1) // it has read the order as it was, and wants to write it
			if err := other.Commit(); err != nil {
				t.Fatal(err)
			}
			wg.Wait()

			if (got == nil) != (c.want == "") || (got != nil && sluice.RefusalOf(got) != c.want) {
				t.Errorf("got %v, want %q", got, c.want)
			}
			sales, err := store.Sales(ctx, "s")
			if err != nil || len(sales.Sales) != 1 {
				t.Fatalf("read the sale: %+v, %v", sales, err)
			}
			if s := sales.Sales[0]; s.Free != 8 || s.Held != 2 || s.Sold != 0 { // as the other left them
				t.Errorf("free %d, held %d, sold %d, want 8, 2, 0: the counters moved without the order", s.Free, s.Held, s.Sold)
			}
		})
	}
}

func refuseAny(c sluice.Changes) error {
	if len(c.Statuses) > 0 {
		return errors.New("an order was expired that had been paid")
	}
	return nil
}
