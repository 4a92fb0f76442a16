package inventorytest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"sluice"
	"sluice/inventory"
)

var eventTests = []test{
	{"EveryStepOfAnOrderIsAnEvent", testOrderSteps},
	{"ARepeatIsNoEvent", func(b *bench) { // P5
		b.sale("s", 10)
		o, other := order("s", "u", "", 2), order("s", "v", "", 1)
		b.reserve(o, other, o)
		b.pay(o.ID, "ref")
		b.cancel(other.ID)
		if _, err := b.store.End(b.Context(), "s"); err != nil {
			b.Fatal(err)
		}
		last := b.newest()
		b.reserve(other, o)
		b.pay(o.ID, "ref")
		b.cancel(other.ID)
		letter := inventory.Letter{Message: "m", Order: &o}
		_, bury := b.store.Bury(b.Context(), letter)
		_, expire := b.store.Expire(b.Context(), 10)
		_, end := b.store.End(b.Context(), "s")
		_, tick := b.store.Tick(b.Context())
		for _, err := range []error{bury, expire, end, tick} {
			if err != nil {
				b.Error(err)
			}
		}
		b.wantEvents(last)
	}},
	{"ARefundDueIsAnEventAndNoStep", testRefundDue},
	{"ARefusedCallIsNoEvent", func(b *bench) {
		b.sale("s", 1, window(0))
		o := b.reserve(order("s", "u", "", 1))[0]
		last := b.newest()
		_, cancel := b.store.Cancel(b.Context(), o.Order)
		_, create := b.store.CreateSale(b.Context(), sluice.Sale{ID: "s", Stock: 9, PerUserLimit: 1, OverAdmission: 1})
		_, topup := b.store.TopUp(b.Context(), "s", -1)
		_, pay := b.store.Pay(b.Context(), o.Order, "")
		for i, err := range []error{cancel, create, topup, pay} {
			if err == nil {
				b.Errorf("call %d was not refused", i)
			}
		}
		b.wantEvents(last)
	}},
	{"AnEventTellsAllThatIsKnown", testEventFields},
	{"ADeadLettersOrderIsAnEventWhateverIsInIt", func(b *bench) {
		o := order("no\x00sale", "u\xff", "", -7)
		o.Attributes = []byte("{\x00")
		if _, err := b.store.Bury(b.Context(), inventory.Letter{Message: "m", Order: &o}); err != nil {
			b.Fatal(err)
		}
		e := b.orderEvents(o.ID)
		if len(e) != 1 || e[0].Type != sluice.EventFailed || e[0].Sale != "no\ufffdsale" || e[0].Units != -7 || e[0].Attributes != nil {
			b.Errorf("got %+v", e)
		}
	}},
	{"EventsAreAnsweredInPages", testEventPages},
	{"NobodyWhoReadsEventsMissesOne", testEventRace},
	{"ASaleTellsOfItsPhases", testPhases},
	{"ATickTellsOfTheSalesThatItAnnounces", func(b *bench) {
		b.sale("other", 1)
		b.sale("s", 1, func(s *sluice.Sale) { s.StartsAt = time.Now().Add(time.Hour) })
		for _, want := range []int{0, 1, 0} {
			c, err := b.store.Tick(b.Context())
			if err != nil || len(c.Sales) != want || len(c.Statuses) != 0 || c.Now.IsZero() || (want == 1 && c.Sales[0].ID != "s") {
				b.Errorf("got %+v, %v, want %d sales", c, err, want)
			}
			b.query("UPDATE sales SET starts_at = NULL")
		}
	}},
	{"EachPhaseIsAnnouncedOnceByManyTicks", testTickRace},
	{"AReaderHasOneOwnerAtATime", testLeases},
	{"AReaderStaysBetweenTheFirstAndTheLastEvent", func(b *bench) {
		b.sale("s", 10)
		b.claim("r", "a", time.Hour, 0, true)
		for _, step := range []struct{ to, want int64 }{{1, 1}, {99, 1}, {-5, 0}} {
			b.advance("r", "a", step.to, true)
			b.wantReaders(map[string]int64{"r": step.want})
		}
		b.advance("nobody's", "a", 1, false)
	}},
	{"OldEventsAreForgottenWhenNobodyWaits", testPrune},
	{"AReaderThatIsGoneDoesNotHoldEventsForever", testGoneReader},
	{"ManyMayForgetEventsAtOnce", func(b *bench) {
		b.sale("s", 100)
		for i := range 60 {
			b.reserve(order("s", fmt.Sprint("u", i), "", 1))
		}
		var forgotten atomic.Int64
		together(5, func(i int) {
			for range 3 {
				if i == 4 {
					if _, err := b.store.Reserve(b.Context(), []sluice.Order{order("s", fmt.Sprint("v", time.Now()), "", 1)}); err != nil {
						b.Error(err)
					}
					continue
				}
				n, err := b.store.PruneEvents(b.Context(), 0, 5) // of more than 60
				if err != nil {
					b.Error(err)
				}
				forgotten.Add(int64(n))
			}
		})
		if page := b.page(0, 1000); page.Oldest != forgotten.Load()+1 || int64(len(page.Events)) != page.Newest-page.Oldest+1 {
			b.Errorf("forgot %d: got %d events of %d to %d", forgotten.Load(), len(page.Events), page.Oldest, page.Newest)
		}
	}},
}

func testOrderSteps(b *bench) {
	b.sale("s", 10, window(time.Hour))
	b.sale("brief", 10, window(soon))
	b.sale("now", 10, window(0))
	b.wantEvents(0, "sale.opened s 1", "sale.opened brief 1", "sale.opened now 1")
	last := b.newest()
	due := order("brief", "d", "", 1)
	orders := []sluice.Order{
		order("s", "a", "", 2), order("s", "b", "", 2), order("s", "c", "", 99), due, order("now", "e", "", 1), order("nowhere", "f", "", 1),
	}
	held := b.reserve(orders...)
	b.pay(orders[0].ID, "ref")
	b.cancel(orders[1].ID)
	b.overdue(held[3])
	if _, err := b.store.Expire(b.Context(), 10); err != nil {
		b.Fatal(err)
	}
	failed := order("s", "g", "", 1)
	if _, err := b.store.Bury(b.Context(), inventory.Letter{Message: "m", Order: &failed}); err != nil {
		b.Fatal(err)
	}
	got := b.eventTexts(last)
	slices.Sort(got[:len(orders)]) // a batch's orders are in the order of their ids
	want := []string{
		"order.held a 2", "order.held b 2", "order.held d 2", "order.paid e 2", "order.rejected c 2", "order.rejected f 2",
		"order.paid a 3", "order.cancelled b 3", "order.expired d 3", "order.failed g 2",
	}
	if !slices.Equal(got, want) {
		b.Errorf("got %q, want %q", got, want)
	}
	for i, types := range [][]sluice.EventType{{sluice.EventHeld, sluice.EventPaid}, {sluice.EventHeld, sluice.EventCancelled}, {sluice.EventRejected}} {
		var got []sluice.EventType
		for _, e := range b.orderEvents(orders[i].ID) {
			got = append(got, e.Type)
		}
		if !slices.Equal(got, types) {
			b.Errorf("order %d: got %q, want %q", i, got, types)
		}
	}
	if e := b.orderEvents(order("s", "never", "", 1).ID); len(e) != 0 {
		b.Errorf("an order that never was: got %+v", e)
	}
}

func testRefundDue(b *bench) {
	b.sale("s", 10)
	b.sale("brief", 10, window(soon))
	b.sale("now", 10, window(0))
	o, late, free := order("s", "a", "", 1), order("brief", "b", "", 1), order("now", "c", "", 1)
	b.reserve(o, free)
	b.overdue(b.hold(late))
	b.pay(o.ID, "first")
	last := b.newest()
	for range 2 {
		for _, step := range []struct {
			id      sluice.OrderID
			ref     string
			version int64
		}{{o.ID, "second", 3}, {o.ID, "third", 3}, {late.ID, "x", 3}, {late.ID, "y", 3}} {
			c, err := b.store.Pay(b.Context(), step.id, step.ref)
			if err == nil || len(c.Statuses) != 1 || c.Statuses[0].Version != step.version {
				b.Errorf("pay %s by %s: got %+v, %v, want a refusal and version %d", step.id, step.ref, c.Statuses, err, step.version)
			}
		}
		b.pay(free.ID, "names itself") // no step: the order has been paid since it was settled
	}
	b.wantEvents(last, "order.refund_due a 3 already_paid second", "order.refund_due a 3 already_paid third",
		"order.expired b 3", "order.refund_due b 3 too_late x", "order.refund_due b 3 too_late y")
	b.pay(o.ID, "first")
	if s := b.status(o.ID); s.State != sluice.Paid || s.Version != 3 {
		b.Errorf("got %+v, want it paid as ever", s)
	}
	b.wantRefunds("already_paid second", "already_paid third", "too_late x", "too_late y")
}

// testEventFields compares whole events with what the store answered.
func testEventFields(b *bench) {
	b.sale("s", 3)
	o := order("s", `Ünïcode "<&>" 😀`, "k", 3)
	o.Attributes = json.RawMessage(`{"note":"a\u0000b<&>","n":1e999,"list":[1,"x"]}`)
	other := order("s", "v", "", 1)
	other.Attributes = json.RawMessage(`{"a":1}`)
	c, err := b.store.Reserve(b.Context(), []sluice.Order{o, other})
	if err != nil {
		b.Fatal(err)
	}
	held := c.Statuses[0]
	paid, err := b.store.Pay(b.Context(), o.ID, "ref")
	if err != nil {
		b.Fatal(err)
	}
	refused, err := b.store.Pay(b.Context(), o.ID, "again")
	b.wantRefused(err, sluice.AlreadyPaid)
	event := func(t sluice.EventType, at time.Time, version int64) sluice.Event {
		return sluice.Event{Type: t, At: at, Sale: "s", Version: version, Order: o.ID, User: o.User, Units: 3, Attributes: o.Attributes}
	}
	hold, pay, refund := event(sluice.EventHeld, c.Now, 2), event(sluice.EventPaid, paid.Now, 3), event(sluice.EventRefundDue, refused.Now, 3)
	hold.PayBy, pay.PaymentRef = held.PayBy, "ref"
	refund.PaymentRef, refund.RefundReason = "again", string(inventory.RefundAlreadyPaid)
	reject := sluice.Event{
		Type: sluice.EventRejected, At: c.Now, Sale: "s", Version: 2, Order: other.ID, User: "v", Units: 1, Reason: sluice.SoldOut,
		Attributes: other.Attributes,
	}
	counters := func(free, sold int64) *sluice.Counters { return &sluice.Counters{Stock: 3, Free: free, Sold: sold} }
	want := []sluice.Event{
		{Type: sluice.EventOpened, Sale: "s", Version: 1, Counters: counters(3, 0)},
		hold, reject, pay,
		{Type: sluice.EventSoldOut, At: paid.Now, Sale: "s", Version: 3, Counters: counters(0, 3)},
		refund,
	}
	got := b.page(0, 100).Events
	if slices.Compare(o.ID[:], other.ID[:]) > 0 {
		want[1], want[2] = want[2], want[1]
	}
	want[0].At = got[0].At
	for i := range want {
		want[i].Seq = int64(i + 1)
	}
	if !reflect.DeepEqual(got, want) {
		b.Errorf("got %+v, want %+v", got, want)
	}
	if got := b.orderEvents(o.ID); !reflect.DeepEqual(got, []sluice.Event{*find(want, hold), *find(want, pay), *find(want, refund)}) {
		b.Errorf("of one order: got %+v", got)
	}
}

func find(events []sluice.Event, like sluice.Event) *sluice.Event {
	i := slices.IndexFunc(events, func(e sluice.Event) bool { return e.Order == like.Order && e.Type == like.Type })
	return &events[i]
}

func testEventPages(b *bench) {
	if page := b.page(0, 10); len(page.Events) != 0 || page.Oldest != 0 || page.Newest != 0 {
		b.Errorf("before there was any: got %+v", page)
	}
	b.sale("s", 10)
	for i := range 4 {
		b.hold(order("s", fmt.Sprint("u", i), "", 1))
	}
	for _, ask := range []struct {
		after int64
		limit int
		want  []int64
	}{
		{0, 2, []int64{1, 2}},
		{2, 2, []int64{3, 4}},
		{4, 2, []int64{5}},
		{5, 2, nil},
		{99, 2, nil},
		{-7, 1, []int64{1}},
		{0, 0, nil},
		{0, -1, nil},
		{1 << 62, 1 << 62, nil},
		{0, 1 << 62, []int64{1, 2, 3, 4, 5}},
	} {
		page := b.page(ask.after, ask.limit)
		var got []int64
		for _, e := range page.Events {
			got = append(got, e.Seq)
		}
		if !slices.Equal(got, ask.want) || page.Oldest != 1 || page.Newest != 5 {
			b.Errorf("after %d, at most %d: got %v of %d to %d, want %v of 1 to 5", ask.after, ask.limit, got, page.Oldest, page.Newest, ask.want)
		}
	}
}

// testEventRace has many transactions of many sales at once commit events, some of them rolled back, while others read
// after the last number that they have: what they get must go on without a gap, always.
func testEventRace(b *bench) {
	const writers, rounds = 6, 12
	stores := []inventory.Store{b.store, b.open()}
	for i := range writers {
		b.sale(fmt.Sprint("s", i), 1000)
	}
	var done atomic.Int64
	var total atomic.Int64
	together(writers+3, func(i int) {
		store := stores[i%2]
		if i < writers {
			defer done.Add(1)
			for n := range rounds {
				var batch []sluice.Order
				for k := range 1 + n%4 {
					batch = append(batch, order(fmt.Sprint("s", i), fmt.Sprint("u", n, "-", k), "", 1))
				}
				_, reserve := store.Reserve(b.Context(), batch)
				_, pay := store.Pay(b.Context(), batch[0].ID, "ref")
				_, cancel := store.Cancel(b.Context(), batch[0].ID) // refused
				if reserve != nil || pay != nil || cancel == nil {
					b.Errorf("reserve: %v, pay: %v, cancel: %v", reserve, pay, cancel)
				}
				total.Add(int64(len(batch) + 1))
			}
			return
		}
		last := int64(0)
		for over := false; !over; {
			over = done.Load() == writers
			page, err := store.Events(b.Context(), last, 50)
			if err != nil {
				b.Error(err)
				return
			}
			for _, e := range page.Events {
				if e.Seq != last+1 {
					b.Errorf("event %d came after %d", e.Seq, last)
				}
				last = e.Seq
			}
			over = over && len(page.Events) == 0
		}
		if want := total.Load() + writers; last != want {
			b.Errorf("a reader got %d events, want %d", last, want)
		}
	})
}

// testPhases tells the stories of sales as inventory.Announce has them. The past and the future are far away, so that no
// step has to wait.
func testPhases(b *bench) {
	past, future := time.Now().Add(-24*time.Hour), time.Now().Add(24*time.Hour)
	from := func(start, end time.Time) func(*sluice.Sale) {
		return func(s *sluice.Sale) { s.StartsAt, s.EndsAt, s.PaymentWindow = start, end, 0 }
	}
	none := time.Time{}
	topup := func(units int64) func(string) {
		return func(id string) {
			if _, err := b.store.TopUp(b.Context(), id, units); err != nil {
				b.Errorf("top up %s: %v", id, err)
			}
		}
	}
	buy := func(units int) func(string) {
		return func(id string) { b.reserve(order(id, "u", fmt.Sprint(b.newest()), units)) }
	}
	end := func(id string) {
		if _, err := b.store.End(b.Context(), id); err != nil {
			b.Errorf("end %s: %v", id, err)
		}
	}
	// move plants a time, as a change of the sale would.
	move := func(column, of string) func(string) {
		return func(id string) {
			b.query(fmt.Sprintf("UPDATE sales SET %s = (SELECT %s FROM sales WHERE id = 'times') WHERE id = '%s'", column, of, id))
		}
	}
	b.sale("times", 1, from(past, future))
	for i, c := range []struct {
		name  string
		stock int64
		sale  func(*sluice.Sale)
		steps []func(string)
		want  string
	}{
		{"without a start", 2, from(none, none), nil, "opened"},
		{"with a start that has come", 2, from(past, future), nil, "opened"},
		{"planned", 2, from(future, none), []func(string){topup(1), topup(-3), topup(1)}, ""},
		{"without stock", 0, from(none, none), nil, "opened sold_out"},
		{"created too late", 2, from(past.Add(-time.Hour), past), nil, "opened ended"},
		{"sold out once", 2, from(none, none), []func(string){buy(1), buy(1), buy(1)}, "opened sold_out"},
		{"sold out by taking units away", 2, from(none, none), []func(string){buy(1), topup(-1)}, "opened sold_out"},
		{"topped up", 2, from(none, none), []func(string){buy(2), topup(1), topup(1), buy(2)}, "opened sold_out reopened sold_out"},
		{"ended by hand", 2, from(none, none), []func(string){buy(1), end, end, topup(1)}, "opened ended"},
		{"ended before its start", 2, from(future, none), []func(string){end, move("starts_at", "starts_at")}, "ended"},
		{"sold out after its end", 2, from(none, none), []func(string){end, buy(2), topup(1)}, "opened ended"},
		{"ended and sold out", 2, from(none, none), []func(string){buy(2), end}, "opened sold_out ended"},
		{"its start comes", 2, from(future, none), []func(string){move("starts_at", "starts_at")}, "opened"},
		{"its start comes, without stock", 0, from(future, none), []func(string){move("starts_at", "starts_at")}, "opened sold_out"},
		{"an order comes before the tick", 2, from(future, none), []func(string){func(id string) {
			b.query(fmt.Sprintf("UPDATE sales SET starts_at = NULL WHERE id = '%s'", id))
			b.reserve(order(id, "u", "", 2))
		}}, "opened sold_out"},
		{"its end comes", 2, from(none, future), []func(string){move("ends_at", "starts_at")}, "opened ended"},
		{"its end is moved", 2, from(none, none), []func(string){end, move("ends_at", "ends_at")}, "opened ended reopened"},
		{"its end is moved when all is sold", 2, from(none, none), []func(string){end, buy(2), move("ends_at", "ends_at")}, "opened ended sold_out"},
		{"its start is moved", 2, from(past, none), []func(string){move("starts_at", "ends_at"), move("starts_at", "starts_at")}, "opened"},
		{"topped up while it waits again", 2, from(past, none), []func(string){
			buy(2), move("starts_at", "ends_at"), topup(1), move("starts_at", "starts_at"),
		}, "opened sold_out reopened"},
	} {
		id, last := fmt.Sprint("s", i), b.newest()
		b.sale(id, c.stock, c.sale)
		b.tick()
		for _, step := range c.steps {
			step(id)
			b.tick()
		}
		var got []string
		for _, e := range b.eventsAfter(last) {
			if name, ok := strings.CutPrefix(string(e.Type), "sale."); ok && e.Sale == id {
				got = append(got, name)
			}
		}
		if strings.Join(got, " ") != c.want {
			b.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func testTickRace(b *bench) {
	const sales = 12
	stores := []inventory.Store{b.store, b.open()}
	last, start := b.newest(), b.now().Add(30*time.Millisecond)
	for i := range sales {
		b.sale(fmt.Sprint("s", i), 1, func(s *sluice.Sale) { s.StartsAt, s.EndsAt = start, start.Add(30*time.Millisecond) })
	}
	together(6, func(i int) {
		for over := false; !over; {
			c, err := stores[i%2].Tick(b.Context())
			if err != nil {
				b.Error(err)
				return
			}
			over = c.Now.After(start.Add(time.Second / 10))
		}
	})
	got := map[string]string{}
	for _, e := range b.eventsAfter(last) {
		got[e.Sale] += string(e.Type) + " "
		at := start
		if e.Type == sluice.EventEnded {
			at = start.Add(30 * time.Millisecond)
		}
		if e.At.Before(at) {
			b.Errorf("%s of %s at %v, before %v", e.Type, e.Sale, e.At, at)
		}
	}
	for i := range sales {
		if id := fmt.Sprint("s", i); got[id] != "sale.opened sale.ended " {
			b.Errorf("%s: got %q", id, got[id])
		}
	}
}

func testLeases(b *bench) {
	b.sale("s", 10)
	b.hold(order("s", "u", "", 1)) // events 1 and 2
	b.claim("r", "a", time.Hour, 0, true)
	b.claim("r", "b", time.Hour, 0, false)
	b.advance("r", "b", 1, false)
	b.advance("r", "a", 2, true)
	b.claim("r", "a", time.Hour, 2, true)
	b.advance("r", "a", 1, true) // backwards
	b.claim("other", "b", time.Hour, 0, true)
	b.wantReaders(map[string]int64{"r": 1, "other": 0})

	b.claim("r", "a", 0, 1, true) // it gives the lease back, or was frozen until it was over
	b.advance("r", "a", 2, false)
	b.wantReaders(map[string]int64{"r": 1, "other": 0})
	b.claim("r", "b", time.Hour, 1, true)
	b.advance("r", "b", 2, true)
	b.claim("r", "a", time.Hour, 0, false)
	b.advance("r", "a", 0, false) // the one that was frozen moves nothing
	b.wantReaders(map[string]int64{"r": 2, "other": 0})

	var owners atomic.Int64
	together(8, func(i int) {
		position, held, err := b.store.Claim(b.Context(), "new", fmt.Sprint(i), time.Hour)
		if err != nil || position != 0 {
			b.Errorf("position %d, %v", position, err)
		}
		if held {
			owners.Add(1)
		}
	})
	if owners.Load() != 1 {
		b.Errorf("a new reader got %d owners at once", owners.Load())
	}
}

// testPrune plants the times of events, as wide apart as it needs them.
func testPrune(b *bench) {
	b.sale("s", 10, func(s *sluice.Sale) { s.StartsAt = time.Now().Add(-48 * time.Hour) })
	for i := range 5 {
		b.hold(order("s", fmt.Sprint("u", i), "", 1))
	}
	b.query("UPDATE events SET at = (SELECT starts_at FROM sales) WHERE seq <= 5")
	b.prune(time.Hour, 0, 0)
	b.prune(time.Hour, -3, 0)
	b.prune(72*time.Hour, 10, 0)
	b.claim("r", "a", time.Hour, 0, true)
	b.prune(time.Hour, 10, 0) // somebody waits for them
	b.advance("r", "a", 3, true)
	b.prune(time.Hour, 2, 2)
	b.prune(time.Hour, 10, 1)
	b.advance("r", "a", 6, true)
	b.prune(time.Hour, 10, 2) // the sixth is young
	b.prune(time.Hour, 10, 0)
	if page := b.page(0, 10); page.Oldest != 6 || page.Newest != 6 || len(page.Events) != 1 || page.Events[0].Seq != 6 {
		b.Errorf("got %+v, want the sixth", page)
	}
	b.claim("new", "a", time.Hour, 5, true) // before the oldest one that is kept
	b.advance("new", "a", 6, true)
	b.prune(0, 10, 1)
	if page := b.page(0, 10); page.Oldest != 0 || page.Newest != 6 || len(page.Events) != 0 {
		b.Errorf("got %+v, want none", page)
	}
	b.hold(order("s", "last", "", 1))
	if page := b.page(3, 10); page.Oldest != 7 || page.Newest != 7 || len(page.Events) != 1 || page.Events[0].Seq != 7 {
		b.Errorf("got %+v, want the seventh: numbers go on", page)
	}
}

func testGoneReader(b *bench) {
	b.sale("s", 10)
	b.claim("gone", "a", time.Hour, 0, true)
	b.claim("here", "a", time.Hour, 0, true)
	b.claim("gone", "a", 0, 0, true) // its lease is over
	b.prune(time.Hour, 10, 0)        // but not since an hour
	b.advance("here", "a", 1, true)
	b.prune(0, 10, 1)
	b.wantReaders(map[string]int64{"here": 1})
	b.hold(order("s", "u", "", 1))
	b.claim("gone", "b", time.Hour, 1, true) // as a new one
	b.prune(0, 10, 0)                        // both wait

	b.hold(order("s", "v", "", 1))
	b.advance("here", "a", 3, true)
	b.advance("gone", "b", 3, true)
	b.claim("gone", "b", 0, 3, true)
	b.prune(0, 1, 1) // the second: it is gone again, but was done with the third
	b.wantReaders(map[string]int64{"here": 3, "gone": 3})
}

// wantAllEvents holds after every test: the events are numbered without a gap, each order has one for each step of its
// version in this order, the last of them says what it is, and of each sale was said what it is.
func (b *bench) wantAllEvents() {
	b.Helper()
	if b.Failed() || b.tampered {
		return
	}
	b.tick()
	page := b.page(0, 1)
	if page.Oldest > 1 || page.Newest == 0 {
		return // some are forgotten
	}
	states, versions, phases := map[string]string{}, map[string]int64{}, map[string]sluice.EventType{}
	place := int64(0)
	for e := range b.allEvents() {
		place++
		if e.Seq != place || e.At.IsZero() {
			b.Errorf("event %d of %v has the place %d", e.Seq, e.At, place)
		}
		if e.Counters != nil {
			if phases[e.Sale] == e.Type {
				b.Errorf("%s of %s twice in a row", e.Type, e.Sale)
			}
			phases[e.Sale] = e.Type
			continue
		}
		id := e.Order.String()
		want := max(versions[id], 1)
		if e.Type != sluice.EventRefundDue {
			want++
			states[id] = strings.TrimPrefix(string(e.Type), "order.")
		}
		if e.Version != want {
			b.Errorf("order %s: %s has version %d, want %d", id, e.Type, e.Version, want)
		}
		versions[id] = e.Version
	}
	if place != page.Newest {
		b.Errorf("%d events up to number %d", place, page.Newest)
	}
	b.wantOrdersAsTold(states, versions)
	b.wantPhasesAsTold(phases)
}

// allEvents reads all events, page by page.
func (b *bench) allEvents() iter.Seq[sluice.Event] {
	return func(yield func(sluice.Event) bool) {
		for after := int64(0); ; {
			events := b.eventsAfter(after)
			for _, e := range events {
				if !yield(e) {
					return
				}
				after = e.Seq
			}
			if len(events) < inventory.MaxEvents {
				return
			}
		}
	}
}

func (b *bench) wantOrdersAsTold(states map[string]string, versions map[string]int64) {
	b.Helper()
	rows := b.query("SELECT id, state, version FROM sluice_orders")
	for _, row := range rows {
		if id := row[0]; states[id] != row[1] || fmt.Sprint(versions[id]) != row[2] {
			b.Errorf("order %s is %s with version %s; the events tell %q with version %d", id, row[1], row[2], states[id], versions[id])
		}
	}
	if len(rows) != len(versions) {
		b.Errorf("the events tell of %d orders; there are %d", len(versions), len(rows))
	}
}

func (b *bench) wantPhasesAsTold(phases map[string]sluice.EventType) {
	b.Helper()
	c, err := b.store.Sales(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	for _, s := range c.Sales {
		var want []sluice.EventType
		switch {
		case !s.EndsAt.IsZero() && !s.EndsAt.After(c.Now):
			want = []sluice.EventType{sluice.EventEnded}
		case s.StartsAt.After(c.Now):
			continue // whatever it was before
		case s.Free+s.Held == 0:
			want = []sluice.EventType{sluice.EventSoldOut}
		default:
			want = []sluice.EventType{sluice.EventOpened, sluice.EventReopened}
		}
		if !slices.Contains(want, phases[s.ID]) {
			b.Errorf("the last event of sale %+v is %q, want one of %q", s, phases[s.ID], want)
		}
	}
}

// eventTexts are the events after a number as "type user version", those of a sale with its id, those of a refund with why
// and what.
func (b *bench) eventTexts(after int64) []string {
	b.Helper()
	var got []string
	for _, e := range b.eventsAfter(after) {
		got = append(got, eventText(e))
	}
	return got
}

func eventText(e sluice.Event) string {
	text := fmt.Sprint(e.Type, " ", cmp.Or(e.User, e.Sale), " ", e.Version)
	if e.RefundReason != "" {
		text += " " + e.RefundReason + " " + e.PaymentRef
	}
	return text
}

func (b *bench) wantEvents(after int64, want ...string) {
	b.Helper()
	if got := b.eventTexts(after); !slices.Equal(got, want) {
		b.Errorf("events after %d: got %q, want %q", after, got, want)
	}
}

func (b *bench) page(after int64, limit int) sluice.Events {
	b.Helper()
	page, err := b.store.Events(b.Context(), after, limit)
	if err != nil {
		b.Fatalf("events after %d: %v", after, err)
	}
	return page
}

func (b *bench) eventsAfter(after int64) []sluice.Event {
	b.Helper()
	return b.page(after, inventory.MaxEvents).Events
}

func (b *bench) newest() int64 {
	b.Helper()
	return b.page(0, 0).Newest
}

func (b *bench) orderEvents(id sluice.OrderID) []sluice.Event {
	b.Helper()
	events, err := b.store.OrderEvents(b.Context(), id)
	if err != nil {
		b.Fatalf("events of order %s: %v", id, err)
	}
	return events
}

func (b *bench) pay(id sluice.OrderID, ref string) {
	b.Helper()
	if _, err := b.store.Pay(b.Context(), id, ref); err != nil {
		b.Fatalf("pay %s: %v", id, err)
	}
}

func (b *bench) cancel(id sluice.OrderID) {
	b.Helper()
	if _, err := b.store.Cancel(b.Context(), id); err != nil {
		b.Fatalf("cancel %s: %v", id, err)
	}
}

func (b *bench) tick() {
	b.Helper()
	if _, err := b.store.Tick(b.Context()); err != nil {
		b.Fatalf("tick: %v", err)
	}
}

func (b *bench) prune(age time.Duration, limit, want int) {
	b.Helper()
	if n, err := b.store.PruneEvents(b.Context(), age, limit); err != nil || n != want {
		b.Errorf("forget what is older than %v, at most %d: got %d, %v, want %d", age, limit, n, err, want)
	}
}

func (b *bench) claim(reader, owner string, ttl time.Duration, position int64, held bool) {
	b.Helper()
	p, h, err := b.store.Claim(b.Context(), reader, owner, ttl)
	if err != nil || p != position || h != held {
		b.Errorf("%s claims %s: got position %d, held %v, %v, want %d, %v", owner, reader, p, h, err, position, held)
	}
}

func (b *bench) advance(reader, owner string, position int64, held bool) {
	b.Helper()
	if h, err := b.store.Advance(b.Context(), reader, owner, position); err != nil || h != held {
		b.Errorf("%s moves %s to %d: got %v, %v, want %v", owner, reader, position, h, err, held)
	}
}

func (b *bench) wantReaders(want map[string]int64) {
	b.Helper()
	if got, err := b.store.Readers(b.Context()); err != nil || !reflect.DeepEqual(got, want) {
		b.Errorf("readers: got %v, %v, want %v", got, err, want)
	}
}
