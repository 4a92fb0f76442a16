package loadtest

import (
	"slices"
	"testing"
	"time"

	"sluice"
)

func crowded() *Scenario {
	return &Scenario{
		Name: "crowded", Seed: 7,
		Sales:  []Sale{{Name: "a", Stock: 10, Weight: 3}, {Name: "b", Stock: 10}},
		Crowd:  Crowd{Buyers: 50, Quantity: 1, Keyed: 0.5, DoubleClick: 0.2, ClickWithin: sluice.Duration(time.Second), Retry: 0.5, Tries: 2},
		Warmup: Warmup{For: sluice.Duration(time.Second), Rate: 10},
		Phases: []Phase{
			{Name: "one", For: sluice.Duration(2 * time.Second), Orders: Arrivals{Rate: 500, Random: true}, Pages: Arrivals{Rate: 50}},
			{Name: "two", For: sluice.Duration(2 * time.Second), Orders: Arrivals{Rate: 500}},
		},
	}
}

func TestPlan_IsTheSameForTheSameSeed(t *testing.T) {
	one, two := newPlan(crowded()), newPlan(crowded())
	if !slices.Equal(one.requests, two.requests) || one.hash() != two.hash() {
		t.Errorf("two plans of the same scenario differ: %s and %s", one.hash(), two.hash())
	}
	for name, change := range map[string]func(*Scenario){
		"seed":   func(s *Scenario) { s.Seed++ },
		"rate":   func(s *Scenario) { s.Phases[1].Orders.Rate = 501 },
		"buyers": func(s *Scenario) { s.Crowd.Buyers++ },
		"keys":   func(s *Scenario) { s.Crowd.Keyed = 0.6 },
		"retry":  func(s *Scenario) { s.Crowd.Retry = 0.6 },
		"pages":  func(s *Scenario) { s.Phases[0].Pages.Rate = 51 },
		"sales":  func(s *Scenario) { s.Sales[0].Weight = 2 },
	} {
		s := crowded()
		if change(s); newPlan(s).hash() == one.hash() {
			t.Errorf("another %s has the same hash", name)
		}
	}
}

func TestPlan_HasTheCrowdThatItWasTold(t *testing.T) {
	p := newPlan(crowded())
	if !slices.IsSortedFunc(p.requests, func(a, b request) int { return int(a.due - b.due) }) {
		t.Error("requests are not in the order in which they are due")
	}
	var warm, pages, orders, keyed, first int
	seen := map[request]bool{}
	for _, r := range p.requests {
		switch phase := p.phase(r.due); {
		case r.sale == warmupSale:
			warm++
			if phase != -1 {
				t.Fatalf("a warm-up request is due at %v, in phase %d", r.due, phase)
			}
			continue
		case r.kind == page:
			pages++
			if phase != 0 {
				t.Fatalf("a page is due at %v, in phase %d", r.due, phase)
			}
			continue
		}
		orders++
		if r.buyer >= 50 {
			t.Fatalf("buyer %d of 50", r.buyer)
		}
		if r.key > 0 {
			keyed++
		}
		if r.sale == 0 {
			first++
		}
		r.due = 0
		seen[r] = true
	}
	near := func(what string, got int, want, slack float64) {
		if d := float64(got) - want; d > slack || d < -slack {
			t.Errorf("%s: %d, want %v ± %v", what, got, want, slack)
		}
	}
	near("warm-up requests", warm, 10, 0)
	near("pages", pages, 100, 0)
	near("orders with double clicks", orders, 2400, 200)
	near("orders with a key", keyed, float64(orders)/2, 150)
	near("orders for the first sale", first, float64(orders)*0.75, 150)
}
