package api

import (
	"encoding/json"
	"time"

	"sluice"
	"sluice/inventory"
)

// Lists come in pages.
const (
	DefaultPage = 100
	MaxPage     = 1000
)

// MaxEventWait is the longest time for which a call waits for an event.
const MaxEventWait = 30 * time.Second

// Sales is one page of all sales, in the order of their ids.
type Sales struct {
	Now   time.Time     `json:"now"`
	Sales []sluice.Sale `json:"sales"`
	Next  string        `json:"next,omitempty"` // where the page after begins; empty: this is the last one
}

// Order is an order with everything that the store keeps of it.
type Order struct {
	sluice.Status
	ReleaseAt  time.Time       `json:"release_at,omitzero"`  // until when a hold may be paid
	AcceptedAt time.Time       `json:"accepted_at,omitzero"` // when a door admitted it
	Key        string          `json:"key,omitempty"`
	Attempt    int             `json:"attempt,omitempty"`
	PaymentRef string          `json:"payment_ref,omitempty"`
	ReplayOf   sluice.OrderID  `json:"replay_of,omitzero"` // the failed order that it was made from
	Attributes json.RawMessage `json:"attributes,omitempty"`
}

// OrderOf is a record as the API shows it.
func OrderOf(r inventory.Record) Order {
	return Order{
		Status: r.Status, ReleaseAt: r.ReleaseAt, AcceptedAt: r.Order.AcceptedAt, Key: r.Order.Key, Attempt: r.Order.Attempt,
		PaymentRef: r.PaymentRef, ReplayOf: r.ReplayOf, Attributes: r.Order.Attributes,
	}
}

// Orders is one page of settled orders, in the order of their ids.
type Orders struct {
	Orders []Order `json:"orders"`
	Next   string  `json:"next,omitempty"` // where the page after begins; empty: this is the last one
}

// OrderQuery picks orders. Empty fields pick all.
type OrderQuery struct {
	Sale, User string
	State      sluice.State
	After      string // Next of the page before
	Limit      int    // 0: DefaultPage
}

// Trace is the story of one order.
type Trace struct {
	Order  Order          `json:"order"`
	Events []sluice.Event `json:"events"` // those that are still kept
}

// Refunds is one page of payments to be given back, in the order of their numbers.
type Refunds struct {
	Refunds []inventory.Refund `json:"refunds"`
	Next    int64              `json:"next,omitempty"` // where the page after begins; 0: this is the last one
}

// DeadLetters is one page of messages that could not be settled, in the order of their numbers, without their bodies.
type DeadLetters struct {
	DeadLetters []DeadLetter `json:"deadletters"`
	Next        int64        `json:"next,omitempty"` // where the page after begins; 0: this is the last one
}

// DeadLetter is a message that could not be settled.
type DeadLetter struct {
	ID         int64          `json:"id"`
	Message    string         `json:"message"`        // the queue's id of it
	Body       []byte         `json:"body,omitempty"` // left out of lists
	Order      sluice.OrderID `json:"order,omitzero"` // zero: the body could not be read
	Attempts   int            `json:"attempts"`
	Error      string         `json:"error"`
	At         time.Time      `json:"at"`
	ReplayedAs sluice.OrderID `json:"replayed_as,omitzero"`
}
