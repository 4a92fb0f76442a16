package inventory

import (
	"time"

	"sluice"
)

// NewSale is a sale as it is first stored: valid, nothing held, nothing sold.
func NewSale(s sluice.Sale) (sluice.Sale, error) {
	if err := s.Validate(); err != nil {
		return s, err //nolint:wrapcheck // a *sluice.Error is the caller's answer as it is
	}
	s.StartsAt, s.EndsAt = Micros(s.StartsAt), Micros(s.EndsAt)
	s.TopUps, s.Free, s.Held, s.Sold, s.Version = 0, s.Stock, 0, 0, 1
	s.NextRelease = time.Time{}
	return s, nil
}

// DecideTopUp adds units to a sale, or takes free ones away.
func DecideTopUp(s sluice.Sale, units int64) (sluice.Sale, error) {
	switch total := s.Stock + s.TopUps; {
	case units == 0:
		return s, sluice.Refuse(sluice.BadRequest, "units 0: want more, or fewer, but not none")
	case units > sluice.MaxStock-total:
		return s, sluice.Refuse(sluice.BadRequest, "units %d: sale %s has %d, and more than %d is not allowed", units, s.ID, total, sluice.MaxStock)
	case units < -s.Free:
		return s, sluice.Refuse(sluice.NotFree, "units %d: only %d of sale %s are free", units, s.Free, s.ID)
	}
	s.TopUps += units
	s.Free += units
	s.Version++
	return s, nil
}

// DecideEnd closes admission now, and reports whether that changes anything.
func DecideEnd(now time.Time, s sluice.Sale) (sluice.Sale, bool) {
	if !s.EndsAt.IsZero() && !s.EndsAt.After(now) {
		return s, false
	}
	s.EndsAt = now
	s.Version++
	return s, true
}

// SetNextRelease notes on one of the sales, if it is among them, when the first of its holds falls due.
func SetNextRelease(sales []sluice.Sale, id string, due time.Time) {
	for i := range sales {
		if sales[i].ID == id {
			sales[i].NextRelease = Micros(due)
		}
	}
}
