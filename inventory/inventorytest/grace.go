package inventorytest

import (
	"slices"
	"time"

	"sluice"
	"sluice/inventory"
)

var graceTests = []test{
	{"ABuyerIsToldTheDeadlineAndGetsTheGrace", func(b *bench) {
		b.sale("s", 1, window(time.Hour), grace(10*time.Minute))
		o := b.hold(order("s", "u", "", 1))
		if !o.PayBy.Equal(o.SettledAt.Add(time.Hour)) {
			b.Errorf("got %+v, want an hour to pay", o)
		}
		if e := b.orderEvents(o.Order)[0]; !e.PayBy.Equal(o.PayBy) {
			b.Errorf("the event tells %v, want %v", e.PayBy, o.PayBy)
		}
		release := o.PayBy.Add(10 * time.Minute)
		b.wantRelease(o.Order, release)
		if s := b.facts("s"); !s.NextRelease.Equal(release) {
			b.Errorf("next release: got %v, want %v", s.NextRelease, release)
		}
	}},
	{"APaymentCountsUntilTheGraceIsOver", func(b *bench) { // P6
		b.sale("s", 10, window(soon), grace(time.Hour))
		o, other := b.hold(order("s", "u", "", 2)), b.hold(order("s", "v", "", 1))
		b.overdue(other)
		if c, err := b.store.Expire(b.Context(), 10); err != nil || !c.Empty() {
			b.Errorf("the sweep does not wait for the grace: %+v, %v", c, err)
		}
		b.patch("s", sluice.SalePatch{PaymentGrace: new(sluice.Duration(0))})
		ended := b.hold(order("s", "w", "", 1))
		b.overdue(ended)
		if c, err := b.store.Expire(b.Context(), 10); err != nil || !slices.Equal(ids(c.Statuses), ids([]sluice.Status{ended})) {
			b.Errorf("the sweep took %+v, %v, want only the one without a grace", c, err)
		}
		b.pay(o.Order, "ref")
		b.cancel(other.Order)
		b.wantUnits("s", 8, 0, 2)
		b.wantRefunds()
	}},
	{"AHoldEndsWithItsGrace", func(b *bench) { // P6
		b.sale("s", 10, window(soon), grace(soon))
		o, swept := b.hold(order("s", "u", "", 2)), b.hold(order("s", "v", "", 1))
		b.passed(swept.PayBy.Add(soon))
		_, err := b.store.Pay(b.Context(), o.Order, "late")
		b.wantRefused(err, sluice.TooLate)
		c, err := b.store.Expire(b.Context(), 10)
		if err != nil {
			b.Fatal(err)
		}
		b.wantChanges(c, sluice.Expired, 3)
		b.wantUnits("s", 10, 0, 0)
		b.wantRefunds("too_late late")
	}},
	{"TheGraceIsFixedWhenTheOrderIsHeld", func(b *bench) {
		b.sale("s", 10, window(time.Hour), grace(10*time.Minute))
		first := b.hold(order("s", "a", "", 1))
		b.patch("s", sluice.SalePatch{PaymentGrace: new(sluice.Duration(0))})
		second := b.hold(order("s", "b", "", 1))
		b.patch("s", sluice.SalePatch{PaymentGrace: new(sluice.Duration(time.Minute))})
		third := b.hold(order("s", "c", "", 1))
		b.wantRelease(first.Order, first.PayBy.Add(10*time.Minute))
		b.wantRelease(second.Order, second.PayBy)
		b.wantRelease(third.Order, third.PayBy.Add(time.Minute))
	}},
	{"TheNextReleaseIsThatOfTheHoldThatEndsFirst", func(b *bench) {
		b.sale("s", 2, window(time.Hour), grace(2*time.Hour))
		b.sale("other", 1)
		b.hold(order("s", "a", "", 1))
		b.hold(order("other", "a", "", 1))
		b.patch("s", sluice.SalePatch{PaymentWindow: new(sluice.Duration(2 * time.Hour)), PaymentGrace: new(sluice.Duration(0))})
		last := b.hold(order("s", "b", "", 1)) // falls due later, ends sooner
		if s := b.facts("s"); !s.NextRelease.Equal(last.PayBy) {
			b.Errorf("got %v, want %v", s.NextRelease, last.PayBy)
		}
	}},
	{"WhatIsNotHeldHasNoRelease", func(b *bench) {
		b.sale("s", 1, window(0), grace(time.Hour))
		for _, s := range b.reserve(order("s", "u", "", 1), order("s", "v", "", 1)) {
			b.wantRelease(s.Order, time.Time{})
		}
	}},
}

func grace(d time.Duration) func(*sluice.Sale) {
	return func(s *sluice.Sale) { s.PaymentGrace = sluice.Duration(d) }
}

func (b *bench) wantRelease(id sluice.OrderID, want time.Time) {
	b.Helper()
	if r := b.record(id); !r.ReleaseAt.Equal(want) {
		b.Errorf("order %s is released at %v, want %v", id, r.ReleaseAt, want)
	}
}

func (b *bench) record(id sluice.OrderID) inventory.Record {
	b.Helper()
	r, err := b.store.Order(b.Context(), id)
	if err != nil {
		b.Fatalf("order %s: %v", id, err)
	}
	return r
}
