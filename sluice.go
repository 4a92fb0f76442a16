// Package sluice is the domain of a flash sale: sales, orders, their states and the reasons for a refusal.
// It does no I/O, keeps no state and imports nothing but the standard library.
package sluice

import (
	"encoding/json"
	"fmt"
	"time"
)

// Limits of what a buyer may send. Everything beyond them is refused before it costs anything.
const (
	MaxSaleBytes       = 64
	MaxUserBytes       = 128
	MaxKeyBytes        = 128
	MaxAttributesBytes = 1024
	MaxQuantity        = 10_000
)

// State is where an order stands. An order only ever moves forward (P10):
// queued -> held -> paid | expired | cancelled, queued -> rejected, queued -> failed,
// and queued -> paid where the sale has no payment window.
type State string

// The states of an order.
const (
	Queued    State = "queued"
	Held      State = "held"
	Paid      State = "paid"
	Expired   State = "expired"
	Cancelled State = "cancelled"
	Rejected  State = "rejected"
	Failed    State = "failed"
)

// Valid reports whether s is one of the states above.
func (s State) Valid() bool {
	switch s {
	case Queued, Held, Paid, Expired, Cancelled, Rejected, Failed:
		return true
	}
	return false
}

// Final reports whether no later state can follow.
func (s State) Final() bool { return s != Queued && s != Held }

// Retryable reports whether a buyer who asks again makes a new attempt instead of a repeat.
func (s State) Retryable() bool { return s == Rejected || s == Expired || s == Cancelled }

// Reason says why the store rejected an order that was admitted. It is empty for every other state.
type Reason string

// The reasons for a rejection.
const (
	SoldOut     Reason = "sold_out"     // fewer free units than the order asks for
	UserLimit   Reason = "user_limit"   // the buyer would own more than the sale allows
	SaleClosed  Reason = "sale_closed"  // admitted outside the sale's window
	Stale       Reason = "stale"        // waited longer than the sale's max_age
	UnknownSale Reason = "unknown_sale" // the store has no such sale
)

// Order is one buyer's request, from admission on. It is written once and never changed;
// what becomes of it is its Status.
type Order struct {
	ID       OrderID `json:"id"`
	Sale     string  `json:"sale"`
	User     string  `json:"user"`
	Key      string  `json:"key,omitempty"`
	Attempt  int     `json:"attempt,omitempty"` // 0 for the first; the id depends on it
	Quantity int     `json:"quantity"`          // units, all or nothing

	// Attributes is a JSON object of the shop's own, carried unread to every event.
	Attributes json.RawMessage `json:"attributes,omitempty"`

	// AcceptedAt is when the door admitted the order, in the store's time as the door knew it;
	// zero where the door had not yet heard the store's time.
	AcceptedAt time.Time `json:"accepted_at,omitzero"`

	// Trace travels with the order to the event of its settlement. The journal does not keep it: an order that a restarted
	// door carries again has none.
	Trace TraceContext `json:"trace,omitzero"`
}

// TraceContext is where something belongs in a distributed trace (W3C Trace Context); the zero one is none.
type TraceContext struct {
	Parent string `json:"traceparent,omitempty"`
}

// Status is what became of an order. Of two statuses of one order the higher version is the later.
type Status struct {
	Order     OrderID   `json:"order"`
	Sale      string    `json:"sale"`
	User      string    `json:"user"`
	State     State     `json:"status"`
	Reason    Reason    `json:"reason,omitempty"`
	Version   int64     `json:"version"` // 1 is queued; the store counts on from 2
	Units     int       `json:"units"`   // the quantity as it was settled
	PayBy     time.Time `json:"pay_by,omitzero"`
	SettledAt time.Time `json:"settled_at,omitzero"` // when it left queued
}

// Sale is one SKU with a stock and a window. Its counters obey
// Stock + TopUps = Free + Held + Sold at every instant (P1, P8).
type Sale struct {
	ID            string    `json:"id"`
	SKU           string    `json:"sku"`
	Stock         int64     `json:"stock"`
	PerUserLimit  int       `json:"per_user_limit"`
	StartsAt      time.Time `json:"starts_at,omitzero"`     // zero: already begun
	EndsAt        time.Time `json:"ends_at,omitzero"`       // zero: open until ended by hand
	PaymentWindow Duration  `json:"payment_window"`         // zero: settled orders are paid at once
	PaymentGrace  Duration  `json:"payment_grace,omitzero"` // how long after its deadline a hold is kept and may still be paid
	MaxAge        Duration  `json:"max_age,omitzero"`       // zero: an order may wait however long
	CheckoutURL   string    `json:"checkout_url,omitempty"`
	OverAdmission float64   `json:"over_admission"`
	Paused        bool      `json:"paused,omitempty"`

	// ReservedShare of each door's bound is kept for buyers whose ticket names the class ReservedFor.
	ReservedFor   string  `json:"reserved_for,omitempty"`
	ReservedShare float64 `json:"reserved_share,omitempty"` // 0 to MaxReservedShare; 0: none is kept

	TopUps  int64 `json:"topups"`
	Free    int64 `json:"free"`
	Held    int64 `json:"held"`
	Sold    int64 `json:"sold"`
	Version int64 `json:"version"` // grows with every change; older facts are ignored

	// NextRelease is when the first of the holds falls due, told where no unit is free; zero where it is not known.
	NextRelease time.Time `json:"next_release,omitzero"`
}

// Ticket is what a shop says of a buyer, once the ticket's signature and times were found good.
type Ticket struct {
	Buyer   string    // the user of every order that is placed with it
	Class   string    // such as "members"; empty: none
	Sale    string    // the only sale that it buys in; empty: any
	Expires time.Time // not good from then on
}

// Changes is what one transaction of the store did, as the doors must hear it: statuses of orders,
// the sales as they stand after it, and the store's time.
type Changes struct {
	Now      time.Time `json:"now"`
	Statuses []Status  `json:"statuses,omitempty"`
	Sales    []Sale    `json:"sales,omitempty"`
}

// Empty reports whether there is nothing to announce.
func (c Changes) Empty() bool { return len(c.Statuses) == 0 && len(c.Sales) == 0 }

// Pace is how workers are set to settle.
type Pace struct {
	DrainRate float64 `json:"drain_rate"` // orders a second; 0 for no limit
	Batch     int     `json:"batch"`      // most orders in one transaction
	Bounds    int64   `json:"bounds"`     // of all doors that were heard of lately, summed up; 0 unknown
}

// SaleAudit is one sale's line of the ledger. Differences is empty when it balances (P8).
type SaleAudit struct {
	ID          string          `json:"id"`
	Stock       int64           `json:"stock"`
	TopUps      int64           `json:"topups"`
	Free        int64           `json:"free"`
	Held        int64           `json:"held"`
	Sold        int64           `json:"sold"`
	Orders      map[State]int64 `json:"orders"`
	Differences []string        `json:"differences,omitempty"`
}

// Audit is the ledger of all sales, read in one snapshot.
type Audit struct {
	Balanced bool        `json:"balanced"`
	Sales    []SaleAudit `json:"sales"`
}

// Duration is a time.Duration that reads and writes as text ("30m0s") in JSON.
type Duration time.Duration

// MarshalText writes the duration as Go prints it.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads "90s", "30m", "1h30m".
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("%q is not a duration such as \"90s\" or \"30m\"", b)
	}
	*d = Duration(v)
	return nil
}
