// Package inventorytest is the contract of inventory.Store as tests: every store passes the same suite. It never
// knows which store it tests.
package inventorytest

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"sluice"
	"sluice/inventory"
)

// Place is where the data of one store lives.
type Place struct {
	// Open opens the store there. A second Open finds the data of the first.
	Open func(ctx context.Context) (inventory.Store, error)
	// SQL connects to the database behind the store's back: to look into it, and to plant faults.
	SQL func() (*sql.DB, error)
	// Old fills the place, while it is still empty, with what sluice had when the schema was in its first version: the
	// sale "old" of 10 units and 2 more with 6 free, 2 held by the order 00000000-0000-8000-8000-000000000001 and 4 sold,
	// a rejected order, a dead letter and a refund.
	Old func(ctx context.Context) error
}

// Run tests the contract. place makes a fresh, empty place that lasts as long as its test.
func Run(t *testing.T, place func(t testing.TB) Place) {
	t.Helper()
	for _, group := range [][]test{
		reserveTests, orderTests, saleTests, limitsTests, poolsTests, webhookTests, storeTests, raceTests, eventTests,
		patchTests, graceTests, extendTests, recordTests, refundTests, letterTests, modelTests,
	} {
		for _, test := range group {
			t.Run(test.name, func(t *testing.T) {
				b := newBench(t, place(t))
				test.run(b)
				b.wantAllEvents()
			})
		}
	}
	t.Run("AMigrationKeepsTheData", func(t *testing.T) { testMigration(&bench{TB: t, place: place(t)}) })
}

type test struct {
	name string
	run  func(*bench)
}

// bench is one test's store with the few words that stories are told in.
type bench struct {
	testing.TB
	place Place
	store inventory.Store

	tampered bool // orders were changed behind the store's back, or the store is closed
}

func newBench(t testing.TB, place Place) *bench {
	t.Helper()
	b := &bench{TB: t, place: place}
	b.store = b.open()
	return b
}

func (b *bench) open() inventory.Store {
	b.Helper()
	store, err := b.place.Open(b.Context())
	if err != nil {
		b.Fatalf("open the store: %v", err)
	}
	b.Cleanup(func() {
		if err := store.Close(); err != nil {
			b.Errorf("close the store: %v", err)
		}
	})
	return store
}

// query runs one statement behind the store's back and answers its rows as text.
func (b *bench) query(statement string) [][]string {
	b.Helper()
	db, err := b.place.SQL()
	if err != nil {
		b.Fatalf("connect: %v", err)
	}
	defer db.Close() //nolint:errcheck // a test's own connection
	rows, err := db.QueryContext(b.Context(), statement)
	if err != nil {
		b.Fatalf("%s: %v", statement, err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		b.Fatalf("%s: %v", statement, err)
	}
	var out [][]string
	for rows.Next() {
		values := make([]sql.NullString, len(columns))
		dest := make([]any, len(columns))
		for i := range values {
			dest[i] = &values[i]
		}
		if err := rows.Scan(dest...); err != nil {
			b.Fatalf("%s: %v", statement, err)
		}
		row := make([]string, len(columns))
		for i, v := range values {
			row[i] = v.String
		}
		out = append(out, row)
	}
	if err := rows.Err(); err != nil {
		b.Fatalf("%s: %v", statement, err)
	}
	return out
}

// sale creates a sale of stock units, a thousand a buyer, half an hour to pay; with changes it.
func (b *bench) sale(id string, stock int64, with ...func(*sluice.Sale)) sluice.Sale {
	b.Helper()
	s := sluice.Sale{
		ID: id, SKU: "sku-" + id, Stock: stock, PerUserLimit: 1000, OverAdmission: 1.5,
		PaymentWindow: sluice.Duration(30 * time.Minute),
	}
	for _, change := range with {
		change(&s)
	}
	c, err := b.store.CreateSale(b.Context(), s)
	if err != nil {
		b.Fatalf("create sale %s: %v", id, err)
	}
	if len(c.Sales) != 1 || c.Now.IsZero() {
		b.Fatalf("create sale %s: got %+v, want the sale and the store's time", id, c)
	}
	return c.Sales[0]
}

func limit(n int) func(*sluice.Sale) { return func(s *sluice.Sale) { s.PerUserLimit = n } }

func window(d time.Duration) func(*sluice.Sale) {
	return func(s *sluice.Sale) { s.PaymentWindow = sluice.Duration(d) }
}

// order makes an order with an id that depends on sale, user and key alone.
func order(sale, user, key string, quantity int) sluice.Order {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%s", sale, user, key))
	o := sluice.Order{Sale: sale, User: user, Key: key, Quantity: quantity}
	copy(o.ID[:], sum[:])
	o.ID[6], o.ID[8] = o.ID[6]&0x0f|0x80, o.ID[8]&0x3f|0x80
	return o
}

// reserve settles a batch that must succeed.
func (b *bench) reserve(batch ...sluice.Order) []sluice.Status {
	b.Helper()
	c, err := b.store.Reserve(b.Context(), batch)
	if err != nil {
		b.Fatalf("reserve %d orders: %v", len(batch), err)
	}
	if len(c.Statuses) != len(batch) || c.Now.IsZero() {
		b.Fatalf("reserve %d orders: got %d statuses at %v", len(batch), len(c.Statuses), c.Now)
	}
	for i, s := range c.Statuses {
		if s.Order != batch[i].ID {
			b.Fatalf("reserve: status %d is of order %s, want %s", i, s.Order, batch[i].ID)
		}
	}
	return c.Statuses
}

// hold reserves one order that must become held.
func (b *bench) hold(o sluice.Order) sluice.Status {
	b.Helper()
	s := b.reserve(o)[0]
	b.wantState(s, sluice.Held, "")
	return s
}

func (b *bench) wantState(s sluice.Status, state sluice.State, reason sluice.Reason) {
	b.Helper()
	if s.State != state || s.Reason != reason {
		b.Errorf("order %s of %s: got %s %q, want %s %q", s.Order, s.User, s.State, s.Reason, state, reason)
	}
}

func (b *bench) wantStates(got []sluice.Status, want ...string) {
	b.Helper()
	var have []string
	for _, s := range got {
		text := string(s.State)
		if s.Reason != "" {
			text += " " + string(s.Reason)
		}
		have = append(have, text)
	}
	if !slices.Equal(have, want) {
		b.Errorf("states: got %q, want %q", have, want)
	}
}

// wantUnits compares a sale's counters, and the whole ledger with them (P8).
func (b *bench) wantUnits(sale string, free, held, sold int64) {
	b.Helper()
	c, err := b.store.Sales(b.Context(), sale)
	if err != nil || len(c.Sales) != 1 {
		b.Fatalf("read sale %s: %+v, %v", sale, c, err)
	}
	if s := c.Sales[0]; s.Free != free || s.Held != held || s.Sold != sold {
		b.Errorf("sale %s: got free %d held %d sold %d, want %d %d %d", sale, s.Free, s.Held, s.Sold, free, held, sold)
	}
	b.wantBalanced()
}

func (b *bench) wantBalanced() {
	b.Helper()
	audit, err := b.store.Audit(b.Context())
	if err != nil {
		b.Fatalf("audit: %v", err)
	}
	for _, s := range audit.Sales {
		if s.Held+s.Sold > s.Stock+s.TopUps || len(s.Differences) > 0 { // P1, P8
			b.Errorf("audit of sale %s: %+v", s.ID, s)
		}
	}
	if !audit.Balanced {
		b.Errorf("the ledger does not balance: %+v", audit)
	}
}

func (b *bench) wantRefused(err error, want sluice.Refusal) {
	b.Helper()
	e, ok := errors.AsType[*sluice.Error](err)
	if !ok || e.Refusal != want {
		b.Errorf("got %v, want the refusal %s", err, want)
	}
	if errors.Is(err, inventory.ErrUnavailable) {
		b.Errorf("%v: a refusal is not ErrUnavailable", err)
	}
}

// wantChanges compares the one status that a call answered.
func (b *bench) wantChanges(c sluice.Changes, state sluice.State, version int64) {
	b.Helper()
	if len(c.Statuses) != 1 || c.Statuses[0].State != state || c.Statuses[0].Version != version {
		b.Errorf("got statuses %+v, want one %s with version %d", c.Statuses, state, version)
	}
	if c.Now.IsZero() {
		b.Error("the changes do not tell the store's time")
	}
}

func (b *bench) status(id sluice.OrderID) sluice.Status {
	b.Helper()
	c, err := b.store.Statuses(b.Context(), []sluice.OrderID{id})
	if err != nil || len(c.Statuses) != 1 {
		b.Fatalf("status of %s: %+v, %v", id, c, err)
	}
	return c.Statuses[0]
}

// wantRefunds compares the refunds due, as "reason ref".
func (b *bench) wantRefunds(want ...string) {
	b.Helper()
	var got []string
	for _, row := range b.query("SELECT reason, payment_ref FROM refunds_due ORDER BY reason, payment_ref") {
		got = append(got, row[0]+" "+row[1])
	}
	if !slices.Equal(got, want) {
		b.Errorf("refunds due: got %q, want %q", got, want)
	}
}

// overdue waits until a hold's deadline has passed.
func (b *bench) overdue(s sluice.Status) {
	b.Helper()
	b.passed(s.PayBy)
}

// passed waits for a time to pass by the store's clock, which need not be this host's.
func (b *bench) passed(at time.Time) {
	b.Helper()
	for {
		left := at.Sub(b.now())
		if left < 0 {
			return
		}
		time.Sleep(left + 2*time.Millisecond)
	}
}

// together calls fn n times at once and waits.
func together(n int, fn func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			fn(i)
		})
	}
	close(start)
	wg.Wait()
}
