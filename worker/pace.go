package worker

import (
	"sync/atomic"
	"time"

	"go.uber.org/ratelimit"
)

// pace spaces orders by a rate that may change while some of them wait. The zero pace holds nobody up.
type pace struct{ current atomic.Pointer[limiter] }

// limiter is one rate's. It ends when another one takes its place.
type limiter struct {
	ratelimit.Limiter
	over chan struct{}
}

// set changes the rate, in orders a second; 0: any. Up to burst orders may catch up on what their commits took, so that
// the rate is kept and not just never exceeded. Only one caller at a time.
func (p *pace) set(rate float64, burst int) {
	l := &limiter{ratelimit.NewUnlimited(), make(chan struct{})}
	if rate > 0 {
		each := time.Duration(float64(time.Second) / rate)
		l.Limiter = ratelimit.New(1, ratelimit.Per(each), ratelimit.WithSlack(burst), ratelimit.WithClock(clock{time.Now(), l.over}))
	}
	if old := p.current.Swap(l); old != nil {
		close(old.over)
	}
}

// take waits for the next order's turn. One whose turn was set by a rate that is no more asks for another.
func (p *pace) take() {
	for {
		l := p.current.Load()
		if l == nil {
			return
		}
		l.Take()
		if p.current.Load() == l {
			return
		}
	}
}

// clock is real time, but nobody sleeps by it any longer once over is closed. It goes by the monotonic clock: ratelimit reads it as
// nanoseconds since 1970, and a wall clock that is set back by an hour would have it sleep for that hour.
type clock struct {
	born time.Time
	over chan struct{}
}

func (c clock) Now() time.Time { return c.born.Add(time.Since(c.born)) }

func (c clock) Sleep(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.over:
	}
}
