package webhook

import (
	"container/heap"
	"math/rand/v2"
	"slices"
	"time"

	"sluice"
)

// item is one event that the endpoint has not taken.
type item struct {
	seq      int64
	line     *line
	typ      sluice.EventType
	at       time.Time // of the event
	body     []byte    // nil where the store has it
	attempts int       // that failed and count
	firstAt  time.Time
	nextAt   time.Time // when it may be sent, once it is first in its line
	lastErr  string
	saved    bool // the store has it
	dirty    bool // the store has it otherwise, or not, and shall
	over     bool // delivered, or dead
	dead     bool
}

// line is the events of one order, or of one sale, in their order. Only the first is ever under way.
type line struct {
	key   string
	items []*item
	busy  bool // the first is under way
	place int  // in the queue; -1: not there
}

// held reports whether the first one waits for its next attempt. The store keeps those behind it too, then.
func (l *line) held() bool { return len(l.items) > 0 && l.items[0].attempts > 0 }

// board decides what is sent when. It does no I/O, knows no clock and has one owner.
//
// Events come in the order of their numbers. One that fails waits for its next attempt in the store, as do those behind it
// in its line, so that the reader's position can move on; all others overtake. Where many fail and none succeeds it is the
// endpoint that fails, not its events: then nothing counts, nothing is stored, and one at a time tries whether it is back.
type board struct {
	width  int           // most under way
	maxAge time.Duration // of an event that is tried

	lines    map[string]*line
	queue    queue   // lines that have something to send and nothing under way
	window   []*item // read and not yet passed by the position, in order
	read     int64   // the last event that was read
	unsaved  int     // of the window, neither over nor stored
	stored   map[int64]*item
	dirty    []*item
	forget   []int64 // stored deliveries that were taken
	underWay int

	failing map[string]bool // lines that failed since the last success, no more than it takes
	since   time.Time       // of the first failure since; zero: none
	lastErr string
	open    bool  // the endpoint as a whole fails
	probe   *item // what tries whether it still does
	probeAt time.Time
	backoff time.Duration
	pause   time.Time // the receiver asked for silence until then
	gone    bool      // it wants nothing more
}

const (
	tellingFailures = 10 // so many orders in a row, and the endpoint is what fails
	firstProbe      = time.Second
	lastProbe       = time.Minute
	maxPause        = 15 * time.Minute // that a receiver can ask for
	longStreak      = 5 * time.Second  // of failures, after which what failed first in it is tried again at once
)

// delays are between attempts, those that Standard Webhooks recommends. The first attempt has none.
var delays = []time.Duration{
	5 * time.Second, 5 * time.Minute, 30 * time.Minute,
	2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
}

// maxAttempts is how many failures make a delivery a dead one.
var maxAttempts = len(delays) + 1

func newBoard(position int64, width int, maxAge time.Duration) *board {
	return &board{
		width: width, maxAge: maxAge, read: position,
		lines: map[string]*line{}, stored: map[int64]*item{}, failing: map[string]bool{},
	}
}

// restore takes what the store kept. What an operator wants again goes first in its line, but for what is under way.
func (b *board) restore(d sluice.Delivery) {
	if b.stored[d.Seq] != nil {
		return
	}
	it := &item{
		seq: d.Seq, typ: d.Type, at: d.At, attempts: d.Attempts, firstAt: d.FirstAt, nextAt: d.NextAt, lastErr: d.LastError, saved: true,
	}
	b.stored[d.Seq] = it
	l := b.lineOf(d.Key)
	i, _ := slices.BinarySearchFunc(l.items, d.Seq, func(it *item, seq int64) int { return int(it.seq - seq) })
	if l.busy {
		i = max(i, 1)
	}
	it.line, l.items = l, slices.Insert(l.items, i, it)
	b.place(l)
}

// skip passes an event that the endpoint is not told of, or that is dead.
func (b *board) skip(seq int64) { b.read = seq }

// add takes the next event.
func (b *board) add(e *sluice.Event, body []byte, now time.Time) {
	b.read = e.Seq
	if b.stored[e.Seq] != nil { // saved, but the position was not moved any more
		return
	}
	l := b.lineOf(keyOf(e))
	it := &item{seq: e.Seq, line: l, typ: e.Type, at: e.At, body: body, nextAt: now}
	if b.open {
		it.nextAt = time.Time{} // it says more of the endpoint than what was tried in vain
	}
	l.items = append(l.items, it)
	b.window = append(b.window, it)
	b.unsaved++
	if l.held() {
		b.touch(it)
	}
	b.place(l)
}

// keyOf names what an event's order is kept with: its order, or its sale.
func keyOf(e *sluice.Event) string {
	if e.Order == (sluice.OrderID{}) {
		return "sale:" + e.Sale
	}
	return e.Order.String()
}

func (b *board) lineOf(key string) *line {
	l := b.lines[key]
	if l == nil {
		l = &line{key: key, place: -1}
		b.lines[key] = l
	}
	return l
}

// place puts a line where its first event belongs in the queue, or nowhere.
func (b *board) place(l *line) {
	switch {
	case len(l.items) == 0:
		if l.place >= 0 {
			heap.Remove(&b.queue, l.place)
		}
		delete(b.lines, l.key)
	case l.busy:
	case l.place >= 0:
		heap.Fix(&b.queue, l.place)
	default:
		heap.Push(&b.queue, l)
	}
}

// next picks what is sent now; nil: nothing.
func (b *board) next(now time.Time) *item {
	at, some := b.nextAt()
	if !some || now.Before(at) {
		return nil
	}
	l := heap.Pop(&b.queue).(*line)
	l.busy = true
	b.underWay++
	if b.open {
		b.probe = l.items[0]
	}
	return l.items[0]
}

// nextAt is when the next one may be sent; false where nothing but an answer or a new event can change that.
func (b *board) nextAt() (time.Time, bool) {
	switch {
	case b.gone || len(b.queue) == 0 || b.underWay >= b.width || b.open && b.underWay > 0:
		return time.Time{}, false
	case b.open:
		return later(b.probeAt, b.pause), true
	default:
		return later(b.queue[0].items[0].nextAt, b.pause), true
	}
}

// done notes how an attempt went.
func (b *board) done(it *item, v verdict, now time.Time) {
	l := it.line
	l.busy = false
	b.underWay--
	switch v.outcome {
	case delivered:
		b.succeed(it, now)
	case failed:
		b.fail(it, v, now)
	case gone:
		b.gone, b.lastErr = true, v.err
	case undone:
		it.nextAt = now.Add(time.Second)
	}
	b.place(l)
}

func (b *board) succeed(it *item, now time.Time) {
	b.end(it)
	if b.open || !b.since.IsZero() && now.Sub(b.since) >= longStreak {
		b.hasten()
	}
	clear(b.failing)
	b.open, b.probe, b.backoff, b.since, b.lastErr = false, nil, 0, time.Time{}, ""
}

// hasten has what failed for the first time in an outage tried again now that it is over. It does so once for each: what
// keeps failing keeps to its schedule.
func (b *board) hasten() {
	for _, l := range b.queue {
		if it := l.items[0]; it.attempts > 0 && !it.firstAt.Before(b.since) {
			it.nextAt = time.Time{}
		}
	}
	heap.Init(&b.queue)
}

func (b *board) fail(it *item, v verdict, now time.Time) {
	b.lastErr, it.lastErr = v.err, v.err
	if b.since.IsZero() {
		b.since = now
	}
	if len(b.failing) < tellingFailures {
		b.failing[it.line.key] = true
	}
	asked := now.Add(min(v.retryAfter, maxPause))
	if v.retryAfter > 0 {
		b.pause = later(b.pause, asked)
	}
	opens := !b.open && len(b.failing) >= tellingFailures
	b.open = b.open || opens
	if b.open && (opens || it == b.probe) {
		b.backoff = min(max(2*b.backoff, firstProbe), lastProbe)
		b.probeAt = now.Add(jittered(b.backoff))
	}
	if b.open {
		it.nextAt = now // behind those that were not tried in this outage: no bad event is the only probe
		return
	}
	it.attempts++
	if it.firstAt.IsZero() {
		it.firstAt = now
	}
	if it.attempts >= maxAttempts {
		b.bury(it)
		return
	}
	it.nextAt = later(now.Add(jittered(delays[it.attempts-1])), asked)
	if it.nextAt.After(it.firstAt.Add(b.maxAge)) {
		b.bury(it)
		return
	}
	b.touch(it)
	b.keepLine(it.line)
}

// keepLine has the store keep what waits behind an event that waits for its next attempt.
func (b *board) keepLine(l *line) {
	if !l.held() {
		return
	}
	for _, it := range l.items {
		if !it.saved {
			b.touch(it)
		}
	}
}

// expire gives up what has grown too old in an outage that is as old, so that nothing waits for an endpoint for ever: the first
// of each line. What was behind them may fare better, and is tried for itself.
func (b *board) expire(now time.Time) {
	if b.since.IsZero() || now.Sub(b.since) < b.maxAge {
		return
	}
	oldest := now.Add(-b.maxAge)
	for _, l := range b.lines {
		if l.busy || !l.items[0].at.Before(oldest) {
			continue
		}
		if it := l.items[0]; it.lastErr == "" {
			it.lastErr = b.lastErr
		}
		b.bury(l.items[0])
		b.place(l)
		b.open = false
		clear(b.failing)
	}
}

// bury gives an event up. Those behind it in its line go on.
func (b *board) bury(it *item) {
	it.dead, it.nextAt = true, time.Time{}
	b.end(it)
	b.touch(it)
}

// end takes the first event of a line out.
func (b *board) end(it *item) {
	it.over = true
	it.line.items = it.line.items[1:]
	b.keepLine(it.line)
	if !it.saved {
		b.unsaved--
		return
	}
	delete(b.stored, it.seq)
	if !it.dead {
		b.forget = append(b.forget, it.seq)
	}
}

func (b *board) touch(it *item) {
	if !it.dirty {
		it.dirty = true
		b.dirty = append(b.dirty, it)
	}
}

// rows are what the store shall keep, and which of its deliveries it shall forget.
func (b *board) rows() (put []sluice.Delivery, done []int64) {
	for _, it := range b.dirty {
		if it.over && !it.dead {
			continue
		}
		d := sluice.Delivery{
			Seq: it.seq, Key: it.line.key, Type: it.typ, At: it.at, State: sluice.DeliveryWaiting, Attempts: it.attempts,
			FirstAt: it.firstAt, NextAt: it.nextAt, LastError: it.lastErr, Body: it.body,
		}
		if it.dead {
			d.State = sluice.DeliveryDead
		}
		put = append(put, d)
	}
	return put, b.forget
}

// kept notes that the store has what rows answered.
func (b *board) kept() {
	for _, it := range b.dirty {
		it.dirty = false
		if it.over && !it.dead {
			continue
		}
		if !it.over && !it.saved {
			b.unsaved--
			b.stored[it.seq] = it
		}
		it.saved, it.body = true, nil
	}
	b.dirty, b.forget = nil, nil
}

// position is the last event before which, itself included, each one is delivered, stored or none of the endpoint's.
func (b *board) position() int64 {
	passed := 0
	for passed < len(b.window) && (b.window[passed].saved || b.window[passed].over && !b.window[passed].dead) {
		b.window[passed] = nil
		passed++
	}
	b.window = b.window[passed:]
	if len(b.window) > 0 {
		return b.window[0].seq - 1
	}
	return b.read
}

// queue is a heap of lines: the one whose first event may be sent first comes first, of two alike the older event.
type queue []*line

func (q queue) Len() int { return len(q) }

func (q queue) Less(i, j int) bool {
	a, b := q[i].items[0], q[j].items[0]
	if !a.nextAt.Equal(b.nextAt) {
		return a.nextAt.Before(b.nextAt)
	}
	return a.seq < b.seq
}

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}

func (q *queue) Push(l any) {
	l.(*line).place = len(*q)
	*q = append(*q, l.(*line))
}

func (q *queue) Pop() any {
	last := len(*q) - 1
	l := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	l.place = -1
	return l
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// jittered adds up to a tenth, so that what failed together is not tried together.
func jittered(d time.Duration) time.Duration { return d + rand.N(d/10+1) }
