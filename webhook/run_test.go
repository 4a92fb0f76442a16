package webhook

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"sluice"
)

func TestRun_DeliversEveryEventWithoutStoringAny(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, shop := newMemory(), newReceiver()
		p := launch(t, m, testEndpoint(t), shop)
		for n := range 3000 {
			m.emit(n/3, sluice.EventHeld)
		}
		time.Sleep(10 * time.Second)
		p.stop()
		wantSeqs(t, shop.seqs(), numbers(1, 3000))
		shop.inOrder(t)
		if m.writes > 0 || m.read("points") != 3000 || shop.count() != 3000 {
			t.Errorf("%d rows written, read to %d, %d requests", m.writes, m.read("points"), shop.count())
		}
	})
}

func TestRun_WaitsForAStoreWithoutEventsAndSaysSoOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		m.unfinished = true
		p := launch(t, m, testEndpoint(t), newReceiver())
		time.Sleep(time.Hour)
		p.stop()
		if strings.Count(p.log.String(), "\n") != 1 {
			t.Errorf("it logs %s", p.log)
		}
	})
}

func TestRun_TellsOnlyWhatTheEndpointWants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, shop := newMemory(), newReceiver()
		p := launch(t, m, testEndpoint(t, func(e *Endpoint) { e.events = []string{"sale.*", "order.paid"} }), shop)
		m.emit(1, sluice.EventHeld)
		m.emit(1, sluice.EventPaid)
		m.emit(-1, sluice.EventSoldOut)
		m.emit(2, sluice.EventFailed)
		time.Sleep(2 * time.Second)
		p.stop()
		wantSeqs(t, shop.seqs(), []int64{2, 3})
		if m.read("points") != 4 {
			t.Errorf("read to %d", m.read("points"))
		}
	})
}

// A receiver that is down costs the store nothing for each event, and hears of everything once it is back.
func TestRun_AReceiverThatWasDownHearsOfEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, shop := newMemory(), newReceiver()
		shop.set(func(sluice.Event, int) int { return 0 })
		p := launch(t, m, testEndpoint(t), shop)
		for n := range 2000 {
			m.emit(n/4, sluice.EventHeld)
		}
		time.Sleep(6 * time.Hour)
		if n := shop.count(); n > 500 {
			t.Errorf("%d requests to a receiver that is down", n)
		}
		if h := m.hook("points"); time.Since(h.FailingSince) < 5*time.Hour || !strings.Contains(h.LastError, "connection reset") {
			t.Errorf("it is said to be %+v", h)
		}
		shop.set(nil)
		time.Sleep(2 * time.Minute)
		wantSeqs(t, shop.seqs(), numbers(1, 2000))
		shop.inOrder(t)
		p.stop()
		if strings.Contains(p.log.String(), "s3cret") || !strings.Contains(p.log.String(), "connection reset") {
			t.Errorf("it logs %s", p.log)
		}
		if m.writes > 200 || len(m.deliveries) > 0 || m.read("points") != 2000 {
			t.Errorf("%d rows written, %d left, read to %d", m.writes, len(m.deliveries), m.read("points"))
		}
		if h := m.hook("points"); !h.FailingSince.IsZero() || h.LastError != "" {
			t.Errorf("it is said to be %+v", h)
		}
	})
}

// Where few events come, an outage is not told from a bad event; it ends as soon all the same.
func TestRun_AQuietShopNeedNotWaitForTheScheduleAfterAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, shop := newMemory(), newReceiver()
		shop.set(func(sluice.Event, int) int { return 503 })
		p := launch(t, m, testEndpoint(t), shop)
		m.emit(1, sluice.EventHeld)
		m.emit(2, sluice.EventHeld)
		time.Sleep(20 * time.Minute) // both wait for half an hour now
		shop.set(nil)
		m.emit(3, sluice.EventHeld)
		time.Sleep(3 * time.Second)
		p.stop()
		wantSeqs(t, shop.seqs(), numbers(1, 3))
	})
}

func TestRun_APoisonEventDiesAndItsOrderGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, shop := newMemory(), newReceiver()
		poison := m.emit(7, sluice.EventHeld)
		shop.set(func(e sluice.Event, _ int) int {
			if e.Seq == poison {
				return 500
			}
			return 200
		})
		p := launch(t, m, testEndpoint(t), shop)
		after := m.emit(7, sluice.EventPaid)
		time.Sleep(time.Second)
		for n := range 5 * 24 * 4 { // others go on meanwhile: an event each quarter of an hour
			m.emit(100+n, sluice.EventHeld)
			time.Sleep(15 * time.Minute)
			if got := shop.seqs(); !slices.Contains(got, int64(n+3)) {
				t.Fatalf("event %d of another order waits: %v", n+3, brief(got))
			}
			if dead := len(m.rows(sluice.DeliveryDead)); slices.Contains(shop.seqs(), after) != (dead == 1) {
				t.Fatalf("the order's later event went on before the poison one was dead: %d dead", dead)
			}
		}
		dead := m.rows(sluice.DeliveryDead)
		if len(dead) != 1 || dead[0].Seq != poison || dead[0].Attempts != maxAttempts || !strings.HasPrefix(dead[0].LastError, "500") || len(dead[0].Body) == 0 {
			t.Fatalf("dead: %+v", dead)
		}
		shop.inOrder(t)
		for i, d := range delays { // the schedule of Standard Webhooks
			if got := shop.at[poison][i+1].Sub(shop.at[poison][i]); got < d || got > d+d/5+time.Second {
				t.Errorf("wait %d took %v, want %v and a tenth at most", i, got, d)
			}
		}
		shop.set(nil)
		m.replay(poison)
		time.Sleep(time.Minute)
		p.stop()
		if len(m.deliveries) > 0 || !slices.Contains(shop.seqs(), poison) {
			t.Errorf("the replayed event did not come: %+v", m.deliveries)
		}
	})
}

func TestRun_TheCapHoldsAndASlowReceiverIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, shop := newMemory(), newReceiver()
		shop.delay = func() time.Duration { return 2 * time.Second }
		p := launch(t, m, testEndpoint(t, func(e *Endpoint) { e.MaxInFlight = 5 }), shop)
		for n := range 100 {
			m.emit(n, sluice.EventHeld)
		}
		time.Sleep(45 * time.Second)
		p.stop()
		wantSeqs(t, shop.seqs(), numbers(1, 100))
		if shop.top != 5 {
			t.Errorf("%d requests at once, want 5", shop.top)
		}
	})
}

func TestRun_ARequestEndsInTimeAndIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, shop := newMemory(), newReceiver()
		shop.delay = func() time.Duration { return time.Hour }
		m.emit(1, sluice.EventHeld) // before the first look: from there on the times are exact
		p := launch(t, m, testEndpoint(t), shop)
		time.Sleep(16 * time.Second)
		if h := m.rows(sluice.DeliveryWaiting); len(h) != 1 || h[0].LastError != "no answer in time" {
			t.Errorf("got %+v", h)
		}
		p.stop()
	})
}

func TestRun_HonoursRetryAfterWithinLimits(t *testing.T) {
	for header, want := range map[string]time.Duration{"60": time.Minute, "999999": maxPause, "soon": 5 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			m, shop := newMemory(), newReceiver()
			shop.header.Set("Retry-After", header)
			shop.set(func(_ sluice.Event, try int) int { return map[int]int{1: 429}[try] + map[bool]int{true: 200}[try > 1] })
			p := launch(t, m, testEndpoint(t), shop)
			seq := m.emit(1, sluice.EventHeld)
			time.Sleep(time.Hour)
			p.stop()
			if at := shop.at[seq]; len(at) != 2 || at[1].Sub(at[0]) < want || at[1].Sub(at[0]) > want+want/5+time.Second {
				t.Errorf("Retry-After %s: requests at %v, want %v between them", header, at, want)
			}
		})
	}
}

func TestRun_AReceiverThatIsGoneHearsNothingMoreUntilItIsResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, shop := newMemory(), newReceiver()
		shop.set(func(sluice.Event, int) int { return 410 })
		p := launch(t, m, testEndpoint(t), shop)
		m.emit(1, sluice.EventHeld)
		time.Sleep(time.Minute)
		m.emit(1, sluice.EventPaid)
		time.Sleep(24 * time.Hour)
		if h := m.hook("points"); shop.count() != 1 || !h.Disabled || !strings.Contains(h.LastError, "410") {
			t.Errorf("%d requests, %+v", shop.count(), h)
		}
		if end := m.leaseEnd["webhook:points"]; time.Since(end) < 23*time.Hour {
			t.Errorf("the lease is kept until %v: events pile up for nobody", end)
		}
		shop.set(nil)
		m.mu.Lock()
		m.hooks["points"].Disabled = false
		m.mu.Unlock()
		time.Sleep(time.Minute)
		p.stop()
		wantSeqs(t, shop.seqs(), numbers(1, 2))
		shop.inOrder(t)
	})
}

// An endpoint that stays down for longer than an event is tried for gives events up, rather than hold on to all of them.
func TestRun_AnEndlessOutageKillsOldEventsOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, shop := newMemory(), newReceiver()
		shop.set(func(sluice.Event, int) int { return 500 })
		p := launch(t, m, testEndpoint(t, func(e *Endpoint) { e.MaxAge = 24 * time.Hour }), shop)
		for n := range 48 {
			for i := range 20 {
				m.emit(100*n+i, sluice.EventHeld)
			}
			time.Sleep(time.Hour)
		}
		shop.set(nil)
		time.Sleep(10 * time.Minute)
		p.stop()
		dead := len(m.rows(sluice.DeliveryDead))
		if dead < 20*23 || dead > 20*26 {
			t.Errorf("%d events are dead, want those of the first day", dead)
		}
		if n := len(shop.seqs()); n != 48*20-dead {
			t.Errorf("%d came, %d are dead, of %d", n, dead, 48*20)
		}
	})
}

func TestRun_AProcessThatStopsNotesWhatIsUnderWayAndLetsGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, shop := newMemory(), newReceiver()
		shop.delay = func() time.Duration { return 3 * time.Second }
		p := launch(t, m, testEndpoint(t), shop)
		m.emit(1, sluice.EventHeld)
		time.Sleep(time.Second)
		p.stop()
		if shop.count() != 1 || m.read("points") != 1 {
			t.Errorf("%d requests, read to %d", shop.count(), m.read("points"))
		}
		time.Sleep(2 * time.Millisecond)
		q := launch(t, m, testEndpoint(t), shop)
		m.emit(1, sluice.EventPaid)
		time.Sleep(5 * time.Second)
		q.stop()
		wantSeqs(t, shop.seqs(), numbers(1, 2))
	})
}

func TestRun_OneProcessServesAndAnotherTakesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, shop := newMemory(), newReceiver()
		p := launch(t, m, testEndpoint(t), shop)
		time.Sleep(time.Second)
		q := launch(t, m, testEndpoint(t), shop)
		for n := range 100 {
			m.emit(n, sluice.EventHeld)
		}
		time.Sleep(5 * time.Minute)
		if shop.count() != 100 {
			t.Errorf("%d requests for 100 events", shop.count())
		}
		p.kill()
		m.emit(5, sluice.EventPaid)
		time.Sleep(leaseTTL + renewEvery + time.Second)
		q.stop()
		wantSeqs(t, shop.seqs(), numbers(1, 101))
	})
}

// A crash may come after an event was noted as dead and before the position was moved past it.
func TestRun_ADeadEventIsNotSentAgainByTheNextProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, shop := newMemory(), newReceiver()
		m.emit(1, sluice.EventHeld)
		m.emit(1, sluice.EventPaid)
		m.deliveries[1] = sluice.Delivery{Seq: 1, Key: orderID(1).String(), State: sluice.DeliveryDead}
		p := launch(t, m, testEndpoint(t), shop)
		time.Sleep(2 * time.Second)
		p.stop()
		wantSeqs(t, shop.seqs(), []int64{2})
		if m.read("points") != 2 {
			t.Errorf("read to %d", m.read("points"))
		}
	})
}

// A process that can't reach the store ends its requests before its lease ends: another one may send by then.
func TestRun_NothingIsUnderWayWhenTheLeaseEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, shop := newMemory(), newReceiver()
		shop.delay = func() time.Duration { return 14 * time.Second }
		p := launch(t, m, testEndpoint(t), shop)
		time.Sleep(12 * time.Second) // it has renewed the lease at 10 s: until 40 s
		for range 20 {
			m.emit(1, sluice.EventHeld)
		}
		time.Sleep(time.Second)
		p.store.set(true)
		for range 400 {
			time.Sleep(100 * time.Millisecond)
			shop.mu.Lock()
			under := shop.now
			shop.mu.Unlock()
			m.mu.Lock()
			end := m.leaseEnd["webhook:points"]
			m.mu.Unlock()
			if under > 0 && time.Now().After(end) {
				t.Fatal("a request is under way after the end of the lease")
			}
		}
		p.stop()
	})
}

// The whole contract under whatever goes wrong: every event arrives or is dead, those of one order in their order.
func TestRun_KeepsEveryOrdersOrderWhateverFails(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		orders := rapid.IntRange(1, 60).Draw(rt, "orders")
		events := rapid.IntRange(1, min(400, 8*orders)).Draw(rt, "events") // each line waits for its own bad ones: not for days here
		flaky := rapid.IntRange(0, 60).Draw(rt, "percent that fail")
		poison := rapid.IntRange(0, 3).Draw(rt, "percent of poison")
		width := rapid.IntRange(1, 20).Draw(rt, "width")
		crashes := rapid.IntRange(0, 4).Draw(rt, "crashes")
		outage := rapid.Bool().Draw(rt, "outage")
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 0))
			m, shop := newMemory(), newReceiver()
			down := false
			poisoned := map[int64]bool{}
			answer := func(e sluice.Event, _ int) int { // under the receiver's lock
				switch {
				case down:
					return 0
				case poisoned[e.Seq] || rng.IntN(100) < flaky:
					return []int{0, 400, 500, 503, 302}[rng.IntN(5)]
				}
				return 200
			}
			shop.set(answer)
			slow := rand.New(rand.NewPCG(seed, 1))
			shop.delay = func() time.Duration { // under the lock, too
				return time.Duration(slow.IntN(400)) * time.Millisecond
			}
			e := testEndpoint(t, func(e *Endpoint) { e.MaxInFlight, e.MaxAge = width, 2*time.Hour })
			p := launch(t, m, e, shop)
			for n := range events {
				seq := int64(n + 1)
				shop.mu.Lock()
				if rng.IntN(100) < poison {
					poisoned[seq] = true
				}
				down = outage && n > events/3 && n < events/2
				wait, order := time.Duration(rng.IntN(300))*time.Millisecond, rng.IntN(orders)-1
				shop.mu.Unlock()
				m.emit(order, sluice.EventHeld)
				time.Sleep(wait)
				if crashes > 0 && n%(events/crashes+1) == events/(crashes+1) {
					p.kill()
					p = launch(t, m, e, shop)
				}
			}
			for range 24 * 60 {
				time.Sleep(time.Minute)
				if m.read("points") == int64(events) && len(m.rows(sluice.DeliveryWaiting)) == 0 {
					break
				}
			}
			p.stop()
			var dead []int64
			for _, d := range m.rows(sluice.DeliveryDead) {
				dead = append(dead, d.Seq)
				if shop.tries[d.Seq] == 0 {
					t.Errorf("event %d is dead and was never tried: %+v", d.Seq, d)
				}
			}
			arrived := shop.seqs()
			got := append(slices.Clone(arrived), dead...)
			slices.Sort(got)
			if got = slices.Compact(got); !slices.Equal(got, numbers(1, events)) {
				t.Errorf("arrived %s, dead %s, of %d", brief(sorted(arrived)), brief(dead), events)
			}
			for seq := range poisoned {
				if !slices.Contains(dead, seq) {
					t.Errorf("poison event %d is not dead", seq)
				}
			}
			shop.inOrder(t)
			if rest := m.rows(sluice.DeliveryWaiting); len(rest) > 0 || m.read("points") != int64(events) {
				t.Errorf("%d still wait, read to %d of %d", len(rest), m.read("points"), events)
			}
			if shop.top > width {
				t.Errorf("%d requests at once, want %d", shop.top, width)
			}
		})
		if t.Failed() {
			rt.Fatalf("seed %d", seed)
		}
	})
}
