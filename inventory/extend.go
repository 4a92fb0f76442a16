package inventory

import (
	"time"

	"sluice"
)

// CheckExtension refuses a time to which no hold may be extended.
func CheckExtension(now, until time.Time) error {
	if !until.After(now) || until.Sub(now) > MaxExtension {
		return sluice.Refuse(sluice.BadRequest, "until %s: want a time after now, %s, and at most %v ahead",
			until.UTC().Format(time.RFC3339), now.Format(time.RFC3339), MaxExtension)
	}
	return nil
}

// DecideExtend moves a hold's deadline, and its end with it: the grace stays what it was when the order was held. The
// caller has checked that it is held and falls due before until. A hold that has ended but was not swept yet goes on:
// its units are still its own.
func DecideExtend(o Stored, until time.Time) Stored {
	grace := o.ReleaseAt.Sub(o.Status.PayBy)
	o.Status.PayBy = until
	o.Status.Version++
	o.ReleaseAt = until.Add(grace)
	return o
}

// Statuses are the statuses of stored orders.
func Statuses(orders []Stored) []sluice.Status {
	var out []sluice.Status
	for _, o := range orders {
		out = append(out, o.Status)
	}
	return out
}
