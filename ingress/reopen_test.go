package ingress

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"sluice"
)

// allHeld is a door in simulated time that refuses with none-free: all ten units are held by orders of its own.
func allHeld(t *testing.T, tell func(s *stand, facts sluice.Sale, held []answer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t, testConfig(), nil, sale("demo", func(s *sluice.Sale) { s.Stock, s.Free = 10, 10 }))
		s.run()
		var held []answer
		var statuses []sluice.Status
		for n := range 10 {
			held = append(held, s.buy(fmt.Sprintf("u%d", n)))
			statuses = append(statuses, s.outcome(held[n].Order, sluice.Held, 2))
			statuses[n].PayBy = time.Now().Add(time.Hour)
		}
		facts := sale("demo", func(s *sluice.Sale) { s.Stock, s.Free, s.Held, s.Version = 10, 0, 10, 2 })
		s.truth.stand(facts)
		s.truth.settle(statuses...)
		s.hear(statuses...)
		time.Sleep(time.Second)
		s.want(s.buy("early"), 503, "none-free")
		tell(s, facts, held)
	})
}

// stand makes the database tell these facts from now on.
func (f *fakeTruth) stand(sales ...sluice.Sale) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sales = sales
}

// reopens waits until somebody new comes in, and answers how long that took.
func (s *stand) reopens() time.Duration {
	began := time.Now()
	for n := 0; time.Since(began) < time.Minute; n++ {
		if s.buy(fmt.Sprintf("late-%d", n)).status == 202 {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	return time.Since(began)
}

// P2: where every unit was held, the gate opens by itself as soon as the door hears that one came back.
func TestNoneFree_ReopensAtOnceWithTheOutcome(t *testing.T) {
	allHeld(t, func(s *stand, facts sluice.Sale, held []answer) {
		facts.Free, facts.Held, facts.Version = 1, 9, 3
		expired := s.outcome(held[3].Order, sluice.Expired, 3)
		s.truth.settle(expired)
		if err := s.Hear(s.t.Context(), sluice.Changes{Now: time.Now(), Statuses: []sluice.Status{expired}, Sales: []sluice.Sale{facts}}); err != nil {
			s.t.Fatal(err)
		}
		if took := s.reopens(); took > 0 {
			s.t.Errorf("open %v after the outcome was heard, want at once", took)
		}
		s.want(s.buy("in reserve"), 202, "queued") // one and a half times the unit
		s.want(s.buy("one too many"), 503, "none-free")
	})
}

// P2: and within a second where that outcome is lost and only the poll of the facts tells, whenever between two polls the unit
// comes back.
func TestNoneFree_ReopensWithinASecondWhenTheOutcomeIsLost(t *testing.T) {
	for _, offset := range []time.Duration{1, 100, 200, 399, 400} {
		allHeld(t, func(s *stand, facts sluice.Sale, _ []answer) {
			time.Sleep(offset * time.Millisecond)
			facts.Free, facts.Held, facts.Version = 1, 9, 3
			s.truth.stand(facts)
			took := s.reopens()
			if took > time.Second {
				s.t.Errorf("offset %d ms: open %v after the unit came back", offset, took)
			}
			s.t.Logf("offset %d ms: open after %v", offset, took)
		})
	}
}

// P2: nor does a worker that nobody can ask keep it shut: facts older than a second fail open.
func TestNoneFree_FailsOpenWithinASecondOfSilence(t *testing.T) {
	allHeld(t, func(s *stand, _ sluice.Sale, _ []answer) {
		s.truth.mu.Lock()
		s.truth.down = true
		s.truth.mu.Unlock()
		if took := s.reopens(); took > time.Second+50*time.Millisecond {
			s.t.Errorf("open %v after the last answer", took)
		}
	})
}
