package api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"sluice"
)

// Webhooks is every endpoint of the workers.
type Webhooks struct {
	Webhooks []sluice.Webhook `json:"webhooks"`
}

// DeadDeliveries is one page of what an endpoint did not take, without bodies.
type DeadDeliveries struct {
	Deliveries []sluice.Delivery `json:"deliveries"`
	Next       int64             `json:"next,omitempty"` // where the page after begins; 0: this is the last one
}

// Webhooks reads how the endpoints do.
func (c *Client) Webhooks(ctx context.Context) (hooks Webhooks, err error) {
	return hooks, c.do(ctx, http.MethodGet, PathWebhooks, nil, &hooks)
}

// ResumeWebhook has a disabled endpoint served again.
func (c *Client) ResumeWebhook(ctx context.Context, name string) (hook sluice.Webhook, err error) {
	return hook, c.do(ctx, http.MethodPost, webhookPath(name)+"/resume", nil, &hook)
}

// DeadDeliveries reads a page of what an endpoint did not take, after the one numbered after.
func (c *Client) DeadDeliveries(ctx context.Context, name string, after int64, limit int) (page DeadDeliveries, err error) {
	return page, c.do(ctx, http.MethodGet, fmt.Sprintf("%s/dead?after=%d&limit=%d", webhookPath(name), after, limit), nil, &page)
}

// DeadDelivery reads one with its body.
func (c *Client) DeadDelivery(ctx context.Context, name string, seq int64) (d sluice.Delivery, err error) {
	return d, c.do(ctx, http.MethodGet, deadPath(name, seq), nil, &d)
}

// ReplayDelivery has a dead one tried again.
func (c *Client) ReplayDelivery(ctx context.Context, name string, seq int64) (d sluice.Delivery, err error) {
	return d, c.do(ctx, http.MethodPost, deadPath(name, seq)+"/replay", nil, &d)
}

// DropDelivery forgets a dead one, and answers it.
func (c *Client) DropDelivery(ctx context.Context, name string, seq int64) (d sluice.Delivery, err error) {
	return d, c.do(ctx, http.MethodDelete, deadPath(name, seq), nil, &d)
}

func webhookPath(name string) string { return PathWebhooks + "/" + url.PathEscape(name) }

func deadPath(name string, seq int64) string {
	return fmt.Sprintf("%s/dead/%d", webhookPath(name), seq)
}
