package limiter

import (
	"math"
	"time"
)

// DrainRate follows how fast orders leave the queue: orders by time, both fading with age. It counts only time in which
// there was a backlog: an idle queue says nothing of how fast it could go, save that it is no slower than it went. A time
// without a single order belongs to the rate as long as it may be a slow batch; a longer one is a pause, which ends and
// says nothing of the rate either. One goroutine owns it.
type DrainRate struct {
	orders, seconds float64   // seen under backlog
	steps           float64   // how often orders were seen to leave in those seconds
	sampled         time.Time // when that was last added to

	since   time.Time // when the last order left, or the last look that saw no backlog
	settled uint64    // by then
	going   bool      // an order left then, and there has been a backlog since
}

const (
	rateMemory    = 4 * time.Second  // in which what was seen fades to a third
	rateFresh     = 10 * time.Second // how long a rate holds without a new sample
	rateEnough    = time.Second      // what must be seen before a rate is told
	shortestPause = 2 * time.Second
	pauseSteps    = 3 // a pause is longer than so many usual steps
)

// Observe takes the count of orders settled so far, when the last of them left, and whether there was a backlog all the time
// since the last look. Time is counted from order to order: what passed since the last one may be the start of a pause.
func (r *DrainRate) Observe(now time.Time, settled uint64, last time.Time, backlog bool) {
	left := float64(settled - r.settled)
	if backlog && left == 0 {
		return // within a batch or a pause: the next order tells
	}
	until := now
	if backlog {
		until = last
	}
	elapsed := max(0, until.Sub(r.since))
	switch {
	case backlog && r.going && !r.paused(elapsed):
		fade := math.Exp(-elapsed.Seconds() / rateMemory.Seconds())
		r.orders = r.orders*fade + left
		r.seconds = r.seconds*fade + elapsed.Seconds()
		r.steps = r.steps*fade + 1
		r.sampled = now
	case !backlog && left > 2*r.Rate(now)*elapsed.Seconds():
		r.orders, r.seconds, r.steps = 0, 0, 0 // the drain was slow once, and is no longer
	}
	r.since, r.settled, r.going = until, settled, backlog
}

// paused reports whether so long a time without an order is none that the queue's usual steps explain.
func (r *DrainRate) paused(elapsed time.Duration) bool {
	if elapsed >= rateFresh {
		return true
	}
	return r.steps > 0 && elapsed > shortestPause && elapsed.Seconds() > pauseSteps*r.seconds/r.steps
}

// Rate is the present estimate in orders a second; 0 where there is no fresh one.
func (r *DrainRate) Rate(now time.Time) float64 {
	if now.Sub(r.sampled) > rateFresh {
		r.orders, r.seconds, r.steps = 0, 0, 0
	}
	if r.seconds < rateEnough.Seconds() {
		return 0
	}
	return r.orders / r.seconds
}
