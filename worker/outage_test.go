package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sluice/inventory"
)

var errGone = fmt.Errorf("connect: %w", inventory.ErrUnavailable)

// away is a store that is away until it is told to be back, and knows when it was asked.
type away struct {
	outage *outage
	mu     sync.Mutex
	err    error // what calls and pings are answered
	calls  []time.Time
	pings  []time.Time
	turns  []string
}

// newAway runs an outage until the bubble's test ends.
func newAway(t *testing.T) *away {
	t.Helper()
	a := &away{err: errGone}
	a.outage = newOutage(func(context.Context) error { return a.ask(&a.pings) }, func(away, long bool) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.turns = append(a.turns, fmt.Sprintf("away=%t long=%t", away, long))
	}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { a.outage.run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return a
}

func (a *away) ask(times *[]time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	*times = append(*times, time.Now())
	return a.err
}

// seen answers what happened so far.
func (a *away) seen() (calls, pings []time.Time, turns string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.calls), slices.Clone(a.pings), fmt.Sprint(a.turns)
}

func (a *away) answer(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.err = err
}

func (a *away) call(ctx context.Context) error {
	return a.outage.patiently(ctx, func() error {
		time.Sleep(time.Millisecond)
		return a.ask(&a.calls)
	})
}

func TestOutage_ProbesOneAtATimeEverMoreSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAway(t)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { _ = a.call(t.Context()) })
		}
		time.Sleep(6 * time.Second)
		calls, pings, _ := a.seen()
		if len(calls) > 20 || len(pings) < 5 || len(pings) > 9 {
			t.Errorf("in 6 s %d pings, and %d calls of the 20 that were on their way", len(pings), len(calls))
		}
		if last := pings[len(pings)-1].Sub(pings[len(pings)-2]); last < time.Second || last > 2*time.Second {
			t.Errorf("the last two pings are %v apart, want 1 s to 2 s", last)
		}
		wg.Wait()
	})
}

func TestOutage_OneGoesFirstAndTheOthersDoNotFollowAsAHerd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const callers = 60 // of 20, the pauses lie within half of what they may be once in 25,000 times
		a := newAway(t)
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() {
				if err := a.call(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(2 * time.Second)
		a.mu.Lock()
		a.calls, a.err = nil, nil
		a.mu.Unlock()
		wg.Wait()
		synctest.Wait()
		calls, _, turns := a.seen()
		first, second, last := calls[0], calls[1], calls[len(calls)-1]
		if len(calls) != callers || !second.After(first) || last.Sub(second) < storeBackoff/2 || last.Sub(first) > 2*storeBackoff {
			t.Errorf("%d calls, the first two %v apart, all of them within %v", len(calls), second.Sub(first), last.Sub(first))
		}
		if turns != "[away=true long=false away=false long=true]" {
			t.Errorf("turns: %s", turns)
		}
	})
}

// A store that answers pings but settles nothing is away, and is not asked faster for its answers.
func TestOutage_APingAloneDoesNotBringItBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAway(t)
		a.outage.ping = func(context.Context) error { return nil } // before anybody probes
		began := time.Now()
		err := a.call(t.Context())
		if d := time.Since(began); !errors.Is(err, inventory.ErrUnavailable) || d < storePatience || d > storePatience+time.Millisecond {
			t.Errorf("%v after %v, want patience of %v", err, d, storePatience)
		}
		if calls, _, turns := a.seen(); len(calls) < 6 || len(calls) > 12 || turns != "[away=true long=false]" {
			t.Errorf("%d calls in %v, turns %s", len(calls), storePatience, turns)
		}
		time.Sleep(10 * time.Second) // nobody waits now: a ping is all there is to go by
		if a.outage.away() {
			t.Error("it answers pings, nobody waits, and it is away")
		}
	})
}

func TestOutage_AShortOneIsNoLongOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAway(t)
		go func() {
			time.Sleep(10 * time.Millisecond)
			a.answer(nil)
		}()
		if err := a.call(t.Context()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if _, _, turns := a.seen(); turns != "[away=true long=false away=false long=false]" {
			t.Errorf("turns: %s", turns)
		}
	})
}

func TestOutage_ABadOrderIsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAway(t)
		bad := errors.New("invalid byte sequence")
		a.answer(bad)
		err := a.call(t.Context())
		if calls, _, turns := a.seen(); !errors.Is(err, bad) || turns != "[]" || len(calls) != 1 {
			t.Errorf("%v, turns %s, %d calls", err, turns, len(calls))
		}
	})
}

func TestOutage_NobodyWaitsOnceTheWorkerStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAway(t)
		began := time.Now()
		go func() {
			time.Sleep(time.Second)
			a.outage.stop()
			a.outage.stop()
		}()
		if err := a.call(t.Context()); !errors.Is(err, inventory.ErrUnavailable) || time.Since(began) != time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}
