package ingress

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"sluice"
)

func (f *fakeTruth) refuse(r *sluice.Error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refuses = r
}

func TestDoor_TakesNoOrdersWhileTheWorkerTurnsItAway(t *testing.T) {
	for _, reason := range []sluice.Refusal{sluice.NameTaken, sluice.WrongKey} {
		s := newStand(t, testConfig(), nil, sale("demo", nil))
		s.want(s.call("POST", "/v1/sales/demo/orders", `{"user":"alice"}`), 202, "queued")
		s.truth.refuse(sluice.Refuse(reason, "no"))
		if err := s.Refresh(t.Context()); sluice.RefusalOf(err) != reason {
			t.Fatal(err)
		}
		s.want(s.call("GET", "/readyz", ""), 503, "unavailable")
		s.want(s.call("POST", "/v1/sales/demo/orders", `{"user":"bob"}`), 503, "unavailable")
		s.truth.refuse(sluice.Refuse(sluice.Unavailable, "the store is away")) // which says nothing of the door
		_ = s.Refresh(t.Context())
		s.want(s.call("GET", "/readyz", ""), 503, "unavailable")
		s.truth.refuse(nil)
		if err := s.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.want(s.call("POST", "/v1/sales/demo/orders", `{"user":"bob"}`), 202, "queued")
	}
}

func TestDoor_SaysWhoItIsAndWhenItLeaves(t *testing.T) {
	s, other := newStand(t, testConfig(), nil), newStand(t, testConfig(), nil)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		s.truth.refuse(sluice.Refuse(sluice.NameTaken, "no"))
		began := time.Now()
		time.AfterFunc(5*time.Second, func() { s.truth.refuse(nil) })
		s.Introduce(ctx)
		if waited := time.Since(began); waited < 5*time.Second || waited > 5500*time.Millisecond {
			t.Errorf("let in after %v, want soon after 5s", waited)
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.Run(ctx)
	asked := s.truth.doors
	first, last := asked[0], asked[len(asked)-1]
	if first.IDKey != s.Keys.Fingerprint() || first.Instance == "" || first.Instance != last.Instance || first.Leaving || !last.Leaving {
		t.Errorf("it asks %+v, and at last %+v", first, last)
	}
	if first.Journal == "" || first.Life == 0 || first.Journal != last.Journal || first.Life != last.Life {
		t.Errorf("it asks %+v, and at last %+v", first, last)
	}
	if another := other.truth.doors[0]; another.Instance == first.Instance || another.Journal == first.Journal {
		t.Error("another door says that it is the same")
	}
}
