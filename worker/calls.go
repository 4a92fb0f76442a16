package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"sluice"
	"sluice/api"
	apiv1 "sluice/api/v1"
	"sluice/internal/transcode"
	"sluice/inventory"
)

// service is the operations API, whichever way a call came in.
type service struct {
	apiv1.UnimplementedOperationsServer
	*Worker
}

// reply puts an answer of the domain into its message. Both have the same JSON: what a message can't hold is a defect, and
// becomes an error here instead of being left out.
func reply[M any, P interface {
	*M
	proto.Message
}](answer any, err error) (P, error) {
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(answer)
	if err != nil {
		return nil, fmt.Errorf("write the answer: %w", err)
	}
	m := P(new(M))
	if err := transcode.Unmarshal(text, m); err != nil {
		return nil, fmt.Errorf("the message has no place for an answer: %s", err.Error()) // not the caller's fault, whatever err says
	}
	return m, nil
}

// read puts a message into a body of the domain.
func read(in proto.Message, body any) error {
	text, err := transcode.Marshal(in)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, body); err != nil {
		return sluice.Refuse(sluice.BadRequest, "want times between the years 1 and 9999") // all else fits
	}
	return nil
}

// change tells the doors what a call did, also where it ends in an error: an overdue payment expires its hold.
func (w *Worker) change(c sluice.Changes, err error) (sluice.Changes, error) {
	w.announce(c)
	w.metrics.moved(c)
	return c, err
}

// changeSale tells the doors what a call did to a sale, and the log whose call it was.
func (w *Worker) changeSale(ctx context.Context, id, what string, c sluice.Changes, err error) (sluice.Sale, error) {
	sale, err := oneSale(w.change(c, err))
	if err == nil {
		w.logChange(ctx, "sale changed", "sale", id, "version", sale.Version, "change", bounded(what))
	}
	return sale, err
}

// logChange notes what an operator did.
func (w *Worker) logChange(ctx context.Context, event string, attributes ...any) {
	who := callerOf(ctx)
	w.Logger.Info(event, append([]any{"operator", who.operator, "remote", who.remote}, attributes...)...) //nolint:sloglint // each caller's is fixed
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

func (s *service) CreateSale(ctx context.Context, in *apiv1.NewSale) (*apiv1.Sale, error) {
	var n api.NewSale
	if err := read(in, &n); err != nil {
		return nil, err
	}
	sale := n.Sale()
	if err := sale.Validate(); err != nil {
		return nil, err
	}
	c, err := s.Store.CreateSale(ctx, sale)
	return reply[apiv1.Sale](s.changeSale(ctx, sale.ID, "create", c, err))
}

func (s *service) GetSale(ctx context.Context, in *apiv1.SaleName) (*apiv1.Sale, error) {
	id, err := saleOf(in.GetId())
	if err != nil {
		return nil, err
	}
	c, err := s.Store.Sales(ctx, id)
	if err == nil && len(c.Sales) == 0 {
		err = noSale(id)
	}
	return reply[apiv1.Sale](oneSale(c, err))
}

func (s *service) ChangeSale(ctx context.Context, in *apiv1.SalePatch) (*apiv1.Sale, error) {
	var patch sluice.SalePatch
	if err := read(in, &patch); err != nil {
		return nil, err
	}
	return s.patch(ctx, in.GetId(), patch)
}

func (s *service) PauseSale(ctx context.Context, in *apiv1.SaleName) (*apiv1.Sale, error) {
	return s.patch(ctx, in.GetId(), sluice.SalePatch{Paused: new(true)})
}

func (s *service) ResumeSale(ctx context.Context, in *apiv1.SaleName) (*apiv1.Sale, error) {
	return s.patch(ctx, in.GetId(), sluice.SalePatch{Paused: new(false)})
}

func (s *service) patch(ctx context.Context, name string, patch sluice.SalePatch) (*apiv1.Sale, error) {
	id, err := saleOf(name)
	if err != nil {
		return nil, err
	}
	what, err := json.Marshal(patch)
	if err != nil {
		return nil, fmt.Errorf("write the change: %w", err)
	}
	c, err := s.Store.PatchSale(ctx, id, patch)
	return reply[apiv1.Sale](s.changeSale(ctx, id, "set "+string(what), c, err))
}

func (s *service) TopUpSale(ctx context.Context, in *apiv1.TopUp) (*apiv1.Sale, error) {
	id, err := saleOf(in.GetId())
	if err != nil {
		return nil, err
	}
	c, err := s.Store.TopUp(ctx, id, in.GetUnits())
	return reply[apiv1.Sale](s.changeSale(ctx, id, fmt.Sprintf("top up by %d", in.GetUnits()), c, err))
}

func (s *service) EndSale(ctx context.Context, in *apiv1.SaleName) (*apiv1.Sale, error) {
	id, err := saleOf(in.GetId())
	if err != nil {
		return nil, err
	}
	c, err := s.Store.End(ctx, id)
	return reply[apiv1.Sale](s.changeSale(ctx, id, "end", c, err))
}

// ExtendHolds sees to it that no hold of a sale falls due too early, in as many transactions as it takes. All go by one
// time: what was extended stays so where a later one fails, and asking again moves nothing twice.
func (s *service) ExtendHolds(ctx context.Context, in *apiv1.Extension) (*apiv1.Extended, error) {
	id, err := saleOf(in.GetId())
	if err != nil {
		return nil, err
	}
	d := in.GetFor().AsDuration()
	if d <= 0 || d > inventory.MaxExtension {
		return nil, sluice.Refuse(sluice.BadRequest, "for %v: want more than 0s, and at most %v", d, inventory.MaxExtension)
	}
	clock, err := s.Store.Statuses(ctx, nil) // of no order: the store's time alone
	if err != nil {
		return nil, err
	}
	answer := api.Extended{Until: inventory.Micros(clock.Now.Add(d))}
	for more := true; more && err == nil; {
		var c sluice.Changes
		c, err = s.change(s.Store.ExtendHolds(ctx, id, answer.Until, extendChunk))
		answer.Extended += int64(len(c.Statuses))
		more = len(c.Statuses) == extendChunk
	}
	if answer.Extended > 0 || err == nil {
		s.logChange(ctx, "holds extended", "sale", id, "extended", answer.Extended, "until", answer.Until, "all", err == nil)
	}
	return reply[apiv1.Extended](answer, err)
}

// extendChunk is how many holds one transaction extends.
const extendChunk = 1000

// GetOrder answers a genuine order that the store does not know as queued: a door may have promised it.
func (s *service) GetOrder(ctx context.Context, in *apiv1.OrderName) (*apiv1.Status, error) {
	order, err := orderOf(in.GetId())
	if err != nil {
		return nil, err
	}
	c, err := s.Store.Statuses(ctx, []sluice.OrderID{order})
	if err == nil && len(c.Statuses) == 0 {
		return reply[apiv1.Status](s.queued(order))
	}
	return reply[apiv1.Status](oneStatus(c, err))
}

// queued is the status of an order that the store does not know.
func (w *Worker) queued(order sluice.OrderID) (sluice.Status, error) {
	if !w.Keys.Genuine(order) {
		return sluice.Status{}, sluice.Refuse(sluice.NoSuchOrder, "order %s was never issued", order)
	}
	return sluice.Status{Order: order, State: sluice.Queued, Version: 1}, nil
}

// TraceOrder answers all that the store has of an order, and what happened to it.
func (s *service) TraceOrder(ctx context.Context, in *apiv1.OrderName) (*apiv1.Trace, error) {
	order, err := orderOf(in.GetId())
	if err != nil {
		return nil, err
	}
	t := api.Trace{Events: []sluice.Event{}}
	switch record, err := s.Store.Order(ctx, order); {
	case err == nil:
		t.Order = api.OrderOf(record)
	case sluice.RefusalOf(err) != sluice.NoSuchOrder:
		return nil, err
	default:
		if t.Order.Status, err = s.queued(order); err != nil {
			return nil, err
		}
		return reply[apiv1.Trace](t, nil)
	}
	events, err := s.Store.OrderEvents(ctx, order)
	t.Events = append(t.Events, events...)
	return reply[apiv1.Trace](t, err)
}

func (s *service) PayOrder(ctx context.Context, in *apiv1.Payment) (*apiv1.Status, error) {
	order, err := orderOf(in.GetId())
	if err != nil {
		return nil, err
	}
	return reply[apiv1.Status](oneStatus(s.change(s.Store.Pay(ctx, order, in.GetPaymentRef()))))
}

func (s *service) CancelOrder(ctx context.Context, in *apiv1.OrderName) (*apiv1.Status, error) {
	order, err := orderOf(in.GetId())
	if err != nil {
		return nil, err
	}
	return reply[apiv1.Status](oneStatus(s.change(s.Store.Cancel(ctx, order))))
}

func (s *service) Audit(ctx context.Context, _ *apiv1.Nothing) (*apiv1.Ledger, error) {
	return reply[apiv1.Ledger](s.Store.Audit(ctx))
}

// facts leaves out sales that ended long ago: what doors poll must not grow with a shop's history (P9).
func (w *Worker) facts(ctx context.Context, in *api.Door) (api.Facts, error) {
	if err := w.checkDoor(in); err != nil {
		return api.Facts{}, err
	}
	pace := w.setPace()
	var err error
	if pace.Bounds, err = w.doors.heard(time.Now(), in); err != nil {
		return api.Facts{}, err
	}
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

func (w *Worker) statuses(ctx context.Context, in *api.Statuses) (sluice.Changes, error) {
	if len(in.Orders) > api.MaxStatuses {
		return sluice.Changes{}, sluice.Refuse(sluice.BadRequest, "%d orders: want at most %d", len(in.Orders), api.MaxStatuses)
	}
	return w.Store.Statuses(ctx, in.Orders)
}

func saleOf(id string) (string, error) {
	if !sluice.ValidSaleID(id) {
		return "", noSale(id)
	}
	return id, nil
}

func noSale(id string) error { return sluice.Refuse(sluice.NoSuchSale, "%.80q is no sale", id) }

func orderOf(id string) (sluice.OrderID, error) {
	order, err := sluice.ParseOrderID(id)
	if err != nil {
		return order, sluice.Refuse(sluice.NoSuchOrder, "%v", err)
	}
	return order, nil
}
