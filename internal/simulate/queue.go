package simulate

import (
	"slices"
	"strconv"
	"time"

	"sluice"
	"sluice/inventory"
	"sluice/queue"
)

const (
	messageTimeout = 15 * time.Second // as workers set it
	mostOutcomes   = 100              // in a door's channel; later ones are dropped
	mostFinished   = 16               // of which a restart may bring some back
)

// nsqd carries orders to workers and outcomes to doors. It loses what it is told to lose. Whoever uses it holds the world's lock.
type nsqd struct {
	up       bool
	life     int
	start    time.Time // in whole seconds, as nsqd tells it
	next     int       // number of the next message
	orders   []*message
	finished []*message
}

// message is one in the topic of orders.
type message struct {
	number   int
	order    sluice.OrderID // zero: it is none
	body     []byte
	attempts int
	ready    time.Time // not delivered before
	inFlight *delivery
}

// delivery is a message in a worker's hand.
type delivery struct {
	w     *World
	life  *workerLife
	m     *message
	queue int // nsqd's life
	at    time.Time
	done  bool
}

func (q *nsqd) put(order sluice.OrderID, body []byte) {
	q.next++
	q.orders = append(q.orders, &message{number: q.next, order: order, body: body})
}

// deliverable lists the messages that a worker may be given at now. One that was not answered in time is among them again.
func (q *nsqd) deliverable(now time.Time) (ms []*message) {
	if !q.up {
		return nil
	}
	for _, m := range q.orders {
		if d := m.inFlight; d != nil && now.Sub(d.at) >= messageTimeout {
			m.inFlight = nil
		}
		if m.inFlight == nil && !m.ready.After(now) {
			ms = append(ms, m)
		}
	}
	return ms
}

func (q *nsqd) drop(m *message) {
	q.orders = slices.DeleteFunc(q.orders, func(other *message) bool { return other == m })
}

// has reports whether a message of the order is there, in somebody's hand or not.
func (q *nsqd) has(id sluice.OrderID) bool {
	return slices.ContainsFunc(q.orders, func(m *message) bool { return m.order == id })
}

// What a crash leaves of the messages.
const (
	keepNothing = iota
	keepQueued  // what is in flight is lost
	keepHalf    // of those, too
	keepAll     // an orderly restart
)

// crash ends a life of nsqd. Some of what was finished may come back.
func (q *nsqd) crash(keep, repeat int) (lost []*message) {
	q.up = false
	var kept []*message
	for _, m := range q.orders {
		ok := keep == keepAll || keep != keepNothing && m.inFlight == nil && (keep == keepQueued || m.number%2 == 0)
		if !ok {
			lost = append(lost, m)
			continue
		}
		m.inFlight, m.ready = nil, time.Time{} // it forgets delays, too
		kept = append(kept, m)
	}
	if keep != keepNothing {
		kept = append(kept, q.finished[max(0, len(q.finished)-repeat):]...)
	}
	q.orders, q.finished = kept, nil
	return lost
}

func (q *nsqd) begin(now time.Time) {
	q.up, q.start = true, now.Truncate(time.Second)
	q.life++
}

// live reports whether an answer to the delivery still reaches nsqd, and counts there.
func (d *delivery) live() bool {
	q := &d.w.queue
	return !d.done && d.life.ctx.Err() == nil && q.up && q.life == d.queue && d.m.inFlight == d
}

// Finish is worker.Message's.
func (d *delivery) Finish() {
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	if d.live() {
		q := &d.w.queue
		q.drop(d.m)
		d.m.inFlight = nil
		q.finished = append(q.finished, d.m)
		q.finished = q.finished[max(0, len(q.finished)-mostFinished):]
	}
	d.done = true
}

// Requeue is worker.Message's.
func (d *delivery) Requeue(delay time.Duration) {
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	if d.live() {
		d.m.inFlight, d.m.ready = nil, time.Now().Add(delay)
	}
	d.done = true
}

// Letter is worker.Message's.
func (d *delivery) Letter() inventory.Letter {
	return inventory.Letter{Message: strconv.Itoa(d.m.number), Body: d.m.body, Attempts: d.m.attempts}
}

// carrier takes one life of a door's orders to nsqd, as queue.Carrier does. The world's lock guards it.
type carrier struct {
	life  *doorLife
	most  int
	full  bool           // as of the last step: requests that a sync sets free at once must all meet the same
	fresh []sluice.Order // of this step, in whatever order goroutines ran

	waiting []sluice.Order
	wire    []sluice.OrderID // sent, and not answered
	sentTo  int              // the life of nsqd that it was sent to
	doubt   bool             // it has not landed, or its answer is lost

	connected   int // the life of nsqd that the connection is to; 0: none
	seen        queue.Sighting
	epoch       uint64
	incarnation uint64
	depth       int64
}

// Carry is ingress.Carrier's.
func (c *carrier) Carry(o *sluice.Order) bool {
	w := c.life.door.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.full {
		return false
	}
	if c.life.forgets(o.ID) { // a planted fault
		return true
	}
	if !c.life.dead {
		c.fresh = append(c.fresh, *o)
	}
	return true
}

// Incarnation is ingress.Carrier's.
func (c *carrier) Incarnation() uint64 {
	c.life.door.w.mu.Lock()
	defer c.life.door.w.mu.Unlock()
	return c.incarnation
}

// Depth is ingress.Carrier's.
func (c *carrier) Depth() (int64, bool) {
	c.life.door.w.mu.Lock()
	defer c.life.door.w.mu.Unlock()
	return c.depth, c.depth >= 0
}

// gather puts what was handed over in a step in an order that does not depend on goroutines.
func (c *carrier) gather() {
	if len(c.fresh) > 0 {
		slices.SortFunc(c.fresh, func(a, b sluice.Order) int { return slices.Compare(a.ID[:], b.ID[:]) })
		c.waiting = append(c.waiting, c.fresh...)
		c.fresh = c.fresh[:0]
	}
	c.full = len(c.waiting)+len(c.wire) >= c.most
}

// connect dials nsqd where there is no connection to its present life.
func (c *carrier) connect(q *nsqd) bool {
	if !q.up {
		return false
	}
	if c.connected != q.life {
		c.connected = q.life
		c.epoch++
	}
	return true
}

// What becomes of a batch on the wire, or of its answer.
const (
	fateDoubt = 6 // it lands, but its answer is lost
	fateOther = 7 // it does not land; of an answer: it was there before nsqd died
)

// publish sends what waits.
func (c *carrier) publish(q *nsqd, fate int) bool {
	if len(c.wire) > 0 || len(c.waiting) == 0 || !c.connect(q) {
		return false
	}
	for i := range c.waiting {
		o := &c.waiting[i]
		c.wire = append(c.wire, o.ID)
		if fate != fateOther {
			q.put(o.ID, queue.AppendOrder(nil, *o))
		}
	}
	c.waiting, c.sentTo, c.doubt = c.waiting[:0], q.life, fate >= fateDoubt
	return true
}

// report tells the door what became of what was sent.
func (c *carrier) report(q *nsqd, fate int) bool {
	if len(c.wire) == 0 {
		return false
	}
	answered := q.up && c.connected == c.sentTo || fate == fateOther
	if answered && !c.doubt && fate != fateDoubt {
		c.life.real.Sent(c.wire, c.incarnation)
	} else {
		c.life.real.Doubt(c.wire)
	}
	c.wire = c.wire[:0]
	return true
}

// look is what queue.Carrier does twice a second.
func (c *carrier) look(q *nsqd, now time.Time) (forgotten bool) {
	next := queue.Sighting{}
	c.depth = -1
	if c.connect(q) {
		next.Start = q.start
		c.depth = int64(len(q.orders))
	}
	next.Epoch = c.epoch
	if forgotten = c.seen.Note(next, now); forgotten {
		c.incarnation++
	}
	return forgotten
}
