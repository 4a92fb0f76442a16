package ingress

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/prometheus/client_golang/prometheus"

	"sluice"
	"sluice/limiter"
)

func TestDoor_AcceptsAnOrderAndTellsWhatBecameOfIt(t *testing.T) {
	s := newStand(t, testConfig(), nil, sale("demo", func(s *sluice.Sale) { s.CheckoutURL = "https://shop.example/pay?o={order}" }))
	a := s.buy("u1")
	s.want(a, 202, "queued")
	if a.number("version") != 1 || a.number("position") != 1 || string(a.header.Peek("Location")) != "/v1/orders/"+a.Order {
		t.Errorf("202: %v, Location %s", a.body, a.header.Peek("Location"))
	}
	if c := s.carrier.carried(); len(c) != 1 || c[0].ID.String() != a.Order || c[0].User != "u1" || c[0].AcceptedAt.IsZero() {
		t.Errorf("carried %+v", c)
	}
	s.want(s.get(a.Order), 200, "queued")

	held := s.outcome(a.Order, sluice.Held, 2)
	held.PayBy = time.Now().Add(time.Minute)
	s.hear(held)
	got := s.get(a.Order)
	s.want(got, 200, "held")
	if got.body["checkout_url"] != "https://shop.example/pay?o="+a.Order || got.body["pay_by"] == nil || got.number("units") != 1 {
		t.Errorf("held: %v", got.body)
	}
}

// A trace goes on where its header is valid, and is nobody's reason to refuse where it is not.
func TestDoor_PassesAValidTraceOn(t *testing.T) {
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	s := newStand(t, testConfig(), nil, sale("demo", nil))
	for n, header := range []string{parent, "00-0-0-01", strings.ToUpper(parent), parent + "-more"} {
		s.want(s.buy(fmt.Sprint("u", n), "traceparent", header), 202, "queued")
		want := sluice.TraceContext{}
		if header == parent {
			want.Parent = parent
		}
		if got := s.carrier.carried()[n].Trace; got != want {
			t.Errorf("traceparent %q: carried %+v, want %+v", header, got, want)
		}
	}
}

func TestDoor_AnswersARepeatWithTheSameOrderAndItsPresentStatus(t *testing.T) {
	s := newStand(t, testConfig(), nil, sale("demo", func(s *sluice.Sale) { s.PerUserLimit = 2 }))
	first := s.buy("u1", "Idempotency-Key", "k1")
	s.want(first, 202, "queued")
	again := s.buy("u1", "Idempotency-Key", "k1")
	s.want(again, 200, "queued")
	if again.Order != first.Order || len(s.carrier.carried()) != 1 {
		t.Errorf("repeat: order %s, carried %d; want %s, 1", again.Order, len(s.carrier.carried()), first.Order)
	}
	other := s.call("POST", "/v1/sales/demo/orders", `{"user":"u1","quantity":2}`, "Idempotency-Key", "k1")
	s.want(other, 422, "idempotency-mismatch")

	s.hear(s.outcome(first.Order, sluice.Rejected, 2))
	s.want(s.buy("u1", "Idempotency-Key", "k1"), 200, "rejected") // with a key, a repeat stays the same order
	if other := s.buy("u1", "Idempotency-Key", "k2"); other.Order == first.Order {
		t.Error("another key gives the same order")
	}
	one, two := s.buy("u2"), s.buy("u2") // no key, limit two: each is a new order
	if one.Order == two.Order {
		t.Error("two requests without a key are one order although the limit is two")
	}
}

func TestDoor_WithoutAKeyARepeatAfterARejectionIsANewAttempt(t *testing.T) {
	disk := vfs.NewMem()
	s := newStand(t, testConfig(), disk, sale("demo", nil))
	ids := map[string]bool{}
	for attempt := range 4 {
		a := s.buy("u1")
		s.want(a, 202, "queued")
		if ids[a.Order] {
			t.Fatalf("attempt %d has an id of an earlier one", attempt)
		}
		ids[a.Order] = true
		s.want(s.buy("u1"), 200, "queued")
		s.hear(s.outcome(a.Order, sluice.Rejected, 2))
	}
	last := s.buy("u1")
	s.hear(s.outcome(last.Order, sluice.Held, 2))
	s.want(s.buy("u1"), 200, "held") // a success is no reason for another attempt
	if err := s.Journal.Close(); err != nil {
		t.Fatal(err)
	}
	restarted := newStand(t, testConfig(), disk, sale("demo", nil))
	if again := restarted.buy("u1"); again.Order != last.Order {
		t.Errorf("after a restart the repeat is %s, want %s", again.Order, last.Order)
	}
}

// P4: with nobody settling, exactly the bound is accepted, whoever asks how.
func TestDoor_AcceptsExactlyTheBoundFromManyClients(t *testing.T) {
	cfg := testConfig()
	cfg.Bound = 1000
	s := newStand(t, cfg, nil, sale("demo", nil))
	var accepted, full atomic.Int64
	var wg sync.WaitGroup
	for c := range 256 {
		wg.Go(func() {
			for n := range 10 {
				switch a := s.buy(fmt.Sprintf("u%d-%d", c, n)); {
				case a.status == 202:
					accepted.Add(1)
				case a.status == 503 && a.reason() == "queue-full" && a.number("retry_after_ms") > 0 && len(a.header.Peek("Retry-After")) > 0:
					full.Add(1)
				default:
					t.Errorf("answer %d %v", a.status, a.body)
				}
			}
		})
	}
	wg.Wait()
	if accepted.Load() != 1000 || full.Load() != 1560 {
		t.Errorf("accepted %d, queue-full %d; want 1000, 1560", accepted.Load(), full.Load())
	}
	if known := s.carrier.carried()[0]; true {
		s.want(s.buy(known.User), 200, "queued") // a repeat is answered even then
	}
	s.hear(s.outcome(s.carrier.carried()[0].ID.String(), sluice.Paid, 2))
	s.want(s.buy("next"), 202, "queued")
	s.want(s.buy("one too many"), 503, "queue-full")
}

// P10: a status never goes backwards, however outcomes are repeated and reordered.
func TestDoor_IgnoresOlderNews(t *testing.T) {
	s := newStand(t, testConfig(), nil, sale("demo", nil))
	a := s.buy("u1")
	held, paid := s.outcome(a.Order, sluice.Held, 2), s.outcome(a.Order, sluice.Paid, 3)
	s.hear(paid, held)
	s.want(s.get(a.Order), 200, "paid")
	s.hear(held)
	s.want(s.get(a.Order), 200, "paid")
	s.hear(held, paid, held)
	if s.credits.Outstanding() != 0 {
		t.Errorf("%d outstanding", s.credits.Outstanding())
	}
}

func TestDoor_RestartKeepsEveryPromise(t *testing.T) {
	disk := vfs.NewCrashableMem()
	s := newStand(t, testConfig(), disk, sale("demo", nil))
	var promised []answer
	for n := range 10 {
		promised = append(promised, s.buy(fmt.Sprintf("u%d", n)))
	}
	s.hear(s.outcome(promised[0].Order, sluice.Held, 2))
	crashed := disk.CrashClone(vfs.CrashCloneCfg{}) // P3: what was not synced is gone

	r := newStand(t, testConfig(), crashed, sale("demo", nil))
	if n := r.credits.Outstanding(); n != 9 {
		t.Fatalf("%d outstanding after the crash, want 9", n)
	}
	// The database settled one more before the crash; its message never came.
	r.truth.settle(r.outcome(promised[1].Order, sluice.Held, 2))
	r.run()
	r.eventually("eight orders are carried again and one is settled from the database", func() bool {
		return len(r.carrier.carried()) == 8 && r.credits.Outstanding() == 8
	})
	r.want(r.get(promised[0].Order), 200, "held")
	r.want(r.get(promised[1].Order), 200, "held")
	for _, a := range promised[2:] {
		r.want(r.get(a.Order), 200, "queued")
	}
}

// P3: with another key no worker would settle what this door has promised.
func TestDoor_DoesNotStartWithAnotherKeyWhileItsPromisesAreOpen(t *testing.T) {
	s := newStand(t, testConfig(), nil, sale("demo", nil))
	a := s.buy("u1")
	s.want(a, 202, "queued")
	another, err := sluice.NewIDKey(bytes.Repeat([]byte("l"), sluice.MinIDKeyBytes))
	if err != nil {
		t.Fatal(err)
	}
	parts := s.Parts
	parts.Keys, parts.Metrics = another, prometheus.NewRegistry()
	if _, err := New(testConfig(), parts); err == nil || !strings.Contains(err.Error(), a.Order) || !strings.Contains(err.Error(), "another id key") {
		t.Errorf("New with another key = %v", err)
	}
	s.hear(s.outcome(a.Order, sluice.Held, 2))
	if _, err := New(testConfig(), parts); err != nil {
		t.Errorf("New with another key, when nothing is outstanding = %v", err)
	}
}

func TestDoor_CarriesAgainWhatARestartedQueueForgot(t *testing.T) {
	s := newStand(t, testConfig(), nil, sale("demo", nil))
	s.carrier.sent = s.Sent
	s.run()
	for n := range 5 {
		s.buy(fmt.Sprintf("u%d", n))
	}
	settled := s.carrier.carried()[0]
	s.truth.settle(s.outcome(settled.ID.String(), sluice.Paid, 2))
	s.carrier.restart()
	s.eventually("four orders are carried again", func() bool { return len(s.carrier.carried()) == 4 })
	s.eventually("the settled one is not", func() bool { return s.credits.Outstanding() == 4 })
	for _, o := range s.carrier.carried() {
		if o.ID == settled.ID {
			t.Error("an order that the database knows was carried again")
		}
	}
}

func TestDoor_CarriesAgainWhatTheCarrierRefusedOrDoubts(t *testing.T) {
	s := newStand(t, testConfig(), nil, sale("demo", nil))
	s.carrier.full = true
	a := s.buy("u1")
	s.want(a, 202, "queued") // the journal has it: that is the promise
	s.run()
	s.carrier.mu.Lock()
	s.carrier.full = false
	s.carrier.mu.Unlock()
	s.eventually("the order is carried", func() bool { return len(s.carrier.carried()) == 1 })
	s.Doubt([]sluice.OrderID{s.carrier.carried()[0].ID})
	s.eventually("the order is carried once more", func() bool { return len(s.carrier.carried()) == 2 })
}

func TestDoor_WaitAnswersAsSoonAsThereIsNews(t *testing.T) {
	s := newStand(t, testConfig(), nil, sale("demo", nil))
	a := s.buy("u1")
	began := time.Now()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			s.want(s.call("GET", "/v1/orders/"+a.Order+"?wait=30s", ""), 200, "paid")
		})
	}
	s.eventually("twenty wait", func() bool { return s.waiting.count.Load() == 20 })
	s.hear(s.outcome(a.Order, sluice.Paid, 2))
	wg.Wait()
	if d := time.Since(began); d > 10*time.Second {
		t.Errorf("news took %v", d)
	}
	if len(s.waiting.bells) != 0 || s.waiting.count.Load() != 0 {
		t.Errorf("the waiting room keeps %d bells for %d", len(s.waiting.bells), s.waiting.count.Load())
	}
	began = time.Now()
	b := s.buy("u2")
	s.want(s.call("GET", "/v1/orders/"+b.Order+"?wait=50ms", ""), 200, "queued")
	if d := time.Since(began); d < 50*time.Millisecond {
		t.Errorf("answered after %v without news", d)
	}
}

func TestDoor_WhoFindsTheWaitingRoomFullIsAnsweredAtOnce(t *testing.T) {
	cfg := testConfig()
	cfg.MaxWaiting = 1
	s := newStand(t, cfg, nil, sale("demo", nil))
	a := s.buy("u1")
	var wg sync.WaitGroup
	wg.Go(func() { s.call("GET", "/v1/orders/"+a.Order+"?wait=30s", "") })
	s.eventually("one waits", func() bool { return s.waiting.count.Load() == 1 })
	s.want(s.call("GET", "/v1/orders/"+a.Order+"?wait=30s", ""), 200, "queued")
	s.Close() // shutdown lets go of who waits
	wg.Wait()
}

func TestDoor_AsksForAnOrderOfAnotherDoorOnceAndInBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t, testConfig(), nil, sale("demo", nil))
		s.run()
		id := s.Keys.ID([]byte("demo"), []byte("elsewhere"), nil, 0)
		s.want(s.get(id.String()), 200, "queued") // genuine, and the database does not know it yet
		s.truth.settle(s.outcome(id.String(), sluice.Held, 2))
		for began := time.Now(); s.get(id.String()).state() != "held"; time.Sleep(5 * time.Millisecond) {
			if took := time.Since(began); took > 2*inquiryPeriod+2*inquireEvery {
				t.Fatalf("the door has not learned of it after %v", took)
			}
		}
		s.truth.mu.Lock()
		asked := s.truth.asked
		s.truth.mu.Unlock()
		for range 1000 {
			s.get(id.String())
		}
		time.Sleep(3 * inquireEvery)
		s.truth.mu.Lock()
		defer s.truth.mu.Unlock()
		if n := s.truth.asked - asked; n > 0 {
			t.Errorf("a thousand reads of a held order, which was asked for just before, ask the database %d times", n)
		}
	})
}

// stuckDisk makes syncs wait while it is stuck: for a channel and not for a mutex, so that simulated time goes on meanwhile.
type stuckDisk struct{ gate atomic.Pointer[chan struct{}] }

func (d *stuckDisk) stick() {
	gate := make(chan struct{})
	d.gate.Store(&gate)
}

func (d *stuckDisk) free() { close(*d.gate.Swap(nil)) }

func (d *stuckDisk) String() string { return "stuck disk" }
func (d *stuckDisk) MaybeError(op errorfs.Op) error {
	if gate := d.gate.Load(); gate != nil && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo) {
		<-*gate
	}
	return nil
}

// A stalled sync is indeterminate: the answer says so, the credit stays out, and the same key finds the order after.
func TestDoor_AStalledDiskIsUnavailableAndKeepsTheCredit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &stuckDisk{}
		cfg := testConfig()
		cfg.Answer = 20 * time.Millisecond
		s := newStand(t, cfg, errorfs.Wrap(vfs.NewMem(), disk), sale("demo", nil))
		disk.stick()
		a := s.buy("u1")
		s.want(a, 503, "unavailable")
		if a.Order == "" || s.credits.Outstanding() != 1 || len(s.carrier.carried()) != 0 {
			t.Errorf("order %q, outstanding %d, carried %d; want the id, 1, 0", a.Order, s.credits.Outstanding(), len(s.carrier.carried()))
		}
		s.want(s.buy("u1"), 503, "unavailable") // a repeat waits for the original's sync
		s.run()
		disk.free()
		s.eventually("the order is durable, so its repeat is answered", func() bool { return s.buy("u1").status == 200 })
		s.eventually("the order is carried although nobody was told 202", func() bool { return len(s.carrier.carried()) == 1 })
	})
}

// noted are stamps whose only reader says so: the first that a door does of an ask, once its time runs.
type noted struct{ read chan<- struct{} }

func (n noted) Verify(ticket []byte, now time.Time) (sluice.Ticket, error) {
	close(n.read)
	return stamps{}.Verify(ticket, now)
}

// An ask that waits for as long as an answer may take, behind others whom a disk holds up, is not admitted after that: its buyer has given
// up, and may have been refused since.
func TestDoor_AnAskThatIsTooOldIsNotAdmitted(t *testing.T) {
	s := ticketed(t, func(c *Config) { c.Answer = 200 * time.Millisecond })
	buy := func() answer {
		return s.call("POST", "/v1/sales/demo/orders", `{"quantity":1}`, "Authorization", "Bearer u1//")
	}
	held, asked, release := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var others sync.WaitGroup
	others.Go(func() {
		_, _, err := s.credits.Take(s.Keys.ID([]byte("demo"), []byte("u1"), nil, 0), 100, func() (*outstanding, error) {
			close(held)
			<-release
			return nil, errSlowDisk
		})
		if !errors.Is(err, errSlowDisk) {
			t.Errorf("the one in front: %v", err)
		}
	})
	<-held
	var a answer
	s.Tickets = noted{asked}
	others.Go(func() { a = buy() })
	<-asked
	time.Sleep(2 * s.cfg.Answer)
	close(release)
	others.Wait()
	s.want(a, 503, "unavailable")
	if n := s.credits.Outstanding(); n != 0 {
		t.Errorf("%d orders are outstanding, want none", n)
	}
	s.Tickets, s.cfg.Answer = stamps{}, time.Minute // nothing but the machine holds up this one
	s.want(buy(), 202, "queued")
}

func TestDoor_PositionNeverGrows(t *testing.T) {
	s := newStand(t, testConfig(), nil, sale("demo", nil))
	var orders []answer
	for n := range 50 {
		orders = append(orders, s.buy(fmt.Sprintf("u%d", n)))
	}
	last := orders[49].Order
	before := s.get(last).number("position")
	if before != 50 {
		t.Errorf("position %v, want 50", before)
	}
	for _, i := range []int{3, 1, 2, 0, 9, 30} {
		s.hear(s.outcome(orders[i].Order, sluice.Paid, 2))
		now := s.get(last).number("position")
		if now > before {
			t.Errorf("position grew from %v to %v", before, now)
		}
		before = now
	}
	if before != 44 {
		t.Errorf("position %v after six were settled, want 44", before)
	}
}

func TestDoor_IsReadyOnlyWhenItCanAccept(t *testing.T) {
	s := newStand(t, testConfig(), nil, sale("demo", nil))
	if a := s.call("GET", "/readyz", ""); a.status != 200 {
		t.Errorf("readyz = %d", a.status)
	}
	s.board.clock.Store(nil)
	a := s.call("GET", "/readyz", "")
	s.want(a, 503, "unavailable")
	if !errors.Is(s.Ready(), errUninformed) || !strings.Contains(a.body["detail"].(string), "no worker") {
		t.Errorf("not ready: %v", a.body)
	}
	if a := s.call("GET", "/livez", ""); a.status != 200 {
		t.Errorf("livez = %d", a.status)
	}
}

// P9: what is remembered of settled orders goes with their sale.
func TestDoor_ForgetsSettledOrdersOfSalesThatEndedLongAgo(t *testing.T) {
	ended := sale("ended", func(s *sluice.Sale) { s.EndsAt = time.Now().Add(-25 * time.Hour) })
	s := newStand(t, testConfig(), nil, sale("demo", nil), ended)
	settled := func(user, sale string, at time.Time) sluice.OrderID {
		id := s.Keys.ID([]byte(sale), []byte(user), nil, 0)
		s.hear(sluice.Status{Order: id, Sale: sale, State: sluice.Paid, Version: 2, Units: 1, SettledAt: at})
		return id
	}
	now, long := time.Now(), time.Now().Add(-25*time.Hour)
	kept := []sluice.OrderID{settled("a", "demo", now), settled("b", "demo", long), settled("c", "unheard-of", now)}
	gone := []sluice.OrderID{settled("d", "ended", long), settled("e", "unheard-of", long)}
	s.forgetOnce()
	for _, id := range kept {
		if _, ok, err := s.Journal.Settled(id); !ok || err != nil {
			t.Errorf("%v is forgotten: %v", id, err)
		}
	}
	for _, id := range gone {
		if _, ok, err := s.Journal.Settled(id); ok || err != nil {
			t.Errorf("%v is still remembered: %v", id, err)
		}
	}
	if s.board.find([]byte("ended")) != nil || s.board.find([]byte("demo")) == nil {
		t.Error("the board keeps the ended sale, or lost the open one")
	}
}

// A payment whose outcome went past this door is found out by the first who asks, not at the hold's deadline.
func TestDoor_LearnsOfATransitionThatItMissed(t *testing.T) {
	s := newStand(t, testConfig(), nil, sale("demo", nil))
	s.run()
	paid, expired := s.buy("payer"), s.buy("sleeper")
	for _, a := range []answer{paid, expired} {
		held := s.outcome(a.Order, sluice.Held, 2)
		held.PayBy = time.Now().Add(time.Hour)
		s.hear(held)
	}
	s.truth.settle(s.outcome(paid.Order, sluice.Paid, 3), s.outcome(expired.Order, sluice.Expired, 3))
	s.want(s.call("GET", "/v1/orders/"+paid.Order+"?wait=20s", ""), 200, "paid")
	s.eventually("a repeat after a missed expiry becomes a new attempt", func() bool { return s.buy("sleeper").status == 202 })
}

// Who waits for an order that somebody has just asked about, and nobody is asked about again so soon, hears all the same of an outcome
// that went past this door afterwards.
func TestDoor_WhoWaitsAsksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t, testConfig(), nil, sale("demo", nil))
		s.run()
		a := s.buy("u1")
		held := s.outcome(a.Order, sluice.Held, 2)
		held.PayBy = time.Now().Add(time.Hour)
		s.truth.settle(held)
		s.hear(held)
		s.want(s.get(a.Order), 200, "held")
		time.Sleep(time.Second)
		s.truth.settle(s.outcome(a.Order, sluice.Paid, 3))
		began := time.Now()
		s.want(s.call("GET", "/v1/orders/"+a.Order+"?wait=60s", ""), 200, "paid")
		if took := time.Since(began); took > 2*askAgain+inquireEvery {
			t.Errorf("it hears of the payment after %v, want %v at most", took, 2*askAgain+inquireEvery)
		}
	})
}

// An order that nobody could be asked about is not said to be queued.
func TestDoor_DoesNotSayQueuedOfAnOrderThatNobodyCouldTellOf(t *testing.T) {
	s := newStand(t, testConfig(), nil, sale("demo", nil))
	s.run()
	s.truth.mu.Lock()
	s.truth.down = true
	s.truth.mu.Unlock()
	id := s.Keys.ID([]byte("demo"), []byte("elsewhere"), nil, 0)
	s.want(s.get(id.String()), 503, "unavailable")
}

// P10: a status that the disk does not have yet is not shown, and a crash then takes nothing back.
func TestDoor_ShowsNoStatusThatACrashCouldTakeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &stuckDisk{}
		cfg := testConfig()
		cfg.Answer = 20 * time.Millisecond
		s := newStand(t, cfg, errorfs.Wrap(vfs.NewMem(), disk), sale("demo", nil))
		a := s.buy("u1")
		s.hear(s.outcome(a.Order, sluice.Held, 2))
		disk.stick()
		var hearing sync.WaitGroup
		hearing.Go(func() { s.hear(s.outcome(a.Order, sluice.Paid, 3)) })
		id, err := sluice.ParseOrderID(a.Order)
		if err != nil {
			t.Fatal(err)
		}
		s.eventually("the payment is on its way to the disk", func() bool { return s.Journal.Settling(id) != nil })
		s.want(s.get(a.Order), 503, "unavailable")
		s.want(s.buy("u1"), 503, "unavailable")
		unsynced := s.call("POST", "/v1/sales/demo/orders", `{"user":"u2"}`)
		s.want(unsynced, 503, "unavailable")
		s.want(s.get(unsynced.Order), 503, "unavailable") // its record is not on disk either
		disk.free()
		hearing.Wait()
		s.want(s.get(a.Order), 200, "paid")
	})
}

// Several doors: the attempts of a buyer without a key may come in anywhere.
func TestDoor_CountsAttemptsThatCameInAtOtherDoors(t *testing.T) {
	north := newStand(t, testConfig(), nil, sale("demo", nil))
	south := newStand(t, testConfig(), nil, sale("demo", nil))
	for attempt := range 5 {
		door, other := north, south
		if attempt%3 == 1 {
			door, other = south, north
		}
		a := door.buy("u1")
		door.want(a, 202, "queued")
		rejected := door.outcome(a.Order, sluice.Rejected, 2)
		door.hear(rejected)
		other.hear(rejected)
	}
}

// A door that has heard facts but not yet the store's time can't tell whether a sale is on.
func TestDoor_AdmitsNothingBeforeItKnowsTheStoresTime(t *testing.T) {
	s := newStand(t, testConfig(), nil, sale("over", func(s *sluice.Sale) { s.EndsAt = time.Now().Add(-time.Hour) }))
	s.board.clock.Store(nil)
	for _, a := range []answer{s.call("POST", "/v1/sales/over/orders", `{"user":"u1"}`), s.call("GET", "/v1/sales/over", "")} {
		s.want(a, 503, "unavailable")
	}
}

// An answer that took its time must not put the door's clock ahead of the store's: a sale would open early.
func TestDoor_ClockNeverRunsAheadOfTheStores(t *testing.T) {
	s := newStand(t, testConfig(), nil, sale("demo", nil))
	s.truth.slow = 300 * time.Millisecond
	before := time.Now()
	if err := s.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if now := s.storeNow(); now.After(time.Now()) || now.Before(before) {
		t.Errorf("the door's clock shows %v, the store's %v", now, time.Now())
	}
}

func TestDoor_AsksSoonAfterItsEarsWereGone(t *testing.T) {
	s := newStand(t, testConfig(), nil, sale("demo", nil))
	s.carrier.sent = s.Sent
	s.run()
	a := s.buy("u1")
	id := s.carrier.carried()[0].ID
	s.eventually("the queue has it", func() bool {
		o, held := s.credits.Get(id)
		if !held {
			return false
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		return o.phase == sent
	})
	s.truth.settle(s.outcome(a.Order, sluice.Paid, 2))
	s.Missed()
	s.eventually("the outcome is found", func() bool { return s.credits.Outstanding() == 0 })
	if len(s.carrier.carried()) != 1 {
		t.Error("a settled order was carried again")
	}
}

// Ears may be gone at the very moment in which the queue says that it took an order: who asks soon after does not put that off again.
func TestDoor_MissedIsNotUndoneBySentUnderRace(t *testing.T) {
	s := newStand(t, testConfig(), nil, sale("demo", nil))
	id, err := sluice.ParseOrderID(s.buy("u1").Order)
	if err != nil {
		t.Fatal(err)
	}
	o, held := s.credits.Get(id)
	if !held {
		t.Fatal("the order is not outstanding")
	}
	for range 100 {
		o.mu.Lock()
		o.phase = carried
		var both sync.WaitGroup
		both.Go(func() { s.Sent([]sluice.OrderID{id}, 0) })
		both.Go(func() {
			taken := func() bool {
				o.mu.Lock()
				defer o.mu.Unlock()
				return o.phase == sent
			}
			for !taken() {
				runtime.Gosched()
			}
			s.Missed()
		})
		for range 2 { // who has waited for a lock for longer than a millisecond, and in vain, gets it before those who have just had it
			time.Sleep(2 * time.Millisecond)
			o.mu.Unlock()
			o.mu.Lock()
		}
		o.mu.Unlock()
		both.Wait()
		if !o.overdue(time.Now(), 0) {
			t.Fatal("the order is not asked after although its outcome may have gone past this door")
		}
	}
}

// P2: the door lets in as many as the free units and a reserve need, and opens again with the units that come back.
func TestDoor_AdmitsByStockAndReopensWithTheUnitsThatComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // in which facts do not grow old
		s := newStand(t, testConfig(), nil, sale("demo", func(s *sluice.Sale) { s.Stock, s.Free = 10, 10 }))
		var in []answer
		for n := range 15 { // 1.5 x 10
			in = append(in, s.buy(fmt.Sprintf("u%d", n)))
			s.want(in[n], 202, "queued")
		}
		s.want(s.buy("late"), 503, "none-free")
		s.want(s.buy("u0"), 200, "queued") // who is in is answered all the same

		changes := sluice.Changes{Now: time.Now()}
		for n, a := range in {
			state := sluice.Held
			if n >= 10 {
				state = sluice.Rejected
			}
			changes.Statuses = append(changes.Statuses, s.outcome(a.Order, state, 2))
		}
		facts := sale("demo", func(s *sluice.Sale) { s.Stock, s.Free, s.Held, s.Version = 10, 0, 10, 2 })
		changes.Sales = []sluice.Sale{facts}
		if err := s.Hear(t.Context(), changes); err != nil {
			t.Fatal(err)
		}
		s.want(s.buy("late"), 503, "none-free")
		facts.Free, facts.Held, facts.Version = 1, 9, 3
		if err := s.Hear(t.Context(), sluice.Changes{Now: time.Now(), Sales: []sluice.Sale{facts}}); err != nil {
			t.Fatal(err)
		}
		s.want(s.buy("late"), 202, "queued")
		if n := s.board.find([]byte("demo")).listing.queued.Load(); n != 1 {
			t.Errorf("the queue speaks for %d units, want 1", n)
		}
	})
}

// Each of several doors admits for its share of the stock, and one order at least while a unit is free.
func TestDoor_AdmitsForItsShareOfTheStock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // in which facts do not grow old
		s := newStand(t, testConfig(), nil, sale("demo", func(s *sluice.Sale) { s.Stock, s.Free = 100, 100 }))
		s.board.pace.Store(&sluice.Pace{Batch: 5, Bounds: 10 * s.cfg.Bound})
		for n := range 15 { // 1.5 x 100 / 10
			s.want(s.buy(fmt.Sprintf("u%d", n)), 202, "queued")
		}
		s.want(s.buy("late"), 503, "none-free")
	})
}

func TestDoor_LimitsWhatOneBuyerAsksFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.BuyerRate = limiter.Rate{PerSecond: 0.1, Burst: 2}
		s := newStand(t, cfg, nil, sale("demo", func(s *sluice.Sale) { s.PerUserLimit = 10 }))
		s.want(s.buy("u1"), 202, "queued")
		s.want(s.buy("u1", "Idempotency-Key", "k"), 202, "queued")
		a := s.buy("u1")
		s.want(a, 429, "rate-limited")
		if ms := a.number("retry_after_ms"); ms != 10_000 {
			t.Errorf("come back after %v ms, want 10 s", ms)
		}
		s.want(s.buy("u1", "Idempotency-Key", "k"), 200, "queued") // a repeat costs nothing
		s.want(s.buy("u2"), 202, "queued")
	})
}

// P5: the same key at two doors at once. The outcome of the other door's order is on its way to this door's disk, and
// cannot be read yet, when the buyer asks here: the answer is that order, once it can be.
func TestDoor_AnswersAnOrderWhoseFirstStatusIsOnItsWayToTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &stuckDisk{}
		s := newStand(t, testConfig(), errorfs.Wrap(vfs.NewMem(), disk), sale("demo", nil))
		disk.stick()
		var wg sync.WaitGroup
		wg.Go(func() { s.buy("first") }) // keeps the committer busy, so that what follows only gathers
		synctest.Wait()
		if n := s.credits.Outstanding(); n != 1 {
			t.Errorf("%d orders are outstanding, want the one that keeps the disk busy", n)
		}
		id := s.Keys.ID([]byte("demo"), []byte("u1"), nil, 0)
		wg.Go(func() { s.hear(s.outcome(id.String(), sluice.Paid, 2)) })
		synctest.Wait()
		if s.Journal.Settling(id) == nil {
			t.Error("the outcome is not on its way")
		}
		var a answer
		wg.Go(func() { a = s.buy("u1") })
		synctest.Wait() // for the buyer to wait
		disk.free()
		wg.Wait()
		s.want(a, 200, "paid")
		if a.Order != id.String() {
			t.Errorf("the order is %q, want %v", a.Order, id)
		}
	})
}

// An answer that was slow on its way shows an earlier time: it must not close a sale that has begun.
func TestBoard_ClockIsNotSetBackByASlowAnswer(t *testing.T) {
	var b board
	at := time.Now()
	b.setClock(clock{local: at, store: at})
	b.setClock(clock{local: at.Add(time.Second), store: at.Add(200 * time.Millisecond)})
	if c := b.clock.Load(); !c.store.Equal(at) {
		t.Errorf("the slow answer counts: %v after %v", c.store, at)
	}
	b.setClock(clock{local: at.Add(time.Second), store: at.Add(1100 * time.Millisecond)})
	if c := b.clock.Load(); !c.store.Equal(at.Add(1100 * time.Millisecond)) {
		t.Errorf("a later reading does not count: %v", c.store)
	}
	b.setClock(clock{local: at.Add(2 * time.Minute), store: at.Add(time.Minute)})
	if c := b.clock.Load(); !c.store.Equal(at.Add(time.Minute)) {
		t.Errorf("a reading after two minutes does not count: %v", c.store)
	}
}

func TestInquiries_AskAgainAfterAQuietTime(t *testing.T) {
	var q inquiries
	id, now := sluice.OrderID{1}, time.Now()
	q.add(id, now)
	q.settle(q.take(), true)
	q.add(id, now.Add(inquiryPeriod/2))
	if len(q.take()) != 0 || !q.answered(id) {
		t.Error("asked again at once, or the answer is forgotten")
	}
	q.add(id, now.Add(10*time.Minute))
	if len(q.take()) != 1 || q.answered(id) {
		t.Error("not asked again after ten minutes, or the old answer still counts")
	}
}

// A status read without ?wait= ends, although others keep asking for the same order while no worker answers.
func TestDoor_AReadEndsWhileOthersAskInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t, testConfig(), nil, sale("demo", nil))
		s.run()
		s.truth.mu.Lock()
		s.truth.down = true
		s.truth.mu.Unlock()
		id := s.Keys.ID([]byte("demo"), []byte("elsewhere"), nil, 0)
		var wg sync.WaitGroup
		defer wg.Wait()
		for n := range 8 {
			wg.Go(func() {
				time.Sleep(time.Duration(n) * 300 * time.Millisecond) // one comes after the other
				began := time.Now()
				s.want(s.get(id.String()), 503, "unavailable")
				if d := time.Since(began); d != strangeWait {
					t.Errorf("a read took %v, want %v", d, strangeWait)
				}
			})
		}
	})
}
