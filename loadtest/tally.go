package loadtest

import (
	"math"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	vegeta "github.com/tsenart/vegeta/v12/lib"
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
	lost       int64 // orders of which nobody knows what became
}

// figures are counted for one time.
type figures struct {
	planned, sent, orders int64
	classes               map[Class]int64
	refused, failed       map[string]int64
	latency               map[Class]*hdrhistogram.Histogram
	lag                   *hdrhistogram.Histogram
}

func newFigures() *figures {
	return &figures{
		classes: map[Class]int64{}, refused: map[string]int64{}, failed: map[string]int64{},
		latency: map[Class]*hdrhistogram.Histogram{}, lag: newHistogram(),
	}
}

func newTally(s *Scenario, p *plan, sched *schedule) *tally {
	t := &tally{
		plan: p, scenario: s, schedule: sched, all: newFigures(), seconds: map[Class]*hdrhistogram.Histogram{},
		log: newHDRLog(p.end - p.start), promised: map[string]struct{}{}, firstShed: -1,
	}
	for range s.Phases {
		t.phases = append(t.phases, newFigures())
	}
	return t
}

// see counts a result. Its latency begins when the request was due, so that a service that stands still is seen by all who would have
// come meanwhile (Tene, How NOT to Measure Latency, 2015).
func (t *tally) see(r request, result *vegeta.Result) {
	a := classify(r, result)
	sent := result.Timestamp.Sub(t.schedule.began)
	came := sent + result.Latency
	t.comeAgain(r, a, came)
	if r.sale == warmupSale {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turn(came)
	latency, lag := came-r.due, sent-r.due
	for _, f := range []*figures{t.all, t.phases[max(0, t.plan.phase(r.due))]} {
		f.count(r, a, latency, lag)
	}
	t.point(r.due).due(r)
	t.point(sent).Sent++
	t.point(came).answered(a)
	recordIn(t.seconds, a.class, latency)
	t.log.record(a.class, came-t.plan.start, latency)
	t.note(r, a, came-t.plan.start)
}

func (f *figures) count(r request, a answer, latency, lag time.Duration) {
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
	recordIn(f.latency, a.class, latency)
	record(f.lag, lag)
}

// note keeps what is known of single orders, and of the first refusal for load.
func (t *tally) note(r request, a answer, at time.Duration) {
	t.lastAnswer = max(t.lastAnswer, at)
	switch {
	case a.order != "":
		t.promised[a.order] = struct{}{}
	case a.class == Failed && r.kind == order:
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

// end counts what was due and not sent, and closes the books.
func (t *tally) end(until time.Duration) {
	unsent := t.schedule.unsent(until)
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range unsent {
		if r.sale == warmupSale {
			continue
		}
		t.all.planned++
		t.phases[max(0, t.plan.phase(r.due))].planned++
		t.point(r.due).due(r)
	}
	t.close()
	t.log.end()
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
		Latency: map[Class]Latency{}, Lag: latencyOf(f.lag, false), CPU: map[string]float64{},
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
