package limiter

import (
	"time"

	"sluice"
)

// Gate says whether a sale admits orders at now, which is the store's time. Stock and pause count only while the facts
// are fresh: an old "sold out" must not refuse a unit that came back (P2). Start and end are true however old.
func Gate(now time.Time, sale *sluice.Sale, fresh bool) sluice.Verdict {
	switch {
	case !sale.EndsAt.IsZero() && !now.Before(sale.EndsAt): // first: a sale can be ended before it starts
		return sluice.Verdict{Refusal: sluice.Ended}
	case now.Before(sale.StartsAt):
		return sluice.Verdict{Refusal: sluice.NotStarted, RetryAfter: sale.StartsAt.Sub(now)}
	case fresh && sale.Paused:
		return sluice.Verdict{Refusal: sluice.SalePaused, RetryAfter: pausedRetry}
	case fresh && sale.Free == 0 && sale.Held == 0:
		return sluice.Verdict{Refusal: sluice.AllSold}
	}
	return sluice.Verdict{}
}

// pausedRetry is how soon a buyer of a paused sale may ask again: nobody knows how long a pause lasts.
const pausedRetry = 5 * time.Second

// EffectiveBound turns the longest acceptable wait into a number of orders: rate x maxWait, at most bound, and never
// below floor, so that neither a quiet sale nor a database pause starves the queue. Without a rate (0) or
// a longest wait (0) the bound alone holds.
func EffectiveBound(bound, floor int64, rate float64, maxWait time.Duration) int64 {
	if rate <= 0 || maxWait <= 0 {
		return bound
	}
	return min(bound, max(floor, int64(rate*maxWait.Seconds())))
}

// Jitter spreads a wait over [d, 1.5 d) with a random number in [0, 1), so that those who were refused together do not come
// back together.
func Jitter(d time.Duration, random float64) time.Duration {
	return d + time.Duration(random*float64(d)/2)
}
