package inventorytest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sluice"
	"sluice/inventory"
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
	{"TenThousandHoldsEndOnceEach", testHoldsRace},
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
		if len(states) != 1 || !states[got.State] || got.Version != 3 {
			b.Errorf("order %s: announced as %v, stored %+v", id, states, got)
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
			b.overdue(overdueAt)
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
		if s.Version != 3 || (s.State == sluice.Paid) != (paid[o.Order] == 1) || expired[o.Order] > 1 {
			b.Errorf("got %+v, paid %d times, announced as expired %d times", s, paid[o.Order], expired[o.Order])
		}
	}
	sold := 2 * int64(len(paid))
	b.wantUnits("s", 2*orders-sold, 0, sold)
}

// holdsRace is ten thousand holds that fall due one after another while sweepers, payers, somebody who cancels and somebody
// who moves deadlines go at them, all at once.
type holdsRace struct {
	*bench
	sales  []string
	orders []sluice.Order
	start  time.Time
	took   time.Duration // to reserve them all
	left   atomic.Int64  // orders of which nobody has heard yet that they ended

	extended int // deadlines that were moved; extend's

	mu    sync.Mutex
	swept map[sluice.OrderID]int  // how often a sweep announced it; guarded by mu
	ended map[sluice.OrderID]bool // guarded by mu
}

// testHoldsRace proves of each order that it ends exactly once, in one of three ways, that its units come back once or stay
// sold, and that there is one event for each of its steps; the last is wantAllEvents', after every test.
func testHoldsRace(b *bench) { // P1, P6, P8, P10
	const holds, spread = 10_000, 4 * time.Second
	r := &holdsRace{bench: b, swept: map[sluice.OrderID]int{}, ended: map[sluice.OrderID]bool{}}
	r.prepare(holds, spread)
	const sweepers, payers = 3, 4
	together(sweepers+payers+2, func(i int) {
		switch {
		case i < sweepers:
			r.sweep(8 + 4*i)
		case i < sweepers+payers:
			r.pay(i-sweepers, payers)
		case i == sweepers+payers:
			r.cancel()
		default:
			r.extend(spread/4 + r.took) // however long its turn takes to come
		}
	})
	if r.extended == 0 {
		b.Error("no deadline was moved")
	}
	states := map[sluice.State]int{}
	for id, end := range r.ends() {
		states[end]++
		if n := r.swept[id]; n > 1 || (n == 1) && end != sluice.Expired {
			b.Errorf("order %s is %s, and was announced as expired %d times", id, end, n)
		}
	}
	b.Logf("of %d holds: %v", holds, states)
	if states[sluice.Paid]+states[sluice.Expired]+states[sluice.Cancelled] != holds {
		b.Errorf("got %v, want %d ends", states, holds)
	}
	for _, s := range []sluice.State{sluice.Paid, sluice.Expired, sluice.Cancelled} {
		if states[s] == 0 {
			b.Errorf("no order is %s: that was no race", s)
		}
	}
	r.wantUnitsAsEnded()
}

// prepare holds the orders, batch by batch. The batches fall due one after another once all are held, however slow this
// machine is: the first one tells.
func (r *holdsRace) prepare(holds int, spread time.Duration) {
	const batches, sales = 20, 4
	for i := range sales {
		r.sales = append(r.sales, fmt.Sprint("s", i))
		r.sale(r.sales[i], 3*int64(holds))
	}
	r.start = time.Now()
	for k := range batches {
		sale := r.sales[k%sales]
		rest := time.Since(r.start) / time.Duration(max(k, 1)) * time.Duration(batches-k)
		r.patch(sale, sluice.SalePatch{PaymentWindow: new(sluice.Duration(rest + spread*time.Duration(k+1)/batches))})
		var batch []sluice.Order
		for i := range holds / batches {
			batch = append(batch, order(sale, fmt.Sprint("u", k, "-", i), "", 1+i%3))
		}
		for _, s := range r.reserve(batch...) {
			r.wantState(s, sluice.Held, "")
		}
		r.orders = append(r.orders, batch...)
	}
	r.took = time.Since(r.start)
	r.left.Store(int64(holds))
}

// heard counts orders of which a call tells that they ended.
func (r *holdsRace) heard(c sluice.Changes, swept bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range c.Statuses {
		if swept {
			r.swept[s.Order]++
		}
		if s.State.Final() && !r.ended[s.Order] {
			r.ended[s.Order] = true
			r.left.Add(-1)
		}
	}
}

// over reports whether all have ended. It gives up where that takes too long; what did not end is found then.
func (r *holdsRace) over() bool { return r.left.Load() <= 0 || time.Since(r.start) > 3*time.Minute }

// call makes a call until the store can be reached, as its contract has it: on a busy machine a lock may be waited for in
// vain. It answers false where something is wrong; refusals are not.
func (r *holdsRace) call(fn func() (sluice.Changes, error), refusals ...sluice.Refusal) (c sluice.Changes, ok bool) {
	for !r.over() {
		var err error
		if c, err = fn(); err == nil || slices.Contains(refusals, sluice.RefusalOf(err)) {
			return c, true
		}
		if !errors.Is(err, inventory.ErrUnavailable) {
			r.Error(err)
			return c, false
		}
	}
	return c, false
}

func (r *holdsRace) sweep(limit int) {
	for ok := true; ok; {
		var c sluice.Changes
		c, ok = r.call(func() (sluice.Changes, error) { return r.store.Expire(r.Context(), limit) })
		r.heard(c, true)
		if len(c.Statuses) == 0 {
			time.Sleep(time.Millisecond) // as the worker waits between two sweeps
		}
	}
}

// pay pays every order twice, by two payments, beginning somewhere of its own.
func (r *holdsRace) pay(i, of int) {
	for n := range r.orders {
		k := (n*7919 + i*len(r.orders)/of) % len(r.orders) // a prime step: all of them, in an order without pattern
		c, ok := r.call(func() (sluice.Changes, error) {
			return r.store.Pay(r.Context(), r.orders[k].ID, fmt.Sprint("ref", i%2))
		}, sluice.TooLate, sluice.AlreadyPaid)
		if !ok {
			return
		}
		r.heard(c, false)
	}
}

func (r *holdsRace) cancel() {
	for n := range r.orders {
		c, ok := r.call(func() (sluice.Changes, error) {
			return r.store.Cancel(r.Context(), r.orders[n*4001%len(r.orders)].ID)
		}, sluice.NotHeld)
		if !ok {
			return
		}
		r.heard(c, false)
	}
}

// extend moves the deadlines of those that fall due next, or have done so already, again and again.
func (r *holdsRace) extend(ahead time.Duration) {
	for n := range 60 {
		c, ok := r.call(func() (sluice.Changes, error) {
			return r.store.ExtendHolds(r.Context(), r.sales[n%len(r.sales)], time.Now().Add(ahead), 25)
		}, sluice.BadRequest) // where the store hears of that time after it
		if !ok {
			return
		}
		r.extended += len(c.Statuses)
		for _, s := range c.Statuses {
			if s.State != sluice.Held {
				r.Errorf("the deadline of %+v was moved", s)
			}
		}
	}
}

// ends is how each order ended, by the events, of which one must say so.
func (r *holdsRace) ends() map[sluice.OrderID]sluice.State {
	ends := map[sluice.OrderID]sluice.State{}
	for e := range r.allEvents() {
		end := map[sluice.EventType]sluice.State{
			sluice.EventPaid: sluice.Paid, sluice.EventExpired: sluice.Expired, sluice.EventCancelled: sluice.Cancelled,
		}[e.Type]
		if end == "" {
			continue
		}
		if before := ends[e.Order]; before != "" {
			r.Errorf("order %s is %s, and was %s", e.Order, end, before)
		}
		ends[e.Order] = end
	}
	return ends
}

// wantUnitsAsEnded counts the units from the events, not from the counters.
func (r *holdsRace) wantUnitsAsEnded() {
	sold := map[string]int64{}
	for e := range r.allEvents() {
		if e.Type == sluice.EventPaid {
			sold[e.Sale] += int64(e.Units)
		}
	}
	for _, sale := range r.sales {
		r.wantUnits(sale, 3*int64(len(r.orders))-sold[sale], 0, sold[sale])
	}
}
