package inventorytest

import (
	"context"
	"reflect"
	"strings"
	"time"

	"sluice"
	"sluice/inventory"
)

const soon = 5 * time.Millisecond // a payment window that a test can wait for

var orderTests = []test{
	{"PayTurnsAHoldIntoASale", func(b *bench) {
		b.sale("s", 10)
		o := b.hold(order("s", "u", "", 2))
		c, err := b.store.Pay(b.Context(), o.Order, "ref")
		if err != nil {
			b.Fatal(err)
		}
		b.wantChanges(c, sluice.Paid, 3)
		if len(c.Sales) != 1 || c.Sales[0].Sold != 2 || c.Sales[0].Held != 0 || c.Sales[0].Version != 3 {
			b.Errorf("sale: got %+v", c.Sales)
		}
		if got := c.Statuses[0]; !got.SettledAt.Equal(o.SettledAt) || !reflect.DeepEqual(got, b.status(o.Order)) {
			b.Errorf("got %+v, stored %+v", got, b.status(o.Order))
		}
		b.wantUnits("s", 8, 0, 2)
	}},
	{"PayIsIdempotentByReference", func(b *bench) {
		b.sale("s", 10)
		o := b.hold(order("s", "u", "", 2))
		for range 3 {
			c, err := b.store.Pay(b.Context(), o.Order, "ref")
			if err != nil {
				b.Fatal(err)
			}
			b.wantChanges(c, sluice.Paid, 3)
		}
		b.wantUnits("s", 8, 0, 2)
		b.wantRefunds()
	}},
	{"AnotherPaymentIsRefusedAndDueBack", func(b *bench) {
		b.sale("s", 10)
		o := b.hold(order("s", "u", "", 2))
		if _, err := b.store.Pay(b.Context(), o.Order, "first"); err != nil {
			b.Fatal(err)
		}
		for range 2 {
			_, err := b.store.Pay(b.Context(), o.Order, "second")
			b.wantRefused(err, sluice.AlreadyPaid)
		}
		b.wantRefunds("already_paid second")
		b.wantUnits("s", 8, 0, 2)
	}},
	{"APaymentNamesAnOrderThatWasPaidAtOnce", func(b *bench) {
		b.sale("s", 10, window(0))
		o := b.reserve(order("s", "u", "", 1))[0]
		for range 2 {
			if _, err := b.store.Pay(b.Context(), o.Order, "first"); err != nil {
				b.Fatal(err)
			}
		}
		_, err := b.store.Pay(b.Context(), o.Order, "second")
		b.wantRefused(err, sluice.AlreadyPaid)
		b.wantUnits("s", 9, 0, 1)
	}},
	{"AnOverdueHoldExpiresWhenItIsPaid", func(b *bench) { // P6
		b.sale("s", 10, window(soon))
		o := b.hold(order("s", "u", "", 2))
		b.overdue(o)
		c, err := b.store.Pay(b.Context(), o.Order, "late")
		b.wantRefused(err, sluice.TooLate)
		b.wantChanges(c, sluice.Expired, 3)
		if len(c.Sales) != 1 || c.Sales[0].Free != 10 {
			b.Errorf("the units that came back are not announced: %+v", c.Sales)
		}
		b.wantUnits("s", 10, 0, 0)
		_, err = b.store.Pay(b.Context(), o.Order, "late")
		b.wantRefused(err, sluice.TooLate)
		if c, err := b.store.Expire(b.Context(), 10); err != nil || !c.Empty() {
			b.Errorf("the sweep found it again: %+v, %v", c, err)
		}
		b.wantUnits("s", 10, 0, 0)
		b.wantRefunds("too_late late")
	}},
	{"WhatHoldsNothingCannotBePaid", func(b *bench) {
		b.sale("s", 1)
		got := b.reserve(order("s", "u", "", 1), order("s", "v", "", 1), order("nowhere", "w", "", 1))
		if _, err := b.store.Cancel(b.Context(), got[0].Order); err != nil {
			b.Fatal(err)
		}
		for i, ref := range []string{"a", "b", "c"} {
			_, err := b.store.Pay(b.Context(), got[i].Order, ref)
			b.wantRefused(err, sluice.TooLate)
		}
		b.wantRefunds("too_late a", "too_late b", "too_late c")
		_, err := b.store.Pay(b.Context(), order("s", "never", "", 1).ID, "d")
		b.wantRefused(err, sluice.NoSuchOrder)
		b.wantUnits("s", 1, 0, 0)
	}},
	{"APaymentNeedsAReference", func(b *bench) {
		b.sale("s", 1)
		o := b.hold(order("s", "u", "", 1))
		for _, ref := range []string{"", "a\x00b", strings.Repeat("x", inventory.MaxPaymentRefBytes+1)} {
			_, err := b.store.Pay(b.Context(), o.Order, ref)
			b.wantRefused(err, sluice.BadRequest)
		}
		b.wantUnits("s", 0, 1, 0)
		if _, err := b.store.Pay(b.Context(), o.Order, strings.Repeat("x", inventory.MaxPaymentRefBytes)); err != nil {
			b.Errorf("the longest reference: %v", err)
		}
		b.wantUnits("s", 0, 0, 1)
	}},
	{"CancelGivesUnitsBackOnce", func(b *bench) { // P6
		b.sale("s", 10)
		o := b.hold(order("s", "u", "", 2))
		for range 2 {
			c, err := b.store.Cancel(b.Context(), o.Order)
			if err != nil {
				b.Fatal(err)
			}
			b.wantChanges(c, sluice.Cancelled, 3)
			b.wantUnits("s", 10, 0, 0)
		}
	}},
	{"OnlyAHeldOrderCanBeCancelled", func(b *bench) {
		b.sale("s", 1)
		got := b.reserve(order("s", "u", "", 1), order("s", "v", "", 1))
		if _, err := b.store.Pay(b.Context(), got[0].Order, "ref"); err != nil {
			b.Fatal(err)
		}
		for _, s := range got {
			_, err := b.store.Cancel(b.Context(), s.Order)
			b.wantRefused(err, sluice.NotHeld)
		}
		_, err := b.store.Cancel(b.Context(), order("s", "never", "", 1).ID)
		b.wantRefused(err, sluice.NoSuchOrder)
		b.wantUnits("s", 0, 0, 1)
	}},
	{"ExpireTakesOnlyOverdueHoldsAndAtMostTheLimit", testExpire},
	{"BuryFailsAnOrderThatIsNotSettled", func(b *bench) {
		b.sale("s", 10)
		o := order("s", "u", "", 2)
		letter := inventory.Letter{Message: "m1", Body: []byte("body"), Order: &o, Attempts: 5, Error: "bad\nluck"}
		for range 2 {
			c, err := b.store.Bury(b.Context(), letter)
			if err != nil {
				b.Fatal(err)
			}
			b.wantChanges(c, sluice.Failed, 2)
		}
		b.wantStates(b.reserve(o), "failed") // P10
		b.wantUnits("s", 10, 0, 0)
		if n := len(b.query("SELECT message FROM dead_letters")); n != 1 {
			b.Errorf("got %d dead letters, want 1", n)
		}
	}},
	{"BuryAnswersWhatASettledOrderBecame", func(b *bench) {
		b.sale("s", 10)
		o := order("s", "u", "", 2)
		b.hold(o)
		c, err := b.store.Bury(b.Context(), inventory.Letter{Message: "m", Order: &o})
		if err != nil {
			b.Fatal(err)
		}
		b.wantChanges(c, sluice.Held, 2)
		b.wantUnits("s", 8, 2, 0)
	}},
	{"BuryTakesWhateverMadeItADeadLetter", testBuryGarbage},
	{"StatusesLeavesOutTheUnknown", func(b *bench) {
		b.sale("s", 10)
		o := b.hold(order("s", "u", "", 1))
		c, err := b.store.Statuses(b.Context(), []sluice.OrderID{order("s", "x", "", 1).ID, o.Order, o.Order})
		if err != nil || len(c.Statuses) != 1 || !reflect.DeepEqual(c.Statuses[0], o) || c.Now.IsZero() {
			b.Errorf("got %+v, %v, want only %+v", c, err, o)
		}
		if c, err := b.store.Statuses(b.Context(), nil); err != nil || !c.Empty() {
			b.Errorf("none asked: got %+v, %v", c, err)
		}
	}},
}

func testExpire(b *bench) { // P6
	b.sale("long", 10)
	b.sale("short", 10, window(soon))
	stay := b.hold(order("long", "u", "", 1))
	var last sluice.Status
	for _, user := range []string{"a", "b", "c"} {
		last = b.hold(order("short", user, "", 2))
	}
	b.overdue(last)
	for _, want := range []struct {
		limit, expired int
		free           int64
	}{{0, 0, 4}, {-1, 0, 4}, {2, 2, 8}, {2, 1, 10}, {2, 0, 10}} {
		c, err := b.store.Expire(b.Context(), want.limit)
		if err != nil {
			b.Fatal(err)
		}
		if len(c.Statuses) != want.expired || (want.expired > 0 && (len(c.Sales) != 1 || c.Sales[0].Free != want.free)) {
			b.Errorf("limit %d: got %+v, want %d expired and %d free", want.limit, c, want.expired, want.free)
		}
		for _, s := range c.Statuses {
			if s.State != sluice.Expired || s.Version != 3 || !reflect.DeepEqual(s, b.status(s.Order)) {
				b.Errorf("got %+v, stored %+v", s, b.status(s.Order))
			}
		}
		b.wantUnits("short", want.free, 10-want.free, 0)
	}
	b.wantState(b.status(stay.Order), sluice.Held, "")
}

func testBuryGarbage(b *bench) {
	o := order("no\x00sale", "u\xff\x00", "k\x00", -7)
	o.Attributes = []byte("\x00{\xfe")
	o.Attempt = 1 << 40
	letters := []inventory.Letter{
		{Message: "m1\x00", Error: "\xff\x00", Order: &o},
		{Message: "m2", Body: make([]byte, 2*inventory.MaxLetterBytes)},
		{Message: "m3", Body: nil},
	}
	for _, l := range letters {
		c, err := b.store.Bury(b.Context(), l)
		if err != nil {
			b.Fatalf("bury %q: %v", l.Message, err)
		}
		if l.Order == nil && len(c.Statuses) != 0 {
			b.Errorf("bury %q: got %+v, want no status", l.Message, c)
		}
	}
	b.wantState(b.status(o.ID), sluice.Failed, "")
	if got := b.query("SELECT length(body) FROM dead_letters WHERE message = 'm2'"); got[0][0] != "16384" {
		b.Errorf("kept body: got %s bytes", got[0][0])
	}
	b.wantBalanced()
}

// quiet is a context that is over.
func quiet(b *bench) context.Context {
	ctx, cancel := context.WithCancel(b.Context())
	cancel()
	return ctx
}
