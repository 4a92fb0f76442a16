package ingress

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"sluice"
)

// However outcomes come, in any order and from anywhere at once, nobody's position grows while the order waits, and it is
// never beyond the orders that are outstanding.
func TestPosition_NeverGrowsWhileOutcomesComeInAnyOrderUnderRace(t *testing.T) {
	const orders, watchers, hearers = 400, 8, 4
	cfg := testConfig()
	cfg.Bound = 2 * orders
	s := newStand(t, cfg, nil, sale("demo", nil))
	ids := make([]string, orders)
	for n := range ids {
		ids[n] = s.buy(fmt.Sprintf("u%d", n)).Order
	}
	var settled atomic.Int64
	var wg sync.WaitGroup
	for h := range hearers {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(h)))
			mine := random.Perm(orders / hearers)
			for len(mine) > 0 {
				n := min(len(mine), 1+random.IntN(5))
				statuses := make([]sluice.Status, n)
				for i, k := range mine[:n] {
					statuses[i] = s.outcome(ids[k*hearers+h], sluice.Paid, 2)
				}
				mine = mine[n:]
				s.hear(statuses...)
				settled.Add(int64(n))
			}
		})
	}
	wg.Go(func() { // newcomers are behind everybody
		for n := range orders / 2 {
			s.buy(fmt.Sprintf("newcomer-%d", n))
		}
	})
	for w := range watchers {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(2, uint64(w)))
			least := map[string]float64{}
			for settled.Load() < orders {
				n := random.IntN(orders)
				a := s.get(ids[n])
				if a.state() != "queued" {
					continue
				}
				now := a.number("position")
				if before, seen := least[ids[n]]; now < 1 || now > float64(n+1) || seen && now > before {
					t.Errorf("order %d went from position %v to %v", n+1, before, now)
				}
				least[ids[n]] = now
			}
		})
	}
	wg.Wait()
	if n := s.released.Load(); n != orders {
		t.Errorf("%d orders were released, want %d", n, orders)
	}
}

// Whoever leaves the line from behind somebody has left it after a restart, too.
func TestPosition_DoesNotGrowWithARestartWhereTheLastLeftFirst(t *testing.T) {
	const orders = 9
	disk := vfs.NewMem()
	s := newStand(t, testConfig(), disk, sale("demo", nil))
	var ids []string
	for n := range orders {
		ids = append(ids, s.buy(fmt.Sprintf("u%d", n)).Order)
	}
	for run, last := range []int{orders - 1, orders - 2, 0} {
		s.hear(s.outcome(ids[last], sluice.Paid, 2))
		before := s.get(ids[orders/2]).number("position")
		if want := float64(orders/2 + 1 - run - 1); before != want {
			t.Errorf("position %v after %d have left, want %v", before, run+1, want)
		}
		if err := s.Journal.Close(); err != nil {
			t.Fatal(err)
		}
		s = newStand(t, testConfig(), disk, sale("demo", nil))
		if now := s.get(ids[orders/2]).number("position"); now != before {
			t.Errorf("position %v before the restart, %v after it", before, now)
		}
		if now := s.buy(fmt.Sprintf("later%d", run)).number("position"); now != orders {
			t.Errorf("a newcomer has position %v, want %d", now, orders)
		}
	}
}

// A restart of the door keeps everybody's place, and what is carried again goes in that order.
func TestPosition_DoesNotGrowWithARestart(t *testing.T) {
	const orders, settled = 60, 20
	disk := vfs.NewMem()
	cfg := testConfig()
	s := newStand(t, cfg, disk, sale("demo", nil))
	var ids []string
	for n := range orders {
		ids = append(ids, s.buy(fmt.Sprintf("u%d", n)).Order)
		time.Sleep(5 * time.Microsecond) // the journal keeps microseconds
	}
	for _, id := range ids[:settled] {
		s.hear(s.outcome(id, sluice.Paid, 2))
	}
	before := map[string]float64{}
	for _, id := range ids[settled:] {
		before[id] = s.get(id).number("position")
	}
	if err := s.Journal.Close(); err != nil {
		t.Fatal(err)
	}
	r := newStand(t, cfg, disk, sale("demo", nil))
	for n, id := range ids[settled:] {
		if now := r.get(id).number("position"); now > before[id] || now != float64(n+1) {
			t.Errorf("position %v before the restart, %v after it", before[id], now)
		}
	}
	r.run()
	r.eventually("all are carried again", func() bool { return len(r.carrier.carried()) == orders-settled })
	for n, o := range r.carrier.carried() {
		if o.ID.String() != ids[settled+n] {
			t.Fatalf("order %d of the line was carried in place %d", settled+n, n)
		}
	}
}
