package check

import (
	"slices"
	"strings"
)

// stock is what a sale has at a moment, as its events tell it.
type stock struct {
	units, free int64
	owns        map[string]int64 // units held or paid, by buyer
	has         map[string]bool  // orders that hold or have paid theirs
}

// replay goes through the sale's events: whenever the database committed, no more was held and sold than there is (P1), nobody had more
// than the limit (P5), nobody was rejected who could have had what was asked for (P2), and no order failed but a poisonous one. The end
// alone does not tell: what is rejected wrongly, others buy later. Where the books are wrong already, their history is of no more use.
func (f *findings) replay() {
	at := slices.IndexFunc(f.Sales, func(s SaleRow) bool { return s.ID == f.Sale })
	if !f.Ended || at < 0 || len(f.list) > 0 || f.Sales[at].TopUps != 0 { // events do not tell of units that were added
		return
	}
	now := &stock{units: f.Sales[at].Stock, free: f.Sales[at].Stock, owns: map[string]int64{}, has: map[string]bool{}}
	own := slices.DeleteFunc(slices.Clone(f.Happenings), func(e Happening) bool { return f.rows[e.Order].ID == "" })
	for len(own) > 0 {
		n := 1 // events of one transaction have one time
		for n < len(own) && own[n].At.Equal(own[0].At) {
			n++
		}
		f.commit(now, own[:n])
		own = own[n:]
	}
}

// commit takes in the events of one transaction, which are in no order: those who were rejected may have come after all others in it.
func (f *findings) commit(now *stock, events []Happening) {
	least, most := now.free, map[string]int64{} // least that was free, and most that buyers had
	for _, e := range events {
		switch r := f.rows[e.Order]; {
		case (e.Type == "order.held" || e.Type == "order.paid") && !now.has[r.ID]:
			now.take(r)
			least -= r.Quantity
		case e.Type == "order.expired" || e.Type == "order.cancelled":
			most[r.Buyer] += now.giveBack(r)
		}
	}
	for _, e := range events {
		r := f.rows[e.Order]
		switch had := now.owns[r.Buyer]; {
		case e.Type == "order.rejected":
			f.rejected(r, e, least, had+most[r.Buyer])
		case e.Type == "order.failed" && (f.Poison == "" || !strings.HasPrefix(r.Buyer, f.Poison)):
			f.wrongOf(of(r.ID), nil, "P2: order %s of %s failed, and nothing was wrong with it", r.ID, r.Buyer)
		case f.Limit > 0 && had > f.Limit:
			f.wrongOf(of(r.ID), nil, "P5: with event %d, order %s, %s has %d units, and the limit is %d", e.Seq, r.ID, r.Buyer, had, f.Limit)
		}
	}
	if now.free < 0 {
		last := events[len(events)-1]
		f.wrongOf(of(last.Order), nil, "P1: oversold: with event %d, order %s, %d units of %d are held or sold", last.Seq, last.Order, now.units-now.free, now.units)
	}
}

func (now *stock) take(r OrderRow) {
	now.has[r.ID] = true
	now.free -= r.Quantity
	now.owns[r.Buyer] += r.Quantity
}

func (now *stock) giveBack(r OrderRow) (units int64) {
	if !now.has[r.ID] {
		return 0
	}
	delete(now.has, r.ID)
	now.free += r.Quantity
	now.owns[r.Buyer] -= r.Quantity
	return r.Quantity
}

// rejected: the reason that an order was rejected for is true.
func (f *findings) rejected(r OrderRow, e Happening, free, had int64) {
	switch {
	case r.Reason == "sold_out" && free >= r.Quantity:
		f.wrongOf(of(r.ID), nil, "P2: order %s of %d was rejected with event %d as sold_out, and %d units were free", r.ID, r.Quantity, e.Seq, free)
	case r.Reason == "user_limit" && had+r.Quantity <= f.Limit:
		f.wrongOf(of(r.ID), nil, "P2: order %s of %d was rejected with event %d as user_limit, and %s had %d of %d units", r.ID, r.Quantity, e.Seq, r.Buyer,
			had, f.Limit)
	case r.Reason != "sold_out" && r.Reason != "user_limit":
		f.wrongOf(of(r.ID), nil, "P2: order %s was rejected as %q by an open sale", r.ID, r.Reason)
	}
}
