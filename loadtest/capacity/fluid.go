package capacity

import (
	"math"
	"slices"
	"time"

	"sluice"
	"sluice/limiter"
	"sluice/loadtest"
)

// span is a time in which requests come evenly.
type span struct {
	seconds       float64
	orders, pages float64 // requests in all
}

// stock is a sale as the model sees it.
type stock struct {
	weight float64 // share of the orders
	units  float64
	opens  float64 // seconds from the start
}

// story is what is put to the model: who comes, and how the service is set.
type story struct {
	spans    []span
	sales    []stock
	quantity float64 // units of an order
	double   float64 // of a hundred buyers so many send their order twice; the spans' orders have both
	retry    float64 // share of those told to come again who do
	tries    int
	buyers   float64 // from whom orders are drawn; 0: each has one of its own
	keyed    float64 // share of orders that a buyer may repeat as another order

	bound   float64
	maxWait time.Duration
	drain   float64 // orders a second that are settled
	set     bool    // the workers are set to that rate, and doors know it from the start
	slow    loadtest.Slow
	settle  float64 // seconds that an order takes which nobody is before
}

// outcome is what the model says comes of a story. Times are seconds from its start.
type outcome struct {
	offered, accepted, repeated float64
	refused                     map[sluice.Refusal]float64
	settled, sold               float64
	outstanding                 float64 // highest
	bound                       float64 // lowest in force while anybody came
	waitP50, waitP99, waitMax   float64
	firstShed, soldOut, idle    float64 // negative: never
	seconds                     []events
}

// shed is the share of orders that were refused for load.
func (o *outcome) shed() float64 {
	if o.offered == 0 {
		return 0
	}
	return (o.refused[sluice.QueueFull] + o.refused[sluice.TooSlow]) / o.offered
}

func (o *outcome) total() (all events) {
	for _, e := range o.seconds {
		all.add(e)
	}
	return all
}

const (
	aSecond    = 100 // steps
	step       = 1.0 / aSecond
	looks      = aSecond / 2 // steps between two looks at the drain rate, as doors have it
	shortRetry = 0.5         // seconds, as the service tells them
	longRetry  = 30          // where the queue is full
	longSettle = 90          // where the queue speaks for all units
	jitter     = 1.25        // mean of what spreads them
)

// defaultBatch is the most orders in one transaction where nobody set another: doors take no less than two for their bound, and count
// time with less outstanding as no backlog.
const defaultBatch = 256

// parcel is the orders that were admitted in one step.
type parcel struct {
	at, n float64
	sale  int
}

type wait struct{ n, seconds float64 }

// fluid is a service whose orders are a liquid. It admits by the limiter's own functions.
type fluid struct {
	story
	outcome

	now        float64
	free       []float64 // units, by sale
	queued     []float64 // orders, by sale
	queue      []parcel
	q          float64 // orders in the queue
	inForce    float64 // the bound
	rate       limiter.DrainRate
	slack      bool // since the last look less than a batch was outstanding
	slot       float64
	comeAgain  []map[int]float64 // by the number of tries: orders, by the step they come in
	waits      []wait
	turnedAway float64
	lastSettle float64
}

// run plays the story until nothing is left of it.
func (s story) run() outcome {
	f := &fluid{story: s, inForce: s.bound}
	f.outcome = outcome{refused: map[sluice.Refusal]float64{}, firstShed: -1, soldOut: -1, idle: -1, bound: s.bound}
	for _, sale := range s.sales {
		f.free, f.queued = append(f.free, sale.units), append(f.queued, 0)
	}
	f.comeAgain = make([]map[int]float64, max(1, s.tries)+1)
	for i := range f.comeAgain {
		f.comeAgain[i] = map[int]float64{}
	}
	n := 0
	for _, sp := range s.spans {
		steps := max(1, int(math.Round(sp.seconds/step)))
		for range steps {
			f.step(n, sp.orders/float64(steps), sp.pages/float64(steps))
			n++
		}
	}
	for again := true; again; n++ {
		f.step(n, 0, 0)
		again = f.now < f.slowEnd() && f.q > 0
		for _, later := range f.comeAgain {
			again = again || len(later) > 0
		}
	}
	f.empty()
	f.measureWaits()
	f.addUnderWay()
	return f.outcome
}

func (f *fluid) slowEnd() float64 {
	return time.Duration(f.slow.From + f.slow.For).Seconds()
}

// speed is how fast orders are settled now.
func (f *fluid) speed() float64 {
	from := time.Duration(f.slow.From).Seconds()
	if f.slow.For > 0 && f.slow.Of > 0 && f.now >= from && f.now < f.slowEnd() {
		return f.drain * (1 - float64(f.slow.Busy)/float64(f.slow.Of))
	}
	return f.drain
}

// step is what happens in a hundredth of a second: orders are settled, doors look at the rate, buyers come.
func (f *fluid) step(n int, orders, pages float64) {
	f.now = float64(n+1) * step
	e := events{second: step, page: pages, settled: f.settleUpTo(f.speed() * step)}
	f.slack = f.slack || f.q < defaultBatch
	if n%looks == 0 {
		f.look()
	}
	before, wasRefused := f.accepted, f.turnedAway
	f.come(1, n, orders)
	for try := 2; try < len(f.comeAgain); try++ {
		again := f.comeAgain[try][n]
		delete(f.comeAgain[try], n)
		f.come(try, n, again)
	}
	e[accepted], e[refused] = f.accepted-before, f.turnedAway-wasRefused
	e[carried] = (e[accepted] + e[settled]) / 2
	if at := n / aSecond; at == len(f.seconds) {
		f.seconds = append(f.seconds, e)
	} else {
		f.seconds[at].add(e)
	}
}

// refuse and repeat count answers that are not a new order.
func (f *fluid) refuse(why sluice.Refusal, orders float64) {
	f.refused[why] += orders
	f.turnedAway += orders
}

func (f *fluid) repeat(orders float64) {
	f.repeated += orders
	f.turnedAway += orders
}

// look follows the rate as doors do, and turns it into the bound in force.
func (f *fluid) look() {
	at := atSecond(f.now)
	f.rate.Observe(at, uint64(f.settled), atSecond(f.lastSettle), !f.slack)
	f.slack = f.q < defaultBatch
	rate := f.rate.Rate(at)
	if rate == 0 && f.set {
		rate = f.drain
	}
	f.inForce = float64(limiter.EffectiveBound(int64(f.story.bound), 2*defaultBatch, rate, f.maxWait))
	f.outcome.bound = min(f.outcome.bound, f.inForce)
}

func atSecond(s float64) time.Time {
	return time.Unix(0, 0).Add(time.Duration(s * float64(time.Second)))
}

// settleUpTo settles n orders at most, those first that came first.
func (f *fluid) settleUpTo(n float64) (done float64) {
	for n > 0 && len(f.queue) > 0 {
		p := &f.queue[0]
		part := min(n, p.n)
		f.waits = append(f.waits, wait{part, max(0, f.now-p.at-step)}) // a step is an instant
		units := min(f.free[p.sale], part*f.quantity)
		f.free[p.sale] -= units
		f.sold += units
		if f.free[p.sale] <= 1e-9 && f.soldOut < 0 && units > 0 {
			f.soldOut = f.now
		}
		f.queued[p.sale] = max(0, f.queued[p.sale]-part)
		p.n, n, done = p.n-part, n-part, done+part
		if p.n <= 1e-9 {
			f.queue = f.queue[1:]
		}
	}
	f.q = max(0, f.q-done)
	f.settled += done
	if done > 0 {
		f.lastSettle = f.now
	}
	return done
}

// come is so many orders that come, of buyers who try for the so many-th time.
func (f *fluid) come(try, n int, orders float64) {
	if orders <= 0 {
		return
	}
	f.offered += orders
	want := make([]float64, len(f.sales))
	var all float64
	twice := f.double / (1 + f.double)
	for i, s := range f.sales {
		want[i] = f.wanted(i, try, n, orders*s.weight, twice)
		all += want[i]
	}
	room := max(0, f.inForce-f.q)
	let := 1.0
	if all > room {
		let = room / all
	}
	f.admit(want, let, twice)
	if shut := all * (1 - let); shut > 0 {
		f.shut(try, n, shut, twice)
	}
}

// wanted is how many of a sale's orders the bound is asked for; the others are answered already.
func (f *fluid) wanted(i, try, n int, orders, twice float64) float64 {
	if f.now <= f.sales[i].opens {
		f.refuse(sluice.NotStarted, orders)
		return 0
	}
	if f.buyers > 0 {
		known := orders * (1 - f.keyed) * min(1, f.accepted/f.buyers)
		f.repeat(known)
		orders -= known
	}
	free := f.free[i]
	if free < f.quantity-1e-9 {
		f.refuse(sluice.AllSold, orders)
		return 0
	}
	first := orders * (1 - twice)
	room := max(0, sluice.DefaultOverAdmission*free/f.quantity-f.queued[i])
	if first > room {
		f.refuse(sluice.NoneFree, (first-room)/(1-twice))
		f.again(try, n, first-room, min(longSettle, max(shortRetry, f.q/f.drain)))
		first = room
	}
	return first
}

// admit lets a share of the wanted orders in. Whoever sent one twice is told of it again.
func (f *fluid) admit(want []float64, let, twice float64) {
	for i, n := range want {
		n *= let
		if n == 0 {
			continue
		}
		f.queue = append(f.queue, parcel{f.now, n, i})
		f.queued[i] += n
		f.q += n
		f.accepted += n
		f.repeat(n * twice / (1 - twice))
	}
	f.outstanding = max(f.outstanding, f.q)
}

// shut is so many orders that find no room. Some of their buyers come again when the queue has room for them, as they are told to.
func (f *fluid) shut(try, n int, orders, twice float64) {
	why := sluice.QueueFull
	if f.inForce < f.story.bound {
		why = sluice.TooSlow
	}
	f.refuse(why, orders/(1-twice))
	if f.firstShed < 0 {
		f.firstShed = f.now
	}
	f.slot = max(f.slot, f.now) + orders/f.drain
	f.again(try, n, orders, min(longRetry, max(shortRetry, f.slot-f.now)))
}

// again makes a share of refused buyers come again when they were told to, each a little later.
func (f *fluid) again(try, n int, orders, after float64) {
	if try < f.tries && f.retry > 0 {
		f.comeAgain[try+1][n+int(jitter*after/step)] += orders * f.retry
	}
}

// empty settles what is left, when nobody comes any more.
func (f *fluid) empty() {
	began := f.now
	for len(f.queue) > 0 {
		n := f.queue[0].n
		f.now += n / f.drain
		f.settleUpTo(n)
	}
	if left := f.lastSettle - began; left > 0 {
		f.seconds = append(f.seconds, events{second: left, settled: left * f.drain, carried: left * f.drain / 2})
	}
	f.idle = f.lastSettle
}

// measureWaits ranks the waits, each with what an order takes that nobody is before.
func (f *fluid) measureWaits() {
	slices.SortFunc(f.waits, func(a, b wait) int {
		switch {
		case a.seconds < b.seconds:
			return -1
		case a.seconds > b.seconds:
			return 1
		}
		return 0
	})
	var sum float64
	for _, w := range f.waits {
		sum += w.n
		s := w.seconds + f.settle
		if sum <= f.settled*0.5 {
			f.waitP50 = s
		}
		if sum <= f.settled*0.99 {
			f.waitP99 = s
		}
		f.waitMax = s
	}
	f.waitP50, f.waitP99 = max(f.waitP50, f.settle), max(f.waitP99, f.settle)
}

// addUnderWay counts those orders as outstanding which nobody is before and which are being settled nevertheless (Little's law).
func (f *fluid) addUnderWay() {
	var most float64
	for _, e := range f.seconds {
		most = max(most, e[accepted])
	}
	f.outstanding = max(f.outstanding, min(f.story.bound, f.outstanding+min(most, f.drain)*f.settle))
}
