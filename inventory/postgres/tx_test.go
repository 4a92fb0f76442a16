package postgres_test

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"sluice"
	"sluice/internal/calm"
	"sluice/inventory"
	"sluice/inventory/inventorytest"
)

// Sixteen payments and cancellations may run or wait for a connection; whoever comes then hears so at once, and may come again when they
// are done.
func TestTransition_LetsFewWait(t *testing.T) {
	url, _, db := behind(t)
	inventorytest.LetsFewWait(t, openPatient(t, url+"&pool_max_conns=1"), db, "SELECT 1 FROM sales FOR UPDATE", 16)
}

// A buyer who waits for a lock for longer than the caller waits for an answer: the payment is made all the same, on a connection that
// stays. Else a crowd that gives up and comes again would have connections opened and closed for ever, and nobody paid.
func TestTransact_EndsWhatItBeganThoughItsCallerHasGone(t *testing.T) {
	// Once its caller has gone the payment has but the seconds of grace, however patient its store is.
	calm.Play(t, 300*time.Millisecond, func(complain calm.Complain) { payAndLeave(t, complain) })
}

func payAndLeave(t *testing.T, complain calm.Complain) {
	t.Helper()
	url, store, db := behind(t)
	order := sluice.Order{ID: sluice.OrderID{7}, Sale: "s", User: "u", Quantity: 2}
	if _, err := store.Reserve(t.Context(), []sluice.Order{order}); err != nil {
		t.Fatal(err)
	}
	narrow := openPatient(t, url+"&pool_max_conns=1")
	if _, err := narrow.Statuses(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	before := backends(t, db)

	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(t.Context(), "SELECT 1 FROM sales FOR UPDATE"); err != nil {
		t.Fatal(err)
	}
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	var calls sync.WaitGroup
	var paid error
	calls.Go(func() { _, paid = narrow.Pay(ctx, order.ID, "ref") })
	waiting(t, db, 1)

	// Whoever has no connection yet is let go at once, and takes nothing along.
	brief, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := narrow.Cancel(brief, order.ID); !errors.Is(err, inventory.ErrUnavailable) {
		t.Errorf("a call without a connection: %v, want it unavailable", err)
	}
	if took := time.Since(began); took > time.Second {
		complain("a call without a connection took %v", took)
	}

	leave()
	time.Sleep(100 * time.Millisecond) // what the cancellation breaks it breaks at once
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	calls.Wait()
	c, err := narrow.Statuses(t.Context(), []sluice.OrderID{order.ID})
	if err != nil || paid != nil || c.Statuses[0].State != sluice.Paid {
		complain("the payment: %v; the order is %+v (%v), want it paid", paid, c.Statuses, err)
	}
	if after := backends(t, db); !slices.Equal(before, after) {
		complain("connections %v became %v", before, after)
	}
}

// The caller's time does not count, and yet a call ends: a lock that is never let go fails it by the server's own limit.
func TestTransact_EndsSoonAfterItsCaller(t *testing.T) {
	// That limit ends but a second before the call would, and its connection with it.
	calm.Play(t, 300*time.Millisecond, func(complain calm.Complain) { waitInVain(t, complain) })
}

func waitInVain(t *testing.T, complain calm.Complain) {
	t.Helper()
	_, store, db := behind(t)
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(t.Context(), "SELECT 1 FROM sales FOR UPDATE"); err != nil {
		t.Fatal(err)
	}
	before := backends(t, db)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := store.TopUp(ctx, "s", 1); !errors.Is(err, inventory.ErrUnavailable) {
		t.Errorf("%v, want it unavailable", err)
	}
	if took := time.Since(began); took > 10*time.Second {
		complain("it took %v", took)
	}
	if after := backends(t, db); !slices.Equal(before, after) {
		complain("connections %v became %v", before, after)
	}
}

// backends are the processes that serve the stores of the test's database.
func backends(t *testing.T, db *sql.DB) (pids []int) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(),
		"SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'sluice' ORDER BY pid")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var pid int
		if err := rows.Scan(&pid); err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return pids
}
