package worker

import (
	"context"
	"slices"
	"time"

	"sluice"
	"sluice/api"
	apiv1 "sluice/api/v1"
	"sluice/inventory"
)

const (
	maxEventWait   = api.MaxEventWait
	eventInterval  = 250 * time.Millisecond // between two looks of a call that waits for an event
	maxEventWaiter = 100                    // calls that wait at once; more are answered at once, so that they can't flood the store
)

// pageOf is how many entries a page has.
func pageOf(limit *int32) (int, error) {
	switch {
	case limit == nil:
		return api.DefaultPage, nil
	case *limit < 1 || *limit > api.MaxPage:
		return 0, sluice.Refuse(sluice.BadRequest, "limit %d: want 1 to %d", *limit, api.MaxPage)
	default:
		return int(*limit), nil
	}
}

// after is a number after which a page begins.
func after(n int64) (int64, error) {
	if n < 0 {
		return 0, sluice.Refuse(sluice.BadRequest, "after %d: want 0 or more", n)
	}
	return n, nil
}

func (s *service) ListSales(ctx context.Context, in *apiv1.Page) (*apiv1.SaleList, error) {
	limit, err := pageOf(in.Limit)
	if err != nil {
		return nil, err
	}
	c, err := s.Store.Sales(ctx)
	if err != nil {
		return nil, err
	}
	page := api.Sales{Now: c.Now, Sales: slices.DeleteFunc(c.Sales, func(s sluice.Sale) bool { return s.ID <= in.GetAfter() })}
	if page.Sales == nil {
		page.Sales = []sluice.Sale{}
	}
	if len(page.Sales) > limit {
		page.Sales = page.Sales[:limit]
		page.Next = page.Sales[limit-1].ID
	}
	return reply[apiv1.SaleList](page, nil)
}

func (s *service) ListOrders(ctx context.Context, in *apiv1.OrderQuery) (*apiv1.OrderList, error) {
	q, err := queryOf(in)
	if err != nil {
		return nil, err
	}
	records, err := s.Store.Orders(ctx, q)
	if err != nil {
		return nil, err
	}
	page := api.Orders{Orders: make([]api.Order, 0, len(records))}
	for _, r := range records {
		page.Orders = append(page.Orders, api.OrderOf(r))
	}
	if len(records) == q.Limit {
		page.Next = records[q.Limit-1].Order.ID.String()
	}
	return reply[apiv1.OrderList](page, nil)
}

func queryOf(in *apiv1.OrderQuery) (q inventory.OrderQuery, err error) {
	q = inventory.OrderQuery{Sale: in.GetSale(), User: in.GetUser(), State: sluice.State(in.GetState())}
	switch {
	case q.Sale != "" && !sluice.ValidSaleID(q.Sale):
		return q, sluice.Refuse(sluice.BadRequest, "sale %.80q: want a sale's id", q.Sale)
	case q.User != "" && !sluice.PlainText([]byte(q.User), sluice.MaxUserBytes):
		return q, sluice.Refuse(sluice.BadRequest, "user: want 1 to %d bytes of UTF-8 without control characters", sluice.MaxUserBytes)
	case q.State != "" && (!q.State.Valid() || q.State == sluice.Queued):
		return q, sluice.Refuse(sluice.BadRequest, "state %.80q: want held, paid, expired, cancelled, rejected or failed; what is queued is no order of the store's yet", q.State)
	}
	if in.GetAfter() != "" {
		if q.After, err = sluice.ParseOrderID(in.GetAfter()); err != nil {
			return q, sluice.Refuse(sluice.BadRequest, "after %.80q: want the next of the page before", in.GetAfter())
		}
	}
	q.Limit, err = pageOf(in.Limit)
	return q, err
}

// ListEvents answers what happened after an event. Where nothing has, it may wait a while.
func (s *service) ListEvents(ctx context.Context, in *apiv1.EventQuery) (*apiv1.EventList, error) {
	limit, err := pageOf(in.Limit)
	if err != nil {
		return nil, err
	}
	from, err := after(in.GetAfter())
	if err != nil {
		return nil, err
	}
	wait := in.GetWait().AsDuration()
	if wait < 0 || wait > maxEventWait {
		return nil, sluice.Refuse(sluice.BadRequest, "wait %v: want 0s to %v", wait, maxEventWait)
	}
	events, err := s.eventsWithin(ctx, from, limit, wait)
	if events.Events == nil {
		events.Events = []sluice.Event{}
	}
	return reply[apiv1.EventList](events, err)
}

func (w *Worker) eventsWithin(ctx context.Context, from int64, limit int, wait time.Duration) (sluice.Events, error) {
	deadline := time.NewTimer(wait)
	defer deadline.Stop()
	if w.eventWaiters.Add(1) > maxEventWaiter {
		wait = 0
	}
	defer w.eventWaiters.Add(-1)
	for {
		events, err := w.Store.Events(ctx, from, limit)
		if err != nil || len(events.Events) > 0 || wait == 0 {
			return events, err
		}
		select {
		case <-time.After(eventInterval):
		case <-deadline.C:
			return events, nil
		case <-w.rpc.ctx.Done(): // the worker is stopping: waiting on would keep it
			return events, nil
		case <-ctx.Done():
			return events, context.Cause(ctx)
		}
	}
}

func (s *service) ListRefunds(ctx context.Context, in *apiv1.Backlog) (*apiv1.RefundList, error) {
	limit, err := pageOf(in.Limit)
	if err != nil {
		return nil, err
	}
	from, err := after(in.GetAfter())
	if err != nil {
		return nil, err
	}
	refunds, err := s.Store.Refunds(ctx, from, limit, in.GetAll())
	if err != nil {
		return nil, err
	}
	page := api.Refunds{Refunds: append([]inventory.Refund{}, refunds...)}
	if len(refunds) == limit {
		page.Next = refunds[limit-1].ID
	}
	return reply[apiv1.RefundList](page, nil)
}

func (s *service) GiveRefund(ctx context.Context, in *apiv1.RefundName) (*apiv1.Refund, error) {
	refund, err := s.Store.RefundGiven(ctx, in.GetId())
	if err == nil {
		s.logChange(ctx, "refund given", "refund", refund.ID, "order", refund.Order.String())
	}
	return reply[apiv1.Refund](refund, err)
}
