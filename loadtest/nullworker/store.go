package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"sluice"
	"sluice/inventory"
)

// store settles every order at once and keeps nothing of it but a count: an order that comes twice is counted twice.
type store struct {
	inventory.Deliveries // none: nobody asks for them here

	mu    sync.Mutex
	sales map[string]*sluice.Sale // made by CreateSale
	paid  map[string]int64        // orders, by sale
}

var _ inventory.Store = (*store)(nil)

func newStore() *store {
	return &store{sales: map[string]*sluice.Sale{}, paid: map[string]int64{}}
}

// Reserve pays every order of a known sale.
func (s *store) Reserve(_ context.Context, batch []sluice.Order) (sluice.Changes, error) {
	now := inventory.Micros(time.Now())
	changes := sluice.Changes{Now: now, Statuses: make([]sluice.Status, len(batch))}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range batch {
		status := inventory.FirstStatus(&batch[i], now)
		status.State, status.Reason = sluice.Rejected, sluice.UnknownSale
		if sale := s.sales[batch[i].Sale]; sale != nil {
			units := int64(batch[i].Quantity)
			status.State, status.Reason = sluice.Paid, ""
			sale.Free, sale.Sold = sale.Free-units, sale.Sold+units
			s.paid[sale.ID]++
		}
		changes.Statuses[i] = status
	}
	for _, id := range inventory.SaleIDs(batch) {
		if sale := s.sales[id]; sale != nil {
			sale.Version++
			changes.Sales = append(changes.Sales, *sale)
		}
	}
	return changes, nil
}

// CreateSale opens a sale.
func (s *store) CreateSale(_ context.Context, sale sluice.Sale) (sluice.Changes, error) {
	sale, err := inventory.NewSale(sale)
	if err != nil {
		return sluice.Changes{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sales[sale.ID] != nil {
		return sluice.Changes{}, sluice.Refuse(sluice.SaleExists, "sale %s", sale.ID)
	}
	s.sales[sale.ID] = &sale
	return sluice.Changes{Now: inventory.Micros(time.Now()), Sales: []sluice.Sale{sale}}, nil
}

// Sales answers the sales with the given ids, or all.
func (s *store) Sales(_ context.Context, ids ...string) (sluice.Changes, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	changes := sluice.Changes{Now: inventory.Micros(time.Now())}
	for id, sale := range s.sales {
		if len(ids) == 0 || slices.Contains(ids, id) {
			changes.Sales = append(changes.Sales, *sale)
		}
	}
	return changes, nil
}

// Statuses knows no order.
func (s *store) Statuses(context.Context, []sluice.OrderID) (sluice.Changes, error) {
	return sluice.Changes{Now: inventory.Micros(time.Now())}, nil
}

// Audit compares the sales' counters with the count of orders, which is all that there is. Orders are of one unit here.
func (s *store) Audit(context.Context) (sluice.Audit, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var sales []sluice.Sale
	var tallies []inventory.Tally
	for id, sale := range s.sales {
		sales = append(sales, *sale)
		tallies = append(tallies, inventory.Tally{Sale: id, State: sluice.Paid, Orders: s.paid[id], Units: s.paid[id]})
	}
	return inventory.Balance(sales, tallies), nil
}

// Expire finds nothing to give back.
func (s *store) Expire(context.Context, int) (sluice.Changes, error) { return sluice.Changes{}, nil }

// Ping always answers.
func (s *store) Ping(context.Context) error { return nil }

// Close has nothing to close.
func (s *store) Close() error { return nil }

// Limits are never set here.
func (s *store) Limits(context.Context) (sluice.Limits, error) { return sluice.Limits{}, nil }

// errNone answers what nobody asks of a store without memory.
var errNone = errors.New("the null store keeps no orders")

// Pay is not there.
func (s *store) Pay(context.Context, sluice.OrderID, string) (sluice.Changes, error) {
	return sluice.Changes{}, errNone
}

// Cancel is not there.
func (s *store) Cancel(context.Context, sluice.OrderID) (sluice.Changes, error) {
	return sluice.Changes{}, errNone
}

// Bury is not there.
func (s *store) Bury(context.Context, inventory.Letter) (sluice.Changes, error) {
	return sluice.Changes{}, errNone
}

// TopUp is not there.
func (s *store) TopUp(context.Context, string, int64) (sluice.Changes, error) {
	return sluice.Changes{}, errNone
}

// End is not there.
func (s *store) End(context.Context, string) (sluice.Changes, error) {
	return sluice.Changes{}, errNone
}

// ChangeLimits is not there.
func (s *store) ChangeLimits(context.Context, func(*sluice.Limits) error) (sluice.Limits, error) {
	return sluice.Limits{}, errNone
}
