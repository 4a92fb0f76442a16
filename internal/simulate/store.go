package simulate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"sluice"
	"sluice/inventory"
)

// store is an inventory in memory that decides as the others do. Its transactions take turns; whoever calls it holds the world's
// lock or is the only one that runs.
type store struct {
	plant   Plant
	away    bool
	sales   map[string]sluice.Sale
	orders  map[sluice.OrderID]*row
	sorted  []*row // by id
	letters map[string]bool
	refunds map[refund]inventory.RefundReason
	paid    map[refund]bool // payments that reached the store
	limits  sluice.Limits
	commits int
}

// row is a settled order, with every state that it ever had, from version 2 on.
type row struct {
	order   sluice.Order
	now     inventory.Stored
	was     []sluice.Status
	checked int // how many of them were looked at
}

// refund is a payment of an order.
type refund struct {
	order sluice.OrderID
	ref   string
}

func newStore(s Setup, plant Plant) *store {
	st := &store{
		plant: plant, sales: map[string]sluice.Sale{}, orders: map[sluice.OrderID]*row{}, letters: map[string]bool{},
		refunds: map[refund]inventory.RefundReason{}, paid: map[refund]bool{},
		limits: sluice.Limits{Version: 1, Bounds: map[string]int64{}},
	}
	for i, id := range saleIDs {
		st.sales[id] = sluice.Sale{
			ID: id, Stock: int64(s.Stock), Free: int64(s.Stock), PerUserLimit: 1 + 2*i, PaymentWindow: sluice.Duration(s.Window),
			OverAdmission: 1.5, Version: 1,
		}
	}
	return st
}

// saleIDs are of a sale of one unit a buyer, and of one of three.
var saleIDs = [...]string{"one", "three"}

func (s *store) now() time.Time { return inventory.Micros(time.Now()) }

var errChokes = errors.New("the store chokes on an order")

// view is what a transaction reads.
func (s *store) view(batch []sluice.Order) inventory.View {
	v := inventory.View{
		Now: s.now(), Sales: maps.Clone(s.sales),
		Settled: map[sluice.OrderID]sluice.Status{}, Owned: map[inventory.Buyer]int64{},
	}
	for _, id := range inventory.OrderIDs(batch) {
		if r := s.orders[id]; r != nil {
			v.Settled[id] = r.now.Status
		}
	}
	for _, b := range inventory.Buyers(batch) {
		v.Owned[b] = s.owned(b)
	}
	return v
}

func (s *store) owned(b inventory.Buyer) (units int64) {
	for _, r := range s.sorted {
		if st := &r.now.Status; st.Sale == b.Sale && st.User == b.User && (st.State == sluice.Held || st.State == sluice.Paid) {
			units += int64(st.Units)
		}
	}
	return units
}

// choking reports whether one of the orders is among those that the store can't take.
func (s *store) choking(batch []sluice.Order) bool {
	return slices.ContainsFunc(batch, func(o sluice.Order) bool { return o.User == badBuyer && s.orders[o.ID] == nil })
}

// write is a decision's effect.
func (s *store) write(now time.Time, d inventory.Decision) sluice.Changes {
	for i := range d.Rows {
		s.insert(&d.Rows[i])
	}
	s.move(d.Deltas...)
	s.commits++
	return sluice.Changes{Now: now, Statuses: d.Statuses, Sales: d.Sales}
}

func (s *store) insert(r *inventory.Row) {
	stored := &row{
		order: r.Order, was: []sluice.Status{r.Status},
		now: inventory.Stored{Status: r.Status, ReleaseAt: r.ReleaseAt},
	}
	at, found := slices.BinarySearchFunc(s.sorted, r.Order.ID, func(r *row, id sluice.OrderID) int { return slices.Compare(r.order.ID[:], id[:]) })
	if found { // only where a fault is planted
		stored.was = append(s.sorted[at].was, r.Status)
		s.sorted[at] = stored
	} else {
		s.sorted = slices.Insert(s.sorted, at, stored)
	}
	s.orders[r.Order.ID] = stored
}

func (s *store) move(deltas ...inventory.Delta) {
	for _, d := range deltas {
		if d.Sale != "" {
			s.sales[d.Sale] = inventory.Apply(s.sales[d.Sale], d)
		}
	}
}

// update writes transitions of settled orders.
func (s *store) update(ts ...inventory.Transition) sluice.Changes {
	c := sluice.Changes{Now: s.now()}
	var sum inventory.Sum
	for _, t := range ts {
		if t.Changed {
			r := s.orders[t.After.Status.Order]
			r.now = t.After
			if t.After.Status != r.was[len(r.was)-1] {
				r.was = append(r.was, t.After.Status)
			}
		}
		if t.Delta != (inventory.Delta{}) {
			sum.Add(t.Delta)
		}
		c.Statuses = append(c.Statuses, t.After.Status)
	}
	s.move(sum.Deltas()...)
	for _, d := range sum.Deltas() {
		c.Sales = append(c.Sales, s.sales[d.Sale])
	}
	s.commits++
	return c
}

func (s *store) pay(id sluice.OrderID, ref string) sluice.Changes {
	r, key := s.orders[id], refund{id, ref}
	before := r.now
	_, before.Refunded = s.refunds[key]
	now := s.now()
	if s.plant == PaysExpired && before.Status.State == sluice.Expired {
		before.Status.State, before.ReleaseAt = sluice.Held, now.Add(time.Second)
	}
	t := inventory.DecidePay(now, before, ref)
	t.After.Refunded = false
	if t.Refund != "" {
		s.refunds[key] = t.Refund
	}
	s.paid[key] = true
	return s.update(t)
}

// expire gives back every hold that is overdue.
func (s *store) expire() sluice.Changes {
	var ts []inventory.Transition
	now := s.now()
	for _, r := range s.sorted {
		if r.now.Status.State == sluice.Held && inventory.Overdue(now, r.now) {
			t := inventory.DecideExpire(r.now)
			if s.plant == ExpiresTwice {
				t.Delta.Free *= 2
			}
			ts = append(ts, t)
		}
	}
	if len(ts) == 0 {
		return sluice.Changes{}
	}
	return s.update(ts...)
}

func (s *store) topUp(id string, units int64) sluice.Changes {
	sale := s.sales[id]
	sale.TopUps += units
	sale.Free += units
	sale.Version++
	s.sales[id] = sale
	s.commits++
	return sluice.Changes{Now: s.now(), Sales: []sluice.Sale{sale}}
}

// bury keeps a letter and fails its order.
func (s *store) bury(l inventory.Letter) sluice.Changes {
	c := sluice.Changes{Now: s.now()}
	if s.letters[l.Message] && l.Order == nil {
		return c
	}
	s.letters[l.Message] = true
	s.commits++
	if l.Order == nil {
		return c
	}
	if s.orders[l.Order.ID] == nil {
		r := inventory.FailedRow(*l.Order, c.Now)
		s.insert(&r)
	}
	c.Statuses = []sluice.Status{s.orders[l.Order.ID].now.Status}
	return c
}

func (s *store) statuses(ids []sluice.OrderID) sluice.Changes {
	c := sluice.Changes{Now: s.now()}
	for _, id := range ids {
		if r := s.orders[id]; r != nil {
			c.Statuses = append(c.Statuses, r.now.Status)
		}
	}
	return c
}

// facts are all sales.
func (s *store) facts() sluice.Changes {
	c := sluice.Changes{Now: s.now()}
	for _, id := range saleIDs {
		sale := s.sales[id]
		if sale.Free == 0 {
			for _, r := range s.sorted {
				if r.now.Status.Sale == id && r.now.Status.State == sluice.Held &&
					(sale.NextRelease.IsZero() || r.now.ReleaseAt.Before(sale.NextRelease)) {
					sale.NextRelease = r.now.ReleaseAt
				}
			}
		}
		c.Sales = append(c.Sales, sale)
	}
	return c
}

// call is a transaction or a question on its way: first it is to be done, then to be answered.
type call struct {
	owner  string
	hears  *doorLife // the door that hears of the answer; nil: none
	do     func() error
	done   bool
	err    error
	answer chan error
}

// park hands a call to the schedule and waits for its answer, or for ctx.
func (w *World) park(ctx context.Context, hears *doorLife, owner string, do func() error) error {
	c := &call{owner: owner, hears: hears, do: do, answer: make(chan error, 1)}
	w.mu.Lock()
	if w.calls[owner] != nil {
		w.mu.Unlock()
		panic("simulate: " + owner + " calls twice at once")
	}
	w.calls[owner] = c
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.calls, owner)
	}()
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", context.Cause(ctx), inventory.ErrUnavailable)
	}
	select {
	case err := <-c.answer:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", context.Cause(ctx), inventory.ErrUnavailable)
	}
}

// What becomes of a step of a call.
const (
	fateFails = 1 // the store is not reached, or its answer is lost
)

// proceed takes a call one step further.
func (w *World) proceed(c *call, fate int) bool {
	doing := !c.done && fate != fateFails && !w.store.away
	if !doing && c.hears != nil && !c.hears.mayHear() {
		return false
	}
	switch {
	case c.done && fate == fateFails:
		c.answer <- fmt.Errorf("the answer is lost: %w", inventory.ErrUnavailable)
	case c.done:
		c.answer <- c.err
	case !doing:
		c.answer <- fmt.Errorf("it is away: %w", inventory.ErrUnavailable)
	default:
		c.done, c.err = true, c.do()
	}
	return true
}
