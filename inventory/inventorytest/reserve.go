package inventorytest

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"time"

	"sluice"
)

var reserveTests = []test{
	{"HoldsUnitsUntilPaymentIsDue", func(b *bench) { // P1, P8
		before := b.sale("s", 10)
		c, err := b.store.Reserve(b.Context(), []sluice.Order{order("s", "u", "k", 3)})
		if err != nil {
			b.Fatal(err)
		}
		b.wantChanges(c, sluice.Held, 2)
		s := c.Statuses[0]
		if s.Units != 3 || s.Sale != "s" || s.User != "u" || !s.SettledAt.Equal(c.Now) || !s.PayBy.Equal(c.Now.Add(30*time.Minute)) {
			b.Errorf("status at %v: got %+v", c.Now, s)
		}
		if len(c.Sales) != 1 || c.Sales[0].Free != 7 || c.Sales[0].Held != 3 || c.Sales[0].Version != before.Version+1 {
			b.Errorf("sale: got %+v after %+v", c.Sales, before)
		}
		if got := b.status(s.Order); !reflect.DeepEqual(got, s) {
			b.Errorf("read back: got %+v, want %+v", got, s)
		}
		b.wantUnits("s", 7, 3, 0)
	}},
	{"PaysAtOnceWithoutAPaymentWindow", func(b *bench) {
		b.sale("s", 10, window(0))
		b.wantStates(b.reserve(order("s", "u", "k", 2)), "paid")
		b.wantUnits("s", 8, 0, 2)
	}},
	{"AnEmptyBatchChangesNothing", func(b *bench) {
		if c, err := b.store.Reserve(b.Context(), nil); err != nil || !c.Empty() {
			b.Errorf("got %+v, %v", c, err)
		}
	}},
	{"ARepeatAnswersThePresentStatus", func(b *bench) { // P3, P5
		b.sale("s", 10)
		o := order("s", "u", "k", 2)
		first := b.hold(o)
		o.Quantity = 5 // the first to be settled stands
		if again := b.reserve(o)[0]; !reflect.DeepEqual(again, first) {
			b.Errorf("got %+v, want %+v", again, first)
		}
		if _, err := b.store.Pay(b.Context(), o.ID, "ref"); err != nil {
			b.Fatal(err)
		}
		b.wantStates(b.reserve(o), "paid")
		b.wantUnits("s", 8, 0, 2)
	}},
	{"TwiceInOneBatchIsOnce", func(b *bench) { // P5
		b.sale("s", 10)
		o, other := order("s", "u", "k", 2), order("s", "v", "k", 1)
		got := b.reserve(o, other, o)
		b.wantStates(got, "held", "held", "held")
		if !reflect.DeepEqual(got[0], got[2]) {
			b.Errorf("the same order: got %+v and %+v", got[0], got[2])
		}
		b.wantUnits("s", 7, 3, 0)
	}},
	{"ServesWholeOrdersInBatchOrder", func(b *bench) { // P1, P2
		b.sale("s", 5)
		b.wantStates(b.reserve(order("s", "a", "", 3), order("s", "b", "", 3), order("s", "c", "", 2), order("s", "d", "", 1)),
			"held", "rejected sold_out", "held", "rejected sold_out")
		b.wantUnits("s", 0, 5, 0)
		b.wantStates(b.reserve(order("s", "b", "", 3)), "rejected sold_out") // a repeat, not a second chance
	}},
	{"CountsABuyersUnitsAcrossOrdersAndBatches", func(b *bench) { // P5
		b.sale("s", 100, limit(3))
		b.wantStates(b.reserve(order("s", "u", "1", 2), order("s", "u", "2", 2), order("s", "u", "3", 1), order("s", "v", "1", 3)),
			"held", "rejected user_limit", "held", "held")
		b.wantStates(b.reserve(order("s", "u", "4", 1)), "rejected user_limit")
		if _, err := b.store.Pay(b.Context(), order("s", "u", "1", 2).ID, "ref"); err != nil {
			b.Fatal(err)
		}
		b.wantStates(b.reserve(order("s", "u", "5", 1)), "rejected user_limit") // paid units count
		if _, err := b.store.Cancel(b.Context(), order("s", "u", "3", 1).ID); err != nil {
			b.Fatal(err)
		}
		b.wantStates(b.reserve(order("s", "u", "6", 1)), "held") // cancelled ones do not
		b.wantUnits("s", 94, 4, 2)
	}},
	{"OneBuyersLimitIsPerSale", func(b *bench) {
		b.sale("a", 10, limit(1))
		b.sale("b", 10, limit(1))
		b.wantStates(b.reserve(order("b", "u", "", 1), order("a", "u", "", 1), order("b", "u", "2", 1)),
			"held", "held", "rejected user_limit")
	}},
	{"RejectsAnUnknownSaleAndRemembersIt", func(b *bench) {
		o := order("nowhere", "u", "", 1)
		b.wantStates(b.reserve(o, order("nowhere", "v", "", 1)), "rejected unknown_sale", "rejected unknown_sale")
		b.sale("nowhere", 5)
		b.wantStates(b.reserve(o), "rejected unknown_sale") // P10
		b.wantUnits("nowhere", 5, 0, 0)
	}},
	{"JudgesTheWindowByTheTimeOfAdmission", testWindow},
	{"RejectsWhatWaitedLongerThanMaxAge", func(b *bench) {
		s := b.sale("s", 10, func(s *sluice.Sale) { s.MaxAge = sluice.Duration(time.Minute) })
		now := b.now()
		b.wantStates(b.reserve(
			accepted(order(s.ID, "a", "", 1), now.Add(-2*time.Minute)),
			accepted(order(s.ID, "b", "", 1), now.Add(-30*time.Second)),
			order(s.ID, "c", "", 1)),
			"rejected stale", "held", "held")
	}},
	{"AnImpossibleQuantityIsRejectedAlone", func(b *bench) { // P1
		b.sale("s", 10)
		quantities := []int{0, -3, sluice.MaxQuantity + 1, math.MaxInt64, math.MinInt64}
		var batch []sluice.Order
		for i, q := range quantities {
			batch = append(batch, order("s", fmt.Sprint("u", i), "", q))
		}
		got := b.reserve(append(batch, order("s", "good", "", 1))...)
		b.wantStates(got, "rejected user_limit", "rejected user_limit", "rejected user_limit", "rejected user_limit",
			"rejected user_limit", "held")
		b.wantUnits("s", 9, 1, 0)
	}},
	{"KeepsWhateverTextTheDomainAllows", func(b *bench) {
		b.sale("s", 10)
		o := order("s", `Ünïcode "quotes" {braces} \back 😀`, `a,b'c\d NULL`, 1)
		o.Attributes = json.RawMessage(`{"note":"a\u0000b","n":1e999}`)
		s := b.hold(o)
		if got := b.status(o.ID); got.User != o.User || !reflect.DeepEqual(got, s) {
			b.Errorf("got %+v, want %+v", got, s)
		}
		row := b.query("SELECT buyer, key, attributes FROM orders")[0]
		if row[0] != o.User || row[1] != o.Key || row[2] != string(o.Attributes) {
			b.Errorf("stored: got %q", row)
		}
	}},
	{"SettlesALargeBatchOfManySales", func(b *bench) {
		var batch []sluice.Order
		for i := range 20 {
			b.sale(fmt.Sprint("s", i), 40)
		}
		for i := range 1000 {
			batch = append(batch, order(fmt.Sprint("s", i%20), fmt.Sprint("u", i), "", 1))
		}
		held := 0
		for _, s := range b.reserve(batch...) {
			if s.State == sluice.Held {
				held++
			}
		}
		if held != 800 {
			b.Errorf("got %d held, want 800", held)
		}
		b.wantBalanced()
		again := b.reserve(batch...)
		if held := len(again); held != 1000 {
			b.Errorf("again: got %d", held)
		}
		b.wantBalanced()
	}},
}

func accepted(o sluice.Order, at time.Time) sluice.Order {
	o.AcceptedAt = at
	return o
}

// now is the store's time.
func (b *bench) now() time.Time {
	b.Helper()
	c, err := b.store.Sales(b.Context())
	if err != nil {
		b.Fatalf("read the store's time: %v", err)
	}
	return c.Now
}

func testWindow(b *bench) {
	now := b.now()
	s := b.sale("s", 10, func(s *sluice.Sale) { s.StartsAt, s.EndsAt = now.Add(-2*time.Hour), now.Add(-time.Hour) })
	b.wantStates(b.reserve(
		accepted(order("s", "a", "", 1), s.StartsAt.Add(-3*time.Second)),
		accepted(order("s", "b", "", 1), s.StartsAt.Add(-time.Second)),
		accepted(order("s", "c", "", 1), s.EndsAt.Add(time.Second)),
		accepted(order("s", "d", "", 1), s.EndsAt.Add(3*time.Second)),
		order("s", "e", "", 1)),
		"rejected sale_closed", "held", "held", "rejected sale_closed", "held")
	b.wantUnits("s", 7, 3, 0)
}
