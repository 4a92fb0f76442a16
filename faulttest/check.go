// Package faulttest kills the service while buyers buy and checks every promise afterwards.
// Its checker never trusts the service: it reads the buyers' history, the public API and the published views.
package faulttest

import (
	"fmt"
	"slices"
)

// Facts are everything that is known of one sale after a run.
type Facts struct {
	Sale     string
	Buyers   int64 // who wanted a unit each, and went on until they had a final answer
	History  []Event
	Outcomes map[string]Status // by order id: what GET /v1/orders/{order} answers when all is over
	Orders   []OrderRow        // the view sluice_orders
	Sales    []SaleRow         // the view sluice_sales
	Audit    Audit             // GET /v1/audit
}

// Status is an order as its buyer sees it.
type Status struct {
	Order   string `json:"order"`
	State   string `json:"status"`
	Reason  string `json:"reason"`
	Version int64  `json:"version"`
	Units   int64  `json:"units"`
}

// OrderRow is a row of the view sluice_orders.
type OrderRow struct {
	ID, Sale, Buyer, Key string
	Quantity             int64
	State                string
	Version              int64
}

// SaleRow is a row of the view sluice_sales.
type SaleRow struct {
	ID                        string `json:"id"`
	Stock, TopUps, Free, Held int64
	Sold                      int64 `json:"sold"`
}

// Audit is the ledger as the service itself reads it.
type Audit struct {
	Balanced bool `json:"balanced"`
	Sales    []struct {
		SaleRow
		Orders map[string]int64 `json:"orders"`
	} `json:"sales"`
}

// asker is a buyer with a key, as the history and the view both name it.
type asker struct{ user, key string }

// told is what the history says of one asker.
type told struct {
	order    string // the one that was promised
	version  int64  // the highest that was seen
	asks     int
	answers  int
	doubts   int
	last     Event // the last answer to a purchase
	quantity int64
}

// findings collects violations; its methods are the checks.
type findings struct {
	Facts
	told map[asker]*told
	rows map[string]OrderRow // by id; the first where an id is there twice
	list []string
}

// Check answers every violation of a promise in the facts, in words. None means that all promises were kept.
func Check(facts Facts) []string {
	f := &findings{Facts: facts, told: map[asker]*told{}, rows: map[string]OrderRow{}}
	f.readHistory()
	f.readRows()
	f.promised()
	f.unexpected()
	f.ledger()
	f.audit()
	return f.list
}

func (f *findings) wrong(format string, args ...any) {
	f.list = append(f.list, fmt.Sprintf(format, args...))
}

// readHistory gathers what every asker was told. An asker has one order for ever (P5), an order has one asker (P5),
// and a status never goes back (P10).
func (f *findings) readHistory() {
	owner := map[string]asker{}
	for _, e := range f.History {
		who := asker{e.User, e.Key}
		t := f.told[who]
		if t == nil {
			t = &told{}
			f.told[who] = t
		}
		if e.Event == Ask && e.Call == Place {
			t.asks, t.quantity = t.asks+1, e.Quantity
		}
		if e.Event != Answer {
			continue
		}
		f.answer(who, t, e)
		if !e.Accepted() {
			continue
		}
		if first, known := owner[e.Order]; known && first != who {
			f.wrong("P5: order %s belongs to %v and to %v", e.Order, first, who)
		}
		owner[e.Order] = who
	}
}

func (f *findings) answer(who asker, t *told, e Event) {
	if e.Call == Place {
		t.answers, t.last = t.answers+1, e
		if e.Doubtful() {
			t.doubts++
		}
	}
	if !e.Accepted() {
		return
	}
	if t.order != "" && t.order != e.Order {
		f.wrong("P5: %v was told of order %s and of %s", who, t.order, e.Order)
	}
	if e.Version < t.version {
		f.wrong("P10: order %s went back from version %d to %d (%s)", e.Order, t.version, e.Version, e.State)
	}
	t.order, t.version = e.Order, max(t.version, e.Version)
}

// readRows: no order twice, and no asker with two orders (P5).
func (f *findings) readRows() {
	byAsker := map[asker]string{}
	for _, r := range f.Orders {
		if r.Sale != f.Sale {
			continue
		}
		if _, twice := f.rows[r.ID]; twice {
			f.wrong("P5: order %s is in the database twice", r.ID)
			continue
		}
		f.rows[r.ID] = r
		who := asker{r.Buyer, r.Key}
		if other, twice := byAsker[who]; twice {
			f.wrong("P5: %v has the orders %s and %s", who, other, r.ID)
		}
		byAsker[who] = r.ID
	}
}

// promised: every order that a buyer was promised has exactly one outcome, in the database and over HTTP (P3), and is
// the one that was asked for.
func (f *findings) promised() {
	for who, t := range f.told {
		if t.order == "" {
			continue
		}
		r, settled := f.rows[t.order]
		switch {
		case !settled:
			f.wrong("P3: lost: order %s of %v was accepted and is not in the database", t.order, who)
			continue
		case r.State == "queued":
			f.wrong("P3: order %s of %v is still queued", t.order, who)
		case asker{r.Buyer, r.Key} != who || r.Quantity != t.quantity:
			f.wrong("P5: %v asked for %d and its order %s is %+v", who, t.quantity, t.order, r)
		}
		if r.Version < t.version {
			f.wrong("P10: order %s has version %d in the database and was shown as %d", t.order, r.Version, t.version)
		}
		seen, answered := f.Outcomes[t.order]
		if !answered || seen.State != r.State {
			f.wrong("P3: order %s of %v is %q over HTTP and %q in the database", t.order, who, seen.State, r.State)
		}
	}
}

// unexpected: nobody has an order who did not ask, or who was told definitely that there is none.
func (f *findings) unexpected() {
	for id, r := range f.rows {
		t := f.told[asker{r.Buyer, r.Key}]
		switch {
		case t == nil || t.asks == 0:
			f.wrong("unexpected: nobody asked for order %s (%+v)", id, r)
		case t.order == "" && t.last.Event == Answer && !t.last.Doubtful():
			f.wrong("unexpected: order %s exists and its buyer was told %d %s (after %d asks, %d doubtful)",
				id, t.last.Status, t.last.Reason, t.asks, t.doubts)
		}
	}
}

// ledger: the sale balances (P8), is not oversold (P1) and not undersold (P2), and its counters are what its orders
// add up to.
func (f *findings) ledger() {
	at := slices.IndexFunc(f.Sales, func(s SaleRow) bool { return s.ID == f.Sale })
	if at < 0 {
		f.wrong("P8: sale %q is not in the view sluice_sales", f.Sale)
		return
	}
	s := f.Sales[at]
	units := s.Stock + s.TopUps
	if s.Held+s.Sold > units {
		f.wrong("P1: oversold: held %d + sold %d of %d", s.Held, s.Sold, units)
	}
	if units != s.Free+s.Held+s.Sold {
		f.wrong("P8: stock %d + topups %d is not free %d + held %d + sold %d", s.Stock, s.TopUps, s.Free, s.Held, s.Sold)
	}
	if want := min(units, f.Buyers); s.Held+s.Sold < want {
		f.wrong("P2: undersold: %d of %d units went, and %d buyers wanted one", s.Held+s.Sold, units, f.Buyers)
	}
	sum := map[string]int64{}
	for _, r := range f.rows {
		sum[r.State] += r.Quantity
	}
	if sum["paid"] != s.Sold || sum["held"] != s.Held {
		f.wrong("P8: orders add up to %d paid and %d held, the sale says %d sold and %d held", sum["paid"], sum["held"], s.Sold, s.Held)
	}
	if got := sum["paid"] + sum["held"]; got > units {
		f.wrong("P1: oversold: %d units in orders of %d", got, units)
	}
}

// audit: the service's own audit balances and agrees with the views (P8).
func (f *findings) audit() {
	if !f.Audit.Balanced {
		f.wrong("P8: the audit is not balanced: %+v", f.Audit.Sales)
	}
	for _, a := range f.Audit.Sales {
		if i := slices.IndexFunc(f.Sales, func(s SaleRow) bool { return s.ID == a.ID }); i < 0 || f.Sales[i] != a.SaleRow {
			f.wrong("P8: the audit has %+v, which is not what the view has", a.SaleRow)
		}
		if a.ID != f.Sale {
			continue
		}
		count := map[string]int64{}
		for _, r := range f.rows {
			count[r.State]++
		}
		for state, n := range a.Orders {
			if count[state] != n {
				f.wrong("P8: the audit counts %d %s orders, the view has %d", n, state, count[state])
			}
		}
	}
}

// doubtful counts the askers who lost at least one answer.
func doubtful(history []Event) int {
	lost := map[asker]bool{}
	for _, e := range history {
		if e.Call == Place && e.Doubtful() {
			lost[asker{e.User, e.Key}] = true
		}
	}
	return len(lost)
}
