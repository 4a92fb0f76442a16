package faulttest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"sluice/faulttest/check"
)

// shoppers are buyers of a sale with a payment window. Some want more than the limit allows, with several keys; what
// they hold they pay, cancel or leave. With several doors they alternate, and some bring one key to two of them at once.
// Everything that a shopper chooses follows from the seed and the shopper's number.
type shoppers struct {
	*buyers
	admin  front
	window time.Duration
	seed   uint64
}

const (
	payWindow = 2 * time.Second // long enough for an answer's way back, short enough to meet a crash
	payLimit  = 2
)

func newShoppers(b *buyers, admin string, window time.Duration, random *rand.Rand) *shoppers {
	s := &shoppers{buyers: b, admin: front{"admin", "http://" + admin}, window: window, seed: random.Uint64()}
	b.each = s.shop
	return s
}

// deed is what a shopper does with a hold.
type deed int

const (
	pays deed = iota
	paysTwice
	paysAtTheDeadline
	paysThenCancels
	paysAndCancels // at once
	cancels
	leaves
	deeds
)

// likely are the deeds in the proportion in which they are chosen.
var likely = []deed{
	pays, pays, pays, pays, pays, pays, paysTwice, paysAtTheDeadline, paysAtTheDeadline, paysThenCancels, paysAndCancels,
	cancels, cancels, leaves, leaves, leaves,
}

// purchase is what a shopper wants to do with one key.
type purchase struct {
	user, key string
	quantity  int64
	first     int  // which door
	both      bool // and another one at the same time
	looks     bool // at another door too, from the beginning to the end
	then      deed
	late      time.Duration // from the deadline, for who pays at it
	insists   bool          // repeats what was answered already
}

func (s *shoppers) plan(n int64) (plan []purchase) {
	random := rand.New(rand.NewPCG(s.seed, uint64(n)))
	keys := 1
	if random.IntN(5) == 0 {
		keys = 3
	}
	for k := range keys {
		p := purchase{
			user: fmt.Sprintf("buyer-%06d", n), key: fmt.Sprintf("key-%06d-%d", n, k), quantity: 1,
			first: random.IntN(len(s.doors)), both: len(s.doors) > 1 && random.IntN(4) == 0, looks: len(s.doors) > 1 && random.IntN(3) == 0,
			then: likely[random.IntN(len(likely))], late: time.Duration(random.Int64N(int64(400*time.Millisecond))) - 200*time.Millisecond,
			insists: random.IntN(4) == 0,
		}
		if random.IntN(5) == 0 {
			p.quantity = 2
		}
		plan = append(plan, p)
	}
	return plan
}

// shop is one shopper's visit: all keys at once.
func (s *shoppers) shop(ctx context.Context, n int64) {
	var keys sync.WaitGroup
	for _, p := range s.plan(n) {
		keys.Go(func() { s.purchase(ctx, p) })
	}
	keys.Wait()
}

// purchase asks for an order, deals with what it holds, and looks on until nothing may become of it any more.
func (s *shoppers) purchase(ctx context.Context, p purchase) (end Status) {
	door := s.doors[p.first]
	e := Event{User: p.user, Key: p.key, Order: s.order(ctx, p)}
	if e.Order == "" {
		return end
	}
	var elsewhere sync.WaitGroup
	defer elsewhere.Wait()
	if p.looks {
		elsewhere.Go(func() { s.look(ctx, s.doors[(p.first+1)%len(s.doors)], e) })
	}
	held := s.until(ctx, door, e, func(s Status) bool { return s.State != "queued" })
	if held.State == "held" {
		s.do(ctx, p, e)
	}
	return s.look(ctx, door, e)
}

// look follows an order at one door until nothing may become of it any more, and a little longer: that is not taken back.
func (s *shoppers) look(ctx context.Context, door front, e Event) (end Status) {
	end = s.until(ctx, door, e, Status.Final)
	for range 3 {
		pause(ctx, 200*time.Millisecond)
		s.follow(ctx, door, e, 0)
	}
	return end
}

// order is the one that a door promised, or nothing where all asked doors refused.
func (s *shoppers) order(ctx context.Context, p purchase) string {
	var other string
	var second sync.WaitGroup
	if p.both {
		second.Go(func() {
			other = s.insist(ctx, s.doors[(p.first+1)%len(s.doors)], p.user, p.key, p.quantity)
		})
	}
	order := s.insist(ctx, s.doors[p.first], p.user, p.key, p.quantity)
	second.Wait()
	if order == "" {
		return other
	}
	return order
}

func (s *shoppers) do(ctx context.Context, p purchase, e Event) {
	pay := func() { s.command(ctx, Pay, e, "ref-"+p.key, p.insists) }
	cancel := func() { s.command(ctx, Cancel, e, "", p.insists) }
	switch p.then {
	case pays:
		pay()
	case paysTwice:
		together(pay, func() { s.command(ctx, Pay, e, "other-ref-"+p.key, p.insists) })
	case paysAtTheDeadline:
		pause(ctx, s.window+p.late)
		pay()
	case paysThenCancels:
		pay()
		cancel()
	case paysAndCancels:
		together(pay, cancel)
	case cancels:
		cancel()
	case leaves, deeds:
	}
}

func together(a, b func()) {
	var both sync.WaitGroup
	both.Go(a)
	both.Go(b)
	both.Wait()
}

// command pays or cancels: the same again until it is answered, and once more where the shopper insists.
func (s *shoppers) command(ctx context.Context, call string, e Event, ref string, insists bool) {
	e = Event{Call: call, Door: s.admin.name, User: e.User, Key: e.Key, Order: e.Order, Ref: ref}
	body := ""
	if call == Pay {
		body = fmt.Sprintf(`{"payment_ref":%q}`, ref)
	}
	for ctx.Err() == nil {
		a := s.ask(ctx, e, callTime, func(ctx context.Context) (*http.Request, error) {
			return post(ctx, s.admin.url+"/v1/orders/"+e.Order+"/"+call, body)
		})
		switch {
		case a.code == 0 || a.code >= 500:
			pause(ctx, 100*time.Millisecond+rand.N(50*time.Millisecond))
		case insists:
			insists = false
		default:
			return
		}
	}
	s.gaveUp.Add(1)
}

// judge lets late shoppers buy what came back, and then checks every promise. When all orders are final, whoever comes
// for a free unit holds it (P2), and when the last one is sold the doors say so.
func (s *shoppers) judge(t *testing.T, st store) {
	t.Helper()
	s.settle(t)
	ctx, cancel := context.WithTimeout(t.Context(), settleTime)
	defer cancel()
	s.buyTheRest(ctx, t)
	for _, door := range s.doors {
		tries := 0
		eventually(t, settleTime, door.name+" knows that all is sold", func() error {
			tries++
			e := Event{User: fmt.Sprintf("too-late-%s-%d", door.name, tries), Key: "k"}
			a := s.placeAt(ctx, door, e.User, e.Key, 1)
			if e.Order = a.Order; e.Order != "" {
				s.accept(e)
			}
			if a.Reason != "sold-out" {
				return fmt.Errorf("told %d %q", a.code, a.Reason)
			}
			return nil
		})
	}
	rows := judgeFacts(t, s.buyers, s.admin.url[len("http://"):], st, Facts{Run: check.Run{Buyers: int64(s.count), Window: s.window, SoldOut: true}})
	count := map[string]int{}
	for _, r := range rows {
		count[r.State]++
	}
	t.Logf("orders: %v", count)
	for _, state := range []string{"paid", "cancelled", "expired", "rejected"} {
		if count[state] == 0 {
			t.Errorf("no order ended %s: the story tests less than it says", state)
		}
	}
}

// buyTheRest: as many shoppers as there are free units come for one each, until none is left. A payment that comes after
// its window, on a busy machine, leaves units for the next round.
func (s *shoppers) buyTheRest(ctx context.Context, t *testing.T) {
	t.Helper()
	for round := range 5 {
		var sale SaleRow
		if err := get(ctx, s.admin.url+"/v1/sales/"+s.sale, &sale); err != nil {
			t.Errorf("read the sale: %v", err)
			return
		}
		if sale.Free == 0 && sale.Held == 0 {
			return
		}
		t.Logf("%d units came back late (%d held)", sale.Free, sale.Held)
		var late sync.WaitGroup
		for i := range sale.Free {
			late.Go(func() {
				p := purchase{
					user: fmt.Sprintf("late-%d-%d", round, i), quantity: 1, key: fmt.Sprintf("late-key-%d-%d", round, i),
					first: int(i) % len(s.doors), then: pays,
				}
				if end := s.purchase(ctx, p); end.State != "paid" && end.State != "expired" {
					t.Errorf("P2: a unit was free for %s, whose order %s ended %q %s", p.user, end.Order, end.State, end.Reason)
				}
			})
		}
		late.Wait()
	}
	t.Error("P2: units are left after five rounds")
}
