package sluice

import (
	"encoding/json"
	"time"
)

// EventType says what happened.
type EventType string

// The types of events. Those of an order carry its status, those of a sale its counters.
const (
	EventHeld      EventType = "order.held"
	EventPaid      EventType = "order.paid"
	EventExpired   EventType = "order.expired"
	EventCancelled EventType = "order.cancelled"
	EventRejected  EventType = "order.rejected"
	EventFailed    EventType = "order.failed"
	EventRefundDue EventType = "order.refund_due" // a payment that came too late, or twice; the order's state stays
	EventOpened    EventType = "sale.opened"      // its start has come
	EventSoldOut   EventType = "sale.sold_out"    // every unit is sold: none is free, none held
	EventReopened  EventType = "sale.reopened"    // it was sold out or had ended, and units can be had again
	EventEnded     EventType = "sale.ended"
)

// EventTypes lists every type, in the order above.
func EventTypes() []EventType {
	return []EventType{
		EventHeld, EventPaid, EventExpired, EventCancelled, EventRejected, EventFailed, EventRefundDue,
		EventOpened, EventSoldOut, EventReopened, EventEnded,
	}
}

// Event is something that happened to an order or to a sale, written in the transaction that did it. Whoever listens may
// get it more than once and out of order: Seq tells one event from another, and of one order the higher Seq is the later event.
type Event struct {
	Seq     int64     `json:"seq"` // its place among all events: they are numbered without gaps, in the order of the commits
	Type    EventType `json:"type"`
	At      time.Time `json:"at"` // the store's time
	Sale    string    `json:"sale"`
	Version int64     `json:"version"` // of the order, or of the sale, as the event leaves it

	// Of an order's event.
	Order        OrderID         `json:"order,omitzero"`
	User         string          `json:"user,omitempty"`
	Units        int             `json:"units,omitempty"`
	Reason       Reason          `json:"reason,omitempty"`      // of a rejection
	PayBy        time.Time       `json:"pay_by,omitzero"`       // of a hold, which is held anew where its deadline is moved
	PaymentRef   string          `json:"payment_ref,omitempty"` // of order.paid and order.refund_due
	RefundReason string          `json:"refund_reason,omitempty"`
	ReplayOf     OrderID         `json:"replay_of,omitzero"` // the failed order that this one was made from
	Attributes   json.RawMessage `json:"attributes,omitempty"`
	Trace        TraceContext    `json:"trace,omitzero"` // of the order, on the event of its settlement

	// Of a sale's event.
	*Counters
}

// Counters are where a sale's units are.
type Counters struct {
	Stock  int64 `json:"stock"`
	TopUps int64 `json:"topups"`
	Free   int64 `json:"free"`
	Held   int64 `json:"held"`
	Sold   int64 `json:"sold"`
}

// Events is one page of them.
type Events struct {
	Events []Event `json:"events"`
	Oldest int64   `json:"oldest"` // Seq of the oldest one that is still kept; 0: none is
	Newest int64   `json:"newest"` // Seq of the newest one; 0: there never was one
}
