package ingress

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"sluice"
)

// set has the operators' limits reach the door as they do: with the facts.
func (s *stand) set(limits sluice.Limits) {
	s.t.Helper()
	s.truth.mu.Lock()
	limits.Version = s.truth.limits.Version + 1
	s.truth.limits = limits
	s.truth.mu.Unlock()
	if err := s.Refresh(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

// All limits change while the door runs, and go back to what it was started with when they are lifted.
func TestLimits_ChangeLiveAndBack(t *testing.T) {
	cfg := testConfig()
	cfg.Bound = 3
	s := newStand(t, cfg, nil, sale("demo", nil))
	s.want(s.buy("a"), 202, "queued")
	s.set(sluice.Limits{Bounds: map[string]int64{"door": 1, "another": 100}})
	s.want(s.buy("b"), 503, "queue-full")
	s.set(sluice.Limits{Bounds: map[string]int64{"door": 0}}) // a door may be closed
	s.want(s.buy("b"), 503, "queue-full")
	s.want(s.buy("a"), 200, "queued") // a promise stays one
	s.set(sluice.Limits{BuyerRate: new(0.001)})
	s.want(s.buy("e"), 202, "queued")
	s.want(s.buy("e", "Idempotency-Key", "x"), 429, "rate-limited")
	s.set(sluice.Limits{BuyerRate: new(0.0)})
	s.want(s.buy("e", "Idempotency-Key", "x"), 202, "queued")
	s.want(s.buy("c"), 503, "queue-full") // the bound of the start again
	s.set(sluice.Limits{Bounds: map[string]int64{"door": 1000}, AddressRate: new(0.001)})
	s.want(s.buy("c"), 202, "queued")
	s.want(s.buy("d"), 429, "rate-limited")
	s.set(sluice.Limits{})
	if l := s.limits.Load(); l.bound != 3 || l.maxWait != cfg.MaxWait || l.buyerRate != cfg.BuyerRate || l.addressRate != cfg.AddressRate || s.boundNow() != 3 {
		t.Errorf("after all is lifted: %+v, bound in force %d", l, s.boundNow())
	}
}

// P4 under a bound that changes: with each bound in force exactly as many come in as it has room for, however many ask at once, and
// everybody is answered.
func TestLimits_BoundIsExactWhileItChanges(t *testing.T) {
	s := newStand(t, testConfig(), nil, sale("demo", func(s *sluice.Sale) { s.Stock, s.Free = 1_000_000, 1_000_000 }))
	var outstanding []string // orders
	for round, bound := range []int{60, 20, 20, 90, 0, 50, 10, 70} {
		s.SetLimits(&sluice.Limits{Version: int64(round + 1), Bounds: map[string]int64{"door": int64(bound)}})
		admitted := s.crowd(round, 200)
		if want := max(0, bound-len(outstanding)); len(admitted) != want {
			t.Fatalf("round %d: %d came in, want %d: %d were outstanding and the bound is %d", round, len(admitted), want, len(outstanding), bound)
		}
		outstanding = append(outstanding, admitted...)
		for _, order := range outstanding[:len(outstanding)/2] {
			s.hear(s.outcome(order, sluice.Held, 2))
		}
		outstanding = outstanding[len(outstanding)/2:]
	}
}

// crowd has so many new buyers ask at once, and answers the orders that came in; the others were told queue-full.
func (s *stand) crowd(round, buyers int) (orders []string) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for n := range buyers {
		wg.Go(func() {
			switch a := s.buy(fmt.Sprintf("buyer-%d-%d", round, n)); {
			case a.status == 202:
				mu.Lock()
				defer mu.Unlock()
				orders = append(orders, a.Order)
			case a.reason() != "queue-full":
				s.t.Errorf("answer %d %v", a.status, a.body)
			}
		})
	}
	wg.Wait()
	return orders
}

// Limits that change at any instant never let in more than the highest of them.
func TestLimits_ChangeAtAnyInstant(t *testing.T) {
	const least, most = 20, 60
	cfg := testConfig()
	cfg.Bound = least
	s := newStand(t, cfg, nil, sale("demo", func(s *sluice.Sale) { s.Stock, s.Free = 1_000_000, 1_000_000 }))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for v := int64(1); ; v++ {
			select {
			case <-stop:
				return
			default:
				s.SetLimits(&sluice.Limits{Version: v, Bounds: map[string]int64{"door": least + v%2*(most-least)}, Blocks: []sluice.Block{{User: "bot"}}})
			}
		}
	})
	for round := range 10 {
		for _, order := range s.crowd(round, 100) {
			s.hear(s.outcome(order, sluice.Held, 2))
		}
		if n := s.credits.Outstanding(); n != 0 {
			t.Fatalf("%d are outstanding after all were settled", n)
		}
	}
	close(stop)
	wg.Wait()
}

func TestBlock_TurnsABuyerAway(t *testing.T) {
	s := newStand(t, testConfig(), nil, sale("demo", nil))
	s.want(s.buy("bot"), 202, "queued")
	s.set(sluice.Limits{Blocks: []sluice.Block{{User: "bot"}, {User: "brief", Until: time.Now().Add(time.Hour)}, {User: "past", Until: time.Now().Add(-time.Second)}}})
	s.want(s.buy("bot", "Idempotency-Key", "more"), 403, "blocked")
	s.want(s.buy("bot"), 200, "queued") // what it was promised it is told
	s.want(s.buy("brief"), 403, "blocked")
	s.want(s.buy("past"), 202, "queued")
	s.want(s.buy("somebody"), 202, "queued")
	s.set(sluice.Limits{})
	s.want(s.buy("brief"), 202, "queued")
}

// A network's new orders are turned away; what was promised there before is told, and nobody is shut out of the rest.
func TestBlock_TurnsANetworkAway(t *testing.T) {
	s := newStand(t, testConfig(), nil, sale("demo", nil))
	order := s.buy("a", from, "203.0.113.9:1").Order
	s.set(sluice.Limits{Blocks: []sluice.Block{{Network: netip.MustParsePrefix("203.0.113.0/24")}}})
	s.want(s.buy("b", from, "203.0.113.9:1"), 403, "blocked")
	s.want(s.buy("a", from, "203.0.113.9:1"), 200, "queued")
	s.want(s.call("GET", "/v1/orders/"+order, "", from, "203.0.113.9:1"), 200, "queued")
	s.want(s.buy("b", from, "203.0.114.9:1"), 202, "queued")
}

// A sale may keep a share of the bound for members: others can't fill it, and members find room as long as there is any.
func TestReservedShare_IsTheMembers(t *testing.T) {
	member := func(n int) []string { return []string{"Authorization", fmt.Sprintf("Bearer m%d/members/", n)} }
	other := func(n int) []string { return []string{"Authorization", fmt.Sprintf("Bearer o%d/guests/", n)} }
	s := ticketed(t, func(c *Config) { c.Bound = 10 },
		sale("demo", func(s *sluice.Sale) { s.ReservedFor, s.ReservedShare = "members", 0.3 }), sale("other", nil))
	buy := func(sale string, headers []string) answer {
		return s.call("POST", "/v1/sales/"+sale+"/orders", `{}`, headers...)
	}
	first := buy("demo", other(0))
	for n := 1; n < 6; n++ {
		s.want(buy("demo", other(n)), 202, "queued")
	}
	s.want(buy("other", other(6)), 202, "queued") // a share of the bound, not of the sale: other sales leave it too
	s.want(buy("other", other(7)), 503, "queue-full")
	s.want(buy("demo", other(8)), 503, "queue-full")
	s.want(buy("other", member(9)), 503, "queue-full") // a member of demo is nobody special elsewhere
	for n := range 3 {
		s.want(buy("demo", member(n)), 202, "queued")
	}
	s.want(buy("demo", member(3)), 503, "queue-full") // the bound itself
	s.hear(s.outcome(first.Order, sluice.Held, 2))
	s.want(buy("demo", member(3)), 202, "queued") // beyond its share a member has what everybody has
	s.want(buy("demo", other(9)), 503, "queue-full")

	s.truth.mu.Lock()
	s.truth.sales[0].EndsAt, s.truth.sales[0].Version = time.Now().Add(-time.Second), 2
	s.truth.mu.Unlock()
	s.hear(s.outcome(buy("demo", other(1)).Order, sluice.Held, 2))
	if err := s.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.want(buy("other", other(7)), 202, "queued") // a sale that is over keeps nothing
}

// Sales that together ask for more than there is to keep get their part of it each.
func TestReservedShare_IsSharedBySalesThatAskForTooMuch(t *testing.T) {
	reserve := func(s *sluice.Sale) { s.ReservedFor, s.ReservedShare = "members", 0.8 }
	s := ticketed(t, func(c *Config) { c.Bound = 100 }, sale("one", reserve), sale("two", reserve))
	for _, name := range []string{"one", "two"} {
		in := 0
		for n := range 100 {
			if s.call("POST", "/v1/sales/"+name+"/orders", `{}`, "Authorization", fmt.Sprintf("Bearer %s-%d/members/", name, n)).status == 202 {
				in++
			}
		}
		if in < 45 {
			t.Errorf("%d members of sale %s came in; 45 were kept for each", in, name)
		}
	}
}

// Where nobody has a ticket nobody is of a class: nothing is kept from everybody.
func TestReservedShare_IsKeptOnlyWhereSomebodyCanHaveIt(t *testing.T) {
	cfg := testConfig()
	cfg.Bound = 10
	s := newStand(t, cfg, nil, sale("demo", func(s *sluice.Sale) { s.ReservedFor, s.ReservedShare = "members", 0.9 }))
	for n := range 10 {
		s.want(s.buy(fmt.Sprint("u", n)), 202, "queued")
	}
}

// A future sale's share is kept only once the sale is near.
func TestReservedShare_IsKeptWhileItsSaleIsOn(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		sale sluice.Sale
		want bool
	}{
		"on":       {sale("s", nil), true},
		"near":     {sale("s", func(s *sluice.Sale) { s.StartsAt = now.Add(time.Second) }), true},
		"far":      {sale("s", func(s *sluice.Sale) { s.StartsAt = now.Add(time.Hour) }), false},
		"ended":    {sale("s", func(s *sluice.Sale) { s.EndsAt = now.Add(-time.Second) }), false},
		"sold out": {sale("s", func(s *sluice.Sale) { s.Free, s.Sold = 0, 1000 }), false},
		"paused":   {sale("s", func(s *sluice.Sale) { s.Paused = true }), true},
	} {
		if got := reserves(&c.sale, now); got != c.want {
			t.Errorf("%s: reserves %t", name, got)
		}
	}
}

// One address has a quarter of all connections, unless it is said otherwise; so too when the limits change.
func TestLimits_AnAddressLeavesRoomForOthers(t *testing.T) {
	for _, c := range []struct {
		start, startAddress int
		set                 sluice.Limits
		all, address        int
	}{
		{400, 0, sluice.Limits{}, 400, 100},
		{3, 0, sluice.Limits{}, 3, 1},
		{400, 7, sluice.Limits{}, 400, 7},
		{400, 500, sluice.Limits{}, 400, 500},
		{400, 0, sluice.Limits{Connections: new(40)}, 40, 10},
		{400, 7, sluice.Limits{AddressConnections: new(0)}, 400, 100},
		{400, 0, sluice.Limits{AddressConnections: new(400)}, 400, 400},
	} {
		if l := limitsOf(&Config{MaxConnections: c.start, AddressConnections: c.startAddress}, &c.set); l.connections != c.all || l.addressConnections != c.address {
			t.Errorf("%+v: %d connections, %d of one address", c, l.connections, l.addressConnections)
		}
	}
}

// P3: a door that operators close still looks after what it promised: an order that the queue lost is carried again.
func TestLimits_AClosedDoorCarriesLostOrdersAgain(t *testing.T) {
	s := newStand(t, testConfig(), nil, sale("demo", nil))
	order := s.buy("a").Order
	s.set(sluice.Limits{Bounds: map[string]int64{"door": 0}})
	id, err := sluice.ParseOrderID(order)
	if err != nil {
		t.Fatal(err)
	}
	s.Sent([]sluice.OrderID{id}, s.carrier.Incarnation())
	o, held := s.credits.Get(id)
	if !held {
		t.Fatal("the order is not outstanding")
	}
	s.carryAgain(o, s.carrier.Incarnation()) // the queue holds nothing
	if n := len(s.carrier.carried()); n != 2 {
		t.Errorf("carried %d times, want once more", n)
	}
}
