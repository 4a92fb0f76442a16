package inventorytest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice"
	"sluice/inventory"
)

// LetsFewWait tests that no more than most payments and cancellations wait in a store, that whoever comes then hears so at once, and that
// nothing is lost: those who wait and those who ask again are all served. lock is a statement that has every writer of the store wait
// until its transaction, on db, ends.
func LetsFewWait(t *testing.T, store inventory.Store, db *sql.DB, lock string, most int) { // P9
	t.Helper()
	const buyers = 300
	b := &bench{TB: t, store: store}
	b.sale("few", buyers)
	var batch []sluice.Order
	for i := range buyers {
		batch = append(batch, order("few", fmt.Sprint("u", i), "", 1))
	}
	b.reserve(batch...)
	before := runtime.NumGoroutine()
	unlock := b.locked(db, lock)
	paid, refused := b.crowd(batch, most)
	if n := runtime.NumGoroutine() - before; n > most+50 { // 50: of the databases, the last callers
		b.Errorf("%d goroutines more than before while %d may wait", n, most)
	}
	unlock()
	if err := <-paid; err != nil {
		b.Errorf("one of those who waited: %v", err)
	}
	together(len(refused), func(i int) { b.payAtLast(refused[i]) })
	b.wantUnits("few", 0, 0, buyers)
	b.wantBalanced()
}

// locked holds a lock until it is told to let go.
func (b *bench) locked(db *sql.DB, lock string) (unlock func()) {
	b.Helper()
	tx, err := db.BeginTx(b.Context(), nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = tx.Rollback() })
	if _, err := tx.ExecContext(b.Context(), lock); err != nil {
		b.Fatal(err)
	}
	return func() {
		if err := tx.Rollback(); err != nil {
			b.Error(err)
		}
	}
}

// crowd pays all orders at once. It returns as soon as all those are refused that must be; paid tells then what becomes of the others.
func (b *bench) crowd(batch []sluice.Order, most int) (paid <-chan error, refused []sluice.Order) {
	b.Helper()
	type answer struct {
		order sluice.Order
		err   error
	}
	answers := make(chan answer, len(batch))
	var calls sync.WaitGroup
	for _, o := range batch {
		calls.Go(func() {
			_, err := b.store.Pay(b.Context(), o.ID, "ref")
			answers <- answer{o, err}
		})
	}
	for range len(batch) - most { // before the others' lock times out
		a := <-answers
		if !errors.Is(a.err, inventory.ErrUnavailable) || !strings.Contains(a.err.Error(), fmt.Sprint(most, " others")) {
			b.Fatalf("one of too many: %v", a.err)
		}
		refused = append(refused, a.order)
	}
	if _, err := b.store.Cancel(b.Context(), refused[0].ID); !errors.Is(err, inventory.ErrUnavailable) {
		b.Errorf("a cancellation among too many: %v", err)
	}
	all := make(chan error, 1)
	go func() {
		calls.Wait()
		close(answers)
		var errs []error
		for a := range answers {
			errs = append(errs, a.err)
		}
		all <- errors.Join(errs...)
	}()
	return all, refused
}

// payAtLast pays an order, as often as it takes.
func (b *bench) payAtLast(o sluice.Order) {
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	for {
		_, err := b.store.Pay(ctx, o.ID, "ref")
		if err == nil {
			return
		}
		if !errors.Is(err, inventory.ErrUnavailable) || ctx.Err() != nil {
			b.Errorf("who asks again: %v", err)
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}
