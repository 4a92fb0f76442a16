package limiter

import (
	"errors"
	"sync"
	"testing"
)

// A share kept for members is theirs whatever the others do: at no instant is a member refused because of others.
func TestShares_MembersAreNeverRefusedForOthers(t *testing.T) {
	const bound, kept, goroutines, each = 1000, 200, 32, 400
	c := NewCredits[int]()
	var others, members Pool
	general := Share{Pool: &others, Limit: bound - kept}
	reserved := Share{Pool: &members, Limit: kept}
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() { // others come and go, and ask for more than there is
			for n := range each {
				o := id(g*each + n)
				_, taken, _ := c.Take(o, bound, entry, general)
				if others.Taken() > bound-kept || c.Outstanding() > bound {
					t.Errorf("others %d, outstanding %d", others.Taken(), c.Outstanding())
				}
				if taken == Granted && n%3 == 0 {
					c.Release(o)
				}
			}
		})
	}
	wg.Go(func() {
		for n := range kept {
			if _, taken, _ := c.Take(id(1_000_000+n), bound, entry, reserved, general); taken != Granted {
				t.Errorf("member %d: %v", n, taken)
			}
		}
	})
	wg.Wait()
	if members.Taken() != kept {
		t.Errorf("%d of the kept share are taken; want %d", members.Taken(), kept)
	}
	if sum := members.Taken() + others.Taken(); sum != c.Outstanding() {
		t.Errorf("the pools hold %d, the set %d", sum, c.Outstanding())
	}
}

func TestShares_AMemberTakesTheCommonRoomOnceItsShareIsFull(t *testing.T) {
	c := NewCredits[int]()
	var others, members Pool
	take := func(n int, shares ...Share) Taken {
		_, taken, _ := c.Take(id(n), 3, entry, shares...)
		return taken
	}
	general, reserved := Share{&others, 2}, Share{&members, 1}
	for n, want := range []Taken{Granted, Granted, Granted, Full} {
		if got := take(n, reserved, general); got != want {
			t.Errorf("member %d: %v, want %v", n, got, want)
		}
	}
	if members.Taken() != 1 || others.Taken() != 2 {
		t.Errorf("pools %d and %d, want 1 and 2", members.Taken(), others.Taken())
	}
	c.Release(id(0)) // the one of the share
	if got := take(7, general); got != Full {
		t.Errorf("another takes the members' room: %v", got)
	}
	if got := take(8, reserved, general); got != Granted {
		t.Errorf("a member finds no room: %v", got)
	}
}

func TestShares_NothingStaysBehindWhereTheEntryFails(t *testing.T) {
	c := NewCredits[int]()
	var p Pool
	broken := errors.New("broken")
	if _, _, err := c.Take(id(1), 1, func() (int, error) { return 0, broken }, Share{&p, 1}); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	if p.Taken() != 0 || c.Outstanding() != 0 {
		t.Errorf("left behind: %d in the pool, %d in the set", p.Taken(), c.Outstanding())
	}
	c.Restore(id(1), 0, &p)
	c.Restore(id(1), 0, nil)
	if p.Taken() != 0 || c.Outstanding() != 1 {
		t.Errorf("restored twice: %d in the pool, %d in the set", p.Taken(), c.Outstanding())
	}
	if _, taken, _ := c.Take(id(2), 1, entry, Share{&p, 5}); taken != Full || p.Taken() != 0 {
		t.Errorf("a full set: %v, %d in the pool", taken, p.Taken())
	}
}
