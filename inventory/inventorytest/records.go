package inventorytest

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"sluice"
	"sluice/inventory"
)

var recordTests = []test{
	{"OrdersAreListedByEveryFilterWithoutLossOrRepeat", testOrderPages},
	{"ARecordTellsAllThatIsKnownOfAnOrder", testRecord},
	{"OrdersOfNobodyAreNone", func(b *bench) {
		b.sale("s", 10)
		b.hold(order("s", "u", "", 1))
		for _, q := range []inventory.OrderQuery{
			{User: "nobody"},
			{Sale: "nowhere"},
			{State: sluice.Queued},
			{State: "no such state"},
			{User: "u", Sale: "nowhere"},
			{User: "no\x00body"},
			{Sale: "\xff"},
			{State: "\x00"},
			{User: strings.Repeat("x", 100_000)},
			{After: sluice.OrderID{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
		} {
			q.Limit = 10
			if got, err := b.store.Orders(b.Context(), q); err != nil || len(got) != 0 {
				b.Errorf("%.200v: got %+v, %v", q, got, err)
			}
		}
	}},
	{"AListHasABound", func(b *bench) {
		for _, limit := range []int{0, -1, inventory.MaxPage + 1} {
			_, orders := b.store.Orders(b.Context(), inventory.OrderQuery{Limit: limit})
			_, user := b.store.Orders(b.Context(), inventory.OrderQuery{User: "u", Limit: limit})
			_, refunds := b.store.Refunds(b.Context(), 0, limit, true)
			_, letters := b.store.Letters(b.Context(), 0, limit, false)
			for _, err := range []error{orders, user, refunds, letters} {
				b.wantRefused(err, sluice.BadRequest)
			}
		}
		_, orders := b.store.Orders(b.Context(), inventory.OrderQuery{Limit: inventory.MaxPage})
		_, refunds := b.store.Refunds(b.Context(), 0, inventory.MaxPage, false)
		_, letters := b.store.Letters(b.Context(), 0, inventory.MaxPage, true)
		for _, err := range []error{orders, refunds, letters} {
			if err != nil {
				b.Error(err)
			}
		}
	}},
	{"AnOrderThatNeverWasIsRefused", func(b *bench) {
		_, err := b.store.Order(b.Context(), order("s", "u", "", 1).ID)
		b.wantRefused(err, sluice.NoSuchOrder)
	}},
}

// testOrderPages compares every filter, alone and with the others, at several sizes of a page, with a search in plain Go.
func testOrderPages(b *bench) {
	users := []string{"a", "A", "ä b'"}
	b.sale("s", 1000)
	b.sale("s2", 1000)
	var all []sluice.OrderID
	for i := range 90 {
		o := order([]string{"s", "s2", "nowhere"}[i%3], users[i/3%3], fmt.Sprint(i), 1+i%2*2000) // each second one is refused
		all = append(all, o.ID)
		s := b.reserve(o)[0]
		if s.State == sluice.Held && i%5 == 0 {
			b.pay(o.ID, "ref")
		} else if s.State == sluice.Held && i%5 == 1 {
			b.cancel(o.ID)
		}
	}
	for i := range 3 {
		o := order("s", "a", fmt.Sprint("failed", i), 1)
		b.bury(inventory.Letter{Message: fmt.Sprint("m", i), Order: &o})
		all = append(all, o.ID)
	}
	slices.SortFunc(all, func(x, y sluice.OrderID) int { return slices.Compare(x[:], y[:]) })
	var records []inventory.Record
	for _, id := range all {
		records = append(records, b.record(id))
	}
	for _, sale := range []string{"", "s", "s2", "nowhere"} {
		for _, user := range append(users, "") {
			for _, state := range []sluice.State{"", sluice.Held, sluice.Paid, sluice.Cancelled, sluice.Rejected, sluice.Failed, sluice.Expired} {
				q := inventory.OrderQuery{Sale: sale, User: user, State: state}
				var want []inventory.Record
				for _, r := range records {
					s := r.Status
					if (sale == "" || s.Sale == sale) && (user == "" || s.User == user) && (state == "" || s.State == state) {
						want = append(want, r)
					}
				}
				b.wantPages(q, want)
			}
		}
	}
}

// wantPages walks through a list in pages of several sizes.
func (b *bench) wantPages(q inventory.OrderQuery, want []inventory.Record) {
	b.Helper()
	for _, q.Limit = range []int{3, 17, inventory.MaxPage} {
		var got []inventory.Record
		for q.After = (sluice.OrderID{}); ; q.After = got[len(got)-1].Order.ID {
			page, err := b.store.Orders(b.Context(), q)
			if err != nil || len(page) > q.Limit {
				b.Fatalf("%+v: got %d orders, %v", q, len(page), err)
			}
			got = append(got, page...)
			if len(page) < q.Limit {
				break
			}
		}
		if !reflect.DeepEqual(got, want) {
			b.Errorf("%+v: got %d orders, want %d: %+v", q, len(got), len(want), got)
		}
	}
}

func testRecord(b *bench) {
	b.sale("s", 10, window(time.Hour), grace(time.Minute))
	o := order("s", `Ünïcode "quotes" 😀`, `a,b'c\d`, 3)
	o.Attempt, o.Attributes = 4, []byte(`{"note":"a\u0000b","n":1e999}`)
	o.AcceptedAt = b.now()
	status := b.hold(o)
	want := inventory.Record{Order: o, Status: status, ReleaseAt: status.PayBy.Add(time.Minute)}
	if got := b.record(o.ID); !reflect.DeepEqual(got, want) {
		b.Errorf("got %+v, want %+v", got, want)
	}
	b.pay(o.ID, "ref")
	want.Status.State, want.Status.Version, want.PaymentRef = sluice.Paid, 3, "ref"
	if got := b.record(o.ID); !reflect.DeepEqual(got, want) {
		b.Errorf("paid: got %+v, want %+v", got, want)
	}
	bare := order("nowhere", "u", "", 1)
	want = inventory.Record{Order: bare, Status: b.reserve(bare)[0]}
	if got := b.record(bare.ID); !reflect.DeepEqual(got, want) {
		b.Errorf("a refused one: got %+v, want %+v", got, want)
	}
}
