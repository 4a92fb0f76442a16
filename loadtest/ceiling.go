package loadtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// CeilingOptions say how the generator's ceiling is looked for. What is 0 has the default named last.
type CeilingOptions struct {
	From   float64       // requests a second to begin with; 1,000
	Factor float64       // from one try to the next; 1.5
	Steps  int           // of the bisection; 3
	For    time.Duration // that a try takes; 2 s
	Within time.Duration // for all tries: none is begun that would end later; 30 s

	Connections int // that the generator has, to be named
}

func (o CeilingOptions) checked() (CeilingOptions, error) {
	o.From = cmp.Or(o.From, 1000)
	o.Factor = cmp.Or(o.Factor, 1.5)
	o.Steps = cmp.Or(o.Steps, 3)
	o.For = cmp.Or(o.For, 2*time.Second)
	o.Within = cmp.Or(o.Within, 30*time.Second)
	switch {
	case !within(o.From, 1, maxRate):
		return o, fmt.Errorf("ceiling from %v requests a second: want 1 to %.0f", o.From, maxRate)
	case !within(o.Factor, 1.05, 10):
		return o, fmt.Errorf("ceiling factor %v: want 1.05 to 10", o.Factor)
	case o.Steps < 1 || o.Steps > 10:
		return o, fmt.Errorf("ceiling steps %d: want 1 to 10", o.Steps)
	case o.For < 100*time.Millisecond || o.For > time.Minute:
		return o, fmt.Errorf("ceiling tries of %v: want 100ms to 1m", o.For)
	case o.Within < 3*o.For || o.Within > time.Hour:
		return o, fmt.Errorf("ceiling within %v: want three tries at least, %v, to 1h", o.Within, 3*o.For)
	}
	return o, nil
}

// ErrNoCeiling says that the generator kept up with no rate that was tried: the machine is too busy just now. A run may still be good,
// its own gate decides.
var ErrNoCeiling = errors.New("the generator keeps up with no rate")

// ceiling finds the highest rate at which the generator itself keeps up. try offers a rate to a server that answers at once and does
// nothing else. A ramp, in which a bad try is made once more, and a few steps of bisection: the time is bounded, not the precision, so
// what it answers has been reached, and a little more might be.
func ceiling(ctx context.Context, o CeilingOptions, try func(ctx context.Context, rate float64) (Figures, error)) (Ceiling, error) {
	o, err := o.checked()
	if err != nil {
		return Ceiling{}, err
	}
	c := climb{CeilingOptions: o, try: try, began: time.Now()}
	for steps := 0; steps < o.Steps && c.time(); {
		rate := min(c.next(o.From, o.Factor), maxRate)
		again := 1
		if c.both() {
			again = 0
			steps++
		}
		if err := c.judge(ctx, rate, again); err != nil {
			return c.reached, fmt.Errorf("the generator's ceiling, at %s: %w", rateText(rate), err)
		}
		if c.good == maxRate {
			break
		}
	}
	if c.good == 0 {
		return Ceiling{}, fmt.Errorf("%w; at %s: %s", ErrNoCeiling, rateText(c.bad), strings.Join(c.why, "; "))
	}
	return c.reached, nil
}

// climb is a search for the ceiling under way.
type climb struct {
	CeilingOptions
	try   func(ctx context.Context, rate float64) (Figures, error)
	began time.Time
	tries int

	bracket
	why     []string // the lowest bad rate is bad
	reached Ceiling
}

// time reports whether there is time for one more try. Tries are counted as well: one that fails at once takes none.
func (c *climb) time() bool {
	return time.Since(c.began)+c.For <= c.Within && time.Duration(c.tries+1)*c.For <= c.Within
}

// judge moves one end of the bracket to rate.
func (c *climb) judge(ctx context.Context, rate float64, again int) error {
	for ; ; again-- {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		c.tries++
		f, err := c.try(ctx, rate)
		if err == nil {
			err = context.Cause(ctx) // a try that was cut short tells nothing
		}
		if err != nil {
			return err
		}
		why := lags(f, c.Connections)
		if len(why) == 0 {
			c.good, c.reached = rate, ceilingOf(rate, f)
			return nil
		}
		if again == 0 || !c.time() {
			c.bad, c.why = rate, why
			return nil
		}
	}
}

// lags says why the generator did not keep up, by the same gate as any run. An answer that failed is a part of it here: the server at
// the other end does nothing that could fail.
func lags(f Figures, connections int) []string {
	why := gate(&Round{Measured: f}, connections, 0)
	if failed := total(f.Failed); failed > 0 && share(failed, f.Sent) > mostUnsent {
		why = append(why, fmt.Sprintf("%d of %d requests failed against a server that does nothing (%s)", failed, f.Sent, largest(f.Failed)))
	}
	return why
}

func ceilingOf(rate float64, f Figures) Ceiling {
	return Ceiling{
		Rate: rate, LagP99: f.Lag.P99, P99: f.Latency[Accepted].P99,
		CPUEach: f.CPU["generator"] * 1e6 / float64(f.Sent), // the gate lets nothing pass of which nothing was sent
	}
}

// usedSince answers the processor time in seconds that the load test has used since a time of an attack, when it is over: the warm-up
// before it is not part of what a request costs.
func usedSince(sched *schedule, at time.Duration, self func() (reading, error)) (used func() float64) {
	var before reading
	var all sync.WaitGroup
	over, end := context.WithCancel(sched.ctx)
	all.Go(func() {
		select {
		case <-sched.begin:
		case <-over.Done():
			return
		}
		_ = sleep(over, time.Until(sched.start().Add(at))) // cut short with everything else
		before, _ = self()                                 // what can't be read of it is 0
	})
	return func() float64 {
		after, _ := self()
		end()
		all.Wait()
		return max(0, after.cpu-before.cpu)
	}
}
