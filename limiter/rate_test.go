package limiter

import (
	"flag"
	"math"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// drainChecks is how many random schedules each law of the drain is tried on, unless -rapid.checks says otherwise.
const drainChecks = 1000

func schedules(t *testing.T, law func(*rapid.T)) {
	t.Helper()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "rapid.checks" })
	if !given {
		checks := flag.Lookup("rapid.checks")
		defer func(before string) { _ = checks.Value.Set(before) }(checks.Value.String())
		_ = checks.Value.Set(strconv.Itoa(drainChecks)) // the flag takes numbers
	}
	rapid.Check(t, law)
}

// queue is a door, its queue and the drain, in steps of a simulated clock: orders come in up to the bound in force, and
// leave in batches. The door looks at the drain as it does in earnest.
type queue struct {
	configured, batch int64
	maxWait           time.Duration
	rate              float64 // of the drain, orders a second

	measured    DrainRate
	now         time.Duration
	bound       int64
	outstanding int64
	settled     uint64
	last        time.Duration // when an order left last
	slack       bool
	done        float64 // orders of the present batch that are done
	admitted    int64
	check       func(q *queue) // at each look
}

const (
	simStep = 10 * time.Millisecond
	simLook = 500 * time.Millisecond
)

var simStart = time.Unix(1_000_000, 0)

func newQueue(configured, batch int64, maxWait time.Duration, rate float64) *queue {
	return &queue{configured: configured, batch: batch, maxWait: maxWait, rate: rate, bound: configured, slack: true}
}

// run lets time pass. arrivals are orders a second; endless demand fills whatever room there is.
func (q *queue) run(d time.Duration, arrivals float64, paused bool) {
	due := 0.0
	for end := q.now + d; q.now < end; {
		q.now += simStep
		due += arrivals * simStep.Seconds()
		whole := math.Floor(min(due, 1e9))
		due -= whole
		q.arrive(int64(whole))
		if !paused {
			q.drain()
		}
		if q.now%simLook == 0 {
			q.look()
		}
	}
}

func (q *queue) arrive(n int64) {
	n = max(0, min(n, q.bound-q.outstanding))
	q.outstanding += n
	q.admitted += n
}

func (q *queue) drain() {
	if q.outstanding == 0 {
		q.done = 0
		return
	}
	q.done += q.rate * simStep.Seconds()
	for batch := min(q.batch, q.outstanding); batch > 0 && q.done >= float64(batch); batch = min(q.batch, q.outstanding) {
		q.done -= float64(batch)
		q.outstanding -= batch
		q.settled += uint64(batch)
		q.last = q.now
		q.slack = q.slack || q.outstanding < q.batch
	}
}

func (q *queue) look() {
	slack := q.slack || q.outstanding < q.batch
	q.slack = q.outstanding < q.batch
	now := simStart.Add(q.now)
	q.measured.Observe(now, q.settled, simStart.Add(q.last), !slack)
	q.bound = EffectiveBound(q.configured, 2*q.batch, q.measured.Rate(now), q.maxWait)
	if q.check != nil {
		q.check(q)
	}
}

// fair is the bound that the drain as it really is would give.
func (q *queue) fair() int64 {
	return EffectiveBound(q.configured, 2*q.batch, q.rate, q.maxWait)
}

const endless = 1e9 // orders a second

// drawQueue is a queue whose drain needs a fifth of a second for a batch at most.
func drawQueue(t *rapid.T) *queue {
	batch := rapid.Int64Range(1, 500).Draw(t, "batch")
	return newQueue(
		rapid.Int64Range(1, 20_000).Draw(t, "bound"), batch,
		time.Duration(rapid.IntRange(1, 60).Draw(t, "maxWait"))*time.Second,
		float64(batch)*rapid.Float64Range(5, 100).Draw(t, "batchesASecond"))
}

// two batches <= effective bound <= bound, where the bound is no smaller than that, whatever comes and goes.
func TestEffectiveBound_StaysBetweenTwoBatchesAndTheBound(t *testing.T) {
	schedules(t, func(t *rapid.T) {
		q := drawQueue(t)
		q.check = func(q *queue) {
			if q.bound > q.configured || q.bound < min(2*q.batch, q.configured) {
				t.Fatalf("at %v: bound %d of %d, batch %d", q.now, q.bound, q.configured, q.batch)
			}
		}
		for range rapid.IntRange(1, 8).Draw(t, "phases") {
			q.rate = rapid.Float64Range(0.5, 20_000).Draw(t, "drain")
			q.run(time.Duration(rapid.IntRange(1, 12).Draw(t, "seconds"))*time.Second,
				rapid.SampledFrom([]float64{0, 3, 100, 5000, endless}).Draw(t, "arrivals"), rapid.Bool().Draw(t, "paused"))
		}
	})
}

// A quiet sale is not starved: however long a trickle lasts, of single orders or of small crowds, the bound stays what it
// is, and a burst comes in up to it.
func TestDrainRate_ATrickleNeverShrinksTheBound(t *testing.T) {
	schedules(t, func(t *rapid.T) {
		q := drawQueue(t)
		q.check = func(q *queue) {
			if q.bound != q.configured {
				t.Fatalf("at %v: a trickle leaves a bound of %d of %d", q.now, q.bound, q.configured)
			}
		}
		trickle := q.rate * rapid.Float64Range(0.001, 0.5).Draw(t, "load")
		crowd := rapid.Int64Range(0, q.batch).Draw(t, "crowd") // comes at once, now and then
		for range rapid.IntRange(1, 40).Draw(t, "rounds") {
			q.run(time.Duration(rapid.IntRange(2000, 6000).Draw(t, "ms"))/10*10*time.Millisecond, trickle, false)
			q.run(3*time.Second, 0, false)
			q.arrive(crowd)
		}
		q.run(3*time.Second, 0, false)
		before := q.admitted
		q.arrive(endless)
		if got := q.admitted - before; got != q.configured {
			t.Fatalf("a burst after the trickle: %d admitted of a bound of %d", got, q.configured)
		}
	})
}

// After the burst the rate is that which the drain shows, whatever trickled before.
func TestDrainRate_ABurstShowsTheRate(t *testing.T) {
	schedules(t, func(t *rapid.T) {
		q := drawQueue(t)
		q.run(20*time.Second, q.rate*rapid.Float64Range(0.001, 0.5).Draw(t, "load"), false)
		q.run(8*time.Second, endless, false)
		if fair := q.fair(); math.Abs(float64(q.bound)-float64(fair)) > 0.15*float64(fair)+1 {
			t.Fatalf("bound %d after eight seconds of backlog; the drain of %v/s gives %d", q.bound, q.rate, fair)
		}
	})
}

// A pause of the database does not close the door: during it the bound stays at least what it was, and when it ends it is
// what it was within three seconds.
func TestDrainRate_APauseLeavesTheBoundAsItWas(t *testing.T) {
	schedules(t, func(t *rapid.T) {
		q := drawQueue(t)
		demand := max(q.rate*rapid.Float64Range(1.1, 5).Draw(t, "demand"), 10)
		q.run(time.Duration(rapid.IntRange(600, 1500).Draw(t, "warm")*10)*time.Millisecond, demand, false)
		if q.outstanding < 2*q.batch { // a bound too small for a backlog: nothing is measured
			t.Skip("no backlog")
		}
		was := float64(min(q.bound, q.fair()))
		q.check = func(q *queue) {
			if float64(q.bound) < 0.93*was-1 { // an order is whole
				t.Fatalf("at %v: the pause shrinks a bound of %.0f to %d", q.now, was, q.bound)
			}
		}
		pause := time.Duration(rapid.IntRange(400, 2500).Draw(t, "pause")*10) * time.Millisecond
		q.run(pause, demand, true)
		if q.run(3*time.Second, demand, false); math.Abs(float64(q.bound)-float64(q.fair())) > 0.15*float64(q.fair())+1 {
			t.Fatalf("bound %d three seconds after a pause of %v; it was %.0f and the drain gives %d", q.bound, pause, was, q.fair())
		}
	})
}

// A stop too short to be told from a slow batch costs a part of the bound, and not for long.
func TestDrainRate_AShortStopIsMadeUpFor(t *testing.T) {
	schedules(t, func(t *rapid.T) {
		q := drawQueue(t)
		q.run(10*time.Second, endless, false)
		if q.outstanding < 2*q.batch {
			t.Skip("no backlog")
		}
		was := float64(min(q.bound, q.fair()))
		q.check = func(q *queue) {
			if float64(q.bound) < 0.4*was-1 {
				t.Fatalf("at %v: the stop shrinks a bound of %.0f to %d", q.now, was, q.bound)
			}
		}
		q.run(time.Duration(rapid.IntRange(1, 350).Draw(t, "stop")*10)*time.Millisecond, endless, true)
		q.run(8*time.Second, endless, false)
		if float64(q.bound) < 0.85*was-1 {
			t.Fatalf("bound %d eight seconds after a stop; it was %.0f", q.bound, was)
		}
	})
}

// A database that needs seconds for a batch is slow, not paused: its rate is neither the batch by a look's time nor unknown.
func TestDrainRate_SeesThatBatchesAreSlow(t *testing.T) {
	schedules(t, func(t *rapid.T) {
		q := newQueue(20_000, rapid.Int64Range(1, 500).Draw(t, "batch"), 30*time.Second, 0)
		q.rate = float64(q.batch) / rapid.Float64Range(0.6, 8).Draw(t, "secondsABatch")
		q.run(40*time.Second, endless, false)
		if got := q.measured.Rate(simStart.Add(q.now)); math.Abs(got-q.rate) > 0.2*q.rate+1 {
			t.Fatalf("rate %v, is %v", got, q.rate)
		}
	})
}

// Once a slow database is fast again, the door finds out by itself, also where too few come in to make a backlog.
func TestDrainRate_FindsOutThatASlowDrainIsFastAgain(t *testing.T) {
	q := newQueue(10_000, 256, 5*time.Second, 60)
	q.run(60*time.Second, endless, false)
	if q.bound != 512 {
		t.Fatalf("bound %d at 60/s, want two batches", q.bound)
	}
	q.rate = 20_000
	q.run(time.Second, 100, false)
	if q.bound < 5000 {
		t.Errorf("bound %d after the old backlog went at once", q.bound)
	}
	q.run(20*time.Second, 100, false)
	if q.bound != 10_000 {
		t.Errorf("bound %d, although nothing was measured for twenty seconds", q.bound)
	}
}

func TestDrainRate_SamplesOnlyUnderBacklog(t *testing.T) {
	var r DrainRate
	now := time.Unix(0, 0)
	at := func(seconds int, settled uint64, backlog bool) float64 {
		look := now.Add(time.Duration(seconds) * time.Second)
		r.Observe(look, settled, look, backlog)
		return r.Rate(look)
	}
	at(0, 0, false)
	if got := at(1, 10, false); got != 0 {
		t.Errorf("a quiet sale gives a rate: %v", got)
	}
	at(2, 20, true)
	if got := at(3, 1020, true); got != 1000 {
		t.Errorf("rate under backlog = %v, want 1000", got)
	}
	if got := at(4, 1020, true); got != 1000 {
		t.Errorf("a pause of the database changes the rate: %v", got)
	}
	if got := at(15, 1020, true); got != 0 {
		t.Errorf("a rate 12 s old still holds: %v", got)
	}
}
