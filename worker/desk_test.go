package worker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice"
	"sluice/api"
	"sluice/inventory"
	"sluice/queue"
)

// desk is a store whose desk and events are what a test says.
type desk struct {
	inventory.Store
	mu       sync.Mutex
	patches  []sluice.SalePatch
	holds    int         // that fall due too early
	untils   []time.Time // to which they were extended
	records  []inventory.Record
	queries  []inventory.OrderQuery
	refunds  []inventory.Refund
	letters  []inventory.Buried
	replayed []sluice.Order
	events   []sluice.Event
	left     map[string]time.Duration // that calls had when they came
}

// note keeps how much time a call has left.
func (d *desk) note(ctx context.Context, call string) {
	if deadline, ok := ctx.Deadline(); ok {
		if d.left == nil {
			d.left = map[string]time.Duration{}
		}
		d.left[call] = time.Until(deadline)
	}
}

// over puts the desk between a worker and its store.
func (d *desk) over(s inventory.Store) inventory.Store {
	d.Store = s
	return d
}

func (d *desk) locked() func() {
	d.mu.Lock()
	return d.mu.Unlock
}

func (d *desk) PatchSale(ctx context.Context, id string, p sluice.SalePatch) (sluice.Changes, error) {
	defer d.locked()()
	c, err := d.Sales(ctx, id)
	if err == nil && len(c.Sales) == 0 {
		err = noSale(id)
	}
	if err != nil {
		return sluice.Changes{}, err
	}
	d.patches = append(d.patches, p)
	if p.Paused != nil {
		c.Sales[0].Paused = *p.Paused
	}
	c.Sales[0].Version++
	return c, nil
}

func (d *desk) ExtendHolds(ctx context.Context, id string, until time.Time, limit int) (sluice.Changes, error) {
	defer d.locked()()
	d.note(ctx, "holds")
	c, err := d.Sales(ctx, id)
	if err == nil && len(c.Sales) == 0 {
		err = noSale(id)
	}
	if err != nil {
		return sluice.Changes{}, err
	}
	n := min(limit, d.holds)
	d.holds -= n
	d.untils = append(d.untils, until)
	for i := range n {
		c.Statuses = append(c.Statuses, sluice.Status{
			Order: sluice.OrderID{byte(i >> 8), byte(i), 6: 0x80, 8: 0x80, 15: byte(d.holds)}, Sale: id, User: "u", State: sluice.Held, Version: 3, Units: 1, PayBy: until, SettledAt: c.Now,
		})
	}
	return c, nil
}

func (d *desk) Orders(ctx context.Context, q inventory.OrderQuery) ([]inventory.Record, error) {
	defer d.locked()()
	d.note(ctx, "orders")
	d.queries = append(d.queries, q)
	i, _ := slices.BinarySearchFunc(d.records, q.After, func(r inventory.Record, after sluice.OrderID) int {
		return cmp.Or(slices.Compare(r.Order.ID[:], after[:]), -1)
	})
	return d.records[i:min(i+q.Limit, len(d.records))], nil
}

func (d *desk) Order(_ context.Context, id sluice.OrderID) (inventory.Record, error) {
	defer d.locked()()
	for _, r := range d.records {
		if r.Order.ID == id {
			return r, nil
		}
	}
	return inventory.Record{}, sluice.Refuse(sluice.NoSuchOrder, "there is no order %s", id)
}

func (d *desk) Refunds(_ context.Context, after int64, limit int, all bool) ([]inventory.Refund, error) {
	defer d.locked()()
	var page []inventory.Refund
	for _, r := range d.refunds {
		if r.ID > after && (all || r.GivenAt.IsZero()) && len(page) < limit {
			page = append(page, r)
		}
	}
	return page, nil
}

func (d *desk) RefundGiven(_ context.Context, id int64) (inventory.Refund, error) {
	defer d.locked()()
	for i := range d.refunds {
		if r := &d.refunds[i]; r.ID == id {
			if r.GivenAt.IsZero() {
				r.GivenAt = r.At.Add(time.Hour)
			}
			return *r, nil
		}
	}
	return inventory.Refund{}, sluice.Refuse(sluice.NotFound, "there is no refund %d", id)
}

func (d *desk) Letters(_ context.Context, after int64, limit int, all bool) ([]inventory.Buried, error) {
	defer d.locked()()
	var page []inventory.Buried
	for _, l := range d.letters {
		if l.ID > after && (all || l.ReplayedAs == sluice.OrderID{}) && len(page) < limit {
			page = append(page, l)
		}
	}
	return page, nil
}

func (d *desk) Letter(_ context.Context, message string) (inventory.Buried, error) {
	defer d.locked()()
	for _, l := range d.letters {
		if l.Message == message {
			return l, nil
		}
	}
	return inventory.Buried{}, sluice.Refuse(sluice.NotFound, "%.80q is no dead letter", message)
}

func (d *desk) DropLetter(_ context.Context, message string) error {
	defer d.locked()()
	d.letters = slices.DeleteFunc(d.letters, func(l inventory.Buried) bool { return l.Message == message })
	return nil
}

func (d *desk) Replay(ctx context.Context, _ string, order sluice.Order) (sluice.Changes, error) {
	defer d.locked()()
	d.replayed = append(d.replayed, order)
	return d.Reserve(ctx, []sluice.Order{order})
}

func (d *desk) Events(ctx context.Context, after int64, limit int) (sluice.Events, error) {
	defer d.locked()()
	d.note(ctx, "events")
	e := sluice.Events{Newest: int64(len(d.events)), Oldest: min(1, int64(len(d.events)))}
	if after < e.Newest {
		e.Events = d.events[after:min(after+int64(limit), e.Newest)]
	}
	return e, nil
}

func (d *desk) OrderEvents(_ context.Context, id sluice.OrderID) ([]sluice.Event, error) {
	defer d.locked()()
	var events []sluice.Event
	for _, e := range d.events {
		if e.Order == id {
			events = append(events, e)
		}
	}
	return events, nil
}

// happen writes an event.
func (d *desk) happen(e sluice.Event) {
	defer d.locked()()
	e.Seq = int64(len(d.events)) + 1
	d.events = append(d.events, e)
}

var evening = time.Date(2027, 3, 1, 18, 0, 0, 250_000_000, time.UTC)

// fill puts something of everything on the desk.
func (d *desk) fill(order sluice.Order, id func(n byte) sluice.OrderID) {
	for n := range byte(5) {
		o := order
		o.ID, o.Key, o.Attempt, o.Attributes, o.AcceptedAt = id(n), "k", 1, []byte(`{"size":42}`), evening
		d.records = append(d.records, inventory.Record{
			Order: o, PaymentRef: "visa-1", ReplayOf: id(9), ReleaseAt: evening,
			Status: sluice.Status{Order: o.ID, Sale: o.Sale, User: o.User, State: sluice.Paid, Version: 3, Units: 1, PayBy: evening, SettledAt: evening},
		})
		d.refunds = append(d.refunds, inventory.Refund{
			ID: int64(n) + 1, Order: o.ID, Sale: o.Sale, User: o.User, Units: 1, PaymentRef: "visa-2", Reason: inventory.RefundAlreadyPaid, At: evening,
		})
		d.letters = append(d.letters, inventory.Buried{
			ID: int64(n) + 1, Message: fmt.Sprintf("0a1b2c3d4e5f607%d", n), Body: queue.AppendOrder(nil, o), Order: o.ID, Attempts: 2, Error: "invalid byte sequence", At: evening,
		})
		d.happen(sluice.Event{Type: sluice.EventHeld, At: evening, Sale: o.Sale, Version: 2, Order: o.ID, User: o.User, Units: 1, PayBy: evening, Attributes: o.Attributes})
	}
	d.happen(sluice.Event{Type: sluice.EventOpened, At: evening, Sale: "demo", Version: 1, Counters: &sluice.Counters{Stock: 3, Free: 3}})
}

// newDesk opens a shop whose desk is full.
func newDesk(t *testing.T) (*shop, *desk, *api.Client) {
	t.Helper()
	d := &desk{}
	s := newShop(t, nil, func(p *Parts) {
		inner := p.Store.(*troubled)
		inner.Store = d.over(inner.Store)
	})
	s.open(`{"id":"demo","stock":3}`)
	d.fill(s.order("a"), func(n byte) sluice.OrderID { return sluice.OrderID{n + 1, 6: 0x80, 8: 0x80} })
	c := api.NewClient(s.url, testToken)
	t.Cleanup(c.Close)
	return s, d, c
}

func TestDesk_ChangesOfASaleAreToldAndLogged(t *testing.T) {
	s, d, c := newDesk(t)
	_, err := c.PauseSale(t.Context(), "demo")
	must(t, err)
	s.eventually("the doors hear of the pause", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return slices.ContainsFunc(s.facts, func(f sluice.Sale) bool { return f.Paused })
	})
	_, err = c.ResumeSale(t.Context(), "demo")
	must(t, err)
	_, err = c.PatchSale(t.Context(), "demo", sluice.SalePatch{PaymentWindow: new(sluice.Duration(time.Hour)), EndsAt: new(time.Time{})})
	must(t, err)
	_, err = c.TopUp(t.Context(), "demo", 7)
	must(t, err)
	_, err = c.EndSale(t.Context(), "demo")
	must(t, err)
	var changes []string
	for _, e := range s.log.events(t, "sale changed") {
		if e["operator"] != "tests" || e["sale"] != "demo" || !strings.HasPrefix(fmt.Sprint(e["remote"]), "127.0.0.1:") {
			t.Errorf("who, which and from where: %v", e)
		}
		changes = append(changes, fmt.Sprint(e["change"]))
	}
	want := []string{"create", `set {"paused":true}`, `set {"paused":false}`, `set {"ends_at":"0001-01-01T00:00:00Z","payment_window":"1h0m0s"}`, "top up by 7", "end"}
	if !slices.Equal(changes, want) {
		t.Errorf("logged %q\n  want %q", changes, want)
	}
	if last := d.patches[2]; !last.EndsAt.IsZero() || last.StartsAt != nil || last.Paused != nil || *last.PaymentWindow != sluice.Duration(time.Hour) {
		t.Errorf("patched %+v", last)
	}
}

func TestDesk_APatchSetsWhatItNames(t *testing.T) {
	s, d, _ := newDesk(t)
	for _, c := range []struct {
		body string
		want string // the patch as JSON, or a part of the refusal
	}{
		{`{"sku":"","stock_":1}`, `unknown field "stock_"`},
		{`{"stock":1}`, `unknown field "stock": want sku, per_user_limit`},
		{`{"id":"other"}`, `unknown field "id"`},
		{`{"paused":null}`, `paused: want true or false, not null`},
		{`{}`, `{}`},
		{`{"starts_at":null,"ends_at":""}`, `{"starts_at":"0001-01-01T00:00:00Z","ends_at":"0001-01-01T00:00:00Z"}`},
		{
			`{"sku":"","per_user_limit":2,"starts_at":"2027-03-01T19:00:00+01:00","payment_window":"0s","payment_grace":"5s","max_age":"0s","checkout_url":"","over_admission":2,"reserved_for":"","reserved_share":0,"paused":false}`,
			`{"sku":"","per_user_limit":2,"starts_at":"2027-03-01T18:00:00Z","payment_window":"0s","payment_grace":"5s","max_age":"0s","checkout_url":"","over_admission":2,"reserved_for":"","reserved_share":0,"paused":false}`,
		},
	} {
		d.patches = nil
		status, out := s.call("PATCH", "/v1/sales/demo", c.body, testToken)
		got := fmt.Sprint(out["detail"])
		if status == 200 {
			text, err := json.Marshal(d.patches[0])
			must(t, err)
			got = string(text)
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("PATCH %s = %d: %s\nwant %s", c.body, status, got, c.want)
		}
	}
}

func TestDesk_ExtendHoldsGoesOnUntilNoneIsLeft(t *testing.T) {
	s, d, c := newDesk(t)
	d.holds = 2*extendChunk + 7
	before, err := s.store.Statuses(t.Context(), nil)
	must(t, err)
	answer, err := c.ExtendHolds(t.Context(), "demo", 15*time.Minute)
	must(t, err)
	if answer.Extended != 2*extendChunk+7 || len(d.untils) != 3 || d.untils[0] != d.untils[2] || !d.untils[0].Equal(answer.Until) {
		t.Errorf("%+v, until %v", answer, d.untils)
	}
	if ahead := answer.Until.Sub(before.Now); ahead < 15*time.Minute || ahead > 16*time.Minute {
		t.Errorf("until %v: in %v", answer.Until, ahead)
	}
	s.eventually("the doors hear of a hold of the last transaction", func() bool {
		return s.outcome(sluice.OrderID{0, 6, 6: 0x80, 8: 0x80}).PayBy.Equal(answer.Until)
	})
	if e := s.log.events(t, "holds extended"); len(e) != 1 || e[0]["extended"] != float64(2*extendChunk+7) {
		t.Errorf("logged %v", e)
	}
	for _, body := range []string{``, `{}`, `{"for":"0s"}`, `{"for":"-1m"}`, `{"for":"721h"}`} {
		if status, out := s.call("POST", "/v1/sales/demo/extend-holds", body, testToken); status != 400 || !strings.Contains(fmt.Sprint(out["detail"]), "want more than 0s, and at most 720h0m0s") {
			t.Errorf("%s = %d %v", body, status, out)
		}
	}
}

func TestLists_ComeInPages(t *testing.T) {
	s, d, c := newDesk(t)
	for _, id := range []string{"b", "c", "a"} {
		s.open(`{"id":"` + id + `","stock":1}`)
	}
	page, err := c.Sales(t.Context(), "", 3)
	must(t, err)
	rest, err := c.Sales(t.Context(), page.Next, 3)
	must(t, err)
	if len(page.Sales) != 3 || page.Sales[0].ID != "a" || page.Next != "c" || len(rest.Sales) != 1 || rest.Sales[0].ID != "demo" || rest.Next != "" {
		t.Errorf("%+v\n%+v", page, rest)
	}
	var orders []sluice.OrderID
	for o, err := range c.AllOrders(t.Context(), api.OrderQuery{Sale: "demo", User: "a b&c", State: sluice.Paid, Limit: 2}) {
		must(t, err)
		orders = append(orders, o.Order)
	}
	if len(orders) != 5 || len(d.queries) != 3 || d.queries[2].After != orders[3] || d.queries[1].User != "a b&c" || d.queries[1].State != sluice.Paid {
		t.Errorf("%v by %+v", orders, d.queries)
	}
	refunds, err := c.Refunds(t.Context(), 1, 2, false)
	must(t, err)
	if len(refunds.Refunds) != 2 || refunds.Refunds[0] != d.refunds[1] || refunds.Next != 3 {
		t.Errorf("%+v", refunds)
	}
	letters, err := c.DeadLetters(t.Context(), 3, 0, true)
	must(t, err)
	if len(letters.DeadLetters) != 2 || letters.DeadLetters[0].Body != nil || letters.Next != 0 {
		t.Errorf("%+v", letters)
	}
	for _, path := range []string{"/v1/sales", "/v1/orders", "/v1/events", "/v1/refunds", "/v1/deadletters"} {
		for _, limit := range []string{"-1", "1001", "x"} {
			if status, out := s.call("GET", path+"?limit="+limit, "", testToken); status != 400 {
				t.Errorf("GET %s?limit=%s = %d %v", path, limit, status, out)
			}
		}
	}
	for _, query := range []string{"sale=No", "user=%00", "state=queued", "state=gone", "after=7", "colour=red"} {
		if status, out := s.call("GET", "/v1/orders?"+query, "", testToken); status != 400 {
			t.Errorf("GET /v1/orders?%s = %d %v", query, status, out)
		}
	}
}

func TestTrace_TellsTheStoryOfAnOrder(t *testing.T) {
	s, d, c := newDesk(t)
	trace, err := c.TraceOrder(t.Context(), d.records[1].Order.ID)
	must(t, err)
	got, err := json.Marshal(trace.Order)
	must(t, err)
	want, err := json.Marshal(api.OrderOf(d.records[1]))
	must(t, err)
	if string(got) != string(want) || len(trace.Events) != 1 || trace.Events[0].Seq != 2 || string(trace.Events[0].Attributes) != `{"size":42}` {
		t.Errorf("%s\nwant %s\n%+v", got, want, trace.Events)
	}
	promised, err := c.TraceOrder(t.Context(), s.order("z").ID)
	if err != nil || promised.Order.State != sluice.Queued || promised.Events == nil {
		t.Errorf("%+v, %v", promised, err)
	}
	if _, err := c.TraceOrder(t.Context(), sluice.OrderID{1, 2, 3, 6: 0x80, 8: 0x80}); sluice.RefusalOf(err) != sluice.NoSuchOrder {
		t.Error(err)
	}
}

func TestDeadLetters_AreReplayedUnderOneNewID(t *testing.T) {
	s, d, c := newDesk(t)
	letter := d.letters[2]
	first, err := c.ReplayDeadLetter(t.Context(), letter.Message)
	must(t, err)
	again, err := c.ReplayDeadLetter(t.Context(), letter.Message)
	must(t, err)
	o := d.replayed[0]
	if first != again || first.State != sluice.Held || first.Order == letter.Order || !s.keys.Genuine(first.Order) || o.ID != first.Order {
		t.Errorf("%+v, then %+v", first, again)
	}
	if o.Attempt != 2 || o.User != "a" || !o.AcceptedAt.IsZero() || string(o.Attributes) != `{"size":42}` {
		t.Errorf("replayed %+v", o)
	}
	s.eventually("the doors hear of it", func() bool { return s.outcome(first.Order).State == sluice.Held })

	d.letters[3].Body = []byte("this is no order")
	if _, err := c.ReplayDeadLetter(t.Context(), d.letters[3].Message); sluice.RefusalOf(err) != sluice.BadRequest || !strings.Contains(err.Error(), "holds no order") {
		t.Error(err)
	}
	must(t, c.DropDeadLetter(t.Context(), letter.Message))
	if _, err := c.DeadLetter(t.Context(), letter.Message); sluice.RefusalOf(err) != sluice.NotFound {
		t.Error(err)
	}
	if err := c.DropDeadLetter(t.Context(), "a/b?c"); sluice.RefusalOf(err) != sluice.NotFound {
		t.Error(err)
	}
	whole, err := c.DeadLetter(t.Context(), d.letters[0].Message)
	if err != nil || string(whole.Body) != string(d.letters[0].Body) {
		t.Errorf("%+v, %v", whole, err)
	}
	for event, want := range map[string]int{"dead letter replayed": 2, "dead letter dropped": 1} {
		if got := s.log.events(t, event); len(got) != want || got[0]["operator"] != "tests" || got[0]["message"] != letter.Message {
			t.Errorf("%s: logged %v", event, got)
		}
	}
}

func TestRefunds_AreGivenOnce(t *testing.T) {
	s, _, c := newDesk(t)
	first, err := c.GiveRefund(t.Context(), 2)
	must(t, err)
	again, err := c.GiveRefund(t.Context(), 2)
	if err != nil || first != again || first.GivenAt.IsZero() {
		t.Errorf("%+v, then %+v, %v", first, again, err)
	}
	if _, err := c.GiveRefund(t.Context(), 77); sluice.RefusalOf(err) != sluice.NotFound {
		t.Error(err)
	}
	if e := s.log.events(t, "refund given"); len(e) != 2 || e[0]["refund"] != 2.0 {
		t.Errorf("logged %v", e)
	}
}

func TestEvents_AreWaitedFor(t *testing.T) {
	s, d, c := newDesk(t)
	page, err := c.Events(t.Context(), 4, 1, 0)
	must(t, err)
	if len(page.Events) != 1 || page.Events[0].Seq != 5 || page.Newest != 6 || page.Oldest != 1 {
		t.Errorf("%+v", page)
	}
	began := time.Now()
	none, err := c.Events(t.Context(), 6, 0, time.Millisecond)
	if err != nil || none.Events == nil || len(none.Events) != 0 || time.Since(began) > 10*time.Second {
		t.Errorf("%+v, %v after %v", none, err, time.Since(began))
	}
	heard := make(chan sluice.Events, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		events, err := c.Events(t.Context(), 6, 0, api.MaxEventWait)
		if err != nil {
			t.Error(err)
		}
		heard <- events
	})
	d.happen(sluice.Event{Type: sluice.EventEnded, At: evening, Sale: "demo", Version: 2, Counters: &sluice.Counters{Stock: 3, Free: 3}})
	wg.Wait()
	if events := <-heard; len(events.Events) != 1 || events.Events[0].Type != sluice.EventEnded || events.Events[0].Counters == nil || events.Events[0].Free != 3 {
		t.Errorf("heard %+v", events)
	}
	for _, query := range []string{"wait=31s", "wait=-1s", "wait=5", "after=-1"} {
		if status, out := s.call("GET", "/v1/events?"+query, "", testToken); status != 400 {
			t.Errorf("GET /v1/events?%s = %d %v", query, status, out)
		}
	}
}

// However many wait, the store is not asked more often for it.
func TestEvents_AreWaitedForBySoManyOnly(t *testing.T) {
	d := &desk{}
	w := &Worker{Parts: Parts{Store: d}, rpc: &rpc{ctx: t.Context()}}
	w.eventWaiters.Store(maxEventWaiter)
	if events, err := w.eventsWithin(t.Context(), 0, 1, time.Hour); err != nil || len(events.Events) > 0 {
		t.Errorf("%+v, %v", events, err)
	}
	if left := w.eventWaiters.Load(); left != maxEventWaiter {
		t.Errorf("%d wait", left)
	}
	w.eventWaiters.Store(0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.eventsWithin(ctx, 0, 1, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("who has gone waits on: %v", err)
	}
}
