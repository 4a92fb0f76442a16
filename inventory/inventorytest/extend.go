package inventorytest

import (
	"fmt"
	"reflect"
	"slices"
	"time"

	"sluice"
	"sluice/inventory"
)

var extendTests = []test{
	{"ExtendHoldsMovesDeadlinesBatchByBatch", testExtend},
	{"ExtendHoldsTouchesOnlyTheHoldsOfOneSaleThatAreDueBefore", func(b *bench) {
		b.sale("s", 10)
		b.sale("other", 10)
		paid, cancelled := b.hold(order("s", "a", "", 1)), b.hold(order("s", "b", "", 1))
		refused, elsewhere := b.reserve(order("s", "c", "", 99))[0], b.hold(order("other", "d", "", 1))
		b.pay(paid.Order, "ref")
		b.cancel(cancelled.Order)
		b.patch("s", sluice.SalePatch{PaymentWindow: new(sluice.Duration(3 * time.Hour))})
		later := b.hold(order("s", "e", "", 1))
		for _, until := range []time.Time{later.PayBy, later.PayBy.Add(-time.Microsecond), b.now().Add(time.Minute)} {
			if got := b.extend("s", until, 10); len(got) != 0 {
				b.Errorf("until %v: got %+v", until, got)
			}
		}
		for _, want := range []sluice.Status{refused, elsewhere, later} {
			if got := b.status(want.Order); !reflect.DeepEqual(got, want) {
				b.Errorf("got %+v, want %+v", got, want)
			}
		}
		b.wantState(b.status(paid.Order), sluice.Paid, "")
		b.wantState(b.status(cancelled.Order), sluice.Cancelled, "")
		if got := b.extend("s", later.PayBy.Add(time.Microsecond), 10); len(got) != 1 || got[0].Order != later.Order {
			b.Errorf("got %+v, want the one that is due a microsecond before", got)
		}
	}},
	{"EachHoldKeepsItsGraceWhenItIsExtended", func(b *bench) {
		b.sale("s", 10, grace(10*time.Minute))
		with := b.hold(order("s", "a", "", 1))
		b.patch("s", sluice.SalePatch{PaymentGrace: new(sluice.Duration(0))})
		without := b.hold(order("s", "b", "", 1))
		b.patch("s", sluice.SalePatch{PaymentGrace: new(sluice.Duration(time.Minute))})
		for _, ahead := range []time.Duration{35 * time.Minute, time.Hour} { // in the grace of the one, then after it
			until := b.later(ahead)
			if got := b.extend("s", until, 10); len(got) != 2 {
				b.Errorf("got %+v, want both", got)
			}
			b.wantRelease(with.Order, until.Add(10*time.Minute))
			b.wantRelease(without.Order, until)
		}
	}},
	{"AHoldThatHasEndedButWasNotSweptGoesOn", func(b *bench) { // P6
		b.sale("s", 10, window(soon))
		ended, swept := b.hold(order("s", "a", "", 2)), b.hold(order("s", "b", "", 1))
		b.overdue(swept)
		if c, err := b.store.Expire(b.Context(), 1); err != nil || len(c.Statuses) != 1 {
			b.Fatalf("expire one: got %+v, %v", c, err)
		} else if c.Statuses[0].Order == ended.Order {
			ended, swept = swept, ended
		}
		if got := b.extend("s", b.later(time.Hour), 10); len(got) != 1 || got[0].Order != ended.Order {
			b.Errorf("got %+v, want the one that was not swept", got)
		}
		if c, err := b.store.Expire(b.Context(), 10); err != nil || !c.Empty() {
			b.Errorf("the sweep took it: %+v, %v", c, err)
		}
		b.pay(ended.Order, "ref")
		b.wantState(b.status(swept.Order), sluice.Expired, "")
		b.wantUnits("s", 10-int64(ended.Units), 0, int64(ended.Units))
	}},
	{"AnExtendedHoldEndsAtItsNewDeadline", func(b *bench) { // P6
		b.sale("s", 1, window(soon))
		o := b.hold(order("s", "u", "", 1))
		got := b.extendBriefly("s")
		if len(got) != 1 {
			b.Fatalf("got %+v", got)
		}
		if s := b.facts("s"); !s.NextRelease.Equal(got[0].PayBy) {
			b.Errorf("next release: got %v, want %v", s.NextRelease, got[0].PayBy)
		}
		b.overdue(got[0])
		if c, err := b.store.Expire(b.Context(), 10); err != nil || len(c.Statuses) != 1 || c.Statuses[0].Version != 4 {
			b.Errorf("got %+v, %v, want it expired", c, err)
		}
		b.wantState(b.status(o.Order), sluice.Expired, "")
		b.wantUnits("s", 1, 0, 0)
	}},
	{"ExtendHoldsRefusesWhatCannotBe", testExtendRefused},
}

func testExtend(b *bench) {
	b.sale("s", 100)
	var holds []sluice.Status
	for i := range 5 { // each is due at another time
		b.patch("s", sluice.SalePatch{PaymentWindow: new(sluice.Duration(50-10*i) * sluice.Duration(time.Minute))})
		holds = append(holds, b.hold(order("s", fmt.Sprint("u", i), "", i+1)))
	}
	sale, last := b.facts("s"), b.newest()
	version := int64(2)
	for _, ahead := range []time.Duration{time.Hour, 2 * time.Hour} {
		until := b.later(ahead)
		version++
		var moved []sluice.Status
		for _, want := range []int{2, 2, 1, 0, 0} { // there are fewer than the limit, so these are all; asked again, none
			got := b.extend("s", until.Add(999), 2) // cut to microseconds
			if len(got) != want {
				b.Fatalf("until %v: got %d holds, want %d", until, len(got), want)
			}
			moved = append(moved, got...)
		}
		if !slices.Equal(ids(moved), ids(holds)) {
			b.Errorf("moved %q, want each once: %q", ids(moved), ids(holds))
		}
		for _, s := range moved {
			i := slices.IndexFunc(holds, func(h sluice.Status) bool { return h.Order == s.Order })
			want := holds[i]
			want.PayBy, want.Version = until, version
			if !reflect.DeepEqual(s, want) || !reflect.DeepEqual(b.status(s.Order), want) {
				b.Errorf("got %+v, stored %+v, want %+v", s, b.status(s.Order), want)
			}
		}
		for i, e := range b.eventsAfter(last) {
			if e.Type != sluice.EventHeld || e.Version != version || !e.PayBy.Equal(until) || i >= len(holds) {
				b.Errorf("event %d: got %+v, want it held anew until %v", i, e, until)
			}
		}
		if n := len(b.eventsAfter(last)); n != len(holds) {
			b.Errorf("got %d events, want one for each hold", n)
		}
		last = b.newest()
	}
	b.wantSale(b.facts("s"), sale) // its units, and so its version, stay
	b.wantUnits("s", 85, 15, 0)
}

func testExtendRefused(b *bench) {
	b.sale("s", 10)
	o := b.hold(order("s", "u", "", 1))
	now := b.now()
	for _, c := range []struct {
		sale  string
		until time.Time
		limit int
		want  sluice.Refusal
	}{
		{"nowhere", now.Add(time.Hour), 1, sluice.NoSuchSale},
		{"no\x00sale", now.Add(time.Hour), 1, sluice.NoSuchSale},
		{"s", now, 1, sluice.BadRequest},
		{"s", now.Add(-time.Hour), 1, sluice.BadRequest},
		{"s", time.Time{}, 1, sluice.BadRequest},
		{"s", now.Add(inventory.MaxExtension + time.Minute), 1, sluice.BadRequest},
		{"s", time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), 1, sluice.BadRequest},
		{"s", now.Add(time.Hour), 0, sluice.BadRequest},
		{"s", now.Add(time.Hour), -1, sluice.BadRequest},
		{"s", now.Add(time.Hour), inventory.MaxPage + 1, sluice.BadRequest},
	} {
		got, err := b.store.ExtendHolds(b.Context(), c.sale, c.until, c.limit)
		b.wantRefused(err, c.want)
		if !got.Empty() || !reflect.DeepEqual(b.status(o.Order), o) {
			b.Errorf("until %v: a refusal came with %+v and left %+v", c.until, got, b.status(o.Order))
		}
	}
	if got := b.extend("s", now.Add(inventory.MaxExtension), inventory.MaxPage); len(got) != 1 {
		b.Errorf("as far as may be: got %+v", got)
	}
}

// extend moves deadlines, which must work.
func (b *bench) extend(sale string, until time.Time, limit int) []sluice.Status {
	b.Helper()
	c, err := b.store.ExtendHolds(b.Context(), sale, until, limit)
	if err != nil || len(c.Sales) != 1 || c.Sales[0].ID != sale || c.Now.IsZero() {
		b.Fatalf("extend the holds of %s until %v: got %+v, %v", sale, until, c, err)
	}
	return c.Statuses
}

// extendBriefly moves deadlines to a time so near that a test can wait for it, and still ahead when the store hears of it.
func (b *bench) extendBriefly(sale string) []sluice.Status {
	b.Helper()
	for ahead := 10 * soon; ; ahead *= 2 {
		c, err := b.store.ExtendHolds(b.Context(), sale, b.later(ahead), 10)
		if err == nil {
			return c.Statuses
		}
		if sluice.RefusalOf(err) != sluice.BadRequest || ahead > time.Minute {
			b.Fatalf("extend the holds of %s by %v: %v", sale, ahead, err)
		}
	}
}

// later is a time ahead of the store's, as it keeps times.
func (b *bench) later(ahead time.Duration) time.Time {
	b.Helper()
	return inventory.Micros(b.now().Add(ahead))
}
