package limiter

import "time"

// DrainRate follows how fast orders leave the queue. It samples only intervals that had a backlog from beginning to
// end: an idle queue says nothing of how fast it could go. One goroutine owns it.
type DrainRate struct {
	rate    float64 // orders a second, an exponentially weighted mean
	sampled time.Time
	last    time.Time
	settled uint64 // at last
	backlog bool   // at last
}

const (
	rateWeight = 0.3              // of the newest sample
	rateFresh  = 10 * time.Second // how long a rate holds without a new sample
)

// Observe takes the count of orders settled so far and whether a backlog exists, once in a while.
func (r *DrainRate) Observe(now time.Time, settled uint64, backlog bool) {
	elapsed := now.Sub(r.last)
	if r.backlog && backlog && elapsed > 0 && settled > r.settled {
		sample := float64(settled-r.settled) / elapsed.Seconds()
		if r.rate == 0 {
			r.rate = sample
		} else {
			r.rate += rateWeight * (sample - r.rate)
		}
		r.sampled = now
	}
	r.last, r.settled, r.backlog = now, settled, backlog
}

// Rate is the present estimate in orders a second; 0 where there is no fresh one.
func (r *DrainRate) Rate(now time.Time) float64 {
	if now.Sub(r.sampled) > rateFresh {
		r.rate = 0
	}
	return r.rate
}
