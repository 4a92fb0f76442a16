package ingress

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"sluice"
)

// hearInVain hears an outcome but does not wait for the disk.
func (s *stand) hearInVain(status sluice.Status) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	cancel()
	err := s.Hear(ctx, sluice.Changes{Now: time.Now(), Statuses: []sluice.Status{status}})
	if !errors.Is(err, context.Canceled) {
		s.t.Errorf("heard while the disk stands still: %v", err)
	}
}

// P4, P10: a crash could still take the outcome back. The order would be in the line again, and before those who had moved up.
func TestDoor_ACreditStaysOutUntilTheOutcomeIsOnTheDisk(t *testing.T) {
	disk := &stuckDisk{}
	cfg := testConfig()
	cfg.Bound = 2
	s := newStand(t, cfg, errorfs.Wrap(vfs.NewMem(), disk), sale("demo", nil))
	first, second := s.buy("u1"), s.buy("u2")
	paid := s.outcome(first.Order, sluice.Paid, 2)
	disk.stick()
	s.hearInVain(paid)
	if n := s.credits.Outstanding(); n != 2 {
		t.Errorf("%d orders are outstanding before the outcome is on the disk, want 2", n)
	}
	if place := s.get(second.Order).number("position"); place != 2 {
		t.Errorf("the second is told the position %v, want 2", place)
	}
	s.want(s.buy("u3"), 503, "queue-full")
	disk.free()
	s.hear(paid)
	if place := s.get(second.Order).number("position"); place != 1 {
		t.Errorf("the second is told the position %v once the first is settled, want 1", place)
	}
	s.want(s.buy("u3"), 202, "queued")
}

// lateConn is the connection of a request that is held up: the door asks it whether the client has hung up, right before the request
// gets its credit.
type lateConn struct {
	net.Conn
	meanwhile func() // once
}

func (c *lateConn) NetConn() net.Conn {
	if c.meanwhile != nil {
		c.meanwhile()
		c.meanwhile = nil
	}
	return nil
}

// buyLate is buy, but something happens once the door has found nothing of the order.
func (s *stand) buyLate(user string, meanwhile func()) answer {
	s.t.Helper()
	return s.callOver(&lateConn{meanwhile: meanwhile}, "POST", "/v1/sales/demo/orders", `{"user":"`+user+`","quantity":1}`)
}

// P5: the same order came in, was settled and gave its credit back while this request was held up: it is a repeat.
func TestDoor_LooksOnceMoreUnderTheCredit(t *testing.T) {
	s := newStand(t, testConfig(), nil, sale("demo", nil))
	var swift answer
	late := s.buyLate("u1", func() {
		swift = s.buy("u1")
		s.hear(s.outcome(swift.Order, sluice.Paid, 2))
	})
	s.want(swift, 202, "queued")
	s.want(late, 200, "paid")
	if late.Order != swift.Order || s.credits.Outstanding() != 0 || len(s.carrier.carried()) != 1 {
		t.Errorf("order %s, %d outstanding, carried %d times; want %s, 0, 1", late.Order, s.credits.Outstanding(), len(s.carrier.carried()), swift.Order)
	}
}

// P5: likewise where it came in at another door, and its outcome is on its way to this one's disk and can't be read yet.
func TestDoor_LooksUnderTheCreditForWhatIsOnItsWayToTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &stuckDisk{}
		cfg := testConfig()
		cfg.Answer = 500 * time.Millisecond
		s := newStand(t, cfg, errorfs.Wrap(vfs.NewMem(), disk), sale("demo", nil))
		outcomeOf := func(user string) sluice.Status {
			return s.outcome(s.Keys.ID([]byte("demo"), []byte(user), nil, 0).String(), sluice.Paid, 2)
		}
		late := s.buyLate("u1", func() {
			disk.stick()
			s.hearInVain(outcomeOf("other"))
			synctest.Wait() // until that keeps the committer busy, so that what follows only gathers
			s.hearInVain(outcomeOf("u1"))
		})
		s.want(late, 503, "unavailable") // for as long as the disk stands still
		if n := s.credits.Outstanding(); n != 0 {
			t.Errorf("%d orders are outstanding, want none", n)
		}
		disk.free()
		s.eventually("its outcome is told", func() bool { return s.buy("u1").status == 200 })
	})
}

// A buyer who comes back for the thousandth time costs a few looks, not a thousand: the door begins at the latest attempt that its
// journal has.
func TestDoor_BeginsAtTheLatestAttempt(t *testing.T) {
	s := newStand(t, testConfig(), nil, sale("demo", nil))
	attempt := func(n int) sluice.OrderID { return s.Keys.ID([]byte("demo"), []byte("u1"), nil, n) }
	s.hear(s.outcome(attempt(0).String(), sluice.Rejected, 2))
	latest := sluice.Order{ID: attempt(1000), Sale: "demo", User: "u1", Attempt: 1000, Quantity: 1}
	if _, _, err := s.Journal.Append(&latest, attempt(0)); err != nil {
		t.Fatal(err)
	}
	s.hear(s.outcome(latest.ID.String(), sluice.Rejected, 2))
	a := s.buy("u1")
	s.want(a, 202, "queued")
	if a.Order != attempt(1001).String() {
		t.Errorf("the attempt after the 1000th is order %s, want %v", a.Order, attempt(1001))
	}
	if n, err := s.Journal.Attempt(attempt(0)); n != 1001 || err != nil {
		t.Errorf("the journal's latest attempt is %d, %v; want 1001", n, err)
	}
}
