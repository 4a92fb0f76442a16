package faulttest

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"sluice/internal/calm"
)

// P4: with a worker that settles nothing, exactly as many orders come in as the bound says, however many ask at once.
// P7: everybody else hears at once why, and when to come back. P3: what came in is settled when the worker goes on.
func TestBound_HoldsExactlyWithWorkerStopped(t *testing.T) {
	everywhere(t, func(s scene) { holdsExactly(s, 1) })
}

// P4 again, with the bound in four shares: the doors together let in exactly as many.
func TestBound_HoldsExactlyAtFourDoors(t *testing.T) {
	everywhere(t, func(s scene) { holdsExactly(s, 4) })
}

func holdsExactly(s scene, doors int) {
	t := s.t
	const bound, clients, each = 1000, 256, 16
	p := launchBehind(t, s)
	b := newBuyers("", saleID, clients*each, clients, 0)
	b.doors = nil
	var addresses []string
	for i := range doors {
		id := fmt.Sprintf("door-%d", i+1)
		address, _ := p.launchDoor(t, s.dir, id, strconv.Itoa(bound/doors))
		b.doors, addresses = append(b.doors, front{id, "http://" + address}), append(addresses, address)
	}
	openSaleWith(t, p.admin, saleID, 100_000, 1, 0, addresses...)
	p.worker.freeze(t)

	defer b.keep(t, s.dir)
	ctx, cancel := context.WithTimeout(t.Context(), rushTime)
	defer cancel()
	b.rushOnce(ctx)
	accepted, refused := map[string]int{}, 0
	for _, e := range b.history.Events() {
		switch {
		case e.Event != Answer || e.Reason == unavailable: // who asked again
		case e.Accepted():
			accepted[e.Door]++
		default:
			refused++
		}
	}
	for _, door := range b.doors {
		if got := accepted[door.name]; got != bound/doors {
			t.Errorf("P4: %d accepted at %s, want %d", got, door.name, bound/doors)
		}
	}
	if got := len(b.orders); got != bound || refused != clients*each-bound {
		t.Errorf("P4: %d accepted and %d refused, want %d and %d", got, refused, bound, clients*each-bound)
	}
	refusedProperly(t, b)
	repeats(t, b)

	p.worker.signal(t, syscall.SIGCONT)
	b.count = len(b.orders) // the others were turned away for good
	rows := judge(t, b, p.admin, s.store)
	if len(rows) != bound {
		t.Errorf("%d orders in the database, want %d", len(rows), bound)
	}
}

// refusedProperly: one more buyer is told queue-full, when to come back, and is told so at once.
func refusedProperly(t *testing.T, b *buyers) {
	t.Helper()
	for _, e := range b.history.Events() {
		if e.Event == Answer && !e.Accepted() && e.Reason != unavailable && (e.Status != http.StatusServiceUnavailable || e.Reason != "queue-full") {
			t.Errorf("P7: %s was told %d %q %s, want 503 queue-full", e.User, e.Status, e.Reason, e.Error)
			break
		}
	}
	calm.Play(t, 300*time.Millisecond, func(complain calm.Complain) {
		began := time.Now()
		a := b.place(t.Context(), "one-more", "key-one-more")
		if a.code != http.StatusServiceUnavailable || a.Reason != "queue-full" || a.retryAfter <= 0 {
			complain("P7: got %d %q, Retry-After %v; want 503 queue-full and a time", a.code, a.Reason, a.retryAfter)
		}
		if took := time.Since(began); took > time.Second {
			complain("P7: the refusal took %v", took)
		}
	})
}

// repeats: who has an order is answered with it even when nobody new comes in (P5).
func repeats(t *testing.T, b *buyers) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), rushTime)
	defer cancel()
	for i := 0; i < len(b.orders); i += 100 {
		e := b.orders[i]
		at := slices.IndexFunc(b.doors, func(d front) bool { return d.name == e.Door })
		if a := b.definite(ctx, b.doors[at], e.User, e.Key); a.code != http.StatusOK || a.Order != e.Order {
			t.Errorf("P5: %s asked again and got %d %q %s, want 200 %s", e.User, a.code, a.Reason, a.Order, e.Order)
		}
	}
}
