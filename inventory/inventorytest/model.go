package inventorytest

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"pgregory.net/rapid"

	"sluice"
	"sluice/inventory"
)

// modelChecks is fewer than rapid's own default, so that the suite stays quick on a disk that really syncs; a life takes more
// steps, because there is more that may happen in it. Give -rapid.checks or -rapid.steps for more.
const (
	modelChecks = 20
	modelSteps  = 60
)

var modelTests = []test{
	{"BehavesLikeAPlainModel", func(b *bench) { // P1, P2, P3, P5, P6, P8, P10
		atLeast("rapid.checks", modelChecks)
		atLeast("rapid.steps", modelSteps)
		var sales atomic.Int64
		rapid.Check(b, func(t *rapid.T) {
			m := newModel(b.store, t, fmt.Sprint("model-", sales.Add(1)))
			t.Repeat(map[string]func(*rapid.T){
				"":          m.check,
				"reserve":   m.reserve,
				"too early": m.tooEarly,
				"redeliver": m.redeliver,
				"pay":       m.pay,
				"cancel":    m.cancel,
				"expire":    m.expire,
				"extend":    m.extend,
				"topup":     m.topup,
				"patch":     m.patch,
				"pause":     m.pause,
				"end":       m.end,
				"bury":      m.bury,
				"replay":    m.replay,
				"give back": m.refundGiven,
				"tick":      m.tick,
			})
		})
	}},
}

// atLeast sets one of rapid's flags, where it was not given.
func atLeast(name string, n int) {
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == name })
	if !given {
		_ = flag.Set(name, strconv.Itoa(n)) // the flag is rapid's, and takes numbers
	}
}

// model is one sale as plain Go: what the store must do, without transactions, locks or SQL. Deadlines are a moment ahead,
// which has passed when somebody looks, or hours.
type model struct {
	store inventory.Store
	sale  sluice.Sale
	names []sluice.OrderID // in order of appearance
	known map[sluice.OrderID]*modelOrder
	until time.Time // to which holds are extended, or some hours later

	dead    []string // messages, in order of appearance
	letters map[string]*modelLetter
	refunds []inventory.Refund // in order of appearance; without their times

	delivered []func(*rapid.T) error // calls that change nothing when they come again

	before struct { // what earlier models left in the store
		refund, letter int64
	}
	seen int64           // the last event that was compared
	said inventory.Phase // of the sale
	told []string        // the events that the last step must have written, as eventText has them
}

type modelOrder struct {
	sluice.Order
	state    sluice.State
	reason   sluice.Reason
	version  int64
	ref      string
	payBy    time.Time
	grace    time.Duration
	replayOf sluice.OrderID
}

type modelLetter struct {
	order, made sluice.OrderID // zero: none
}

func newModel(store inventory.Store, t *rapid.T, id string) *model {
	m := &model{store: store, known: map[sluice.OrderID]*modelOrder{}, letters: map[string]*modelLetter{}}
	m.sale = sluice.Sale{
		ID: id, Stock: rapid.Int64Range(0, 12).Draw(t, "stock"), PerUserLimit: rapid.IntRange(1, 4).Draw(t, "limit"),
		PaymentWindow: windows.Draw(t, "payment window"), PaymentGrace: graces.Draw(t, "grace"), OverAdmission: 1,
	}
	m.readBefore(t)
	c, err := store.CreateSale(t.Context(), m.sale)
	if err != nil {
		t.Fatal(err)
	}
	m.until = inventory.Micros(c.Now.Add(3 * time.Hour))
	m.sale.Free, m.sale.Version = m.sale.Stock, 1
	m.said = inventory.PhaseOpen
	m.says(sluice.EventOpened)
	return m
}

var (
	windows = rapid.SampledFrom([]sluice.Duration{0, sluice.Duration(time.Millisecond), sluice.Duration(time.Hour)})
	graces  = rapid.SampledFrom([]sluice.Duration{0, sluice.Duration(time.Hour)})
)

// readBefore finds the ends of the lists of which there is one for all sales.
func (m *model) readBefore(t *rapid.T) {
	page, err := m.store.Events(t.Context(), 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	m.seen = page.Newest
	for _, r := range m.listRefunds(t, true) {
		m.before.refund = r.ID
	}
	for _, l := range m.listLetters(t, true) {
		m.before.letter = l.ID
	}
}

// draw makes an order that may be new, or have been seen before.
func (m *model) draw(t *rapid.T) sluice.Order {
	user := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "user")
	key := rapid.StringMatching("[0-5]").Draw(t, "key")
	return order(m.sale.ID, user, key, rapid.IntRange(0, 4).Draw(t, "quantity"))
}

// reserve sends a batch in which orders may be new, settled before, or there twice.
func (m *model) reserve(t *rapid.T) {
	var batch []sluice.Order
	for range rapid.IntRange(1, 6).Draw(t, "orders") {
		batch = append(batch, m.draw(t))
	}
	c, err := m.store.Reserve(t.Context(), batch)
	if err != nil {
		t.Fatal(err)
	}
	before := m.sale
	for i, o := range batch {
		m.settle(o, c.Now, sluice.OrderID{})
		m.compare(t, c.Statuses[i], m.known[o.ID])
	}
	m.step(before)
}

// step counts the sale's version on where a transaction has changed it.
func (m *model) step(before sluice.Sale) {
	if m.sale != before {
		m.sale.Version++
	}
}

func (m *model) settle(o sluice.Order, now time.Time, replayOf sluice.OrderID) {
	if m.known[o.ID] != nil {
		return
	}
	n := m.add(o)
	n.replayOf = replayOf
	owned := 0
	for _, other := range m.known {
		if other.User == o.User && (other.state == sluice.Held || other.state == sluice.Paid) {
			owned += other.Quantity
		}
	}
	units := int64(o.Quantity)
	switch {
	case units < 1 || owned+o.Quantity > m.sale.PerUserLimit:
		n.state, n.reason = sluice.Rejected, sluice.UserLimit
	case units > m.sale.Free:
		n.state, n.reason = sluice.Rejected, sluice.SoldOut
	case m.sale.PaymentWindow == 0:
		n.state = sluice.Paid
		m.sale.Free, m.sale.Sold = m.sale.Free-units, m.sale.Sold+units
	default:
		n.state, n.payBy, n.grace = sluice.Held, now.Add(time.Duration(m.sale.PaymentWindow)), time.Duration(m.sale.PaymentGrace)
		m.sale.Free, m.sale.Held = m.sale.Free-units, m.sale.Held+units
	}
	m.tells(n)
}

func (m *model) add(o sluice.Order) *modelOrder {
	n := &modelOrder{Order: o, version: 2}
	m.known[o.ID] = n
	m.names = append(m.names, o.ID)
	return n
}

// tooEarly pays or cancels before the order is there.
func (m *model) tooEarly(t *rapid.T) {
	o := m.draw(t)
	if m.known[o.ID] != nil {
		t.Skip("it is there")
	}
	_, pay := m.store.Pay(t.Context(), o.ID, "x")
	_, cancel := m.store.Cancel(t.Context(), o.ID)
	_, look := m.store.Order(t.Context(), o.ID)
	for _, err := range []error{pay, cancel, look} {
		refused(t, err, sluice.NoSuchOrder)
	}
}

// redeliver has everything come three times more, in any order. Nothing changes: the model does nothing.
func (m *model) redeliver(t *rapid.T) {
	var calls []func(*rapid.T) error
	for range 3 {
		calls = append(calls, m.delivered...)
	}
	random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "order of redelivery"), 0))
	names := slices.Concat(m.names, m.names, m.names)
	random.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	for part := range slices.Chunk(names, 9) {
		calls = append(calls, func(t *rapid.T) error { return m.reserveAgain(t, part) })
	}
	random.Shuffle(len(calls), func(i, j int) { calls[i], calls[j] = calls[j], calls[i] })
	for _, call := range calls {
		if err := call(t); err != nil && sluice.RefusalOf(err) == sluice.Internal {
			t.Fatal(err)
		}
	}
}

func (m *model) reserveAgain(t *rapid.T, names []sluice.OrderID) error {
	var batch []sluice.Order
	for _, id := range names {
		batch = append(batch, m.known[id].Order)
	}
	c, err := m.store.Reserve(t.Context(), batch)
	for i, s := range c.Statuses {
		m.compare(t, s, m.known[names[i]])
	}
	return err
}

// pay pays one order. A deadline that is a moment ahead is over by then.
func (m *model) pay(t *rapid.T) {
	o := m.any(t)
	ref := rapid.SampledFrom([]string{"x", "y"}).Draw(t, "ref")
	m.waitOverdue()
	call := func(t *rapid.T) error {
		_, err := m.store.Pay(t.Context(), o.ID, ref)
		return err
	}
	err := call(t)
	m.delivered = append(m.delivered, call)
	switch {
	case o.state == sluice.Held && o.over():
		m.giveBack(o, sluice.Expired)
		m.sale.Version++
		m.refund(o, inventory.RefundTooLate, ref)
		refused(t, err, sluice.TooLate)
	case o.state == sluice.Held:
		o.state, o.ref, o.version = sluice.Paid, ref, o.version+1
		m.sale.Held, m.sale.Sold = m.sale.Held-int64(o.Quantity), m.sale.Sold+int64(o.Quantity)
		m.sale.Version++
		m.tells(o)
		refused(t, err, "")
	case o.state == sluice.Paid && (o.ref == ref || o.ref == ""):
		o.ref = ref
		refused(t, err, "")
	case o.state == sluice.Paid:
		m.refund(o, inventory.RefundAlreadyPaid, ref)
		refused(t, err, sluice.AlreadyPaid)
	default:
		m.refund(o, inventory.RefundTooLate, ref)
		refused(t, err, sluice.TooLate)
	}
}

func (m *model) cancel(t *rapid.T) {
	o := m.any(t)
	call := func(t *rapid.T) error {
		_, err := m.store.Cancel(t.Context(), o.ID)
		return err
	}
	err := call(t)
	m.delivered = append(m.delivered, call)
	switch o.state {
	case sluice.Held:
		m.giveBack(o, sluice.Cancelled)
		m.sale.Version++
		refused(t, err, "")
	case sluice.Cancelled:
		refused(t, err, "")
	case sluice.Queued, sluice.Paid, sluice.Expired, sluice.Rejected, sluice.Failed:
		refused(t, err, sluice.NotHeld)
	}
}

func (m *model) expire(t *rapid.T) {
	m.waitOverdue()
	c, err := m.store.Expire(t.Context(), 10_000)
	if err != nil {
		t.Fatal(err)
	}
	before := m.sale
	for _, s := range c.Statuses {
		if o := m.known[s.Order]; o != nil { // the others are an earlier model's
			if o.state != sluice.Held || !o.over() {
				t.Fatalf("the sweep took %+v", o)
			}
			m.giveBack(o, sluice.Expired)
			m.compare(t, s, o)
		}
	}
	m.step(before)
	for _, o := range m.known {
		if o.state == sluice.Held && o.over() {
			t.Fatalf("the sweep left %+v", o)
		}
	}
}

// extend moves the deadlines of some holds, which of them it may choose.
func (m *model) extend(t *rapid.T) {
	until := m.until.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "hours")) * time.Hour)
	limit := rapid.IntRange(1, 5).Draw(t, "limit")
	due := 0
	for _, o := range m.known {
		if o.state == sluice.Held && o.payBy.Before(until) {
			due++
		}
	}
	c, err := m.store.ExtendHolds(t.Context(), m.sale.ID, until, limit)
	if err != nil || len(c.Statuses) != min(due, limit) {
		t.Fatalf("extend at most %d of %d holds: got %+v, %v", limit, due, c, err)
	}
	for _, s := range c.Statuses {
		o := m.known[s.Order]
		if o == nil || o.state != sluice.Held || !o.payBy.Before(until) {
			t.Fatalf("the deadline of %+v was moved", o)
		}
		o.payBy, o.version = until, o.version+1
		m.tells(o)
		m.compare(t, s, o)
	}
}

func (m *model) topup(t *rapid.T) {
	units := rapid.Int64Range(-6, 6).Draw(t, "units")
	_, err := m.store.TopUp(t.Context(), m.sale.ID, units)
	switch {
	case units == 0:
		refused(t, err, sluice.BadRequest)
	case units < -m.sale.Free:
		refused(t, err, sluice.NotFree)
	default:
		refused(t, err, "")
		m.sale.Free, m.sale.TopUps = m.sale.Free+units, m.sale.TopUps+units
		m.sale.Version++
	}
}

// patch changes some of the terms, or none. An end that was made by hand may be taken back.
func (m *model) patch(t *rapid.T) {
	var patch sluice.SalePatch
	before := m.sale
	maybe := rapid.Bool()
	if maybe.Draw(t, "limit?") {
		m.sale.PerUserLimit = rapid.IntRange(1, 4).Draw(t, "limit")
		patch.PerUserLimit = &m.sale.PerUserLimit
	}
	if maybe.Draw(t, "window?") {
		m.sale.PaymentWindow = windows.Draw(t, "window")
		patch.PaymentWindow = &m.sale.PaymentWindow
	}
	if maybe.Draw(t, "grace?") {
		m.sale.PaymentGrace = graces.Draw(t, "grace")
		patch.PaymentGrace = &m.sale.PaymentGrace
	}
	if maybe.Draw(t, "open?") {
		m.sale.EndsAt = time.Time{}
		patch.EndsAt = &m.sale.EndsAt
	}
	_, err := m.store.PatchSale(t.Context(), m.sale.ID, patch)
	refused(t, err, "")
	m.step(before)
}

// pause pauses or resumes the sale; what is settled does not care.
func (m *model) pause(t *rapid.T) {
	before := m.sale
	m.sale.Paused = rapid.Bool().Draw(t, "paused")
	_, err := m.store.PatchSale(t.Context(), m.sale.ID, sluice.SalePatch{Paused: &m.sale.Paused})
	refused(t, err, "")
	m.step(before)
}

// end closes the sale. The orders here have no time of admission, so they are settled all the same.
func (m *model) end(t *rapid.T) {
	c, err := m.store.End(t.Context(), m.sale.ID)
	if err != nil {
		t.Fatal(err)
	}
	if m.sale.EndsAt.IsZero() {
		m.sale.EndsAt = c.Sales[0].EndsAt
		m.sale.Version++
	}
}

// bury gives up on a message, with an order that may be new, with one that was settled all the same, or with none.
func (m *model) bury(t *rapid.T) {
	letter := inventory.Letter{Message: fmt.Sprint(m.sale.ID, " ", rapid.IntRange(0, 5).Draw(t, "message"))}
	l := &modelLetter{}
	if rapid.IntRange(0, 3).Draw(t, "can be read") > 0 {
		o := m.draw(t)
		letter.Order, l.order = &o, o.ID
		if m.known[o.ID] == nil {
			n := m.add(o)
			n.state = sluice.Failed
			m.tells(n)
		}
	}
	if m.letters[letter.Message] == nil { // the first one stands
		m.letters[letter.Message] = l
		m.dead = append(m.dead, letter.Message)
	}
	call := func(t *rapid.T) error {
		c, err := m.store.Bury(t.Context(), letter)
		for _, s := range c.Statuses {
			m.compare(t, s, m.known[s.Order])
		}
		return err
	}
	refused(t, call(t), "")
	m.delivered = append(m.delivered, call)
}

// replay makes an order of a letter: any order, which may be settled, or be the very one that failed.
func (m *model) replay(t *rapid.T) {
	if len(m.dead) == 0 {
		t.Skip("no letters yet")
	}
	message, o := rapid.SampledFrom(m.dead).Draw(t, "message"), m.draw(t)
	l, before := m.letters[message], m.sale
	c, err := m.store.Replay(t.Context(), message, o)
	failed := m.known[l.order]
	switch {
	case l.made != (sluice.OrderID{}):
	case l.order == o.ID || (failed != nil && failed.state != sluice.Failed):
		refused(t, err, sluice.BadRequest)
		return
	default:
		m.settle(o, c.Now, l.order)
		l.made = o.ID
	}
	refused(t, err, "")
	m.compare(t, c.Statuses[0], m.known[l.made])
	m.step(before)
	m.delivered = append(m.delivered, func(t *rapid.T) error {
		_, err := m.store.Replay(t.Context(), message, o)
		return err
	})
}

func (m *model) refundGiven(t *rapid.T) {
	if len(m.refunds) == 0 {
		t.Skip("nothing is due")
	}
	i := rapid.IntRange(0, len(m.refunds)-1).Draw(t, "refund")
	r, err := m.store.RefundGiven(t.Context(), m.refunds[i].ID)
	if err != nil || r.GivenAt.IsZero() || (!m.refunds[i].GivenAt.IsZero() && m.refunds[i] != r) {
		t.Fatalf("give %+v back: got %+v, %v", m.refunds[i], r, err)
	}
	m.refunds[i] = r
	m.delivered = append(m.delivered, func(t *rapid.T) error {
		_, err := m.store.RefundGiven(t.Context(), r.ID)
		return err
	})
}

func (m *model) tick(t *rapid.T) {
	if c, err := m.store.Tick(t.Context()); err != nil || !c.Empty() {
		t.Fatalf("nothing is due: got %+v, %v", c, err)
	}
}

// tells expects an event of an order that was moved.
func (m *model) tells(o *modelOrder) {
	m.told = append(m.told, fmt.Sprint("order.", o.state, " ", o.User, " ", o.version))
}

// says expects an event of the sale.
func (m *model) says(t sluice.EventType) {
	m.told = append(m.told, fmt.Sprint(t, " ", m.sale.ID, " ", m.sale.Version))
}

func (m *model) refund(o *modelOrder, reason inventory.RefundReason, ref string) {
	if slices.ContainsFunc(m.refunds, func(r inventory.Refund) bool { return r.Order == o.ID && r.PaymentRef == ref }) {
		return
	}
	m.refunds = append(m.refunds, inventory.Refund{
		Order: o.ID, Sale: o.Sale, User: o.User, Units: o.Quantity, PaymentRef: ref, Reason: reason,
	})
	m.told = append(m.told, fmt.Sprint("order.refund_due ", o.User, " ", o.version, " ", reason, " ", ref))
}

// announce expects what must be said of the sale as it is now.
func (m *model) announce() {
	is, event := inventory.PhaseOpen, sluice.EventReopened
	switch {
	case !m.sale.EndsAt.IsZero():
		is, event = inventory.PhaseEnded, sluice.EventEnded
	case m.sale.Free == 0 && m.sale.Held == 0:
		is, event = inventory.PhaseSoldOut, sluice.EventSoldOut
	}
	if is != m.said {
		m.said = is
		m.says(event)
	}
}

// check compares everything after each step.
func (m *model) check(t *rapid.T) {
	m.checkEvents(t)
	m.checkSale(t)
	m.checkOrders(t)
	m.checkRefunds(t)
	m.checkLetters(t)
	audit, err := m.store.Audit(t.Context())
	if err != nil || !audit.Balanced { // P8
		t.Fatalf("audit: %+v, %v", audit, err)
	}
}

// checkEvents compares what the step wrote with what it must have written. A batch's orders are in the order of their ids.
func (m *model) checkEvents(t *rapid.T) {
	m.announce()
	page, err := m.store.Events(t.Context(), m.seen, inventory.MaxEvents)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range page.Events {
		if e.Seq != m.seen+1 {
			t.Fatalf("event %d comes after %d", e.Seq, m.seen)
		}
		m.seen = e.Seq
		if e.Sale == m.sale.ID { // the others are an earlier model's
			got = append(got, eventText(e))
		}
	}
	slices.Sort(got)
	slices.Sort(m.told)
	if !slices.Equal(got, m.told) {
		t.Fatalf("events: got %q, want %q", got, m.told)
	}
	m.told = nil
}

func (m *model) checkSale(t *rapid.T) {
	c, err := m.store.Sales(t.Context(), m.sale.ID)
	if err != nil {
		t.Fatal(err)
	}
	got, want := c.Sales[0], m.sale
	if got.Held+got.Sold > got.Stock+got.TopUps { // P1
		t.Fatalf("oversold: %+v", got)
	}
	if got.Stock+got.TopUps != got.Free+got.Held+got.Sold { // P8
		t.Fatalf("the sale does not balance: %+v", got)
	}
	for _, o := range m.known {
		if ends := o.payBy.Add(o.grace); want.Free == 0 && o.state == sluice.Held && (want.NextRelease.IsZero() || ends.Before(want.NextRelease)) {
			want.NextRelease = ends
		}
	}
	if got != want {
		t.Fatalf("sale: got %+v, want %+v", got, want)
	}
}

// checkOrders looks at the orders by their ids, and at a list of them, page by page.
func (m *model) checkOrders(t *rapid.T) {
	statuses, err := m.store.Statuses(t.Context(), m.names)
	if err != nil || len(statuses.Statuses) != len(m.names) {
		t.Fatalf("got %d orders, %v, want %d", len(statuses.Statuses), err, len(m.names))
	}
	for _, s := range statuses.Statuses {
		m.compare(t, s, m.known[s.Order])
	}
	q := inventory.OrderQuery{Sale: m.sale.ID, Limit: 13}
	found := 0
	for {
		page, err := m.store.Orders(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page {
			m.compareRecord(t, r, m.known[r.Order.ID])
			q.After = r.Order.ID
			found++
		}
		if len(page) < q.Limit {
			break
		}
	}
	if found != len(m.names) {
		t.Fatalf("the list has %d orders, want %d", found, len(m.names))
	}
}

func (m *model) compareRecord(t *rapid.T, got inventory.Record, want *modelOrder) {
	var release time.Time
	if !want.payBy.IsZero() {
		release = want.payBy.Add(want.grace)
	}
	m.compare(t, got.Status, want)
	if !reflect.DeepEqual(got.Order, want.Order) || got.PaymentRef != want.ref || got.ReplayOf != want.replayOf || !got.ReleaseAt.Equal(release) {
		t.Fatalf("record: got %+v, want %+v", got, want)
	}
}

func (m *model) compare(t *rapid.T, got sluice.Status, want *modelOrder) {
	// A batch with repeats answers what the order became at its first appearance; nothing moves it on inside the batch.
	if got.State != want.state || got.Reason != want.reason || got.Version != want.version || got.Units != want.Quantity ||
		!got.PayBy.Equal(want.payBy) {
		t.Fatalf("order %s: got %+v, want %+v", want.ID, got, want)
	}
}

// checkRefunds compares the refunds, those that are still due and all; of a new one it learns the number and the time.
func (m *model) checkRefunds(t *rapid.T) {
	all := m.listRefunds(t, true)
	if len(all) != len(m.refunds) {
		t.Fatalf("refunds: got %+v, want %+v", all, m.refunds)
	}
	var due []inventory.Refund
	for i, want := range m.refunds {
		want.ID, want.At = all[i].ID, all[i].At
		if all[i] != want || (m.refunds[i].ID != 0 && m.refunds[i] != want) {
			t.Fatalf("refund: got %+v, want %+v", all[i], m.refunds[i])
		}
		m.refunds[i] = want
		if want.GivenAt.IsZero() {
			due = append(due, want)
		}
	}
	if got := m.listRefunds(t, false); !slices.Equal(got, due) {
		t.Fatalf("refunds due: got %+v, want %+v", got, due)
	}
}

func (m *model) listRefunds(t *rapid.T, all bool) (refunds []inventory.Refund) {
	for after := m.before.refund; ; after = refunds[len(refunds)-1].ID {
		page, err := m.store.Refunds(t.Context(), after, inventory.MaxPage, all)
		if err != nil {
			t.Fatal(err)
		}
		if refunds = append(refunds, page...); len(page) < inventory.MaxPage {
			return refunds
		}
	}
}

func (m *model) checkLetters(t *rapid.T) {
	letters := m.listLetters(t, true)
	if len(letters) != len(m.dead) {
		t.Fatalf("letters: got %+v, want %q", letters, m.dead)
	}
	fresh := 0
	for i, l := range letters {
		if want := m.letters[m.dead[i]]; l.Message != m.dead[i] || l.Order != want.order || l.ReplayedAs != want.made {
			t.Fatalf("letter %q: got %+v, want %+v", m.dead[i], l, want)
		}
		if l.ReplayedAs == (sluice.OrderID{}) {
			fresh++
		}
	}
	if got := m.listLetters(t, false); len(got) != fresh {
		t.Fatalf("letters that were not replayed: got %+v, want %d", got, fresh)
	}
}

func (m *model) listLetters(t *rapid.T, all bool) (letters []inventory.Buried) {
	for after := m.before.letter; ; after = letters[len(letters)-1].ID {
		page, err := m.store.Letters(t.Context(), after, inventory.MaxPage, all)
		if err != nil {
			t.Fatal(err)
		}
		if letters = append(letters, page...); len(page) < inventory.MaxPage {
			return letters
		}
	}
}

func (m *model) any(t *rapid.T) *modelOrder {
	if len(m.names) == 0 {
		t.Skip("no orders yet")
	}
	return m.known[rapid.SampledFrom(m.names).Draw(t, "order")]
}

func (m *model) giveBack(o *modelOrder, to sluice.State) {
	o.state, o.version = to, o.version+1
	m.sale.Free, m.sale.Held = m.sale.Free+int64(o.Quantity), m.sale.Held-int64(o.Quantity)
	m.tells(o)
}

// over reports whether a hold has ended, once waitOverdue has waited.
func (o *modelOrder) over() bool { return time.Until(o.payBy.Add(o.grace)) < 30*time.Minute }

// waitOverdue waits for the deadlines that are a moment ahead.
func (m *model) waitOverdue() {
	for _, o := range m.known {
		if o.state == sluice.Held && o.over() {
			time.Sleep(time.Until(o.payBy.Add(o.grace)) + time.Millisecond)
		}
	}
}

func refused(t *rapid.T, err error, want sluice.Refusal) {
	if want == "" {
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	if e, ok := errors.AsType[*sluice.Error](err); !ok || e.Refusal != want {
		t.Fatalf("got %v, want the refusal %s", err, want)
	}
}
