package limiter

import (
	"sync/atomic"
	"time"
)

// Returns tells those who find the queue full when to come back: each at a time of their own, one after the other as fast
// as the queue drains, so that whoever heeds it is likely to find room. It keeps a single time. Safe for concurrent use.
type Returns struct {
	next atomic.Int64 // from when on nobody was told to come, in nanoseconds of the callers' clock
}

const (
	soonestReturn = 500 * time.Millisecond
	latestReturn  = 30 * time.Second // the longest wait that is reasonable to ask for: all beyond it are told this
)

// After is how long one more buyer should stay away: until the orders over the bound and a tenth of the bound have
// drained at rate orders a second, above 0, and until those who were told before have come. now is the time since some
// fixed instant, by a clock that does not go back.
func (r *Returns) After(now time.Duration, outstanding, bound int64, rate float64) time.Duration {
	drained := float64(max(0, outstanding-bound)) + float64(bound)/10
	first := max(soonestReturn, seconds(min(drained/rate, latestReturn.Seconds())))
	for {
		next := r.next.Load()
		at := max(time.Duration(next), now+first)
		if at >= now+latestReturn {
			return latestReturn
		}
		if r.next.CompareAndSwap(next, int64(at+seconds(min(1/rate, latestReturn.Seconds())))) {
			return at - now
		}
	}
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
