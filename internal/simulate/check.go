package simulate

import (
	"fmt"
	"maps"
	"slices"

	"sluice"
)

// Violation is a promise that was broken.
type Violation struct {
	Promise string // such as P4
	Text    string
	Step    int // the action after which it was found; as many as there are actions: after healing
}

func (v *Violation) String() string {
	return fmt.Sprintf("%s, after action %d: %s", v.Promise, v.Step, v.Text)
}

// checker knows what buyers asked for and were told, and holds doors and store against it.
type checker struct {
	w        *World
	asked    map[question]*asks
	known    []sluice.OrderID // every order that somebody was told of, in the order in which they were
	met      map[sluice.OrderID]bool
	accepted []*request              // that were answered 202, likewise
	promised map[sluice.OrderID]int  // by which doors, a bit for each; 0: by a disk that is gone
	excused  map[sluice.OrderID]bool // nsqd and a disk have lost them
	commits  int                     // of the store, that were looked at
	found    *Violation
}

// question is what makes orders the same.
type question struct{ sale, user, key string }

// asks are the requests for one question.
type asks struct {
	may    int // requests that may have come to something: all but those that were refused for certain
	units  map[int]bool
	orders map[sluice.OrderID]bool
	at     [maxDoors]atDoor
}

// atDoor is what is known of the requests for one question at one door.
type atDoor struct {
	open   int // that are not over
	doubts int // that were left in doubt, and may have come to something
}

func newChecker(w *World) *checker {
	return &checker{
		w: w, asked: map[question]*asks{}, met: map[sluice.OrderID]bool{}, promised: map[sluice.OrderID]int{}, excused: map[sluice.OrderID]bool{},
	}
}

func (c *checker) fail(promise, format string, args ...any) {
	if c.found == nil {
		c.found = &Violation{promise, fmt.Sprintf(format, args...), c.w.step}
	}
}

func (c *checker) meet(id sluice.OrderID) {
	if !c.met[id] {
		c.met[id] = true
		c.known = append(c.known, id)
	}
}

func (r *request) question() question { return question{saleIDs[r.sale], r.buyer, r.key} }

// sent notes a request before it is made.
func (c *checker) sent(r *request) {
	if r.read != (sluice.OrderID{}) {
		r.before = r.door.shown[r.read]
		return
	}
	a := c.asked[r.question()]
	if a == nil {
		a = &asks{units: map[int]bool{}, orders: map[sluice.OrderID]bool{}}
		c.asked[r.question()] = a
	}
	a.may++
	a.units[r.units] = true
	at := &a.at[r.door.n]
	if at.open == 0 {
		r.settles = at.doubts
	}
	at.open++
	if r.key != "" {
		id := c.w.keys.ID([]byte(saleIDs[r.sale]), []byte(r.buyer), []byte(r.key), 0)
		r.before = r.door.shown[id]
	}
}

// answered holds an answer against what was known before.
func (c *checker) answered(r *request) {
	id, state := r.answer.Order, r.state()
	c.over(r, state == "" && !r.refused())
	if r.refused() {
		if r.read != (sluice.OrderID{}) {
			c.fail("P10", "door %s says %s of order %v", r.door.name, r.answer.Reason, r.read)
			return
		}
		c.asked[r.question()].may--
		c.lastWord(r)
		c.wanted(r.question())
		return
	}
	if state == "" {
		return // indeterminate
	}
	if r.read == (sluice.OrderID{}) {
		c.placed(r, id, state)
	}
	c.seen(r, id, state)
}

// over notes that a request is, and whether it leaves its buyer in doubt.
func (c *checker) over(r *request, doubt bool) {
	if r.read != (sluice.OrderID{}) {
		return
	}
	at := &c.asked[r.question()].at[r.door.n]
	at.open--
	if doubt {
		at.doubts++
	}
}

// lastWord: a refusal ends the doubt that earlier requests with its key left at this door, if they were over when it was asked for: none
// of them may come to an order any more, unless one has already.
func (c *checker) lastWord(r *request) {
	if a := c.asked[r.question()]; r.key != "" && len(a.orders) == 0 && r.answer.Reason != string(sluice.IdempotencyMismatch) {
		a.may -= r.settles
		a.at[r.door.n].doubts -= r.settles
	}
}

// wanted: there are never more orders than requests for them that were not refused.
func (c *checker) wanted(q question) {
	if a := c.asked[q]; len(a.orders) > a.may {
		c.fail("P3", "%d orders of buyer %s in sale %s with key %q, but only %d requests that were not refused", len(a.orders), q.user, q.sale, q.key, a.may)
	}
}

// placed notes what a door has promised.
func (c *checker) placed(r *request, id sluice.OrderID, state sluice.State) {
	c.meet(id)
	q := r.question()
	if r.key != "" && id != c.w.keys.ID([]byte(q.sale), []byte(q.user), []byte(q.key), 0) {
		c.fail("P5", "door %s calls the order of buyer %s with key %s %v", r.door.name, q.user, q.key, id)
	}
	c.asked[q].orders[id] = true
	c.wanted(q)
	if state != sluice.Queued {
		return
	}
	c.promised[id] |= 1 << r.door.n
	if r.status != 202 {
		return
	}
	c.accepted = append(c.accepted, r)
	if r.life.settledToo(id) {
		c.fail("P5", "door %s accepts order %v once more, which it knows the outcome of", r.door.name, id)
	}
	if d := r.door; c.w.store.orders[id] == nil {
		d.owed[id] = true
		if len(d.owed) > int(d.highest) {
			c.fail("P4", "door %s has accepted %d orders that are not settled; its bound is %d", d.name, len(d.owed), d.highest)
		}
	}
}

// seen: a status never goes back at a door (P10), and is one that the store has had.
func (c *checker) seen(r *request, id sluice.OrderID, state sluice.State) {
	d, now := r.door, shown{r.answer.Version, state, r.answer.Position}
	before := r.before
	if before.version == 0 && r.read == (sluice.OrderID{}) && r.key == "" {
		before = shown{} // the order that comes of it was not known
	}
	switch {
	case now.version < before.version, now.version == before.version && now.state != before.state:
		c.fail("P10", "door %s shows order %v as %s (version %d), and before as %s (version %d)", d.name, id, now.state, now.version, before.state, before.version)
	case now.position > 0 && before.position > 0 && now.position > before.position:
		c.fail("P10", "door %s tells order %v the position %d, and before %d", d.name, id, now.position, before.position)
	}
	if now.version >= d.shown[id].version {
		d.shown[id] = now
	}
	if now.version == 1 && state == sluice.Queued {
		return
	}
	row := c.w.store.orders[id]
	if row == nil || now.version < 2 || int(now.version)-2 >= len(row.was) || row.was[now.version-2].State != state {
		c.fail("P10", "door %s shows order %v as %s (version %d), which the store never had it as", d.name, id, state, now.version)
	}
}

// diskLost: what only that disk knew is in nsqd's hands, if it is there.
func (c *checker) diskLost(d *door) {
	clear(d.owed)
	for _, a := range c.asked {
		a.at[d.n].doubts = 0 // another door or nsqd may know what this one has forgotten
	}
	for id, doors := range c.promised {
		if doors&(1<<d.n) == 0 {
			continue
		}
		c.promised[id] = doors &^ (1 << d.n)
		c.forgiven(id)
	}
}

// forgiven excuses an order that neither a disk nor nsqd has any longer.
func (c *checker) forgiven(id sluice.OrderID) {
	if doors, promised := c.promised[id]; promised && doors == 0 && !c.w.queue.has(id) && c.w.store.orders[id] == nil {
		c.excused[id] = true
	}
}

// always holds after every step.
func (c *checker) always() {
	for _, d := range c.w.doors {
		if d.life == nil {
			continue
		}
		out := d.life.real.Outstanding()
		if out > d.before && out > d.allowed {
			c.fail("P4", "door %s has %d orders outstanding; its bound is %d", d.name, out, d.allowed)
		}
		d.before = out
	}
	if c.commits == c.w.store.commits {
		return
	}
	c.commits = c.w.store.commits
	c.ledger()
	for _, r := range c.w.store.sorted {
		c.settled(r)
	}
	for _, d := range c.w.doors {
		for id := range d.owed {
			if c.w.store.orders[id] != nil {
				delete(d.owed, id)
			}
		}
	}
}

// ledger: P1, P5 and P8, from the orders themselves.
func (c *checker) ledger() {
	type units struct{ held, sold int64 }
	owned := map[question]int64{}
	sums := map[string]units{}
	for _, r := range c.w.store.sorted {
		s := &r.now.Status
		u := sums[s.Sale]
		switch s.State {
		case sluice.Held:
			u.held += int64(s.Units)
		case sluice.Paid:
			u.sold += int64(s.Units)
		default:
			continue
		}
		sums[s.Sale] = u
		owned[question{s.Sale, s.User, ""}] += int64(s.Units)
	}
	for _, id := range saleIDs {
		s, u := c.w.store.sales[id], sums[id]
		all := s.Stock + s.TopUps
		switch {
		case u.held+u.sold > all || s.Free < 0:
			c.fail("P1", "sale %s: %d held and %d sold of %d, %d free", id, u.held, u.sold, all, s.Free)
		case s.Held != u.held || s.Sold != u.sold || s.Free+s.Held+s.Sold != all:
			c.fail("P8", "sale %s counts %d free, %d held, %d sold of %d; its orders hold %d and have bought %d", id, s.Free, s.Held, s.Sold, all, u.held, u.sold)
		}
	}
	for _, r := range c.w.store.sorted {
		q := question{r.order.Sale, r.order.User, ""}
		limit := int64(c.w.store.sales[q.sale].PerUserLimit)
		if owned[q] > limit {
			c.fail("P5", "buyer %s has %d units of sale %s; the limit is %d", q.user, owned[q], q.sale, limit)
		}
		c.refusedRightly(r, owned[q], limit)
	}
}

// refusedRightly: at the moment of its settlement an order was refused for a reason (P2).
func (c *checker) refusedRightly(r *row, owned, limit int64) {
	if r.checked > 0 {
		return
	}
	s, units := &r.now.Status, int64(r.now.Status.Units)
	sale := c.w.store.sales[s.Sale]
	switch {
	case s.Reason == sluice.SoldOut && sale.Free >= units:
		c.fail("P2", "order %v over %d units is refused as sold out while %d are free", s.Order, units, sale.Free)
	case s.Reason == sluice.UserLimit && owned+units <= limit:
		c.fail("P2", "order %v over %d units is refused for the limit of %d; its buyer has %d", s.Order, units, limit, owned)
	}
}

// settled looks at an order's new states: it was asked for, and went forward.
func (c *checker) settled(r *row) {
	if r.checked == len(r.was) {
		return
	}
	o := &r.order
	if r.checked == 0 {
		q := question{o.Sale, o.User, o.Key}
		a := c.asked[q]
		if a == nil || !a.units[o.Quantity] {
			c.fail("P3", "nobody asked for order %v of buyer %s in sale %s with key %q over %d units", o.ID, o.User, o.Sale, o.Key, o.Quantity)
			return
		}
		c.meet(o.ID)
		a.orders[o.ID] = true
		c.wanted(q)
	}
	for ; r.checked < len(r.was); r.checked++ {
		s := r.was[r.checked]
		before := sluice.Status{State: sluice.Queued, Version: 1}
		if r.checked > 0 {
			before = r.was[r.checked-1]
		}
		if s.Version != before.Version+1 || !follows(before.State, s.State) {
			c.fail("P10", "the store moves order %v from %s (version %d) to %s (version %d)", o.ID, before.State, before.Version, s.State, s.Version)
		}
		overdue := !c.w.store.now().Before(r.now.ReleaseAt) // no time has passed since
		if before.State == sluice.Held && (s.State == sluice.Paid && overdue || s.State == sluice.Expired && !overdue) {
			c.fail("P6", "order %v is %s at %v; its hold ends at %v", o.ID, s.State, c.w.store.now(), r.now.ReleaseAt)
		}
	}
}

func follows(from, to sluice.State) bool {
	switch from {
	case sluice.Queued:
		return to == sluice.Held || to == sluice.Paid || to == sluice.Rejected || to == sluice.Failed
	case sluice.Held:
		return to == sluice.Paid || to == sluice.Expired || to == sluice.Cancelled
	default:
		return false
	}
}

// healed holds once nothing has been wrong for a while.
func (c *checker) healed() {
	for _, d := range c.w.doors {
		if n := d.life.real.Outstanding(); n != 0 {
			c.fail("P3", "door %s still has %d orders outstanding", d.name, n)
		}
	}
	for _, id := range slices.SortedFunc(keysOf(c.promised), compareIDs) {
		if c.w.store.orders[id] == nil && !c.excused[id] {
			c.fail("P3", "order %v was promised and has no outcome", id)
		}
	}
	for p := range c.w.store.paid {
		r := c.w.store.orders[p.order]
		_, due := c.w.store.refunds[p]
		if bought := r.now.Status.State == sluice.Paid && r.now.PaymentRef == p.ref; bought == due {
			c.fail("P6", "payment %s of order %v, which is %s by %q: refund due %v", p.ref, p.order, r.now.Status.State, r.now.PaymentRef, due)
		}
	}
}

// agreed: what a door says of an order now is what the store has.
func (c *checker) agreed(r *request) {
	row := c.w.store.orders[r.read]
	if row == nil {
		if !c.excused[r.read] {
			c.fail("P3", "order %v has no outcome", r.read)
		}
		return
	}
	if s := &row.now.Status; r.state() != s.State || r.answer.Version != s.Version {
		c.fail("P10", "door %s shows order %v as %v (version %d, status %d %s), but it is %s (version %d)", r.door.name, r.read,
			r.answer.Status, r.answer.Version, r.status, r.answer.Reason, s.State, s.Version)
	}
}

func keysOf[K comparable, V any](m map[K]V) func(func(K) bool) { return maps.Keys(m) }

func compareIDs(a, b sluice.OrderID) int { return slices.Compare(a[:], b[:]) }
