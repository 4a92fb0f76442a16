package inventorytest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sluice"
)

var raceTests = []test{
	{"NeverOversellsUnderConcurrentBatches", func(b *bench) { // P1, P2
		b.sale("a", 60)
		b.sale("b", 40)
		together(8, func(worker int) {
			for round := range 5 {
				var batch []sluice.Order
				for i := range 10 { // both sales, in an order of its own for each worker
					sale := []string{"a", "b"}[(i+worker)%2]
					batch = append(batch, order(sale, fmt.Sprint("u", worker, "-", round, "-", i), "", 1))
				}
				if _, err := b.store.Reserve(b.Context(), batch); err != nil {
					b.Error(err)
				}
			}
		})
		b.wantUnits("a", 0, 60, 0)
		b.wantUnits("b", 0, 40, 0)
	}},
	{"NeverExceedsABuyersLimitUnderConcurrentBatches", func(b *bench) { // P5
		b.sale("s", 1000, limit(3))
		together(8, func(worker int) {
			batch := []sluice.Order{order("s", "u", fmt.Sprint(worker), 1), order("s", "v", fmt.Sprint(worker), 2)}
			if _, err := b.store.Reserve(b.Context(), batch); err != nil {
				b.Error(err)
			}
		})
		b.wantUnits("s", 995, 5, 0) // 3 of u, 2 of v
	}},
	{"OneOrderInManyBatchesIsSettledOnce", func(b *bench) { // P3, P5
		b.sale("s", 100)
		var batch []sluice.Order
		for i := range 20 {
			sale := []string{"s", "nowhere", "nowhere either"}[i%3] // unknown sales have no lock to wait for
			batch = append(batch, order(sale, fmt.Sprint("u", i), "", 2))
		}
		answers := make([][]sluice.Status, 8)
		together(len(answers), func(i int) {
			mine := slices.Clone(batch)
			if i%2 == 1 {
				slices.Reverse(mine)
			}
			c, err := b.store.Reserve(b.Context(), mine)
			if err != nil {
				b.Error(err)
				return
			}
			if i%2 == 1 {
				slices.Reverse(c.Statuses)
			}
			answers[i] = c.Statuses
		})
		for _, got := range answers[1:] {
			if !slices.Equal(got, answers[0]) {
				b.Errorf("two answers: %+v and %+v", got, answers[0])
			}
		}
		b.wantUnits("s", 86, 14, 0)
	}},
	{"ASaleThatAppearsMeanwhileLeavesOneOutcome", func(b *bench) {
		for round := range 5 {
			id := fmt.Sprint("s", round)
			o := order(id, "u", "", 1)
			answers := make([]sluice.Status, 6)
			together(7, func(i int) {
				var c sluice.Changes
				var err error
				if i == 6 {
					_, err = b.store.CreateSale(b.Context(), sluice.Sale{ID: id, Stock: 5, PerUserLimit: 1, OverAdmission: 1})
				} else if c, err = b.store.Reserve(b.Context(), []sluice.Order{o}); err == nil {
					answers[i] = c.Statuses[0]
				}
				if err != nil {
					b.Error(err)
				}
			})
			for _, got := range answers[1:] {
				if got != answers[0] {
					b.Errorf("two answers: %+v and %+v", got, answers[0])
				}
			}
			b.wantBalanced()
		}
	}},
	{"EachHoldExpiresOnceUnderSweepersAndPayments", testExpiryRace},
	{"AnOrderReservedAmongTransitionsEndsOnce", testReserveRace},
	{"OnePaymentWinsOverManyAndACancel", func(b *bench) { // P6
		b.sale("s", 10)
		o := b.hold(order("s", "u", "", 2))
		var won atomic.Int64
		together(6, func(i int) {
			var err error
			if i == 0 {
				_, err = b.store.Cancel(b.Context(), o.Order)
			} else {
				_, err = b.store.Pay(b.Context(), o.Order, fmt.Sprint("ref", i))
			}
			if err == nil {
				won.Add(1)
			}
		})
		if won.Load() != 1 {
			b.Errorf("got %d winners, want 1", won.Load())
		}
		if b.status(o.Order).State == sluice.Paid {
			b.wantUnits("s", 8, 0, 2)
		} else {
			b.wantUnits("s", 10, 0, 0)
		}
	}},
}

// testReserveRace lets payments, cancellations and sweeps of orders race the batches that reserve them: whoever sees an
// order first, it is moved once, and every announcement that it moved is of that one move.
func testReserveRace(b *bench) { // P1, P6, P8, P10
	const batches, size = 10, 4
	b.sale("s", 2*batches*size, window(soon))
	ids := make(chan sluice.OrderID, batches*size*6)
	var mu sync.Mutex
	ends := map[sluice.OrderID]map[sluice.State]bool{} // guarded by mu
	heard := func(c sluice.Changes) {
		mu.Lock()
		defer mu.Unlock()
		for _, s := range c.Statuses {
			if s.Version < 3 {
				continue
			}
			if ends[s.Order] == nil {
				ends[s.Order] = map[sluice.State]bool{}
			}
			ends[s.Order][s.State] = true
		}
	}
	together(7, func(i int) {
		if i == 0 {
			defer close(ids)
			for n := range batches {
				var batch []sluice.Order
				for k := range size {
					o := order("s", fmt.Sprint("u", n, "-", k), "", 2)
					batch = append(batch, o)
					for range 6 {
						ids <- o.ID // the others ask for it from now on, before it is there
					}
				}
				c, err := b.store.Reserve(b.Context(), batch)
				if err != nil {
					b.Error(err)
				}
				heard(c)
			}
			return
		}
		for id := range ids {
			for done := false; !done; {
				var c sluice.Changes
				var err error
				switch i {
				case 1, 2:
					c, err = b.store.Pay(b.Context(), id, fmt.Sprint("ref", i))
				case 3, 4:
					c, err = b.store.Cancel(b.Context(), id)
				default:
					c, err = b.store.Expire(b.Context(), 3)
				}
				heard(c)
				refusal, refused := errors.AsType[*sluice.Error](err)
				if err != nil && !refused {
					b.Error(err)
				}
				done = err == nil || !refused || refusal.Refusal != sluice.NoSuchOrder
			}
		}
	})
	var sold int64
	for id, states := range ends {
		got := b.status(id)
		if refunds := b.refundEvents(id); len(states) != 1 || !states[got.State] || got.Version != 3+refunds {
			b.Errorf("order %s: announced as %v, stored %+v, with %d refunds due", id, states, got, refunds)
		}
		if got.State == sluice.Paid {
			sold += 2
		}
	}
	time.Sleep(2 * soon) // what nobody moved is overdue now
	if _, err := b.store.Expire(b.Context(), 2*batches*size); err != nil {
		b.Error(err)
	}
	b.wantUnits("s", 2*batches*size-sold, 0, sold)
}

// testExpiryRace lets payments race the deadline and three sweepers: each order ends in exactly one of paid and expired,
// and each expiry is announced once.
func testExpiryRace(b *bench) { // P6
	const orders = 30
	b.sale("s", 2*orders, window(4*soon))
	var batch []sluice.Order
	for i := range orders {
		batch = append(batch, order("s", fmt.Sprint("u", i), "", 2))
	}
	held := b.reserve(batch...)
	var mu sync.Mutex
	expired, paid := map[sluice.OrderID]int{}, map[sluice.OrderID]int{} // guarded by mu
	count := func(c sluice.Changes) {
		mu.Lock()
		defer mu.Unlock()
		for _, s := range c.Statuses {
			if s.State == sluice.Expired && s.Version == 3 {
				expired[s.Order]++
			}
		}
	}
	overdueAt := held[0]
	together(6, func(i int) {
		if i >= 3 {
			overdue(overdueAt)
			for range 6 {
				c, err := b.store.Expire(b.Context(), 7)
				if err != nil {
					b.Error(err)
				}
				count(c)
			}
			return
		}
		for n := i; n < orders; n += 3 {
			_, err := b.store.Pay(b.Context(), held[n].Order, "ref")
			if err != nil {
				b.wantRefused(err, sluice.TooLate)
				continue
			}
			mu.Lock()
			paid[held[n].Order]++
			mu.Unlock()
		}
	})
	for _, o := range held {
		s := b.status(o.Order)
		if s.Version != 3+b.refundEvents(o.Order) || (s.State == sluice.Paid) != (paid[o.Order] == 1) || expired[o.Order] > 1 {
			b.Errorf("got %+v, paid %d times, announced as expired %d times", s, paid[o.Order], expired[o.Order])
		}
	}
	sold := 2 * int64(len(paid))
	b.wantUnits("s", 2*orders-sold, 0, sold)
}
