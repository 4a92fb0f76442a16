package worker

import (
	"context"
	"slices"
	"time"

	"sluice"
	"sluice/api"
)

// change tells the doors what a call did, also where it ends in an error: an overdue payment expires its hold.
func (w *Worker) change(c sluice.Changes, err error) (sluice.Changes, error) {
	w.announce(c)
	w.metrics.moved(c)
	return c, err
}

// oneSale picks the sale that a change was about.
func oneSale(c sluice.Changes, err error) (sluice.Sale, error) {
	if err != nil {
		return sluice.Sale{}, err
	}
	return c.Sales[0], nil
}

// oneStatus picks the order that a change was about.
func oneStatus(c sluice.Changes, err error) (sluice.Status, error) {
	if err != nil {
		return sluice.Status{}, err
	}
	return c.Statuses[0], nil
}

func (w *Worker) createSale(ctx context.Context, _ string, in *api.NewSale) (sluice.Sale, error) {
	sale := in.Sale()
	if err := sale.Validate(); err != nil {
		return sluice.Sale{}, err
	}
	return oneSale(w.change(w.Store.CreateSale(ctx, sale)))
}

func (w *Worker) listSales(ctx context.Context, _ string, _ *none) (sluice.Changes, error) {
	return w.Store.Sales(ctx)
}

func (w *Worker) getSale(ctx context.Context, id string, _ *none) (sluice.Sale, error) {
	c, err := w.Store.Sales(ctx, id)
	if err == nil && len(c.Sales) == 0 {
		err = sluice.Refuse(sluice.NoSuchSale, "%.80q is no sale", id)
	}
	return oneSale(c, err)
}

func (w *Worker) topUp(ctx context.Context, id string, in *api.TopUp) (sluice.Sale, error) {
	return oneSale(w.change(w.Store.TopUp(ctx, id, in.Units)))
}

func (w *Worker) endSale(ctx context.Context, id string, _ *none) (sluice.Sale, error) {
	return oneSale(w.change(w.Store.End(ctx, id)))
}

// getOrder answers a genuine order that the store does not know as queued: a door may have promised it.
func (w *Worker) getOrder(ctx context.Context, id string, _ *none) (sluice.Status, error) {
	order, err := orderOf(id)
	if err != nil {
		return sluice.Status{}, err
	}
	c, err := w.Store.Statuses(ctx, []sluice.OrderID{order})
	if err == nil && len(c.Statuses) == 0 {
		if !w.Keys.Genuine(order) {
			return sluice.Status{}, sluice.Refuse(sluice.NoSuchOrder, "order %s was never issued", id)
		}
		return sluice.Status{Order: order, State: sluice.Queued, Version: 1}, nil
	}
	return oneStatus(c, err)
}

func (w *Worker) payOrder(ctx context.Context, id string, in *api.Pay) (sluice.Status, error) {
	order, err := orderOf(id)
	if err != nil {
		return sluice.Status{}, err
	}
	return oneStatus(w.change(w.Store.Pay(ctx, order, in.PaymentRef)))
}

func (w *Worker) cancelOrder(ctx context.Context, id string, _ *none) (sluice.Status, error) {
	order, err := orderOf(id)
	if err != nil {
		return sluice.Status{}, err
	}
	return oneStatus(w.change(w.Store.Cancel(ctx, order)))
}

func (w *Worker) audit(ctx context.Context, _ string, _ *none) (sluice.Audit, error) {
	return w.Store.Audit(ctx)
}

// facts leaves out sales that ended long ago: what doors poll must not grow with a shop's history (P9).
func (w *Worker) facts(ctx context.Context, _ string, in *api.Door) (api.Facts, error) {
	pace := w.setPace()
	pace.Bounds = w.doors.heard(time.Now(), in.Door, in.Bound)
	c, err := w.Store.Sales(ctx)
	if err != nil {
		return api.Facts{}, err
	}
	long := c.Now.Add(-api.EndedSalesKept)
	c.Sales = slices.DeleteFunc(c.Sales, func(s sluice.Sale) bool { return !s.EndsAt.IsZero() && s.EndsAt.Before(long) })
	limits, err := w.newLimits(ctx, in.LimitsVersion)
	return api.Facts{Changes: c, Pace: pace, Limits: limits}, err
}

// newLimits answers the limits where a door has others. Limits that can't be read keep no facts from a door that has some: it
// goes by those. A door that has none must not begin without a block that is in force.
func (w *Worker) newLimits(ctx context.Context, known int64) (*sluice.Limits, error) {
	l, err := w.limits(ctx)
	if err != nil {
		w.complain.Do(func() { w.Logger.Error("the limits could not be read; doors go by those that they have", "error", err) })
		if known == 0 {
			return nil, err
		}
		return nil, nil
	}
	if l.Version == known {
		return nil, nil
	}
	return &l, nil
}

func (w *Worker) statuses(ctx context.Context, _ string, in *api.Statuses) (sluice.Changes, error) {
	if len(in.Orders) > api.MaxStatuses {
		return sluice.Changes{}, sluice.Refuse(sluice.BadRequest, "%d orders: want at most %d", len(in.Orders), api.MaxStatuses)
	}
	return w.Store.Statuses(ctx, in.Orders)
}

func orderOf(id string) (sluice.OrderID, error) {
	order, err := sluice.ParseOrderID(id)
	if err != nil {
		return order, sluice.Refuse(sluice.NoSuchOrder, "%v", err)
	}
	return order, nil
}
