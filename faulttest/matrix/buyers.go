package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sluice/faulttest/check"
)

const (
	patience  = 3 * time.Second // of a buyer for one answer
	insisting = 30 * time.Second
)

// buyers come when the seed says, whatever answers those before them got. What each does follows from the seed and the buyer's number.
type buyers struct {
	scene   *scene
	doors   []check.Door
	admin   check.Door
	history *check.History
	client  *http.Client

	asked    atomic.Int64 // purchases under way or over
	accepted atomic.Int64
	cut      atomic.Int64 // purchases that got no answer
	refused  atomic.Int64
	gaveUp   atomic.Int64 // no definite answer for as long as they insisted
}

func newBuyers(s *scene) *buyers {
	return &buyers{
		scene: s, doors: s.doorList, admin: check.Door{Name: "worker", Address: s.admin}, history: s.history,
		// Connections that nobody needs are closed soon: all buyers have one address, and what they keep counts against its limit.
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 512, IdleConnTimeout: time.Second, DisableCompression: true}},
	}
}

// answered is how many answers were definite.
func (b *buyers) answered() int64 { return b.accepted.Load() + b.refused.Load() }

// deed is what a buyer does with a hold.
type deed int

const (
	pays deed = iota
	paysTwice
	paysAtTheDeadline
	paysThenCancels
	paysAndCancels // at once
	cancels
	leaves
)

// likely are the deeds in the proportion in which they are chosen.
var likely = []deed{
	pays, pays, pays, pays, pays, pays, paysTwice, paysAtTheDeadline, paysAtTheDeadline, paysThenCancels, paysAndCancels,
	cancels, cancels, leaves, leaves, leaves,
}

// purchase is what a buyer wants to do with one key.
type purchase struct {
	user, key string
	quantity  int64
	first     int  // which door
	both      bool // and another one at the same time
	resigned  bool // does not ask again when left in doubt
	again     bool // asks again when refused for load
	looks     bool // follows the order even where there is nothing to pay
	then      deed
	late      time.Duration // from the deadline, for who pays at it
	insists   bool          // repeats what was answered already
}

// keysOf is how many purchases a buyer makes: one, or three of which the limit allows two.
const severalKeys, ofBuyers = 3, 8

func (b *buyers) plan(n int) (list []purchase) {
	random := rand.New(rand.NewPCG(b.scene.seed, uint64(n)+100))
	keys, deeds, late := 1, likely, payLate
	if b.scene.deeds != nil {
		deeds = b.scene.deeds
	}
	if b.scene.late > 0 {
		late = b.scene.late
	}
	if random.IntN(ofBuyers) == 0 {
		keys = severalKeys
	}
	for k := range keys {
		p := purchase{
			user: fmt.Sprintf("buyer-%06d", n), key: fmt.Sprintf("key-%06d-%d", n, k), quantity: 1,
			first: random.IntN(len(b.doors)), both: random.IntN(4) == 0 && len(b.doors) > 1, resigned: random.IntN(5) == 0,
			again: random.IntN(8) == 0, looks: random.IntN(4) == 0, then: deeds[random.IntN(len(deeds))],
			late: time.Duration(random.Int64N(2*int64(late))) - late, insists: random.IntN(4) == 0,
		}
		if random.IntN(5) == 0 {
			p.quantity = 2
		}
		list = append(list, p)
	}
	return list
}

// arrivals are the moments at which buyers come, from the beginning: as many as the rate says, at random.
func arrivals(seed uint64, rate float64, length time.Duration) (moments []time.Duration) {
	random := rand.New(rand.NewPCG(seed, 0))
	each := float64(ofBuyers-1+severalKeys) / ofBuyers // orders of a buyer
	for at := 0.0; ; {
		at += random.ExpFloat64() * each / rate
		moment := time.Duration(at * float64(time.Second))
		if moment >= length {
			return moments
		}
		moments = append(moments, moment)
	}
}

// rush lets everybody come, and returns when the last one has gone.
func (b *buyers) rush(ctx context.Context) {
	began := time.Now()
	var visits sync.WaitGroup
	for n, at := range arrivals(b.scene.seed, b.scene.rate(), b.scene.lasts()) {
		pause(ctx, time.Until(began.Add(at)))
		for _, p := range b.plan(n) {
			visits.Go(func() { b.purchase(ctx, p) })
		}
	}
	visits.Wait()
}

// purchase asks for an order, deals with what it holds, and looks on until nothing may become of it any more.
func (b *buyers) purchase(ctx context.Context, p purchase) (end check.Status) {
	door := b.doors[p.first]
	e := check.Event{User: p.user, Key: p.key}
	if e.Order = b.order(ctx, p); e.Order == "" {
		return end
	}
	if b.scene.window() == 0 {
		if p.looks {
			end = b.until(ctx, door, e, check.Status.Final)
		}
		return end
	}
	held := b.until(ctx, door, e, func(s check.Status) bool { return s.State != "queued" })
	if held.State == "held" {
		b.do(ctx, p, e, held.PayBy)
	}
	end = b.until(ctx, door, e, check.Status.Final)
	if p.looks { // that is not taken back
		pause(ctx, 200*time.Millisecond)
		b.follow(ctx, door, e, 0)
	}
	return end
}

// order is the one that a door promised, or nothing where all that were asked refused.
func (b *buyers) order(ctx context.Context, p purchase) string {
	var other string
	var second sync.WaitGroup
	if p.both {
		second.Go(func() { other = b.insist(ctx, b.doors[(p.first+1)%len(b.doors)], p) })
	}
	order := b.insist(ctx, b.doors[p.first], p)
	second.Wait()
	if order == "" {
		return other
	}
	return order
}

// insist asks one door with one key until the answer is definite, unless the buyer resigns.
func (b *buyers) insist(ctx context.Context, door check.Door, p purchase) string {
	ctx, cancel := context.WithTimeout(ctx, insisting)
	defer cancel()
	b.asked.Add(1)
	promised := false
	for tries := 0; ctx.Err() == nil; tries++ {
		a := b.place(ctx, door, p)
		switch {
		case a.event.Accepted():
			if !promised {
				b.accepted.Add(1)
			}
			if promised = true; !p.insists || tries > 0 {
				return a.Order
			}
		case a.event.Doubtful():
			if a.event.Status == 0 {
				b.cut.Add(1)
			}
			if p.resigned {
				return ""
			}
		default:
			b.refused.Add(1)
			if a.event.Status != http.StatusRequestTimeout && !p.again || tries >= 3 || a.event.Status == http.StatusConflict {
				return ""
			}
		}
		pause(ctx, min(time.Duration(tries+1)*400*time.Millisecond, 2*time.Second)) // sooner than the door asks for: the fault must meet buyers, not pauses
	}
	b.gaveUp.Add(1)
	return ""
}

func (b *buyers) do(ctx context.Context, p purchase, e check.Event, payBy time.Time) {
	pay := func() { b.command(ctx, check.Pay, e, "ref-"+p.key, p.insists) }
	cancel := func() { b.command(ctx, check.Cancel, e, "", p.insists) }
	switch p.then {
	case pays:
		pay()
	case paysTwice:
		together(pay, func() { b.command(ctx, check.Pay, e, "other-ref-"+p.key, p.insists) })
	case paysAtTheDeadline:
		pause(ctx, time.Until(payBy.Add(p.late))) // the database's clock is this machine's
		pay()
	case paysThenCancels:
		pay()
		cancel()
	case paysAndCancels:
		together(pay, cancel)
	case cancels:
		cancel()
	case leaves:
	}
}

func together(a, b func()) {
	var both sync.WaitGroup
	both.Go(a)
	both.Go(b)
	both.Wait()
}

// command pays or cancels: the same again until it is answered, and once more where the buyer insists.
func (b *buyers) command(ctx context.Context, call string, e check.Event, ref string, insists bool) {
	e = check.Event{Call: call, Door: b.admin.Name, User: e.User, Key: e.Key, Order: e.Order, Ref: ref}
	body := ""
	if call == check.Pay {
		body = fmt.Sprintf(`{"payment_ref":%q}`, ref)
	}
	for ctx.Err() == nil {
		a := b.ask(ctx, e, patience, func(ctx context.Context) (*http.Request, error) {
			return request(ctx, "http://"+b.admin.Address+"/v1/orders/"+e.Order+"/"+call, body)
		})
		switch {
		case a.event.Status == 0 || a.event.Status >= 500:
			pause(ctx, 300*time.Millisecond)
		case insists:
			insists = false
		default:
			return
		}
	}
	b.gaveUp.Add(1)
}

// said is one answer.
type said struct {
	check.Status
	event check.Event
	retry time.Duration
	err   error
}

func (b *buyers) place(ctx context.Context, door check.Door, p purchase) said {
	e := check.Event{Call: check.Place, Door: door.Name, User: p.user, Key: p.key, Quantity: p.quantity}
	body := fmt.Sprintf(`{"user":%q,"quantity":%d}`, p.user, p.quantity)
	return b.ask(ctx, e, patience, func(ctx context.Context) (*http.Request, error) {
		req, err := request(ctx, "http://"+door.Address+"/v1/sales/"+saleID+"/orders", body)
		if err == nil {
			req.Header.Set("Idempotency-Key", p.key)
		}
		return req, err
	})
}

// request is a POST that net/http sends once: with GetBody and a key it would send it again by itself when a connection breaks, and the
// history would not know.
func request(ctx context.Context, url, body string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.GetBody = nil
	req.Header.Set("Content-Type", "application/json")
	return req, nil
}

func (b *buyers) follow(ctx context.Context, door check.Door, e check.Event, wait time.Duration) said {
	e = check.Event{Call: check.Follow, Door: door.Name, User: e.User, Key: e.Key, Order: e.Order}
	return b.ask(ctx, e, patience+wait, func(ctx context.Context) (*http.Request, error) {
		return http.NewRequestWithContext(ctx, http.MethodGet, "http://"+door.Address+"/v1/orders/"+e.Order+"?wait="+wait.String(), nil)
	})
}

// until follows an order at one door until its status is what is waited for, or ctx ends, and answers the last one.
func (b *buyers) until(ctx context.Context, door check.Door, e check.Event, reached func(check.Status) bool) (last check.Status) {
	for ctx.Err() == nil {
		again := 500 * time.Millisecond // sooner than the door asks for, and later than it can bear from all of them
		if a := b.follow(ctx, door, e, 5*time.Second); a.event.Status == http.StatusOK {
			if last = a.Status; reached(last) {
				return last
			}
			again = 50 * time.Millisecond
		}
		pause(ctx, again)
	}
	return last
}

// ask sends one request, between the two lines of the history that belong to it.
func (b *buyers) ask(ctx context.Context, e check.Event, most time.Duration, call func(context.Context) (*http.Request, error)) said {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	e.Event = check.Ask
	e.Asked = b.history.Add(e)
	code, a := b.send(ctx, call)
	e.Event, e.Status, e.Reason, e.State, e.Version, e.Retry = check.Answer, code, a.Reason, a.State, a.Version, a.retry.Nanoseconds()
	if a.Order != "" {
		e.Order = a.Order
	}
	if a.err != nil {
		e.Error = a.err.Error()
	}
	b.history.Add(e)
	a.event = e
	return a
}

func (b *buyers) send(ctx context.Context, call func(context.Context) (*http.Request, error)) (code int, a said) {
	req, err := call(ctx)
	if err != nil {
		return 0, said{err: err}
	}
	resp, err := b.client.Do(req)
	if err != nil {
		return 0, said{err: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return 0, said{err: err}
	}
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
		a.retry = time.Duration(seconds) * time.Second
	}
	if resp.StatusCode < 300 {
		a.err = json.Unmarshal(body, &a.Status)
	} else {
		var problem struct{ Reason string }
		a.err = json.Unmarshal(body, &problem)
		a.Reason = problem.Reason
	}
	if a.err != nil {
		a.err = fmt.Errorf("HTTP %d: %.200s: %w", resp.StatusCode, body, a.err)
	}
	return resp.StatusCode, a
}
