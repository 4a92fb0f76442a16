package worker

import (
	"context"
	"fmt"
	"math"
	"slices"

	"sluice"
	"sluice/api"
	apiv1 "sluice/api/v1"
	"sluice/inventory"
)

// ListWebhooks answers every endpoint, and how far each is behind.
func (s *service) ListWebhooks(ctx context.Context, _ *apiv1.Nothing) (*apiv1.WebhookList, error) {
	hooks, err := s.Store.Webhooks(ctx)
	if err != nil {
		return nil, err
	}
	positions, err := s.Store.Readers(ctx)
	if err != nil {
		return nil, err
	}
	newest, err := s.Store.Events(ctx, math.MaxInt64, 1)
	if err != nil {
		return nil, err
	}
	for i := range hooks {
		if position, read := positions["webhook:"+hooks[i].Name]; read {
			behind := max(0, newest.Newest-position)
			hooks[i].Behind = &behind
		}
	}
	return reply[apiv1.WebhookList](api.Webhooks{Webhooks: append([]sluice.Webhook{}, hooks...)}, nil)
}

// ResumeWebhook has an endpoint served again that answered 410.
func (s *service) ResumeWebhook(ctx context.Context, in *apiv1.WebhookName) (*apiv1.Webhook, error) {
	if err := s.Store.ResumeWebhook(ctx, in.GetName()); err != nil {
		return nil, err
	}
	s.logChange(ctx, "webhook resumed", "endpoint", in.GetName())
	return reply[apiv1.Webhook](s.webhook(ctx, in.GetName()))
}

func (w *Worker) webhook(ctx context.Context, name string) (sluice.Webhook, error) {
	hooks, err := w.Store.Webhooks(ctx)
	i := slices.IndexFunc(hooks, func(h sluice.Webhook) bool { return h.Name == name })
	if err == nil && i < 0 {
		err = inventory.NoWebhook(name)
	}
	if err != nil {
		return sluice.Webhook{}, err
	}
	return hooks[i], nil
}

// ListDeadDeliveries answers a page of what an endpoint did not take, without bodies.
func (s *service) ListDeadDeliveries(ctx context.Context, in *apiv1.DeadDeliveries) (*apiv1.DeliveryList, error) {
	limit, err := pageOf(in.Limit)
	if err != nil {
		return nil, err
	}
	from, err := after(in.GetAfter())
	if err != nil {
		return nil, err
	}
	dead, err := s.Store.ListDeliveries(ctx, in.GetName(), sluice.DeliveryDead, from, limit)
	if err == nil && len(dead) == 0 {
		_, err = s.webhook(ctx, in.GetName())
	}
	if err != nil {
		return nil, err
	}
	page := api.DeadDeliveries{Deliveries: append([]sluice.Delivery{}, dead...)}
	if len(dead) == limit {
		page.Next = dead[limit-1].Seq
	}
	return reply[apiv1.DeliveryList](page, nil)
}

// GetDeadDelivery answers one with its body.
func (s *service) GetDeadDelivery(ctx context.Context, in *apiv1.DeliveryName) (*apiv1.Delivery, error) {
	return reply[apiv1.Delivery](s.dead(ctx, in.GetName(), in.GetSeq()))
}

func (w *Worker) dead(ctx context.Context, name string, seq int64) (sluice.Delivery, error) {
	d, err := w.Store.Delivery(ctx, name, seq)
	if err == nil && d.State != sluice.DeliveryDead {
		err = inventory.NoDelivery(name, seq, "dead delivery")
	}
	if err != nil {
		return sluice.Delivery{}, err
	}
	return d, nil
}

// ReplayDeadDelivery has a dead one tried again.
func (s *service) ReplayDeadDelivery(ctx context.Context, in *apiv1.DeliveryName) (*apiv1.Delivery, error) {
	d, err := s.Store.ReplayDelivery(ctx, in.GetName(), in.GetSeq())
	if err == nil {
		s.logChange(ctx, "webhook's dead event replayed", "endpoint", in.GetName(), "event", in.GetSeq())
	}
	return reply[apiv1.Delivery](d, err)
}

// DropDeadDelivery forgets a dead one, and answers it.
func (s *service) DropDeadDelivery(ctx context.Context, in *apiv1.DeliveryName) (*apiv1.Delivery, error) {
	d, err := s.dead(ctx, in.GetName(), in.GetSeq())
	if err == nil {
		err = s.Store.DropDelivery(ctx, in.GetName(), in.GetSeq())
	}
	if err != nil {
		return nil, fmt.Errorf("drop: %w", err)
	}
	s.logChange(ctx, "webhook's dead event dropped", "endpoint", in.GetName(), "event", in.GetSeq())
	return reply[apiv1.Delivery](d, nil)
}
