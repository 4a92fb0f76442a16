package inventorytest

import (
	"fmt"
	"reflect"
	"time"

	"sluice"
	"sluice/inventory"
)

var refundTests = []test{
	{"RefundsAreListedInPages", testRefundPages},
	{"ARefundTellsWhatToGiveBack", func(b *bench) {
		b.sale("s", 10)
		o := b.hold(order("s", "Ünïcode 😀", "", 3))
		b.pay(o.Order, "first")
		c, err := b.store.Pay(b.Context(), o.Order, "second")
		b.wantRefused(err, sluice.AlreadyPaid)
		got := b.refunds(0, 10, false)
		if len(got) != 1 || got[0].ID < 1 {
			b.Fatalf("got %+v", got)
		}
		want := inventory.Refund{
			ID: got[0].ID, Order: o.Order, Sale: "s", User: "Ünïcode 😀", Units: 3, PaymentRef: "second",
			Reason: inventory.RefundAlreadyPaid, At: c.Now,
		}
		if got[0] != want {
			b.Errorf("got %+v, want %+v", got[0], want)
		}
	}},
	{"ARefundIsGivenOnce", func(b *bench) {
		b.sale("s", 10)
		o := b.hold(order("s", "u", "", 1))
		b.cancel(o.Order)
		late := func() {
			_, err := b.store.Pay(b.Context(), o.Order, "late")
			b.wantRefused(err, sluice.TooLate)
		}
		late()
		due, last := b.refunds(0, 10, false)[0], b.newest()
		answers := make([]inventory.Refund, 4)
		before := b.now()
		together(len(answers), func(i int) {
			r, err := b.store.RefundGiven(b.Context(), due.ID)
			if err != nil {
				b.Error(err)
			}
			answers[i] = r
		})
		given := answers[0]
		if given.GivenAt.Before(before) || given.GivenAt.After(b.now()) {
			b.Errorf("given at %v, which is not between %v and %v", given.GivenAt, before, b.now())
		}
		due.GivenAt = given.GivenAt
		for _, got := range append(answers, b.refunds(0, 10, true)...) {
			if got != due {
				b.Errorf("got %+v, want %+v", got, due)
			}
		}
		late() // the same payment, told again, is not due again
		if got := b.refunds(0, 10, false); len(got) != 0 {
			b.Errorf("still due: %+v", got)
		}
		if got := b.refunds(0, 10, true); !reflect.DeepEqual(got, []inventory.Refund{due}) {
			b.Errorf("all: got %+v, want %+v", got, due)
		}
		b.wantEvents(last) // a refund that is given moves no order
	}},
	{"OnlyARefundThatIsThereCanBeGiven", func(b *bench) {
		for _, id := range []int64{0, -1, 99, 1 << 62} {
			_, err := b.store.RefundGiven(b.Context(), id)
			b.wantRefused(err, sluice.NotFound)
		}
	}},
}

func testRefundPages(b *bench) {
	b.sale("s", 10)
	o := b.hold(order("s", "u", "", 1))
	b.cancel(o.Order)
	if got := b.refunds(0, 10, true); len(got) != 0 {
		b.Errorf("before there was one: %+v", got)
	}
	for i := range 7 {
		_, err := b.store.Pay(b.Context(), o.Order, fmt.Sprint("ref", i))
		b.wantRefused(err, sluice.TooLate)
	}
	all := b.refunds(0, 10, true)
	if len(all) != 7 {
		b.Fatalf("got %+v", all)
	}
	var due []inventory.Refund
	for i, r := range all {
		if r.PaymentRef != fmt.Sprint("ref", i) || (i > 0 && r.ID <= all[i-1].ID) {
			b.Errorf("refund %d: got %+v", i, r)
		}
		if i%3 != 0 {
			due = append(due, r)
			continue
		}
		given, err := b.store.RefundGiven(b.Context(), r.ID)
		if err != nil || given.GivenAt.IsZero() {
			b.Errorf("give %d: %+v, %v", r.ID, given, err)
		}
		all[i] = given
	}
	for _, c := range []struct {
		all  bool
		want []inventory.Refund
	}{{false, due}, {true, all}} {
		for _, limit := range []int{1, 2, 4, 7, 100} {
			var got []inventory.Refund
			for after := int64(0); ; after = got[len(got)-1].ID {
				page := b.refunds(after, limit, c.all)
				got = append(got, page...)
				if len(page) < limit {
					break
				}
			}
			if !reflect.DeepEqual(got, c.want) {
				b.Errorf("pages of %d, all %v: got %+v, want %+v", limit, c.all, got, c.want)
			}
		}
	}
	if got := b.refunds(-5, 1, true); len(got) != 1 || got[0] != all[0] {
		b.Errorf("after -5: got %+v", got)
	}
}

func (b *bench) refunds(after int64, limit int, all bool) []inventory.Refund {
	b.Helper()
	got, err := b.store.Refunds(b.Context(), after, limit, all)
	if err != nil || len(got) > limit {
		b.Fatalf("refunds after %d: got %+v, %v", after, got, err)
	}
	for _, r := range got {
		if r.At.IsZero() || r.At.After(time.Now().Add(time.Minute)) {
			b.Errorf("a refund due since %v", r.At)
		}
	}
	return got
}
