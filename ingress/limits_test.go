package ingress

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
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
	if err := s.refreshFacts(s.t.Context()); err != nil {
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
	if l := s.limits.Load(); l.bound != 3 || l.maxWait != cfg.MaxWait || l.buyerRate != cfg.BuyerRate || l.addressRate != cfg.AddressRate || s.bound.Load() != 3 {
		t.Errorf("after all is lifted: %+v, bound in force %d", l, s.bound.Load())
	}
}

// P4 under a bound that changes: an order is admitted only below the bound that was in force, and no request is dropped.
func TestLimits_BoundHoldsWhileItChanges(t *testing.T) {
	cfg := testConfig()
	s := newStand(t, cfg, nil, sale("demo", func(s *sluice.Sale) { s.Stock, s.Free = 1_000_000, 1_000_000 }))
	const least, most = 20, 60
	var admitted, refused atomic.Int64
	var done atomic.Bool
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for n := range 300 {
				switch a := s.buy(fmt.Sprintf("buyer-%d-%d", g, n)); a.status {
				case 202:
					admitted.Add(1)
				case 503:
					refused.Add(1)
				default:
					t.Errorf("answer %d %v", a.status, a.body)
				}
				if out := s.credits.Outstanding(); out > most {
					t.Errorf("P4: %d outstanding; no bound was above %d", out, most)
				}
			}
		})
	}
	wg.Go(func() {
		for v := int64(1); !done.Load(); v++ {
			s.SetLimits(&sluice.Limits{Version: v, Bounds: map[string]int64{"door": least + v%2*(most-least)}})
		}
	})
	time.AfterFunc(time.Second, func() { done.Store(true) })
	wg.Wait()
	if admitted.Load() != most || admitted.Load()+refused.Load() != 8*300 {
		t.Errorf("%d admitted, %d refused; want %d in and everybody answered", admitted.Load(), refused.Load(), most)
	}
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

func TestBlock_TurnsANetworkAwayWhateverItAsks(t *testing.T) {
	s := newStand(t, testConfig(), nil, sale("demo", nil))
	order := s.buy("a", from, "203.0.113.9:1").Order
	s.set(sluice.Limits{Blocks: []sluice.Block{{Network: netip.MustParsePrefix("203.0.113.0/24")}}})
	s.want(s.buy("b", from, "203.0.113.9:1"), 403, "blocked")
	a := s.call("GET", "/v1/orders/"+order, "", from, "203.0.113.9:1")
	s.want(a, 403, "blocked")
	if !a.header.ConnectionClose() {
		t.Error("the connection stays open")
	}
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
	if err := s.refreshFacts(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.want(buy("other", other(7)), 202, "queued") // a sale that is over keeps nothing
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
