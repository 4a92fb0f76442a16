package check

import (
	"fmt"
	"strings"
	"testing"
)

// honestRun is three buyers of a stock of two: one paid at once, one whose answer was lost and who asked again, and
// one who came too late.
func honestRun() Facts {
	var h []Event
	say := func(e Event) {
		e.At = int64(len(h))
		if e.Event == Answer {
			e.Asked = e.At - 1
		}
		h = append(h, e)
	}
	place := func(user string, answers ...Event) {
		for _, a := range answers {
			say(Event{Event: Ask, Call: Place, User: user, Key: "k-" + user, Quantity: 1})
			a.Event, a.Call, a.User, a.Key = Answer, Place, user, "k-"+user
			say(a)
		}
	}
	follow := func(user, order, state string, version int64) {
		e := Event{Call: Follow, User: user, Key: "k-" + user, Order: order}
		e.Event = Ask
		say(e)
		e.Event, e.Status, e.State, e.Version = Answer, 200, state, version
		say(e)
	}
	place("a", Event{Status: 202, Order: "1", State: "queued", Version: 1})
	place("b", Event{}, Event{Status: 200, Order: "2", State: "queued", Version: 1})
	place("c", Event{Status: 503, Reason: "queue-full"}, Event{Status: 409, Reason: "sold-out"})
	follow("a", "1", "paid", 2)
	follow("b", "2", "paid", 2)

	f := Facts{
		Run: Run{Sale: "s", Buyers: 3}, Limit: 1, History: h,
		Outcomes: map[string]map[string]Status{"": {
			"1": {Order: "1", State: "paid", Version: 2}, "2": {Order: "2", State: "paid", Version: 2},
		}},
		Orders: []OrderRow{
			{ID: "1", Sale: "s", Buyer: "a", Key: "k-a", Quantity: 1, State: "paid", Version: 2},
			{ID: "2", Sale: "s", Buyer: "b", Key: "k-b", Quantity: 1, State: "paid", Version: 2},
		},
		Sales: []SaleRow{{ID: "s", Stock: 2, Sold: 2}},
	}
	f.Audit = auditOf(f.Sales[0], map[string]int64{"paid": 2})
	return f
}

func auditOf(s SaleRow, orders map[string]int64) (a Audit) {
	a.Balanced = true
	a.Sales = append(a.Sales, struct {
		SaleRow
		Orders map[string]int64 `json:"orders"`
	}{s, orders})
	return a
}

func texts(list []Violation) string {
	var lines []string
	for _, v := range list {
		lines = append(lines, v.Text)
	}
	return strings.Join(lines, "\n")
}

func TestCheck_PassesAnHonestRun(t *testing.T) {
	if got := Check(honestRun()); len(got) > 0 {
		t.Errorf("violations where there are none:\n%s", texts(got))
	}
}

// A checker that finds nothing has to be one that would have found something.
func TestCheck_CatchesEveryPlantedFault(t *testing.T) {
	for fault, c := range map[string]struct {
		plant func(*Facts)
		says  string
	}{
		"an oversell": {func(f *Facts) {
			f.Orders = append(f.Orders, OrderRow{ID: "3", Sale: "s", Buyer: "c", Key: "k-c", Quantity: 1, State: "paid", Version: 2})
			f.Sales[0].Sold = 3
		}, "P1: oversold: held 0 + sold 3 of 2"},
		"an oversell that the counters hide": {func(f *Facts) {
			f.Orders = append(f.Orders, OrderRow{ID: "3", Sale: "s", Buyer: "c", Key: "k-c", Quantity: 1, State: "paid", Version: 2})
		}, "P1: oversold: 3 units in orders of 2"},
		"a dropped 202": {func(f *Facts) { f.Orders = f.Orders[1:] }, "P3: lost: order 1"},
		"a 202 without an outcome": {func(f *Facts) {
			f.Orders[0].State = "queued"
		}, "P3: order 1 of {a k-a} is still queued"},
		"an outcome that HTTP does not know": {func(f *Facts) { delete(f.Outcomes[""], "2") }, `P3: order 2 of {b k-b} is "paid" in the database and no door`},
		"a doubled row":                      {func(f *Facts) { f.Orders = append(f.Orders, f.Orders[0]) }, "P5: order 1 is in the database twice"},
		"two orders for one key": {func(f *Facts) {
			f.Orders = append(f.Orders, OrderRow{ID: "9", Sale: "s", Buyer: "a", Key: "k-a", Quantity: 1, State: "rejected", Version: 2})
		}, "P5: {a k-a} has the orders 1 and 9"},
		"two orders told to one buyer": {func(f *Facts) {
			f.History[5].Order = "9" // b's repeat; later it is told of 2
		}, "P5: {b k-b} was told of order 9 and of 2"},
		"one order told to two buyers": {func(f *Facts) {
			f.History[5].Order = "1"
		}, "P5: order 1 belongs to {a k-a} and to {b k-b}"},
		"an order nobody asked for": {func(f *Facts) {
			f.Orders = append(f.Orders, OrderRow{ID: "7", Sale: "s", Buyer: "ghost", Key: "k", Quantity: 1, State: "rejected", Version: 2})
		}, "unexpected: nobody asked for order 7"},
		"an order in spite of a refusal": {func(f *Facts) {
			f.Orders = append(f.Orders, OrderRow{ID: "8", Sale: "s", Buyer: "c", Key: "k-c", Quantity: 1, State: "rejected", Version: 2})
		}, "unexpected: order 8 exists and its buyer was told 409 sold-out"},
		"another quantity than was asked for": {func(f *Facts) { f.Orders[0].Quantity = 2 }, "P5: {a k-a} asked for 1"},
		"a status that goes back": {func(f *Facts) {
			f.History = append(f.History, Event{
				Asked: 100, At: 101, Event: Answer, Call: Follow, User: "a", Key: "k-a", Status: 200, Order: "1", State: "queued", Version: 1,
			})
		}, "P10: order 1 went back from version 2 to 1"},
		"a refusal for an hour": {func(f *Facts) {
			f.Doors = []Door{{Name: "d"}}
			f.History = append(f.History, Event{At: 9, Asked: 8, Event: Answer, Call: Place, Door: "d", User: "x", Key: "y", Status: 503, Reason: "queue-full", Retry: 3600e9})
		}, "P7: d refused x with queue-full and tells it to come back in 1h0m0s"},
		"an undersell":                 {func(f *Facts) { f.Sales[0] = SaleRow{ID: "s", Stock: 3, Free: 1, Sold: 2} }, "P2: undersold: 2 of 3"},
		"a unit that vanished":         {func(f *Facts) { f.Sales[0].Stock = 3 }, "P8: stock 3 + topups 0 is not free 0"},
		"a sale that is gone":          {func(f *Facts) { f.Sales = nil }, `P8: sale "s" is not in the view`},
		"an unbalanced audit":          {func(f *Facts) { f.Audit.Balanced = false }, "P8: the audit is not balanced"},
		"an audit that is off":         {func(f *Facts) { f.Audit.Sales[0].Sold = 1 }, "P8: the audit has"},
		"an audit that counts wrongly": {func(f *Facts) { f.Audit.Sales[0].Orders["paid"] = 1 }, "P8: the audit counts 1 paid"},
	} {
		t.Run(fault, func(t *testing.T) {
			f := honestRun()
			c.plant(&f)
			got := texts(Check(f))
			if !strings.Contains(got, c.says) {
				t.Errorf("want %q, got:\n%s", c.says, got)
			}
		})
	}
}

// An answer that was lost may have made an order or not: both are fine, and neither may make two.
func TestCheck_LetsDoubtEndEitherWay(t *testing.T) {
	for _, recovered := range []bool{true, false} {
		t.Run(fmt.Sprint("recovered ", recovered), func(t *testing.T) {
			f := honestRun()
			f.History = append(f.History,
				Event{Event: Ask, Call: Place, User: "d", Key: "k-d", Quantity: 1},
				Event{Event: Answer, Call: Place, User: "d", Key: "k-d", Status: 503, Reason: "unavailable"})
			if recovered {
				f.Orders = append(f.Orders, OrderRow{ID: "4", Sale: "s", Buyer: "d", Key: "k-d", Quantity: 1, State: "rejected", Version: 2})
				f.Audit.Sales[0].Orders["rejected"] = 1
			}
			if got := Check(f); len(got) > 0 {
				t.Errorf("violations where there are none:\n%s", texts(got))
			}
		})
	}
}
