package inventory

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"sluice"
)

// MaxEvents is how many events one call answers or forgets at most.
const MaxEvents = 10_000

// Written is what one transaction writes, as the events need it, and the one place where they are made. The functions
// with which a store writes orders and sales tell it, and the store stores its Events as the last thing before it
// commits: so a path that uses those functions cannot forget them. The zero Written is ready.
//
// The rules for orders: there is one event for each step of an order's version, and none without such a step. The
// first payment that names itself to an order that was paid at once is no step. A hold whose deadline is moved is held
// anew. A refund due is an event without a step: what became of the order stays.
type Written struct {
	events []sluice.Event // of orders, in the order in which they were written
	sales  map[string]*announced
}

// announced is a sale under its lock, as the transaction leaves it, and what was said of it before.
type announced struct {
	sale sluice.Sale
	said Phase
}

// Locked notes a sale as it was read under its lock, with the phase that is stored with it. Only the first reading counts.
func (w *Written) Locked(sale sluice.Sale, said Phase) {
	if w.sales == nil {
		w.sales = map[string]*announced{}
	}
	if w.sales[sale.ID] == nil {
		w.sales[sale.ID] = &announced{sale, said}
	}
}

// Has reports whether a sale was noted as it was read.
func (w *Written) Has(sale string) bool { return w.sales[sale] != nil }

// Changed notes a sale's facts as they are written, the counters included.
func (w *Written) Changed(sale sluice.Sale) {
	w.known(sale.ID).sale = sale
}

// Moved notes how the counters of sales are moved, in one step of the version each.
func (w *Written) Moved(deltas ...Delta) {
	for _, d := range deltas {
		a := w.known(d.Sale)
		a.sale = Apply(a.sale, d)
	}
}

// known answers a placeholder for a sale that was not read: Events finds it out.
func (w *Written) known(id string) *announced {
	if w.sales[id] == nil {
		w.Locked(sluice.Sale{ID: id}, unread)
	}
	return w.sales[id]
}

// Inserted notes orders that are settled now.
func (w *Written) Inserted(rows ...Row) {
	w.events = slices.Grow(w.events, len(rows))
	for i := range rows {
		o, s := &rows[i].Order, &rows[i].Status
		e := eventOf(s, eventTypes[s.State], s.Version, o.Attributes, rows[i].ReplayOf)
		e.Trace = o.Trace
		w.events = append(w.events, e)
	}
}

// Updated notes an order that was settled before.
func (w *Written) Updated(before, after Stored) {
	s := &after.Status
	if before.Status.State == s.State && before.Status.PayBy.Equal(s.PayBy) {
		return
	}
	e := eventOf(s, eventTypes[s.State], before.Status.Version+1, after.Attributes, after.ReplayOf)
	if s.State == sluice.Paid {
		e.PaymentRef = after.PaymentRef
	}
	w.events = append(w.events, e)
}

// RefundDue notes a payment that must be given back, with the order as the transaction leaves it.
func (w *Written) RefundDue(o Stored, ref string, reason RefundReason) {
	e := eventOf(&o.Status, sluice.EventRefundDue, o.Status.Version, o.Attributes, o.ReplayOf)
	e.PaymentRef, e.RefundReason = ref, string(reason)
	w.events = append(w.events, e)
}

var eventTypes = map[sluice.State]sluice.EventType{
	sluice.Held: sluice.EventHeld, sluice.Paid: sluice.EventPaid, sluice.Expired: sluice.EventExpired,
	sluice.Cancelled: sluice.EventCancelled, sluice.Rejected: sluice.EventRejected, sluice.Failed: sluice.EventFailed,
}

func eventOf(s *sluice.Status, t sluice.EventType, version int64, attributes json.RawMessage, replayOf sluice.OrderID) sluice.Event {
	e := sluice.Event{
		Type: t, Sale: s.Sale, Version: version, Order: s.Order, User: s.User, Units: s.Units,
		ReplayOf: replayOf, Attributes: attributes,
	}
	switch t {
	case sluice.EventHeld:
		e.PayBy = s.PayBy
	case sluice.EventRejected:
		e.Reason = s.Reason
	default:
	}
	return e
}

// Events are what happened in a transaction at now, without their numbers: of the orders in the order in which they were
// written, then of the sales in id order. It also answers the phases to store, by sale.
func (w *Written) Events(now time.Time) ([]sluice.Event, map[string]Phase, error) {
	events, phases := w.events, map[string]Phase{}
	for _, id := range slices.Sorted(maps.Keys(w.sales)) {
		a := w.sales[id]
		if a.said == unread {
			return nil, nil, fmt.Errorf("sale %s is written but was not read under its lock", id)
		}
		types, phase := Announce(now, a.said, a.sale)
		for _, t := range types {
			events = append(events, saleEvent(t, a.sale))
		}
		if phase != a.said {
			phases[id] = phase
		}
	}
	for i := range events {
		events[i].At = now
	}
	if len(events) > 0 && now.IsZero() {
		return nil, nil, fmt.Errorf("%d events, but the transaction did not read the clock", len(events))
	}
	return events, phases, nil
}

func saleEvent(t sluice.EventType, s sluice.Sale) sluice.Event {
	return sluice.Event{Type: t, Sale: s.ID, Version: s.Version, Counters: &sluice.Counters{
		Stock: s.Stock, TopUps: s.TopUps, Free: s.Free, Held: s.Held, Sold: s.Sold,
	}}
}

// eventBody is an event without what the stores keep in columns: its own names hide the event's.
type eventBody struct {
	sluice.Event
	Seq   omitted `json:"seq,omitzero"`
	At    omitted `json:"at,omitzero"`
	Order omitted `json:"order,omitzero"`
}

type omitted struct{}

// Later reports whether an event is not the first one of its order: that one is found by the time at which it was settled.
func Later(e *sluice.Event) bool {
	return e.Order != sluice.OrderID{} && (e.Version > firstVersion || e.Type == sluice.EventRefundDue)
}

// EncodeEvents is what the stores keep of each event beside its number, order and time. Attributes that are no JSON, which
// only a dead letter's order can have, are left out.
func EncodeEvents(events []sluice.Event) ([]string, error) {
	bodies := make([]string, len(events))
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	for i := range events {
		b := eventBody{Event: events[i]}
		if !json.Valid(b.Attributes) {
			b.Attributes = nil
		}
		buf.Reset()
		if err := enc.Encode(&b); err != nil {
			return nil, fmt.Errorf("write an event: %w", err)
		}
		bodies[i] = string(bytes.TrimSuffix(buf.Bytes(), []byte("\n")))
	}
	return bodies, nil
}

// DecodeEvent puts an event together again. Fields that this version does not know are ignored.
func DecodeEvent(seq int64, order sluice.OrderID, at time.Time, body []byte) (sluice.Event, error) {
	var b eventBody
	if err := json.Unmarshal(body, &b); err != nil {
		return sluice.Event{}, fmt.Errorf("read event %d: %w", seq, err)
	}
	b.Event.Seq, b.Event.Order, b.Event.At = seq, order, Micros(at)
	return b.Event, nil
}
