// Package check holds what a sale left behind against every promise. It never trusts the service, and shares no code with it: it
// reads the buyers' history, the public API and the published views.
package check

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Facts are everything that is known of one sale after a run.
type Facts struct {
	Run
	Limit      int64 // units a buyer, as the service says it
	History    []Event
	Happenings []Happening                  // GET /v1/events, where the run has the sale ended
	Idle       map[string]int64             // by door: orders outstanding when all is over; a door that does not tell is not there
	Outcomes   map[string]map[string]Status // by door, by order: what GET /v1/orders/{order} answers when all is over
	Orders     []OrderRow                   // the view sluice_orders
	Sales      []SaleRow                    // the view sluice_sales
	Audit      Audit                        // GET /v1/audit
}

// Status is an order as its buyer sees it.
type Status struct {
	Order   string `json:"order"`
	State   string `json:"status"`
	Reason  string `json:"reason"`
	Version int64  `json:"version"`
	Units   int64  `json:"units"`

	PayBy    time.Time `json:"pay_by"`   // of a hold
	Position int64     `json:"position"` // in the queue
	ETA      int64     `json:"eta_ms"`
}

// Final reports whether nothing may become of the order any more.
func (s Status) Final() bool { return final(s.State) }

func final(state string) bool { return state != "" && state != "queued" && state != "held" }

// OrderRow is a row of the view sluice_orders.
type OrderRow struct {
	ID, Sale, Buyer, Key string
	Quantity             int64
	State, Reason        string
	Version              int64
	SettledAt            time.Time // on the database's clock
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

// Asker is a buyer with a key, as the history and the view both name it.
type Asker struct {
	User string `json:"user"`
	Key  string `json:"key"`
}

func (a Asker) String() string { return "{" + a.User + " " + a.Key + "}" }

// told is what the history says of one asker.
type told struct {
	order    string // the one that was promised
	version  int64  // the highest that was seen
	first    int64  // when the purchase was first asked for
	asks     int
	doubts   int
	repeated bool             // the first promise was the answer to a repeat
	promised map[string]int64 // by door: when it first promised the order
	last     map[string]Event // by door: its last answer to a purchase
	quantity int64
}

// refused reports whether every door that was asked said in the end, definitely, that there is no order, and answers
// one of these refusals. A refusal of one door ends no doubt that another one left.
func (t *told) refused() (e Event, ok bool) {
	for _, e = range t.last {
		if e.Accepted() || e.Doubtful() {
			return e, false
		}
	}
	return e, len(t.last) > 0
}

// findings collects violations; its methods are the checks.
type findings struct {
	Facts
	told  map[Asker]*told
	owner map[string]Asker     // by order
	deals map[string]*dealings // by order
	rows  map[string]OrderRow  // by id; the first where an id is there twice
	peak  int64                // most orders outstanding
	list  []Violation
}

// Violation is one promise that was broken.
type Violation struct {
	Text   string   `json:"text"` // the promise's number first, where it has one
	Orders []string `json:"orders,omitempty"`
	Askers []Asker  `json:"askers,omitempty"`
	Late   bool     `json:"late,omitempty"` // it is about answers that came, if late
}

func (v Violation) String() string { return v.Text }

// Check answers every violation of a promise in the facts, in words. None means that all promises were kept.
func Check(facts Facts) []Violation { return examine(facts).list }

func examine(facts Facts) *findings {
	f := &findings{
		Facts: facts, told: map[Asker]*told{}, owner: map[string]Asker{}, deals: map[string]*dealings{}, rows: map[string]OrderRow{},
	}
	f.readHistory()
	f.readRows()
	f.promised()
	f.unexpected()
	f.forward()
	f.payments()
	f.limits()
	f.ledger()
	f.audit()
	f.happenings()
	f.replay()
	f.bound()
	f.prompt()
	f.flat()
	return f
}

// wrong finds a violation of the sale as a whole.
func (f *findings) wrong(format string, args ...any) { f.wrongOf(nil, nil, format, args...) }

// wrongOf finds a violation that some orders and some askers can tell the story of.
func (f *findings) wrongOf(orders []string, askers []Asker, format string, args ...any) {
	f.list = append(f.list, Violation{Text: fmt.Sprintf(format, args...), Orders: orders, Askers: askers})
}

func of(orders ...string) []string { return orders }

// readHistory gathers what every asker was told. An asker has one order for ever, whichever door is asked, and an order
// has one asker (P5).
func (f *findings) readHistory() {
	for _, e := range f.History {
		who := Asker{e.User, e.Key}
		t := f.told[who]
		if t == nil {
			t = &told{first: e.At, last: map[string]Event{}, promised: map[string]int64{}}
			f.told[who] = t
		}
		switch {
		case e.Call == Pay || e.Call == Cancel:
			f.deal(e)
		case e.Event == Ask && e.Call == Place:
			t.asks, t.quantity = t.asks+1, e.Quantity
		case e.Event == Answer:
			f.answer(who, t, e)
		}
	}
}

func (f *findings) answer(who Asker, t *told, e Event) {
	if e.Call == Place {
		t.last[e.Door] = e
		if e.Doubtful() {
			t.doubts++
		}
		if at, ok := t.promised[e.Door]; ok && at < e.Asked && e.turnsAway() {
			f.wrongOf(of(t.order), []Asker{who}, "P5: %s promised order %s to %v, and answered the same again with %d %s", e.Door, t.order, who, e.Status, e.Reason)
		}
		if e.Status >= 400 && e.Status < 500 && e.Status != 429 && e.Reason != "sold-out" {
			f.wrongOf(nil, []Asker{who}, "P7: %v was refused with %d %s by an open sale", who, e.Status, e.Reason)
		}
	}
	if !e.Accepted() {
		return
	}
	if t.order != "" && t.order != e.Order {
		f.wrongOf(of(t.order, e.Order), []Asker{who}, "P5: %v was told of order %s and of %s", who, t.order, e.Order)
	}
	if first, known := f.owner[e.Order]; known && first != who {
		f.wrongOf(of(e.Order), []Asker{first, who}, "P5: order %s belongs to %v and to %v", e.Order, first, who)
	}
	f.owner[e.Order] = who
	if t.order == "" && e.Call == Place && e.Status == 200 {
		t.repeated = true
	}
	if _, before := t.promised[e.Door]; !before && e.Call == Place {
		t.promised[e.Door] = e.At
	}
	t.order, t.version = e.Order, max(t.version, e.Version)
}

// forward: what is asked of one door after another answer of it is never an older status (P10), and one version of an
// order is one state, wherever it is seen.
func (f *findings) forward() {
	type view struct{ door, order string }
	type moment struct{ at, version int64 }
	type version struct {
		order  string
		number int64
	}
	seen := map[view][]moment{} // in the order of time, and so of the highest version
	states := map[version]string{}
	is := func(order string, number int64, state, where string) {
		v := version{order, number}
		if other, known := states[v]; known && other != state {
			f.wrongOf(of(order), nil, "P10: version %d of order %s is %s and is %s %s", number, order, other, state, where)
		}
		states[v] = state
	}
	for _, e := range f.History {
		if !e.Accepted() {
			continue
		}
		is(e.Order, e.Version, e.State, "at "+e.Door)
		v := view{e.Door, e.Order}
		before := seen[v]
		known, _ := slices.BinarySearchFunc(before, e.Asked, func(m moment, at int64) int { return int(m.at - at) })
		if known > 0 && before[known-1].version > e.Version {
			f.wrongOf(of(e.Order), nil, "P10: order %s went back from version %d to %d (%s) at %s", e.Order, before[known-1].version, e.Version, e.State, e.Door)
		}
		highest := e.Version
		if len(before) > 0 {
			highest = max(highest, before[len(before)-1].version)
		}
		seen[v] = append(before, moment{e.At, highest})
	}
	for id, r := range f.rows {
		is(id, r.Version, r.State, "in the database")
	}
}

// readRows: no order twice, and no asker with two orders (P5).
func (f *findings) readRows() {
	byAsker := map[Asker]string{}
	for _, r := range f.Orders {
		if r.Sale != f.Sale {
			continue
		}
		if _, twice := f.rows[r.ID]; twice {
			f.wrongOf(of(r.ID), []Asker{{r.Buyer, r.Key}}, "P5: order %s is in the database twice", r.ID)
			continue
		}
		f.rows[r.ID] = r
		who := Asker{r.Buyer, r.Key}
		if other, twice := byAsker[who]; twice {
			f.wrongOf(of(other, r.ID), []Asker{who}, "P5: %v has the orders %s and %s", who, other, r.ID)
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
			f.wrongOf(of(t.order), []Asker{who}, "P3: lost: order %s of %v was accepted and is not in the database", t.order, who)
			continue
		case !final(r.State):
			f.wrongOf(of(t.order), []Asker{who}, "P3: order %s of %v is still %s", t.order, who, r.State)
		case Asker{r.Buyer, r.Key} != who || r.Quantity != t.quantity:
			f.wrongOf(of(t.order), []Asker{who}, "P5: %v asked for %d and its order %s is %+v", who, t.quantity, t.order, r)
		}
		if r.Version < t.version {
			f.wrongOf(of(t.order), []Asker{who}, "P10: order %s has version %d in the database and was shown as %d", t.order, r.Version, t.version)
		}
		f.overHTTP(who, r)
	}
}

// overHTTP: at least one door was asked what became of the order, and all that were say what the database says.
func (f *findings) overHTTP(who Asker, r OrderRow) {
	doors := 0
	for _, door := range slices.Sorted(maps.Keys(f.Outcomes)) {
		seen, asked := f.Outcomes[door][r.ID]
		if !asked {
			continue
		}
		doors++
		if seen.State != r.State || seen.Version != r.Version {
			f.wrongOf(of(r.ID), []Asker{who}, "P3: order %s of %v is %q (%d) at %s and %q (%d) in the database",
				r.ID, who, seen.State, seen.Version, door, r.State, r.Version)
		}
	}
	if doors == 0 {
		f.wrongOf(of(r.ID), []Asker{who}, "P3: order %s of %v is %q in the database and no door says so", r.ID, who, r.State)
	}
}

// unexpected: nobody has an order who did not ask, or who was told definitely that there is none.
func (f *findings) unexpected() {
	for id, r := range f.rows {
		t := f.told[Asker{r.Buyer, r.Key}]
		if t == nil || t.asks == 0 {
			f.wrongOf(of(id), []Asker{{r.Buyer, r.Key}}, "unexpected: nobody asked for order %s (%+v)", id, r)
			continue
		}
		if t.order != "" && t.order != id {
			f.wrongOf(of(id, t.order), []Asker{{r.Buyer, r.Key}}, "P5: %s of %s is order %s in the database, and its buyer was told of %s", r.Key, r.Buyer, id, t.order)
		}
		if e, ok := t.refused(); ok && t.order == "" {
			f.wrongOf(of(id), []Asker{{r.Buyer, r.Key}}, "unexpected: order %s exists and its buyer was told %d %s (after %d asks, %d doubtful)",
				id, e.Status, e.Reason, t.asks, t.doubts)
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
		f.wrongOf(f.beyond(units), nil, "P1: oversold: held %d + sold %d of %d", s.Held, s.Sold, units)
	}
	if units != s.Free+s.Held+s.Sold {
		f.wrong("P8: stock %d + topups %d is not free %d + held %d + sold %d", s.Stock, s.TopUps, s.Free, s.Held, s.Sold)
	}
	sum := map[string]int64{}
	for _, r := range f.rows {
		sum[r.State] += r.Quantity
	}
	went := sum["paid"] + sum["held"] + sum["expired"] + sum["cancelled"] // at some time
	if want := min(units, f.Buyers); went < want {
		f.wrong("P2: undersold: %d of %d units went, and %d buyers wanted one", went, units, f.Buyers)
	}
	f.honestlySoldOut(s)
	if s.Held != 0 {
		f.wrong("P6: %d units are held still", s.Held)
	}
	if want := units - sum["paid"] - sum["held"]; s.Free != want {
		f.wrong("P6: %d units are free, and orders leave %d: units came back twice or not at all", s.Free, want)
	}
	if sum["paid"] != s.Sold || sum["held"] != s.Held {
		f.wrong("P8: orders add up to %d paid and %d held, the sale says %d sold and %d held", sum["paid"], sum["held"], s.Sold, s.Held)
	}
	if got := sum["paid"] + sum["held"]; got > units {
		f.wrongOf(f.beyond(units), nil, "P1: oversold: %d units in orders of %d", got, units)
	}
}

// beyond is the first order, by the time of its settling, that took more than there was.
func (f *findings) beyond(units int64) []string {
	var took []OrderRow
	for _, r := range f.rows {
		if r.State == "held" || r.State == "paid" {
			took = append(took, r)
		}
	}
	slices.SortFunc(took, func(a, b OrderRow) int {
		return cmp.Or(a.SettledAt.Compare(b.SettledAt), strings.Compare(a.ID, b.ID))
	})
	for _, r := range took {
		if units -= r.Quantity; units < 0 {
			return of(r.ID)
		}
	}
	return nil
}

// honestlySoldOut: as long as the last unit is not sold, nobody is told that all are, and who goes on gets one (P2). What
// is sold stays sold, so that the end tells.
func (f *findings) honestlySoldOut(s SaleRow) {
	left := s.Stock + s.TopUps - s.Sold
	if left <= 0 {
		return
	}
	if f.SoldOut {
		f.wrong("P2: undersold: %d units are left, and buyers went on until nothing was", left)
	}
	for _, e := range f.History {
		if e.Event == Answer && e.Call == Place && e.Reason == "sold-out" {
			f.wrongOf(nil, []Asker{{e.User, e.Key}}, "P2: %s was told %d sold-out, and %d units are not sold even now", e.User, e.Status, left)
			return
		}
	}
}

// limits: nobody owns more units than the sale allows, over all keys (P5).
func (f *findings) limits() {
	if f.Limit <= 0 {
		f.wrong("P5: the limit of the sale is not known")
		return
	}
	owns, through := map[string]int64{}, map[string][]string{}
	for _, r := range f.rows {
		if r.State == "held" || r.State == "paid" {
			owns[r.Buyer] += r.Quantity
			through[r.Buyer] = append(through[r.Buyer], r.ID)
		}
	}
	for _, buyer := range slices.Sorted(maps.Keys(owns)) {
		if owns[buyer] > f.Limit {
			f.wrongOf(through[buyer], nil, "P5: %s owns %d units, and the limit is %d", buyer, owns[buyer], f.Limit)
		}
	}
}

// audit: the service's own audit balances and agrees with the views (P8).
func (f *findings) audit() {
	if !f.Audit.Balanced {
		f.wrong("P8: the audit is not balanced: %+v", f.Audit.Sales)
	}
	if len(f.Audit.Sales) != len(f.Sales) {
		f.wrong("P8: the audit has %d sales, the view has %d", len(f.Audit.Sales), len(f.Sales))
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
		for state := range a.Orders {
			count[state] += 0 // one that the view does not have is compared too
		}
		for state, n := range count {
			if a.Orders[state] != n {
				f.wrong("P8: the audit counts %d %s orders, the view has %d", a.Orders[state], state, n)
			}
		}
	}
}

// Doubtful counts the askers who lost at least one answer.
func Doubtful(history []Event) int {
	lost := map[Asker]bool{}
	for _, e := range history {
		if e.Call == Place && e.Doubtful() {
			lost[Asker{e.User, e.Key}] = true
		}
	}
	return len(lost)
}
