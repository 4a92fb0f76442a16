package inventory

import (
	"encoding/json"
	"maps"
	"slices"
	"time"

	"sluice"
)

// MaxPaymentRefBytes bounds a payment's reference.
const MaxPaymentRefBytes = 255

// RefundReason says why a payment must be given back.
type RefundReason string

// The reasons for a refund.
const (
	RefundTooLate     RefundReason = "too_late"     // the order no longer held its units
	RefundAlreadyPaid RefundReason = "already_paid" // another payment was there first
)

// Stored is what a transaction read of one order under the lock of its sale.
type Stored struct {
	Status     sluice.Status
	PaymentRef string // empty: not paid, or paid at once by a sale without a payment window

	// ReleaseAt is when a hold ends: PayBy, which is what the buyer is told, and the grace that the sale gave when it was held.
	ReleaseAt time.Time

	// For the events, read only where orders are moved.
	Attributes json.RawMessage
	ReplayOf   sluice.OrderID // the failed order that it was made from; zero: none

	Refunded bool // the payment that is being judged was recorded as a refund due before
}

// Transition is what a transaction must write and answer for one order that was settled before.
type Transition struct {
	After   Stored
	Changed bool         // After differs from what was read
	Delta   Delta        // zero where no units move
	Refund  RefundReason // not empty: record the payment as a refund due; it was not before
	Refused error        // the caller's answer beside the changes: nil or a *sluice.Error
}

// CheckPaymentRef refuses what cannot be a payment's reference.
func CheckPaymentRef(ref string) error {
	if !sluice.PlainText([]byte(ref), MaxPaymentRefBytes) {
		return sluice.Refuse(sluice.BadRequest, "payment_ref: want 1 to %d bytes without control characters", MaxPaymentRefBytes)
	}
	return nil
}

// DecidePay pays an order, or says why it cannot and what is due to the buyer. A hold whose deadline has passed
// expires here: a payment that races the sweep ends in exactly one of paid and expired (P6).
func DecidePay(now time.Time, o Stored, ref string) Transition {
	switch {
	case o.Status.State == sluice.Paid && o.PaymentRef == ref:
		return Transition{After: o}
	case o.Status.State == sluice.Paid && o.PaymentRef == "":
		o.PaymentRef = ref // paid at once: the first payment that names itself is the one
		return Transition{After: o, Changed: true}
	case o.Status.State == sluice.Paid:
		return due(RefundAlreadyPaid, Transition{After: o, Refused: sluice.Refuse(sluice.AlreadyPaid,
			"order %s was paid by another payment; this one is recorded as a refund due", o.Status.Order)})
	case o.Status.State != sluice.Held:
		return tooLate(Transition{After: o})
	case Overdue(now, o):
		return tooLate(DecideExpire(o))
	}
	t := transition(o, sluice.Paid)
	t.After.PaymentRef = ref
	return t
}

func tooLate(t Transition) Transition {
	t.Refused = sluice.Refuse(sluice.TooLate, "order %s is %s; this payment is recorded as a refund due",
		t.After.Status.Order, t.After.Status.State)
	return due(RefundTooLate, t)
}

// due records the payment as a refund due, once. The order stays as it is.
func due(reason RefundReason, t Transition) Transition {
	if !t.After.Refunded {
		t.Refund = reason
	}
	return t
}

// DecideCancel gives a held order's units back.
func DecideCancel(o Stored) Transition {
	switch o.Status.State {
	case sluice.Held:
		return transition(o, sluice.Cancelled)
	case sluice.Cancelled:
		return Transition{After: o}
	case sluice.Queued, sluice.Paid, sluice.Expired, sluice.Rejected, sluice.Failed:
	}
	return Transition{After: o, Refused: sluice.Refuse(sluice.NotHeld, "order %s is %s; only a held order can be cancelled",
		o.Status.Order, o.Status.State)}
}

// DecideExpire gives the units of an overdue hold back. The caller has checked that it is held and overdue.
func DecideExpire(o Stored) Transition { return transition(o, sluice.Expired) }

// Overdue reports whether a hold has ended. The sweep's statements must say the same: release_at <= now.
func Overdue(now time.Time, o Stored) bool { return !now.Before(o.ReleaseAt) }

// transition moves a held order on, and its units with it.
func transition(o Stored, to sluice.State) Transition {
	units := int64(o.Status.Units)
	delta := Delta{Sale: o.Status.Sale, Held: -units}
	if to == sluice.Paid {
		delta.Sold = units
	} else {
		delta.Free = units
	}
	o.Status.State = to
	o.Status.Version++
	return Transition{After: o, Changed: true, Delta: delta}
}

// Apply is the sale after a transaction that moved its counters by the deltas, in one step of its version.
func Apply(sale sluice.Sale, deltas ...Delta) sluice.Sale {
	for _, d := range deltas {
		sale = moved(sale, d)
	}
	sale.Version++
	return sale
}

// Sum adds up the deltas of a transaction that moves many orders. The zero Sum is ready.
type Sum struct{ bySale map[string]Delta }

// Add counts one order's delta.
func (s *Sum) Add(d Delta) {
	if s.bySale == nil {
		s.bySale = map[string]Delta{}
	}
	s.bySale[d.Sale] = s.bySale[d.Sale].plus(d)
}

// Deltas is one delta a sale, in id order.
func (s *Sum) Deltas() []Delta {
	deltas := make([]Delta, 0, len(s.bySale))
	for _, id := range slices.Sorted(maps.Keys(s.bySale)) {
		deltas = append(deltas, s.bySale[id])
	}
	return deltas
}
