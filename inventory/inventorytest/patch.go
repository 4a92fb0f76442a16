package inventorytest

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"

	"sluice"
)

var patchTests = []test{
	{"APatchChangesOneFactAndNoOther", testPatchFields},
	{"APatchMayChangeManyFactsAtOnce", func(b *bench) {
		want := b.sale("s", 10)
		want.PerUserLimit, want.ReservedFor, want.ReservedShare, want.Paused, want.Version = 3, "members", 0.25, true, 2
		patch := sluice.SalePatch{PerUserLimit: new(3), ReservedFor: new("members"), ReservedShare: new(0.25), Paused: new(true)}
		b.wantSale(b.patch("s", patch), want)
		want.ReservedFor, want.ReservedShare, want.Paused, want.Version = "", 0, false, 3
		b.wantSale(b.patch("s", sluice.SalePatch{ReservedFor: new(""), ReservedShare: new(0.0), Paused: new(false)}), want)
	}},
	{"APatchThatChangesNothingKeepsTheVersion", func(b *bench) {
		s := b.sale("s", 10, func(s *sluice.Sale) { s.StartsAt = time.Now().Add(-time.Hour) })
		same := sluice.SalePatch{
			SKU: &s.SKU, PerUserLimit: &s.PerUserLimit, StartsAt: &s.StartsAt, EndsAt: new(time.Time), PaymentWindow: &s.PaymentWindow,
			PaymentGrace: new(sluice.Duration), MaxAge: new(sluice.Duration), CheckoutURL: new(""), OverAdmission: &s.OverAdmission,
			ReservedFor: new(""), ReservedShare: new(0.0), Paused: new(false),
		}
		for _, patch := range []sluice.SalePatch{{}, same, {StartsAt: new(s.StartsAt.Add(time.Nanosecond).In(time.FixedZone("", 3600)))}} {
			b.wantSale(b.patch("s", patch), s)
		}
	}},
	{"APatchWithZeroTimesTakesThemAway", func(b *bench) {
		now := time.Now()
		b.sale("s", 10, func(s *sluice.Sale) { s.StartsAt, s.EndsAt = now.Add(-time.Hour), now.Add(time.Hour) })
		b.patch("s", sluice.SalePatch{StartsAt: new(time.Time)})
		s := b.patch("s", sluice.SalePatch{EndsAt: new(time.Time)})
		if !s.StartsAt.IsZero() || !s.EndsAt.IsZero() || s.Version != 3 {
			b.Errorf("got %+v", s)
		}
		if got := b.query("SELECT id FROM sales WHERE starts_at IS NULL AND ends_at IS NULL"); len(got) != 1 {
			b.Errorf("the times are still stored: %q", got)
		}
	}},
	{"APatchMustLeaveAValidSale", testPatchRefused},
	{"ASaleThatWasEndedBeforeItsStartMayBeChanged", func(b *bench) {
		b.sale("s", 10, func(s *sluice.Sale) { s.StartsAt = time.Now().Add(time.Hour) })
		c, err := b.store.End(b.Context(), "s")
		if err != nil {
			b.Fatal(err)
		}
		want := c.Sales[0]
		want.SKU, want.Version = "new", want.Version+1
		b.wantSale(b.patch("s", sluice.SalePatch{SKU: new("new")}), want)
		_, err = b.store.PatchSale(b.Context(), "s", sluice.SalePatch{StartsAt: new(time.Now().Add(2 * time.Hour))})
		b.wantRefused(err, sluice.BadRequest)
		b.wantSale(b.facts("s"), want)
	}},
	{"APauseLeavesSettlementAlone", func(b *bench) {
		b.sale("s", 10)
		before := b.hold(order("s", "before", "", 1))
		if s := b.patch("s", sluice.SalePatch{Paused: new(true)}); !s.Paused || s.Version != 3 {
			b.Errorf("got %+v", s)
		}
		held, other := b.hold(order("s", "u", "", 2)), b.hold(order("s", "v", "", 1))
		b.pay(held.Order, "ref")
		b.pay(before.Order, "ref")
		b.cancel(other.Order)
		b.wantUnits("s", 7, 0, 3)
		if s := b.facts("s"); !s.Paused {
			b.Error("the sale is not paused any more")
		}
		if s := b.patch("s", sluice.SalePatch{Paused: new(false)}); s.Paused || s.Sold != 3 || s.Version != 9 {
			b.Errorf("resumed: got %+v", s)
		}
	}},
	{"NewTermsHoldForOrdersSettledFromThenOn", testNewTerms},
	{"APatchOfTimesIsAnnounced", func(b *bench) {
		now := time.Now()
		b.sale("s", 10, func(s *sluice.Sale) { s.StartsAt = now.Add(time.Hour) })
		last := b.newest()
		b.patch("s", sluice.SalePatch{SKU: new("new")})
		b.patch("s", sluice.SalePatch{StartsAt: new(now.Add(-2 * time.Hour))})
		b.patch("s", sluice.SalePatch{EndsAt: new(now.Add(-time.Hour))})
		b.patch("s", sluice.SalePatch{Paused: new(true)}) // is nothing that happened to a buyer
		b.patch("s", sluice.SalePatch{EndsAt: new(time.Time)})
		b.wantEvents(last, "sale.opened s 3", "sale.ended s 4", "sale.reopened s 6")
	}},
	{"PatchesOfManyCallersAddUp", func(b *bench) {
		b.sale("s", 100)
		patches := []sluice.SalePatch{
			{SKU: new("new")}, {PerUserLimit: new(5)}, {MaxAge: new(sluice.Duration(time.Minute))}, {OverAdmission: new(3.0)}, {Paused: new(true)},
		}
		together(len(patches)+1, func(i int) {
			var err error
			if i < len(patches) {
				_, err = b.store.PatchSale(b.Context(), "s", patches[i])
			} else {
				_, err = b.store.Reserve(b.Context(), []sluice.Order{order("s", "u", "", 1)})
			}
			if err != nil {
				b.Error(err)
			}
		})
		s := b.facts("s")
		if s.SKU != "new" || s.PerUserLimit != 5 || s.MaxAge != sluice.Duration(time.Minute) || s.OverAdmission != 3 || !s.Paused ||
			s.Version != 7 || s.Held != 1 {
			b.Errorf("got %+v", s)
		}
	}},
}

// testPatchFields changes each fact on its own, and compares the whole sale, its units included.
func testPatchFields(b *bench) {
	b.sale("other", 5)
	b.sale("s", 10)
	b.hold(order("s", "u", "", 2))
	b.pay(b.hold(order("s", "v", "", 3)).Order, "ref")
	if _, err := b.store.TopUp(b.Context(), "s", 4); err != nil {
		b.Fatal(err)
	}
	want, other := b.facts("s"), b.facts("other")
	start := time.Now().Add(time.Hour).Truncate(time.Microsecond).UTC()
	for _, c := range []struct {
		patch sluice.SalePatch
		set   func()
	}{
		{sluice.SalePatch{SKU: new(`sku "2"`)}, func() { want.SKU = `sku "2"` }},
		{sluice.SalePatch{PerUserLimit: new(7)}, func() { want.PerUserLimit = 7 }},
		{sluice.SalePatch{StartsAt: new(start.Add(999))}, func() { want.StartsAt = start }},
		{sluice.SalePatch{EndsAt: new(start.Add(time.Hour))}, func() { want.EndsAt = start.Add(time.Hour) }},
		{sluice.SalePatch{PaymentWindow: new(sluice.Duration(7))}, func() { want.PaymentWindow = 7 }},
		{sluice.SalePatch{PaymentGrace: new(sluice.MaxPaymentGrace)}, func() { want.PaymentGrace = sluice.MaxPaymentGrace }},
		{sluice.SalePatch{MaxAge: new(sluice.Duration(time.Hour + 1))}, func() { want.MaxAge = sluice.Duration(time.Hour + 1) }},
		{sluice.SalePatch{CheckoutURL: new("https://shop.example/{order}")}, func() { want.CheckoutURL = "https://shop.example/{order}" }},
		{sluice.SalePatch{OverAdmission: new(2.125)}, func() { want.OverAdmission = 2.125 }},
		{sluice.SalePatch{ReservedFor: new("members"), ReservedShare: new(0.5)}, func() { want.ReservedFor, want.ReservedShare = "members", 0.5 }},
		{sluice.SalePatch{ReservedFor: new("friends")}, func() { want.ReservedFor = "friends" }},
		{sluice.SalePatch{ReservedShare: new(0.75)}, func() { want.ReservedShare = 0.75 }},
		{sluice.SalePatch{Paused: new(true)}, func() { want.Paused = true }},
	} {
		c.set()
		want.Version++
		for range 2 { // the second time it changes nothing
			b.wantSale(b.patch("s", c.patch), want)
			b.wantSale(b.facts("s"), want)
		}
	}
	b.wantSale(b.facts("other"), other)
	b.wantUnits("s", 9, 2, 3)
}

func testPatchRefused(b *bench) {
	now := time.Now()
	s := b.sale("s", 10, func(s *sluice.Sale) { s.StartsAt, s.EndsAt = now.Add(time.Hour), now.Add(2*time.Hour) })
	for _, patch := range []sluice.SalePatch{
		{SKU: new("a\x00b")},
		{SKU: new(strings.Repeat("x", sluice.MaxUserBytes+1))},
		{PerUserLimit: new(0)},
		{PerUserLimit: new(sluice.MaxQuantity + 1)},
		{StartsAt: new(now.Add(3 * time.Hour))},
		{EndsAt: &s.StartsAt},
		{EndsAt: new(s.StartsAt.Add(time.Nanosecond))}, // the same microsecond
		{PaymentWindow: new(sluice.Duration(-1))},
		{PaymentWindow: new(sluice.MaxPaymentWindow + 1)},
		{PaymentGrace: new(sluice.Duration(-1))},
		{PaymentGrace: new(sluice.MaxPaymentGrace + 1)},
		{MaxAge: new(sluice.Duration(-1))},
		{CheckoutURL: new("javascript:alert(1)")},
		{OverAdmission: new(0.5)},
		{OverAdmission: new(math.NaN())},
		{ReservedFor: new("members")},
		{ReservedShare: new(0.5)},
		{ReservedFor: new("members"), ReservedShare: new(0.95)},
		{SKU: new("fine"), Paused: new(true), PerUserLimit: new(-1)}, // all or nothing
	} {
		c, err := b.store.PatchSale(b.Context(), "s", patch)
		b.wantRefused(err, sluice.BadRequest)
		if !c.Empty() {
			b.Errorf("a refusal came with %+v", c)
		}
		b.wantSale(b.facts("s"), s)
	}
	for _, id := range []string{"nowhere", "", "no\x00sale", "s\xff"} {
		_, err := b.store.PatchSale(b.Context(), id, sluice.SalePatch{Paused: new(true)})
		b.wantRefused(err, sluice.NoSuchSale)
	}
}

func testNewTerms(b *bench) {
	b.sale("s", 10)
	first := b.hold(order("s", "a", "", 1))
	b.patch("s", sluice.SalePatch{PaymentWindow: new(sluice.Duration(time.Hour)), PerUserLimit: new(2), MaxAge: new(sluice.Duration(time.Minute))})
	if got := b.status(first.Order); !reflect.DeepEqual(got, first) {
		b.Errorf("the hold of before: got %+v, want %+v", got, first)
	}
	second := b.hold(order("s", "b", "", 1))
	if !second.PayBy.Equal(second.SettledAt.Add(time.Hour)) {
		b.Errorf("got %+v, want an hour to pay", second)
	}
	b.wantStates(b.reserve(order("s", "a", "2", 2), accepted(order("s", "c", "", 1), b.now().Add(-2*time.Minute))),
		"rejected user_limit", "rejected stale")
	b.patch("s", sluice.SalePatch{PaymentWindow: new(sluice.Duration(0))})
	b.wantStates(b.reserve(order("s", "d", "", 1)), "paid")
	b.patch("s", sluice.SalePatch{EndsAt: new(b.now().Add(-time.Hour))})
	b.wantStates(b.reserve(accepted(order("s", "e", "", 1), b.now())), "rejected sale_closed")
	b.pay(first.Order, "ref")
	b.wantUnits("s", 7, 1, 2)
}

// patch changes a sale, which must work, and answers it.
func (b *bench) patch(id string, patch sluice.SalePatch) sluice.Sale {
	b.Helper()
	c, err := b.store.PatchSale(b.Context(), id, patch)
	if err != nil || len(c.Sales) != 1 || c.Sales[0].ID != id || len(c.Statuses) != 0 || c.Now.IsZero() {
		b.Fatalf("patch sale %s: got %+v, %v", id, c, err)
	}
	stored := b.facts(id)
	stored.NextRelease = time.Time{} // which only Sales looks for
	b.wantSale(stored, c.Sales[0])
	return c.Sales[0]
}

// facts answers a sale as it is stored.
func (b *bench) facts(id string) sluice.Sale {
	b.Helper()
	c, err := b.store.Sales(b.Context(), id)
	if err != nil || len(c.Sales) != 1 {
		b.Fatalf("read sale %s: %+v, %v", id, c, err)
	}
	return c.Sales[0]
}

func (b *bench) wantSale(got, want sluice.Sale) {
	b.Helper()
	if !reflect.DeepEqual(got, want) {
		b.Errorf("sale: got %+v, want %+v", got, want)
	}
}

// ids are the order ids of statuses, sorted, as text.
func ids(statuses []sluice.Status) []string {
	var out []string
	for _, s := range statuses {
		out = append(out, fmt.Sprint(s.Order))
	}
	slices.Sort(out)
	return out
}
