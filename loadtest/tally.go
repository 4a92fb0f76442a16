package loadtest

import (
	"math"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	vegeta "github.com/tsenart/vegeta/v12/lib"

	"sluice"
)

// tally counts what came of requests: of the whole round, of each phase, and of each second. The warm-up is not counted.
type tally struct {
	plan     *plan
	scenario *Scenario
	schedule *schedule

	mu         sync.Mutex // guards what follows: the progress line looks on
	all        *figures
	phases     []*figures
	points     []Point // by second, as far as requests or answers came
	second     int     // whose answers are being counted
	seconds    map[Class]*hdrhistogram.Histogram
	log        *hdrLog
	promised   map[string]struct{} // orders that were answered 202 or 200
	firstShed  time.Duration       // since the first phase began; negative: none so far
	lastAnswer time.Duration
	lost       int64           // orders of which nobody knows what became
	opens      []time.Duration // when each sale opens; 0: at once
	until      time.Duration   // since the attack began: what was due later was not played
}

// figures are counted for one time.
type figures struct {
	planned, sent, orders int64
	classes               map[Class]int64
	refused, failed       map[string]int64
	latency               map[Class]*hdrhistogram.Histogram
	lag, wait             *hdrhistogram.Histogram
	held, slow            time.Duration // that the service kept connections; of this, longer each time than the SLO allows
}

func newFigures() *figures {
	return &figures{
		classes: map[Class]int64{}, refused: map[string]int64{}, failed: map[string]int64{},
		latency: map[Class]*hdrhistogram.Histogram{}, lag: newHistogram(), wait: newHistogram(),
	}
}

func newTally(s *Scenario, p *plan, sched *schedule) *tally {
	t := &tally{
		plan: p, scenario: s, schedule: sched, all: newFigures(), seconds: map[Class]*hdrhistogram.Histogram{},
		log: newHDRLog(p.end - p.start), promised: map[string]struct{}{}, firstShed: -1,
		until: p.end, opens: make([]time.Duration, len(s.Sales)),
	}
	for i := range s.Sales {
		for n := range s.Phases {
			if s.Sales[i].Opens == s.Phases[n].Name {
				t.opens[i] = p.borders[n]
			}
		}
	}
	for range s.Phases {
		t.phases = append(t.phases, newFigures())
	}
	return t
}

// see counts a result. Its latency begins when the request was due, so that a service that stands still is seen by all who would have
// come meanwhile (Tene, How NOT to Measure Latency, 2015); the wait for a connection is a part of it.
func (t *tally) see(r issued, result *vegeta.Result) {
	left := result.Timestamp.Sub(t.schedule.start())
	came := left + result.Latency
	a := classify(r.request, result)
	switch {
	case a.why == string(sluice.NotStarted) && t.yetToOpen(r.request):
		a.class = Refused
	case r.sent || r.got > 0:
	case r.dialled > 0 && (a.why != timedOut || r.dialled-left <= came-r.dialled): // nobody took it, so nothing can have become of it
		a.unknown = false
	default: // it had no connection, nor leave to open one, for most of its time
		t.leave(r.request)
		return
	}
	t.comeAgain(r.request, a, came)
	if r.sale == warmupSale {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turn(came)
	way := t.timesOf(r, a, left, came)
	for _, f := range []*figures{t.all, t.phases[max(0, t.plan.phase(r.due))]} {
		f.count(r.request, a, way)
	}
	due := t.point(r.due)
	due.due(r.request)
	if way.lag > time.Duration(mostLag*float64(time.Millisecond)) {
		due.Late++
	}
	t.point(left+way.wait).Sent++
	t.point(came).answered(a)
	recordIn(t.seconds, a.class, way.latency)
	t.log.record(a.class, came-t.plan.start, way.latency)
	t.note(r.request, a, came-t.plan.start)
}

// opensWithin is how much later than its phase a sale may open: clocks differ, and doors hear of it.
const opensWithin = time.Second

// yetToOpen says that a request may be told that its sale has not started.
func (t *tally) yetToOpen(r request) bool {
	return r.sale != warmupSale && t.opens[r.sale] > 0 && r.due < t.opens[r.sale]+opensWithin
}

// times are how long a request took: its latency is all of it.
type times struct {
	latency, lag, wait, held time.Duration
	slow                     bool // the service held it longer than the SLO allows
}

// timesOf tells apart whose time it was: lag is the generator's own, until it let the request go and from there to the wire; wait is
// for a connection, where others had them all; held is the service's.
func (t *tally) timesOf(r issued, a answer, left, came time.Duration) times {
	w := times{latency: came - r.due, lag: left - r.due}
	if !r.sent {
		return w
	}
	w.lag += max(0, r.written-r.got)
	w.wait = max(0, r.got-left)
	if r.dialled > 0 { // to open one is no wait for others
		w.wait = max(0, min(w.wait, r.dialled-left))
	}
	w.held = max(0, came-r.written)
	limit := t.scenario.SLO.AcceptedP99
	if a.class == Refused && t.scenario.SLO.RefusedP99 > 0 {
		limit = t.scenario.SLO.RefusedP99
	}
	w.slow = limit > 0 && w.held > time.Duration(limit)
	return w
}

// leave counts a request that was due and not sent.
func (t *tally) leave(r request) {
	if r.sale == warmupSale {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all.planned++
	t.phases[max(0, t.plan.phase(r.due))].planned++
	t.point(r.due).due(r)
}

func (f *figures) count(r request, a answer, way times) {
	f.planned++
	f.sent++
	if r.kind == order {
		f.orders++
	}
	f.classes[a.class]++
	switch a.class {
	case Refused:
		f.refused[a.why]++
	case Failed:
		f.failed[a.why]++
	default:
	}
	recordIn(f.latency, a.class, way.latency)
	record(f.lag, way.lag)
	record(f.wait, way.wait)
	f.held += way.held
	if way.slow {
		f.slow += way.held
	}
}

// note keeps what is known of single orders, and of the first refusal for load.
func (t *tally) note(r request, a answer, at time.Duration) {
	t.lastAnswer = max(t.lastAnswer, at)
	switch {
	case a.order != "":
		t.promised[a.order] = struct{}{}
	case a.unknown && r.kind == order:
		t.lost++
	case a.class == Refused && forLoad(a.why) && t.firstShed < 0:
		t.firstShed = at
	}
}

// comeAgain has a buyer come again who was refused and told when.
func (t *tally) comeAgain(r request, a answer, came time.Duration) {
	if a.class != Refused || a.again == 0 || !r.stays || r.try >= t.scenario.Crowd.Tries {
		return
	}
	r.due, r.try = came+a.again, r.try+1
	t.schedule.come(r)
}

// turn closes the seconds before that of an answer. Answers come nearly in order; one that is late is counted where the count is.
func (t *tally) turn(came time.Duration) {
	second := t.index(came)
	if second <= t.second {
		return
	}
	t.close()
	t.second = second
}

func (t *tally) close() {
	p := t.at(t.second)
	p.AcceptedP99, p.RefusedP99 = p99(t.seconds[Accepted]), p99(t.seconds[Refused])
	for _, h := range t.seconds {
		h.Reset()
	}
}

func p99(h *hdrhistogram.Histogram) float64 {
	if h == nil || h.TotalCount() == 0 {
		return 0
	}
	return milliseconds(time.Duration(h.ValueAtQuantile(99)) * time.Microsecond)
}

func (t *tally) index(at time.Duration) int { return max(0, int((at-t.plan.start)/time.Second)) }

func (t *tally) point(at time.Duration) *Point { return t.at(t.index(at)) }

func (t *tally) at(second int) *Point {
	for len(t.points) <= second {
		t.points = append(t.points, Point{At: float64(len(t.points) + 1)})
	}
	return &t.points[second]
}

func (p *Point) due(r request) {
	p.Planned++
	if r.kind == order {
		p.Orders++
	}
}

func (p *Point) answered(a answer) {
	switch a.class {
	case Accepted:
		p.Accepted++
	case Repeated:
		p.Repeated++
	case Page:
		p.Pages++
	case Refused:
		p.Refused++
		if forLoad(a.why) {
			p.Shed++
		}
	case Failed:
		p.Failed++
	}
}

// end counts what was due and not sent, and closes the books. What was due after the attack was ended early is nobody's fault.
func (t *tally) end(until time.Duration) {
	until = t.schedule.played(until)
	for _, r := range t.schedule.unsent(until) {
		t.leave(r)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.until = until
	t.close()
	t.log.end()
}

// played is how long the n-th phase was played; of all, without the warm-up, where n is -1.
func (t *tally) played(n int) time.Duration {
	from, to := t.plan.start, t.plan.end
	if n >= 0 {
		from, to = t.plan.borders[n], t.plan.borders[n+1]
	}
	return max(0, min(t.until, to)-from)
}

// progress is how it goes: counts so far, and the last whole second's.
func (t *tally) progress() (p Progress) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p.Accepted, p.Failed = t.all.classes[Accepted], t.all.classes[Failed]
	for reason, n := range t.all.refused {
		if forLoad(reason) {
			p.Shed += n
		}
	}
	if t.second > 0 {
		last := t.at(t.second - 1)
		p.Rate, p.P99 = float64(last.Sent), time.Duration(last.AcceptedP99*float64(time.Millisecond))
	}
	return p
}

// figures are the counts of a time, as they are reported.
func (f *figures) figures(name string, from, length time.Duration, curve bool) Figures {
	out := Figures{
		Name: name, From: from.Seconds(), For: length.Seconds(), Planned: f.planned, Sent: f.sent, Orders: f.orders,
		Accepted: f.classes[Accepted], Repeated: f.classes[Repeated], Pages: f.classes[Page], Refused: f.refused, Failed: f.failed,
		Latency: map[Class]Latency{}, Lag: latencyOf(f.lag, false), Wait: latencyOf(f.wait, false), CPU: map[string]float64{},
	}
	if f.held > 0 {
		out.Slow = float64(f.slow) / float64(f.held)
	}
	for class, h := range f.latency {
		out.Latency[class] = latencyOf(h, curve)
	}
	if length > 0 {
		out.Offered = float64(f.orders) / length.Seconds()
	}
	return out
}

func recordIn(to map[Class]*hdrhistogram.Histogram, c Class, d time.Duration) {
	h := to[c]
	if h == nil {
		h = newHistogram()
		to[c] = h
	}
	record(h, d)
}

// record keeps a time; what is out of the histogram's range counts at its end.
func record(h *hdrhistogram.Histogram, d time.Duration) {
	_ = h.RecordValue(min(max(d.Microseconds(), h.LowestTrackableValue()), h.HighestTrackableValue())) // in range
}

// hdrLog keeps the latencies of each class by intervals, few enough to be kept in memory.
type hdrLog struct {
	each      time.Duration
	current   int
	open      map[Class]*hdrhistogram.Histogram
	intervals []Interval // From is set when the round's beginning is known
	starts    []time.Duration
}

// mostIntervals bounds a round's log: some hundred KiB for each class in each.
const mostIntervals = 60

func newHDRLog(length time.Duration) *hdrLog {
	each := time.Duration(math.Ceil(length.Seconds()/mostIntervals)) * time.Second
	return &hdrLog{each: max(each, time.Second), open: map[Class]*hdrhistogram.Histogram{}}
}

func (l *hdrLog) record(c Class, at, d time.Duration) {
	if i := max(0, int(at/l.each)); i > l.current {
		l.end()
		l.current = i
	}
	recordIn(l.open, c, d)
}

// end closes the interval that is open.
func (l *hdrLog) end() {
	for _, c := range Classes() {
		if h := l.open[c]; h != nil {
			l.intervals = append(l.intervals, Interval{Class: c, For: l.each, Values: h})
			l.starts = append(l.starts, time.Duration(l.current)*l.each)
		}
	}
	clear(l.open)
}

// of are the intervals of a round that began at a time.
func (l *hdrLog) of(round int, began time.Time) []Interval {
	for i := range l.intervals {
		l.intervals[i].Round, l.intervals[i].From = round, began.Add(l.starts[i])
	}
	return l.intervals
}
