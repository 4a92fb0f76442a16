package worker

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// model is a store whose commits take a fixed time and some for each order, one after the other, as on one hot row. It is
// asked for as many orders as the window holds.
type model struct {
	fixed, each time.Duration
	slower      float64 // factor of both
	noise       float64 // commits take up to so many times longer, at random
	rng         *rand.Rand
	now         time.Time
}

func newModel() *model {
	return &model{
		fixed: 2 * time.Millisecond, each: 20 * time.Microsecond, slower: 1,
		rng: rand.New(rand.NewPCG(1, 2)), now: time.Unix(1_000_000, 0),
	}
}

// commit gives the window one commit of a batch, behind which the rest of the window waits.
func (m *model) commit(w *window, orders int) {
	alone := float64(m.fixed+time.Duration(orders)*m.each) * m.slower * (1 + m.noise*m.rng.Float64())
	m.commitTook(w, orders, time.Duration(alone))
}

func (m *model) commitTook(w *window, orders int, took time.Duration) {
	began := m.now
	m.now = m.now.Add(took)
	w.next(m.now, sample{began: began, took: took, orders: orders, full: true})
}

const testBatch = 256

func limits(most int, rate float64) windowLimits {
	return windowLimits{batch: testBatch, most: most, rate: rate}
}

func (m *model) run(w *window, commits int) {
	for range commits {
		m.commit(w, testBatch)
	}
}

func TestWindow_GrowsToItsCeilingWhileCommitsAreAsUsual(t *testing.T) {
	for _, noise := range []float64{0, 0.5, 1} {
		m, w := newModel(), newWindow(limits(2000, 0))
		m.noise = noise
		if w.orders() != 2*testBatch {
			t.Errorf("it begins with %d, want two batches", w.orders())
		}
		m.run(&w, warmUp+minSamples-1)
		if w.orders() != 2*testBatch {
			t.Errorf("noise %v: %d before there are samples enough", noise, w.orders())
		}
		m.run(&w, 1)
		if w.orders() != 2*testBatch+testBatch/4 {
			t.Errorf("noise %v: %d after the first decision", noise, w.orders())
		}
		for range 1000 {
			m.run(&w, 1)
			if w.orders() > 2000 || w.orders() < testBatch {
				t.Fatalf("noise %v: %d orders, want %d to 2000", noise, w.orders(), testBatch)
			}
		}
		if w.orders() != 2000 {
			t.Errorf("noise %v: %d after 1000 good commits, want the ceiling", noise, w.orders())
		}
	}
}

func TestWindow_HalvesWithinADozenCommitsOfAStoreThatBecameFourTimesSlower(t *testing.T) {
	for _, noise := range []float64{0, 0.5} {
		m, w := newModel(), newWindow(limits(2000, 0))
		m.noise = noise
		m.run(&w, 1000)
		before := w.orders()
		m.slower = 4
		commits := 0
		for ; w.orders() > before/2 && commits < 1000; commits++ {
			m.run(&w, 1)
		}
		t.Logf("noise %v: from %d to %d in %d commits", noise, before, w.orders(), commits)
		if commits > 12 {
			t.Errorf("noise %v: %d commits until %d became %d", noise, commits, before, w.orders())
		}
		m.run(&w, 100)
		if w.orders() != testBatch {
			t.Errorf("noise %v: %d while it stays slow, want the floor", noise, w.orders())
		}
		m.slower = 1
		m.run(&w, 200)
		if w.orders() < before*9/10 {
			t.Errorf("noise %v: %d after the store recovered, want about %d", noise, w.orders(), before)
		}
	}
}

// One stall of a disk is no congestion, nor are commits that take a little longer or shorter.
func TestWindow_IsStableUnderNoise(t *testing.T) {
	m, w := newModel(), newWindow(limits(2000, 0))
	m.noise = 1
	m.run(&w, 1000)
	for n := range 5000 {
		if n%50 == 0 {
			m.commitTook(&w, testBatch, 500*time.Millisecond)
		}
		m.run(&w, 1)
		if w.orders() < 1900 {
			t.Fatalf("%d after %d commits", w.orders(), n)
		}
	}
}

// A small batch that takes as long for each order as it must is no sign of anything, whatever sizes came before.
func TestWindow_ComparesBatchesOfLikeSize(t *testing.T) {
	m, w := newModel(), newWindow(limits(2000, 0))
	for n := range 2000 {
		m.commit(&w, 1+m.rng.IntN(testBatch))
		if n > 200 && w.slow > nearAt {
			t.Fatalf("commit %d: %v baselines of a store that is as ever", n, w.slow)
		}
	}
	if w.orders() != 2000 {
		t.Errorf("%d orders, want the ceiling", w.orders())
	}
	for range 100 {
		m.commit(&w, 1)
	}
	m.slower = 5
	for range 30 {
		m.commit(&w, 1)
	}
	if w.orders() > 1000 {
		t.Errorf("%d orders while commits of one order take five times as long", w.orders())
	}
}

func TestBaseline_BoundsWhatItHasNotSeen(t *testing.T) {
	add := func(b *baseline, orders int, took time.Duration) {
		b.add(time.Unix(1, 0), sample{orders: orders, took: took})
	}
	for _, c := range []struct {
		seen map[int]time.Duration
		of   int
		want float64 // milliseconds
	}{
		{nil, 100, 0},
		{map[int]time.Duration{100: 10 * time.Millisecond}, 100, 10},
		{map[int]time.Duration{100: 10 * time.Millisecond}, 1, 10},   // a smaller one takes no longer
		{map[int]time.Duration{100: 10 * time.Millisecond}, 300, 30}, // nor a larger one for each order
		{map[int]time.Duration{100: 10 * time.Millisecond, 1: 5 * time.Millisecond}, 300, 30},
		{map[int]time.Duration{100: 10 * time.Millisecond, 1: 5 * time.Millisecond}, 1, 5},
		{map[int]time.Duration{100: 10 * time.Millisecond, 500: 15 * time.Millisecond}, 300, 15},
		{map[int]time.Duration{5000: 50 * time.Millisecond}, 10_000, 100},
	} {
		var b baseline
		for _, orders := range []int{1, 100, 500, 5000} {
			if took, ok := c.seen[orders]; ok {
				add(&b, orders, took)
			}
		}
		if got := b.of(c.of) * 1000; fmt.Sprintf("%.3f", got) != fmt.Sprintf("%.3f", c.want) {
			t.Errorf("%v: baseline of %d is %v ms, want %v", c.seen, c.of, got, c.want)
		}
	}
}

// Commits that stay slow for minutes are what this store does now.
func TestBaseline_FollowsAStoreThatStaysSlow(t *testing.T) {
	m, w := newModel(), newWindow(limits(2000, 0))
	m.run(&w, 1000)
	m.slower = 4
	m.run(&w, 50)
	began := m.now
	for w.orders() < 1000 && m.now.Sub(began) < time.Hour {
		m.run(&w, 1)
	}
	d := m.now.Sub(began)
	t.Logf("it grows again after %v", d)
	if d < time.Minute || d > 15*time.Minute {
		t.Errorf("it grows again after %v", d)
	}
}

func TestWindow_IdleTimeMovesNothing(t *testing.T) {
	m, w := newModel(), newWindow(limits(2000, 0))
	m.run(&w, 100)
	usual := w.baseline.of(testBatch)
	before := w.orders()
	m.now = m.now.Add(24 * time.Hour)
	m.commitTook(&w, testBatch, 20*time.Duration(usual*float64(time.Second)))
	if w.orders() != before || w.baseline.of(testBatch) > 1.1*usual {
		t.Errorf("after a night %d orders, baseline %v; before %d, %v", w.orders(), w.baseline.of(testBatch), before, usual)
	}
}

// What was begun before a cut says nothing of the window after it.
func TestWindow_CutsOnceForWhatWasInFlightTogether(t *testing.T) {
	m, w := newModel(), newWindow(limits(2000, 0))
	m.run(&w, 1000)
	began := m.now
	for range 8 { // all of them fail at once
		w.next(m.now.Add(time.Second), sample{began: began, failed: true})
	}
	if w.orders() != 1400 {
		t.Errorf("%d after one failure of eight batches, want 1400", w.orders())
	}
	w.next(m.now.Add(3*time.Second), sample{began: m.now.Add(2 * time.Second), failed: true})
	if w.orders() != 979 {
		t.Errorf("%d after another failure, want 0.7 of that", w.orders())
	}
}

func TestWindow_BeginsAtTheFloorAfterAnOutageAndDoubles(t *testing.T) {
	m, w := newModel(), newWindow(limits(4000, 0))
	m.run(&w, 1000)
	w.restart(m.now)
	var got []int
	for range 10 {
		got = append(got, w.orders())
		m.run(&w, minSamples)
	}
	if fmt.Sprint(got) != "[256 512 1024 2000 2064 2128 2192 2256 2320 2384]" {
		t.Errorf("windows after an outage: %v", got)
	}
}

func TestWindow_DoesNotGrowWithoutUse(t *testing.T) {
	m, w := newModel(), newWindow(limits(2000, 0))
	for range 1000 {
		m.now = m.now.Add(time.Millisecond)
		w.next(m.now, sample{began: m.now.Add(-time.Millisecond), took: time.Millisecond, orders: 3})
	}
	if w.orders() != 2*testBatch {
		t.Errorf("%d after a thousand commits that the window did not bound", w.orders())
	}
	before := w.baseline
	for range 1000 { // repeats are answered without a write
		m.now = m.now.Add(time.Millisecond)
		w.next(m.now, sample{began: m.now, took: time.Microsecond, full: true})
	}
	if w.baseline != before {
		t.Errorf("repeats moved the baseline from %v to %v", before, w.baseline)
	}
}

func TestWindow_IsBoundByWhatTheRateCanUse(t *testing.T) {
	for _, c := range []struct {
		limits windowLimits
		want   int // in the end, at commits of 2 ms and 20 µs an order
	}{
		{windowLimits{batch: 256, most: 4096, rate: 50_000}, 1224}, // 2 × (50,000/s × 7.12 ms + 256)
		{windowLimits{batch: 256, most: 4096, rate: 5000}, 584},
		{windowLimits{batch: 10, most: 4096, rate: 100}, 21},
		{windowLimits{batch: 1, most: 4096, rate: 1}, 3},
		{windowLimits{batch: 256, most: 700, rate: 50_000}, 700},
		{windowLimits{batch: 256, most: 100, rate: 0}, 100}, // the ceiling wins over the floor
		{windowLimits{batch: 256, most: 0, rate: 0}, 0},
	} {
		m, w := newModel(), newWindow(c.limits)
		for range 2000 {
			m.commit(&w, c.limits.batch)
		}
		if w.orders() != c.want {
			t.Errorf("%+v: %d, want %d", c.limits, w.orders(), c.want)
		}
	}
}

func TestWindow_TakesNewLimitsOverAtOnce(t *testing.T) {
	m, w := newModel(), newWindow(limits(2000, 0))
	m.run(&w, 1000)
	for _, c := range []struct {
		limits windowLimits
		want   int
	}{
		{windowLimits{batch: 256, most: 300}, 300},
		{windowLimits{batch: 256, most: 4000}, 300}, // it grows from there
		{windowLimits{batch: 10, most: 4000, rate: 100}, 22},
		{windowLimits{batch: 256, most: 4000}, 256},
	} {
		w.limit(c.limits)
		if w.orders() != c.want {
			t.Errorf("%+v: %d, want %d", c.limits, w.orders(), c.want)
		}
	}
}
