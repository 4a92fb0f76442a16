package check

import (
	"maps"
	"slices"
)

// dealings is what the history says of payments and of a cancellation of one order.
type dealings struct {
	payments map[string]*payment // by reference
	cancel   payment
}

// payment is one reference, or the cancellation, which needs none.
type payment struct {
	asks, definite int // how often it was asked for, and answered definitely
	granted        int // of these answers
	tooLate        int // refused: the order no longer held its units
	other          int // refused: another payment was there first
	notHeld        int // a cancellation that was refused
}

// possible reports whether it may have happened: it was granted, or an ask is unanswered for ever.
func (p payment) possible() bool { return p.granted > 0 || p.asks > p.definite }

// deal takes in one line of the history that is about a payment or a cancellation.
func (f *findings) deal(e Event) {
	d := f.deals[e.Order]
	if d == nil {
		d = &dealings{payments: map[string]*payment{}}
		f.deals[e.Order] = d
	}
	p := &d.cancel
	if e.Call == Pay {
		if d.payments[e.Ref] == nil {
			d.payments[e.Ref] = &payment{}
		}
		p = d.payments[e.Ref]
	}
	if e.Event == Ask {
		p.asks++
		return
	}
	if e.Doubtful() || e.Status >= 500 {
		return
	}
	p.definite++
	switch {
	case e.Status == 200:
		p.granted++
	case e.Call == Pay && e.Reason == "too-late":
		p.tooLate++
	case e.Call == Pay && e.Reason == "already-paid":
		p.other++
	case e.Call == Cancel && e.Reason == "not-held":
		p.notHeld++
	default:
		f.wrongOf(of(e.Order), nil, "P6: %s of order %s, which was held, was answered %d %s", e.Call, e.Order, e.Status, e.Reason)
	}
}

// payments: an order is paid by exactly one payment, and only then; it ends in exactly one of paid, expired and
// cancelled, and that is what everybody was told who asked for one of these (P6).
func (f *findings) payments() {
	for id, d := range f.deals {
		r, settled := f.rows[id]
		if !settled {
			f.wrongOf(of(id), nil, "P3: lost: order %s was held and is not in the database", id)
			continue
		}
		f.paid(r, d)
		switch {
		case d.cancel.granted > 0 && r.State != "cancelled":
			f.wrongOf(of(id), nil, "P6: order %s was cancelled and is %s", id, r.State)
		case d.cancel.notHeld > 0 && d.cancel.granted > 0:
			f.wrongOf(of(id), nil, "P6: cancelling order %s was both granted and refused", id)
		case d.cancel.notHeld > 0 && (r.State == "cancelled" || r.State == "held"):
			f.wrongOf(of(id), nil, "P6: order %s is %s, and cancelling it was refused as not-held", id, r.State)
		}
	}
	f.endsAskedFor()
	f.notExpiredEarly()
}

func (f *findings) paid(r OrderRow, d *dealings) {
	var granted []string
	for _, ref := range slices.Sorted(maps.Keys(d.payments)) {
		p := d.payments[ref]
		if p.granted > 0 {
			granted = append(granted, ref)
		}
		switch {
		case p.granted > 0 && p.tooLate+p.other > 0:
			f.wrongOf(of(r.ID), nil, "P6: payment %s of order %s was both taken and refused", ref, r.ID)
		case p.granted > 0 && r.State != "paid":
			f.wrongOf(of(r.ID), nil, "P6: order %s was paid by %s and is %s", r.ID, ref, r.State)
		case p.tooLate > 0 && (r.State == "paid" || r.State == "held"):
			f.wrongOf(of(r.ID), nil, "P6: order %s is %s, and its payment %s was refused as too-late", r.ID, r.State, ref)
		case p.other > 0 && r.State != "paid":
			f.wrongOf(of(r.ID), nil, "P6: order %s is %s, and its payment %s was refused as already-paid", r.ID, r.State, ref)
		}
	}
	if len(granted) > 1 {
		f.wrongOf(of(r.ID), nil, "P6: order %s was paid more than once: %v", r.ID, granted)
	}
}

// endsAskedFor: with a payment window, nothing is paid or cancelled that nobody paid or cancelled.
func (f *findings) endsAskedFor() {
	for id, r := range f.rows {
		d := f.deals[id]
		switch {
		case r.State == "paid" && f.Window > 0 && !d.mayBePaid():
			f.wrongOf(of(id), nil, "P6: order %s is paid, and no payment of it was taken", id)
		case r.State == "cancelled" && (d == nil || !d.cancel.possible()):
			f.wrongOf(of(id), nil, "P6: order %s is cancelled, and nobody cancelled it", id)
		case r.State == "expired" && f.Window == 0:
			f.wrongOf(of(id), nil, "P6: order %s expired in a sale without a payment window", id)
		}
	}
}

func (d *dealings) mayBePaid() bool {
	if d == nil {
		return false
	}
	for _, p := range d.payments {
		if p.possible() {
			return true
		}
	}
	return false
}

// notExpiredEarly: nobody sees an order expire sooner after asking for it than a hold lasts.
func (f *findings) notExpiredEarly() {
	for _, e := range f.History {
		if !e.Accepted() || e.State != "expired" {
			continue
		}
		t := f.told[f.owner[e.Order]]
		if t != nil && e.At-t.first < f.Window.Nanoseconds() {
			f.wrongOf(of(e.Order), nil, "P6: order %s was seen expired before its payment window of %v was over", e.Order, f.Window)
		}
	}
}
