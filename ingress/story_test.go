package ingress

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sluice"
	"sluice/api"
)

// Stories at the door: simulated time, a real journal, a worker that settles in batches and can pause.

// pacedTruth is the database of workers that are set to a pace.
type pacedTruth struct {
	*fakeTruth
	pace sluice.Pace
}

func (p pacedTruth) Facts(ctx context.Context, door api.Door) (api.Facts, error) {
	f, err := p.fakeTruth.Facts(ctx, door)
	f.Pace = p.pace
	return f, err
}

// settler is the worker of a story: a batch every step, in the order in which they were carried.
type settler struct {
	*stand
	batch int
	step  time.Duration

	mu      sync.Mutex
	paused  bool
	settled int // of the carrier's orders
}

func (w *settler) pause(paused bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.paused = paused
}

func (w *settler) work(stop <-chan struct{}) {
	tick := time.NewTicker(w.step)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			w.settleBatch()
		case <-stop:
			return
		}
	}
}

func (w *settler) settleBatch() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.paused {
		return
	}
	orders := w.carrier.carried()[w.settled:]
	orders = orders[:min(len(orders), w.batch)]
	w.settled += len(orders)
	statuses := make([]sluice.Status, len(orders))
	for i, o := range orders {
		statuses[i] = w.outcome(o.ID.String(), sluice.Paid, 2)
	}
	w.truth.settle(statuses...)
	w.hear(statuses...)
}

// story tells one in simulated time: a door with a sale that does not run out, and a worker that settles perSecond.
func story(t *testing.T, bound int64, maxWait time.Duration, batch, perSecond int, tell func(*settler)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.Bound, cfg.MaxWait, cfg.Callers = bound, maxWait, 1<<16
		s := newStand(t, cfg, nil, sale("demo", func(s *sluice.Sale) { s.Stock, s.Free = 1e6, 1e6 }))
		s.Truth = pacedTruth{s.truth, sluice.Pace{Batch: batch}}
		s.run()
		w := &settler{stand: s, batch: batch, step: time.Duration(batch) * time.Second / time.Duration(perSecond)}
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() { w.work(stop) })
		time.Sleep(time.Second + 7*time.Millisecond) // no buyer comes at the instant of a batch or of a look at the drain
		tell(w)
		close(stop)
		wg.Wait()
	})
}

// crowd sends n new buyers at once and answers how many came in.
func (w *settler) crowd(name string, n int) (in int) {
	for i := range n {
		if w.buy(fmt.Sprintf("%s-%d", name, i)).status == 202 {
			in++
		}
	}
	return in
}

// A quiet sale is not starved: after minutes of a trickle, crowds of two batches included, a burst comes in up to the bound;
// then the drain shows its rate, and that times the longest wait is the bound.
func TestStory_ATrickleDoesNotCloseTheDoorToABurst(t *testing.T) {
	story(t, 3000, 2*time.Second, 50, 500, func(w *settler) {
		time.Sleep(443 * time.Millisecond) // each look at the drain is to find a batch at work
		for n := range 240 {               // two minutes; the drain rests most of the time
			w.crowd(fmt.Sprintf("trickle-%d", n), 100)
			time.Sleep(500 * time.Millisecond)
			if b := w.boundNow(); b != 3000 {
				w.t.Fatalf("after %d crowds the bound is %d", n, b)
			}
		}
		time.Sleep(time.Second + 7*time.Millisecond)
		if in := w.crowd("burst", 4000); in != 3000 {
			w.t.Errorf("%d of a burst came in, want 3000", in)
		}
		time.Sleep(3 * time.Second)
		if b := w.boundNow(); b < 900 || b > 1100 {
			w.t.Errorf("bound %d, want about 500/s x 2 s", b)
		}
	})
}

// A database that pauses for ten seconds does not close the door for good: the bound never falls below what it was, and
// seconds after the pause buyers come in at the pace of the drain again. Nobody who was told 202 is lost (P3).
func TestStory_ADatabaseThatPausesDoesNotCloseTheDoor(t *testing.T) {
	const drain, batch = 400, 40
	story(t, 5000, 3*time.Second, batch, drain, func(w *settler) {
		var told []answer
		buyers := 0
		second := func() (in int) { // a second of more buyers than the drain can take
			for range 50 {
				for range 12 {
					buyers++
					if a := w.buy(fmt.Sprintf("u%d", buyers)); a.status == 202 {
						told = append(told, a)
						in++
					}
				}
				time.Sleep(20 * time.Millisecond)
			}
			return in
		}
		for range 15 {
			second()
		}
		was := w.boundNow()
		if was < 1100 || was > 1300 {
			w.t.Fatalf("bound %d, want about 400/s x 3 s", was)
		}
		w.pause(true)
		for n := range 10 {
			second()
			if b := w.boundNow(); b < was*9/10 {
				w.t.Errorf("%d s into the pause the bound is %d; it was %d", n+1, b, was)
			}
		}
		time.Sleep(400 * time.Millisecond) // the pause ends between two looks
		w.pause(false)
		for n := range 3 {
			second()
			if b := w.boundNow(); b < was*3/4 {
				w.t.Errorf("%d s after the pause the bound is %d; it was %d", n+1, b, was)
			}
		}
		if b := w.boundNow(); b < was*9/10 || b > was*11/10 {
			w.t.Errorf("three seconds after the pause the bound is %d; it was %d", b, was)
		}
		if in := second() + second(); in < 2*drain*8/10 { // in whole batches: of one second a batch may be missing
			w.t.Errorf("three seconds after the pause %d came in within two seconds; the drain takes %d", in, 2*drain)
		}
		time.Sleep(20 * time.Second)
		if n := w.credits.Outstanding(); n != 0 {
			w.t.Errorf("%d orders are outstanding at the end", n)
		}
		for _, a := range told {
			w.want(w.get(a.Order), 200, "paid")
		}
	})
}

// A worker that no longer settles, because a hold-up is long, does not shrink the bound to nothing either: two batches at
// least, whatever the rate was.
func TestStory_ASlowDatabaseStillGetsTwoBatches(t *testing.T) {
	story(t, 1000, time.Second, 40, 20, func(w *settler) {
		w.crowd("rush", 1000)
		time.Sleep(9 * time.Second) // three batches were seen to leave
		if b := w.boundNow(); b != 80 {
			w.t.Errorf("bound %d at 20/s and a longest wait of a second; want two batches", b)
		}
	})
}

// P7: those who are refused in one moment are told times that are spread over more than [d, 1.5d), and come back no faster than
// the queue drains, for either reason.
func TestStory_RefusedBuyersDoNotComeBackTogether(t *testing.T) {
	const bound, refused, drain = 1000, 4000, assumedRate
	for _, reason := range []string{"queue-full", "too-slow"} {
		t.Run(reason, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := testConfig()
				cfg.Bound = bound
				s := newStand(t, cfg, nil, sale("demo", nil))
				if reason == "too-slow" {
					s.drainable.Store(bound / 2)
				}
				const d, window = 500.0, 100.0 // ms
				count := map[int]int{}
				last := 0.0
				for n := range bound + refused {
					a := s.buy(fmt.Sprintf("u%d", n))
					if n < int(s.boundNow()) {
						s.want(a, 202, "queued")
						continue
					}
					s.want(a, 503, reason)
					ms := a.number("retry_after_ms")
					if ms < d {
						t.Fatalf("come back after %v ms, want %v at least", ms, d)
					}
					count[int(ms/window)]++
					last = max(last, ms)
				}
				for slice, n := range count {
					if n > drain*window/1000*13/10 {
						t.Errorf("%d come back from %v ms on within %v ms; %v drain", n, float64(slice)*window, window, drain*window/1000)
					}
				}
				if want := d + 1000*refused/drain; last < want || last > 1.5*want*1.2 {
					t.Errorf("the last of %d comes back after %v ms, want %v to %v", refused, last, want, 1.5*want)
				}
			})
		})
	}
}
