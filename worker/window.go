package worker

import (
	"math"
	"math/bits"
	"time"
)

// window decides how many orders a pool may have in hand: additive increase, multiplicative decrease (AIMD; Chiu and
// Jain, "Analysis of the Increase and Decrease Algorithms for Congestion Avoidance in Computer Networks", 1989). A commit
// that takes several times its baseline is the sign of congestion, as in TCP Vegas (Brakmo and Peterson, 1995); one that
// fails is another. After an outage the window doubles until it is half of what it was (slow start).
//
// It only computes: samples come in, a window comes out, and where nothing is committed nothing moves. Whoever owns it
// guards it.
type window struct {
	limits   windowLimits
	size     float64 // orders
	slowFrom float64 // below it the window doubles

	baseline baseline
	usual    float64   // baselines of the latest samples, smoothed, in seconds; 0: unknown
	took     float64   // what these samples took, smoothed, in seconds
	slow     float64   // how many baselines they took, smoothed; 0: unknown
	total    int       // samples so far
	samples  int       // since the last decision
	full     bool      // one of those came of a full window
	cutAt    time.Time // batches that were begun before tell of the window before
}

// windowLimits bound a window. They may change at any time.
type windowLimits struct {
	batch int     // the floor: whole batches are what a store does best
	most  int     // the ceiling; it wins over the floor
	rate  float64 // orders a second; 0: any
}

// sample is what one commit tells.
type sample struct {
	began  time.Time
	took   time.Duration
	orders int  // that were settled; repeats cost the store little
	failed bool // the store was unavailable
	full   bool // the window was used up: with a larger one there would have been more
}

const (
	warmUp        = 8    // samples before the baseline is believed
	minSamples    = 4    // between two decisions
	smoothing     = 0.25 // weight of a new sample
	nearAt        = 2.0  // baselines up to which commits are as usual: two workers take turns on one hot row so
	slowAt        = 3.0  // baselines beyond which the window is cut
	worstSample   = 6.0  // baselines that one sample may count for, so that one stall of a disk cuts nothing
	cutBy         = 0.7
	growBy        = 0.25 // of a batch
	headRoom      = 2.0
	baselineDrift = 5 * time.Minute // of work, in which commits that stay slow become the usual ones
)

func newWindow(l windowLimits) window {
	w := window{limits: l, size: float64(2 * l.batch)}
	w.clamp()
	return w
}

// orders is the window.
func (w *window) orders() int { return int(w.size) }

// limit takes new limits over at once.
func (w *window) limit(l windowLimits) {
	w.limits = l
	w.clamp()
}

// restart goes to the floor, as after an outage, to grow from there.
func (w *window) restart(now time.Time) {
	w.slowFrom = max(w.slowFrom, w.size/2)
	w.size = 0
	w.decided()
	w.slow, w.cutAt = 0, now
	w.clamp()
}

// next takes a sample in and answers the window from now on.
func (w *window) next(now time.Time, s sample) int {
	if s.began.Before(w.cutAt) {
		return w.orders()
	}
	if s.failed {
		w.cut(now)
		return w.orders()
	}
	if s.orders == 0 {
		return w.orders()
	}
	usual, took := w.baseline.add(now, s), s.took.Seconds()
	w.usual, w.took = smooth(w.usual, usual), smooth(w.took, took)
	if w.total++; w.total <= warmUp {
		return w.orders()
	}
	w.slow = smooth(w.slow, min(took/usual, worstSample))
	w.full = w.full || s.full
	if w.samples++; w.samples < minSamples {
		return w.orders()
	}
	switch {
	case w.slow > slowAt:
		w.cut(now)
	case w.slow <= nearAt && w.full:
		w.grow()
	}
	w.decided()
	w.clamp()
	return w.orders()
}

func smooth(old, v float64) float64 {
	if old == 0 {
		return v
	}
	return old + smoothing*(v-old)
}

func (w *window) decided() { w.samples, w.full = 0, false }

func (w *window) cut(now time.Time) {
	w.size *= cutBy
	w.slowFrom, w.cutAt = w.size, now
	w.decided()
	w.clamp()
}

func (w *window) grow() {
	if w.size < w.slowFrom {
		w.size = min(2*w.size, w.slowFrom)
		return
	}
	w.size += growBy * float64(w.limits.batch)
}

func (w *window) clamp() { w.size = min(max(w.size, float64(w.limits.batch)), float64(w.ceiling())) }

// ceiling is what a rate can use: by Little's law the orders that come while one batch is paced and committed, with head
// room. Without a rate it is what the operator allows.
func (w *window) ceiling() int {
	l := w.limits
	if l.rate == 0 {
		return l.most
	}
	needed := headRoom * (l.rate*w.baseline.of(l.batch) + float64(l.batch))
	return min(l.most, int(math.Ceil(needed)))
}

// baseline is what a commit takes when nothing is wrong, by the number of orders in it: the shortest time that was seen,
// for classes of like size. A commit costs something for itself and something for each order, so a larger one takes no less
// time, and no more time for each order. That way what one class has seen bounds what others have not.
type baseline struct {
	classes [11]batchClass // batches of 1, 2-3, 4-7 … 1024 and more
	seen    time.Time      // the last sample
}

// batchClass is zero while it has seen nothing.
type batchClass struct{ orders, seconds float64 }

// of answers the baseline of a batch in seconds; 0 while nothing is known.
func (b *baseline) of(orders int) float64 {
	least := 0.0
	for _, c := range b.classes {
		if c.orders == 0 {
			continue
		}
		if bound := c.seconds * max(1, float64(orders)/c.orders); least == 0 || bound < least {
			least = bound
		}
	}
	return least
}

// add takes a commit in and answers the baseline of its size, in seconds. Faster ones count at once, by a part each, so that
// a single odd one doesn't rule; slower ones by the time that they went on. Idle time is no evidence of anything.
func (b *baseline) add(now time.Time, s sample) float64 {
	took, usual := max(s.took.Seconds(), 1e-6), b.of(s.orders)
	working := min(now.Sub(b.seen), time.Second)
	b.seen = now
	if usual != 0 && took >= usual {
		slower := min(took/usual-1, worstSample)
		b.raise(1 + slower*working.Seconds()/baselineDrift.Seconds())
		return b.of(s.orders)
	}
	c := &b.classes[min(bits.Len(uint(s.orders)), len(b.classes))-1]
	if c.orders == 0 {
		usual = took
	}
	*c = batchClass{float64(s.orders), usual + smoothing*(took-usual)}
	return b.of(s.orders)
}

func (b *baseline) raise(factor float64) {
	for i := range b.classes {
		b.classes[i].seconds *= factor
	}
}
