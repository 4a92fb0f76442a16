package inventory

import (
	"time"

	"sluice"
)

// DecidePatch changes a sale's terms and reports whether that changes anything. Units stay as they are. The sale must be
// valid afterwards; one that was ended before its start may be changed all the same, as long as its times stay.
func DecidePatch(s sluice.Sale, p sluice.SalePatch) (sluice.Sale, bool, error) {
	after := s
	set(&after.SKU, p.SKU)
	set(&after.PerUserLimit, p.PerUserLimit)
	set(&after.StartsAt, p.StartsAt)
	set(&after.EndsAt, p.EndsAt)
	set(&after.PaymentWindow, p.PaymentWindow)
	set(&after.PaymentGrace, p.PaymentGrace)
	set(&after.MaxAge, p.MaxAge)
	set(&after.CheckoutURL, p.CheckoutURL)
	set(&after.OverAdmission, p.OverAdmission)
	set(&after.ReservedFor, p.ReservedFor)
	set(&after.ReservedShare, p.ReservedShare)
	set(&after.Paused, p.Paused)
	after.StartsAt, after.EndsAt = Micros(after.StartsAt), Micros(after.EndsAt)

	checked := after
	if p.StartsAt == nil && p.EndsAt == nil {
		checked.StartsAt, checked.EndsAt = time.Time{}, time.Time{}
	}
	if err := checked.Validate(); err != nil {
		return s, false, err //nolint:wrapcheck // a *sluice.Error is the caller's answer as it is
	}
	if after == s {
		return s, false, nil
	}
	after.Version++
	return after, true, nil
}

func set[T any](field, value *T) {
	if value != nil {
		*field = *value
	}
}
