package faulttest

import (
	"context"
	"testing"
	"time"
)

const (
	payWindow = 2 * time.Second // long enough for an answer's way back, short enough to meet a crash
	payLimit  = 2
)

// P6, P10, P2, P5: kill -9 of everything, twice, while orders are held, paid, cancelled and expire. The second time
// the service may stay dead until every hold is overdue.
func TestKill_WhilePayingAndExpiring(t *testing.T) {
	everywhere(t, func(s scene) {
		t := s.t
		const stock, count = 800, 1000
		door, admin := freeAddress(t), freeAddress(t)
		up := launch(t, s.dir, "up", "up", "--listen", door, "--admin", admin, "--data", s.store.dir, "--store", s.store.flag,
			"--bound", "5000", "--drain-rate", "800", "--id-key", idKeyFile(t, s.dir))
		openSaleWith(t, admin, saleID, stock, payLimit, payWindow, door)

		b := newShoppers(newBuyers(door, saleID, count, 500, 300), admin, payWindow, s.random)
		defer b.keep(t, s.dir)
		at := between(s.random, stock*20/100, stock*60/100)
		later := time.Duration(between(s.random, 500, 3000)) * time.Millisecond
		dead := []time.Duration{0, payWindow + 500*time.Millisecond}[s.random.IntN(2)]
		mark := b.whenAccepted(at)
		rushWith(t, b.buyers, func(ctx context.Context) {
			await(ctx, t, b.buyers, mark)
			up.kill(t)
			up.start(t)
			ready(t, door) //nolint:contextcheck // it has a limit of its own
			pause(ctx, later)
			up.kill(t)
			t.Logf("killed after %d accepted orders, and again %v after that for %v", at, later, dead)
			pause(ctx, dead)
			up.start(t)
		})
		ready(t, door)
		b.judge(t, s.store)
	})
}

// P5, P3, P10 with two doors: whichever a buyer asks, and whichever of door and nsqd dies, a key is one order, and in
// the end both doors say the same of it.
func TestKill_TwoDoorsShareOneQueue(t *testing.T) {
	everywhere(t, func(s scene) {
		t := s.t
		const stock, count = 900, 1000
		p := launchBehind(t, s, "--drain-rate", "800")
		north, northern := p.launchDoor(t, s.dir, "north", "2500")
		south, southern := p.launchDoor(t, s.dir, "south", "2500")
		openSaleWith(t, p.admin, saleID, stock, payLimit, payWindow, north, south)

		b := newShoppers(newBuyers(north, saleID, count, 500, 300), p.admin, payWindow, s.random)
		b.doors = []front{{"north", "http://" + north}, {"south", "http://" + south}}
		defer b.keep(t, s.dir)
		deaths := []*process{p.nsqd, northern}
		if s.random.IntN(2) == 0 {
			deaths[1] = southern
		}
		s.random.Shuffle(len(deaths), func(i, j int) { deaths[i], deaths[j] = deaths[j], deaths[i] })
		at := []int64{between(s.random, 150, 400), between(s.random, 450, 700)}
		marks := []<-chan struct{}{b.whenAccepted(at[0]), b.whenAccepted(at[1])}
		rushWith(t, b.buyers, func(ctx context.Context) {
			for i, victim := range deaths {
				await(ctx, t, b.buyers, marks[i])
				victim.kill(t)
				victim.start(t)
				t.Logf("killed after %d accepted orders: %s", at[i], victim.name)
			}
		})
		ready(t, north)
		ready(t, south)
		b.judge(t, s.store)
	})
}
