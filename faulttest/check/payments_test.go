package check

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// scribe writes a history, one call after the other, a second apart.
type scribe struct{ h []Event }

func (s *scribe) say(e Event) {
	e.At = int64(len(s.h)) * int64(time.Second)
	if e.Event == Answer {
		e.Asked = e.At - int64(time.Second)
	}
	s.h = append(s.h, e)
}

func (s *scribe) call(call, door, user, ref string, a Event) {
	e := Event{Event: Ask, Call: call, Door: door, User: user, Key: "k-" + user, Ref: ref, Order: a.Order}
	if call == Place {
		e.Quantity, e.Order = 1, ""
	}
	s.say(e)
	a.Event, a.Call, a.Door, a.User, a.Key, a.Ref = Answer, call, door, user, "k-"+user, ref
	s.say(a)
}

// honestSale is a sale of three units with two doors and a payment window of two seconds. a, who asked both doors, pays,
// and asks again as the first answer was lost; b cancels; c comes too late and expires; d pays twice and one payment is
// refused; e buys what came back, and f is told that all is sold.
func honestSale() Facts {
	var s scribe
	const north, south, admin = "north", "south", "admin"
	queued := func(order string) Event { return Event{Status: 202, Order: order, State: "queued", Version: 1} }
	is := func(order, state string, version int64) Event {
		return Event{Status: 200, Order: order, State: state, Version: version}
	}
	s.call(Place, north, "a", "", queued("1"))
	s.call(Place, south, "a", "", queued("1"))
	s.call(Follow, north, "a", "", is("1", "held", 2))
	s.call(Pay, admin, "a", "ref-a", Event{Order: "1"})
	s.call(Pay, admin, "a", "ref-a", is("1", "paid", 3))
	s.call(Follow, south, "a", "", is("1", "held", 2)) // the other door may be late
	s.call(Follow, south, "a", "", is("1", "paid", 3))
	s.call(Place, north, "b", "", queued("2"))
	s.call(Cancel, admin, "b", "", is("2", "cancelled", 3))
	s.call(Place, south, "c", "", queued("3"))
	s.call(Follow, south, "c", "", is("3", "held", 2))
	s.call(Pay, admin, "c", "ref-c", Event{Status: 409, Reason: "too-late", Order: "3"})
	s.call(Cancel, admin, "c", "", Event{Status: 409, Reason: "not-held", Order: "3"})
	s.call(Follow, south, "c", "", is("3", "expired", 3))
	s.call(Place, south, "d", "", queued("4"))
	s.call(Pay, admin, "d", "ref-d", is("4", "paid", 3))
	s.call(Pay, admin, "d", "other-d", Event{Status: 409, Reason: "already-paid", Order: "4"})
	s.call(Place, north, "e", "", queued("5"))
	s.call(Pay, admin, "e", "ref-e", is("5", "paid", 3))
	s.call(Place, north, "f", "", Event{Status: 409, Reason: "sold-out"})

	f := Facts{
		Run: Run{Sale: "s", Buyers: 6, Window: 2 * time.Second, SoldOut: true}, Limit: 1, History: s.h,
		Outcomes: map[string]map[string]Status{north: {}, south: {}},
		Sales:    []SaleRow{{ID: "s", Stock: 3, Sold: 3}},
	}
	for i, state := range []string{"paid", "cancelled", "expired", "paid", "paid"} {
		id, user := string(rune('1'+i)), string(rune('a'+i))
		f.Orders = append(f.Orders, OrderRow{ID: id, Sale: "s", Buyer: user, Key: "k-" + user, Quantity: 1, State: state, Version: 3})
		for _, door := range []string{north, south} {
			f.Outcomes[door][id] = Status{Order: id, State: state, Version: 3}
		}
	}
	f.Audit = auditOf(f.Sales[0], map[string]int64{"paid": 3, "cancelled": 1, "expired": 1})
	return f
}

func TestCheck_PassesAnHonestSaleWithPayments(t *testing.T) {
	if got := Check(honestSale()); len(got) > 0 {
		t.Errorf("violations where there are none:\n%s", texts(got))
	}
}

// add appends a call to the history.
func add(f *Facts, call, door, user, ref string, a Event) {
	s := scribe{f.History}
	s.call(call, door, user, ref, a)
	f.History = s.h
}

// drop takes all lines of one call about an order out of the history.
func drop(f *Facts, call, order string) {
	f.History = slices.DeleteFunc(f.History, func(e Event) bool { return e.Call == call && e.Order == order })
}

func TestCheck_CatchesEveryPlantedFaultOfPayments(t *testing.T) {
	paid := func(order string) Event { return Event{Status: 200, Order: order, State: "paid", Version: 3} }
	for fault, c := range map[string]struct {
		plant func(*Facts)
		says  string
	}{
		"a doubled payment": {func(f *Facts) {
			add(f, Pay, "admin", "a", "second-a", paid("1"))
		}, "P6: order 1 was paid more than once: [ref-a second-a]"},
		"a payment that is forgotten": {func(f *Facts) {
			f.Orders[0].State = "expired"
		}, "P6: order 1 was paid by ref-a and is expired"},
		"a payment that is still forgotten where HTTP agrees": {func(f *Facts) {
			f.Orders[0].State, f.Outcomes["north"]["1"] = "expired", Status{State: "expired", Version: 3}
		}, "P10: version 3 of order 1 is paid and is expired in the database"},
		"a refused payment that was taken": {func(f *Facts) {
			f.Orders[2].State = "paid"
		}, "P6: order 3 is paid, and its payment ref-c was refused as too-late"},
		"a payment both refused and taken": {func(f *Facts) {
			add(f, Pay, "admin", "c", "ref-c", paid("3"))
		}, "P6: payment ref-c of order 3 was both taken and refused"},
		"a payment refused for another that there is not": {func(f *Facts) {
			f.Orders[3].State = "expired"
		}, "P6: order 4 is expired, and its payment other-d was refused as already-paid"},
		"an order paid by nobody": {func(f *Facts) { drop(f, Pay, "5") }, "P6: order 5 is paid, and no payment of it was taken"},
		"an order paid by a refusal": {func(f *Facts) {
			drop(f, Pay, "4")
			add(f, Pay, "admin", "d", "x", Event{Status: 409, Reason: "already-paid", Order: "4"})
		}, "P6: order 4 is paid, and no payment"},
		"an order cancelled by itself": {func(f *Facts) { drop(f, Cancel, "2") }, "P6: order 2 is cancelled, and nobody cancelled it"},
		"a cancellation that is gone":  {func(f *Facts) { f.Orders[1].State = "expired" }, "P6: order 2 was cancelled and is expired"},
		"a cancellation refused and done": {func(f *Facts) {
			f.Orders[2].State = "cancelled"
		}, "P6: order 3 is cancelled, and cancelling it was refused as not-held"},
		"a hold that is unknown to its payment": {func(f *Facts) {
			add(f, Pay, "admin", "e", "ref-e", Event{Status: 404, Reason: "unknown-order", Order: "5"})
		}, "P6: pay of order 5, which was held, was answered 404 unknown-order"},
		"a hold that is lost": {func(f *Facts) { f.Orders = f.Orders[1:] }, "P3: lost: order 1 was held and is not in the database"},
		"a hold without end":  {func(f *Facts) { f.Orders[2].State = "held" }, "P3: order 3 of {c k-c} is still held"},
		"a hold cut short": {func(f *Facts) {
			f.Window = time.Minute
		}, "P6: order 3 was seen expired before its payment window of 1m0s was over"},
		"a status that goes back at its door": {func(f *Facts) {
			add(f, Follow, "south", "a", "", Event{Status: 200, Order: "1", State: "held", Version: 2})
		}, "P10: order 1 went back from version 3 to 2 (held) at south"},
		"a payment's answer that goes back": {func(f *Facts) {
			add(f, Pay, "admin", "a", "ref-a", Event{Status: 200, Order: "1", State: "held", Version: 2})
		}, "P10: order 1 went back from version 3 to 2 (held) at admin"},
		"a final status that changes under its version": {func(f *Facts) {
			add(f, Follow, "north", "a", "", Event{Status: 200, Order: "1", State: "expired", Version: 3})
		}, "P10: version 3 of order 1 is paid and is expired at north"},
		"a unit given back twice": {func(f *Facts) { f.Sales[0].Free = 1 }, "P6: 1 units are free, and orders leave 0"},
		"a unit given back twice and a counter that hides it": {func(f *Facts) {
			f.Sales[0].Free, f.Sales[0].Sold = 1, 2
		}, "P6: 1 units are free, and orders leave 0"},
		"a unit that never came back": {func(f *Facts) {
			f.Sales[0] = SaleRow{ID: "s", Stock: 3, Held: 1, Sold: 2}
		}, "P6: 1 units are held still"},
		"a free unit that nobody got": {func(f *Facts) {
			f.Sales[0].Stock, f.Sales[0].Free = 4, 1
		}, "P2: undersold: 1 units are left, and buyers went on"},
		"a sold-out that was not true": {func(f *Facts) {
			f.Sales[0].Stock, f.Sales[0].Free, f.SoldOut = 4, 1, false
		}, "P2: f was told 409 sold-out, and 1 units are not sold even now"},
		"a limit exceeded": {func(f *Facts) {
			for i, e := range f.History {
				if e.User == "d" {
					f.History[i].User = "a"
				}
			}
			f.Orders[3].Buyer = "a"
		}, "P5: a owns 2 units, and the limit is 1"},
		"a limit that nobody knows": {func(f *Facts) { f.Limit = 0 }, "P5: the limit of the sale is not known"},
		"two ids told to one key at two doors": {func(f *Facts) {
			f.History[3].Order = "9"
		}, "P5: {a k-a} was told of order 1 and of 9"},
		"another id in the database than was told": {func(f *Facts) {
			f.Orders[0].ID = "9"
		}, "P5: k-a of a is order 9 in the database, and its buyer was told of 1"},
		"doors that do not agree": {func(f *Facts) {
			f.Outcomes["south"]["1"] = Status{Order: "1", State: "held", Version: 2}
		}, `P3: order 1 of {a k-a} is "held" (2) at south and "paid" (3) in the database`},
		"a refusal by an open sale": {func(f *Facts) {
			add(f, Place, "north", "g", "", Event{Status: 404, Reason: "unknown-sale"})
		}, "P7: {g k-g} was refused with 404 unknown-sale by an open sale"},
	} {
		t.Run(fault, func(t *testing.T) {
			f := honestSale()
			c.plant(&f)
			got := texts(Check(f))
			if !strings.Contains(got, c.says) {
				t.Errorf("want %q, got:\n%s", c.says, got)
			}
		})
	}
}

// What two doors say at once is in no order, and a refusal of one door ends no doubt at the other.
func TestCheck_KnowsWhatDoorsMayDo(t *testing.T) {
	t.Run("an older answer to an earlier question", func(t *testing.T) {
		f := honestSale()
		at := f.History[len(f.History)-1].At
		f.History = append(f.History, Event{
			At: at + 1, Asked: 1, Event: Answer, Call: Follow, Door: "south", User: "a", Key: "k-a", Status: 200,
			Order: "1", State: "held", Version: 2,
		})
		if got := Check(f); len(got) > 0 {
			t.Errorf("violations where there are none:\n%s", texts(got))
		}
	})
	t.Run("doubt at one door, refusal at the other", func(t *testing.T) {
		f := honestSale()
		add(&f, Place, "north", "g", "", Event{})
		add(&f, Place, "south", "g", "", Event{Status: 409, Reason: "sold-out"})
		f.Orders = append(f.Orders, OrderRow{ID: "7", Sale: "s", Buyer: "g", Key: "k-g", Quantity: 1, State: "rejected", Version: 2})
		f.Audit.Sales[0].Orders["rejected"] = 1
		if got := Check(f); len(got) > 0 {
			t.Errorf("violations where there are none:\n%s", texts(got))
		}
	})
}
