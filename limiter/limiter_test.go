package limiter

import (
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sluice"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func id(n int) (id sluice.OrderID) {
	binary.LittleEndian.PutUint64(id[:], uint64(n)*0x9e3779b97f4a7c15)
	return id
}

func entry() (int, error) { return 0, nil }

// P4: at no instant are there more members than the bound, and with nobody releasing exactly as many.
func TestCredits_NeverExceedBoundUnderRace(t *testing.T) {
	const bound, goroutines, each = 1000, 64, 500
	c := NewCredits[int]()
	var granted, full atomic.Int64
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for n := range each {
				switch _, taken, _ := c.Take(id(g*each+n), bound, entry); taken {
				case Granted:
					granted.Add(1)
				case Full:
					full.Add(1)
				case Present:
					t.Error("a new id counts as present")
				}
				if n := c.Outstanding(); n > bound {
					t.Errorf("%d outstanding, bound %d", n, bound)
				}
			}
		})
	}
	wg.Wait()
	if granted.Load() != bound || full.Load() != goroutines*each-bound {
		t.Errorf("granted %d, full %d; want %d, %d", granted.Load(), full.Load(), bound, goroutines*each-bound)
	}
}

// P4: taking and giving back the same ids from everywhere, twice each, never gives more or fewer credits than members.
func TestCredits_NothingReturnsTwice(t *testing.T) {
	const bound, ids = 100, 400
	c := NewCredits[int]()
	var taken, returned atomic.Int64
	var wg sync.WaitGroup
	for g := range 32 {
		wg.Go(func() {
			for round := range 200 {
				n := id((g*7 + round) % ids)
				if _, got, _ := c.Take(n, bound, entry); got == Granted {
					taken.Add(1)
				}
				if c.Outstanding() > bound {
					t.Error("over the bound")
				}
				for range 2 {
					if _, held := c.Release(n); held {
						returned.Add(1)
					}
				}
			}
		})
	}
	wg.Wait()
	members := int64(0)
	c.Each(func(sluice.OrderID, int) { members++ })
	if c.Outstanding() != taken.Load()-returned.Load() || members != c.Outstanding() {
		t.Errorf("outstanding %d, members %d, taken %d, returned %d", c.Outstanding(), members, taken.Load(), returned.Load())
	}
}

// P4 with a bound that moves: no credit is granted at or above the bound in force, restored ones count, and when all is
// quiet the count is the members.
func TestCredits_HoldABoundThatMovesUnderRace(t *testing.T) {
	const highest, restored, goroutines, rounds = 120, 20, 16, 2000
	c := NewCredits[int]()
	for n := range restored {
		c.Restore(id(1_000_000+n), n, nil)
	}
	var granted, returned atomic.Int64
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for round := range rounds {
				bound := int64(20 + (g*31+round)%(highest-20+1))
				n := id((g*rounds + round*7) % 300)
				switch _, taken, err := c.Take(n, bound, entry); {
				case err != nil:
					t.Error(err)
				case taken == Granted:
					granted.Add(1)
				}
				if out := c.Outstanding(); out > highest {
					t.Errorf("%d outstanding, and the bound was never above %d", out, highest)
				}
				if round%3 == 0 {
					if _, held := c.Release(id((g*rounds + round*11) % 300)); held {
						returned.Add(1)
					}
				}
				c.Get(n)
				if round%100 == 0 {
					c.Each(func(sluice.OrderID, int) {})
				}
			}
		})
	}
	wg.Wait()
	members := int64(0)
	c.Each(func(sluice.OrderID, int) { members++ })
	if want := restored + granted.Load() - returned.Load(); c.Outstanding() != want || members != want {
		t.Errorf("outstanding %d, members %d; want %d", c.Outstanding(), members, want)
	}
	if _, taken, _ := c.Take(id(5_000_000), c.Outstanding(), entry); taken != Full {
		t.Errorf("a credit at the bound: %v", taken)
	}
	if _, taken, _ := c.Take(id(5_000_000), c.Outstanding()+1, entry); taken != Granted {
		t.Errorf("a credit below the bound: %v", taken)
	}
}

// A panic on its way through enter, and errors from many goroutines, keep no credit.
func TestCredits_FailedEntriesKeepNothingUnderRace(t *testing.T) {
	const bound = 10
	c := NewCredits[int]()
	broken := errors.New("journal")
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for n := range 500 {
				func() {
					defer func() { _ = recover() }()
					_, _, _ = c.Take(id(g*500+n), bound, func() (int, error) {
						if n%2 == 0 {
							panic("a defect")
						}
						return 0, broken
					})
				}()
			}
		})
	}
	wg.Wait()
	for n := range bound {
		if _, taken, _ := c.Take(id(100_000+n), bound, entry); taken != Granted {
			t.Fatalf("credit %d of %d is gone: %v", n, bound, taken)
		}
	}
}

func TestCredits_AFailedEntryGivesItsCreditBack(t *testing.T) {
	c := NewCredits[int]()
	broken := errors.New("journal")
	if _, _, err := c.Take(id(1), 1, func() (int, error) { return 0, broken }); !errors.Is(err, broken) {
		t.Fatalf("Take = %v", err)
	}
	if _, taken, err := c.Take(id(2), 1, entry); taken != Granted || err != nil {
		t.Errorf("the credit of a failed entry is gone: %v, %v", taken, err)
	}
}

func TestCredits_ARepeatIsPresentEvenWhenFull(t *testing.T) {
	c := NewCredits[int]()
	for n := range 3 {
		c.Restore(id(n), n, nil) // promised before a restart: whatever the bound
	}
	if e, taken, _ := c.Take(id(2), 1, entry); taken != Present || e != 2 {
		t.Errorf("repeat = %v, %v; want present, 2", e, taken)
	}
	if _, taken, _ := c.Take(id(9), 3, entry); taken != Full {
		t.Errorf("a fourth of three = %v", taken)
	}
	c.Restore(id(0), 7, nil)
	if c.Outstanding() != 3 {
		t.Errorf("restoring twice counts twice: %d", c.Outstanding())
	}
}

func TestGate(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	for name, c := range map[string]struct {
		sale  sluice.Sale
		fresh bool
		want  sluice.Refusal
		retry time.Duration
	}{
		"open":                          {sluice.Sale{Free: 1}, true, "", 0},
		"not started":                   {sluice.Sale{Free: 1, StartsAt: now.Add(time.Minute)}, true, sluice.NotStarted, time.Minute},
		"starts now":                    {sluice.Sale{Free: 1, StartsAt: now}, true, "", 0},
		"ends now":                      {sluice.Sale{Free: 1, EndsAt: now}, true, sluice.Ended, 0},
		"ended, facts old":              {sluice.Sale{Free: 1, EndsAt: now}, false, sluice.Ended, 0},
		"ended before it starts":        {sluice.Sale{Free: 1, StartsAt: now.Add(time.Hour), EndsAt: now}, true, sluice.Ended, 0},
		"paused":                        {sluice.Sale{Free: 1, Paused: true}, true, sluice.SalePaused, 5 * time.Second},
		"paused, facts old: fails open": {sluice.Sale{Free: 1, Paused: true}, false, "", 0},
		"all sold":                      {sluice.Sale{Sold: 5}, true, sluice.AllSold, 0},
		"sold, facts old: fails open":   {sluice.Sale{Sold: 5}, false, "", 0},
		"none free but some held":       {sluice.Sale{Sold: 5, Held: 1}, true, "", 0},
	} {
		if v := Gate(now, &c.sale, c.fresh); v.Refusal != c.want || v.RetryAfter != c.retry {
			t.Errorf("%s: %+v, want %q after %v", name, v, c.want, c.retry)
		}
	}
}

func TestStock(t *testing.T) {
	for _, c := range []struct {
		what         string
		free, queued int64
		over, share  float64
		want         bool
	}{
		{"plenty", 1000, 0, 1.5, 1, true},
		{"the queue covers less than it may", 10, 14, 1.5, 1, true},
		{"the queue covers all that it may", 10, 15, 1.5, 1, false},
		{"no unit free", 0, 0, 1.5, 1, false},
		{"one of four doors", 100, 36, 1.5, 0.25, true},
		{"one of four doors, its share covered", 100, 38, 1.5, 0.25, false},
		{"a tiny share, but nobody in its queue", 1, 0, 1, 0.01, true},
		{"a tiny share and somebody in its queue", 1, 1, 1, 0.01, false},
	} {
		if got := Stock(c.free, c.queued, c.over, c.share); got != c.want {
			t.Errorf("%s: Stock(%d, %d, %v, %v) = %t", c.what, c.free, c.queued, c.over, c.share, got)
		}
	}
}

func TestEffectiveBound(t *testing.T) {
	for _, c := range []struct {
		bound, floor int64
		rate         float64
		wait         time.Duration
		want         int64
	}{
		{10_000, 512, 0, 30 * time.Second, 10_000},    // no fresh rate: the bound alone
		{10_000, 512, 100, 0, 10_000},                 // any wait
		{10_000, 512, 100, 30 * time.Second, 3000},    // rate x wait
		{10_000, 512, 1, 30 * time.Second, 512},       // never below two batches
		{10_000, 512, 5000, 30 * time.Second, 10_000}, // never above the bound
		{100, 512, 1, 30 * time.Second, 100},
	} {
		if got := EffectiveBound(c.bound, c.floor, c.rate, c.wait); got != c.want {
			t.Errorf("EffectiveBound(%d, %d, %v, %v) = %d, want %d", c.bound, c.floor, c.rate, c.wait, got, c.want)
		}
	}
}

func BenchmarkCreditsTakeAndRelease(b *testing.B) {
	c := NewCredits[int]()
	n := 0
	for b.Loop() {
		n++
		if _, taken, _ := c.Take(id(n), 10, entry); taken != Granted {
			b.Fatal(taken)
		}
		c.Release(id(n))
	}
}
