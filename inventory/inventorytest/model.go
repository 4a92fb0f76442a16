package inventorytest

import (
	"errors"
	"flag"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"pgregory.net/rapid"

	"sluice"
	"sluice/inventory"
)

// modelChecks is fewer than rapid's own default, so that the suite stays quick on a disk that really syncs. Give
// -rapid.checks for more.
const modelChecks = 20

var modelTests = []test{
	{"BehavesLikeAPlainModel", func(b *bench) { // P1, P2, P5, P6, P8, P10
		fewerChecks()
		var sales atomic.Int64
		rapid.Check(b, func(t *rapid.T) {
			m := newModel(b.store, t, fmt.Sprint("model-", sales.Add(1)))
			t.Repeat(map[string]func(*rapid.T){
				"":        m.check,
				"reserve": m.reserve,
				"pay":     m.pay,
				"cancel":  m.cancel,
				"expire":  m.expire,
				"topup":   m.topup,
				"end":     m.end,
				"tick":    m.tick,
			})
		})
	}},
}

func fewerChecks() {
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "rapid.checks" })
	if !given {
		_ = flag.Set("rapid.checks", strconv.Itoa(modelChecks)) // the flag is rapid's, and takes numbers
	}
}

// model is one sale as plain Go: what the store must do, without transactions, locks or SQL.
type model struct {
	store inventory.Store
	sale  sluice.Sale
	names []sluice.OrderID // in order of appearance
	known map[sluice.OrderID]*modelOrder

	seen  int64            // the last event that was compared
	phase sluice.EventType // what was said of the sale last
	told  []string         // the events that the last step must have written, as eventText has them
}

type modelOrder struct {
	sluice.Order
	state   sluice.State
	reason  sluice.Reason
	version int64
	ref     string
	due     map[string]bool // payments to give back
}

func newModel(store inventory.Store, t *rapid.T, id string) *model {
	m := &model{store: store, known: map[sluice.OrderID]*modelOrder{}, sale: sluice.Sale{
		ID: id, Stock: rapid.Int64Range(0, 12).Draw(t, "stock"), PerUserLimit: rapid.IntRange(1, 4).Draw(t, "limit"),
		PaymentWindow: rapid.SampledFrom([]sluice.Duration{0, sluice.Duration(time.Millisecond), sluice.Duration(time.Hour)}).
			Draw(t, "payment window"),
		OverAdmission: 1,
	}}
	page, err := store.Events(t.Context(), 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	m.seen = page.Newest
	if _, err := store.CreateSale(t.Context(), m.sale); err != nil {
		t.Fatal(err)
	}
	m.sale.Free, m.sale.Version = m.sale.Stock, 1
	m.says(sluice.EventOpened)
	return m
}

// reserve sends a batch in which orders may be new, settled before, or there twice.
func (m *model) reserve(t *rapid.T) {
	var batch []sluice.Order
	for range rapid.IntRange(1, 6).Draw(t, "orders") {
		user := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "user")
		key := rapid.StringMatching("[0-5]").Draw(t, "key")
		batch = append(batch, order(m.sale.ID, user, key, rapid.IntRange(0, 4).Draw(t, "quantity")))
	}
	c, err := m.store.Reserve(t.Context(), batch)
	if err != nil {
		t.Fatal(err)
	}
	before := m.sale
	for i, o := range batch {
		m.settle(o)
		m.compare(t, c.Statuses[i], m.known[o.ID])
	}
	if m.sale != before {
		m.sale.Version++
	}
}

func (m *model) settle(o sluice.Order) {
	if m.known[o.ID] != nil {
		return
	}
	n := &modelOrder{Order: o, version: 2, due: map[string]bool{}}
	m.known[o.ID] = n
	m.names = append(m.names, o.ID)
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
		n.state = sluice.Held
		m.sale.Free, m.sale.Held = m.sale.Free-units, m.sale.Held+units
	}
	m.tells(n)
}

// pay pays one order. Where the payment window is short it is over by then.
func (m *model) pay(t *rapid.T) {
	o := m.any(t)
	ref := rapid.SampledFrom([]string{"x", "y"}).Draw(t, "ref")
	m.waitOverdue()
	_, err := m.store.Pay(t.Context(), o.ID, ref)
	switch {
	case o.state == sluice.Held && m.short():
		m.giveBack(o, sluice.Expired)
		m.sale.Version++
		m.refund(o, "too_late", ref)
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
		m.refund(o, "already_paid", ref)
		refused(t, err, sluice.AlreadyPaid)
	default:
		m.refund(o, "too_late", ref)
		refused(t, err, sluice.TooLate)
	}
}

func (m *model) cancel(t *rapid.T) {
	o := m.any(t)
	_, err := m.store.Cancel(t.Context(), o.ID)
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
	swept := 0
	for _, s := range c.Statuses {
		if o := m.known[s.Order]; o != nil { // the others are an earlier model's
			m.giveBack(o, sluice.Expired)
			m.compare(t, s, o)
			swept++
		}
	}
	if swept > 0 {
		m.sale.Version++
	}
	if m.short() && m.sale.Held != 0 {
		t.Fatalf("the sweep took %d orders and left %d units", swept, m.sale.Held)
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
	m.phase = t
	m.told = append(m.told, fmt.Sprint(t, " ", m.sale.ID, " ", m.sale.Version))
}

func (m *model) refund(o *modelOrder, reason, ref string) {
	if o.due[ref] {
		return
	}
	o.due[ref] = true
	o.version++
	m.told = append(m.told, fmt.Sprint("order.refund_due ", o.User, " ", o.version, " ", reason, " ", ref))
}

// events compares what the step wrote with what it must have written. A batch's orders are in the order of their ids.
func (m *model) events(t *rapid.T) {
	gone := m.sale.Free == 0 && m.sale.Held == 0
	switch {
	case m.phase == sluice.EventEnded:
	case !m.sale.EndsAt.IsZero():
		m.says(sluice.EventEnded)
	case gone && m.phase != sluice.EventSoldOut:
		m.says(sluice.EventSoldOut)
	case !gone && m.phase == sluice.EventSoldOut:
		m.says(sluice.EventReopened)
	}
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

// check compares everything after each step.
func (m *model) check(t *rapid.T) {
	c, err := m.store.Sales(t.Context(), m.sale.ID)
	if err != nil {
		t.Fatal(err)
	}
	m.events(t)
	got := c.Sales[0]
	if got.Held+got.Sold > got.Stock+got.TopUps { // P1
		t.Fatalf("oversold: %+v", got)
	}
	if got.Stock+got.TopUps != got.Free+got.Held+got.Sold { // P8
		t.Fatalf("the sale does not balance: %+v", got)
	}
	if got.Free != m.sale.Free || got.Held != m.sale.Held || got.Sold != m.sale.Sold || got.TopUps != m.sale.TopUps || got.Version != m.sale.Version {
		t.Fatalf("sale: got %+v, want %+v", got, m.sale)
	}
	statuses, err := m.store.Statuses(t.Context(), m.names)
	if err != nil || len(statuses.Statuses) != len(m.names) {
		t.Fatalf("got %d orders, %v, want %d", len(statuses.Statuses), err, len(m.names))
	}
	for _, s := range statuses.Statuses {
		m.compare(t, s, m.known[s.Order])
	}
	audit, err := m.store.Audit(t.Context())
	if err != nil || !audit.Balanced { // P8
		t.Fatalf("audit: %+v, %v", audit, err)
	}
}

func (m *model) compare(t *rapid.T, got sluice.Status, want *modelOrder) {
	// A batch with repeats answers what the order became at its first appearance; nothing moves it on inside the batch.
	if got.State != want.state || got.Reason != want.reason || got.Version != want.version || got.Units != want.Quantity {
		t.Fatalf("order %s: got %+v, want %+v", want.ID, got, want)
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

func (m *model) short() bool { return m.sale.PaymentWindow == sluice.Duration(time.Millisecond) }

func (m *model) waitOverdue() {
	if m.short() {
		time.Sleep(2 * time.Millisecond)
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
