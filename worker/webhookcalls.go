package worker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	khttp "github.com/go-kratos/kratos/v2/transport/http"

	"sluice"
	"sluice/api"
	"sluice/inventory"
)

func (w *Worker) webhookRoutes(r *khttp.Router) {
	dead := api.PathWebhooks + "/{name}/dead"
	r.GET(api.PathWebhooks, handle(http.StatusOK, w.listWebhooks))
	r.POST(api.PathWebhooks+"/{name}/resume", handle(http.StatusOK, inPath(w.resumeWebhook)))
	r.GET(dead, handle(http.StatusOK, inPath(w.listDead)))
	r.GET(dead+"/{seq}", handle(http.StatusOK, inPath(w.getDead)))
	r.POST(dead+"/{seq}/replay", handle(http.StatusOK, inPath(w.replayDead)))
	r.DELETE(dead+"/{seq}", handle(http.StatusOK, inPath(w.dropDead)))
}

// inPath reads which endpoint, and which of its deliveries, a call is about: /v1/webhooks/{name}/dead/{seq}.
func inPath[Out any](do func(ctx context.Context, name string, seq int64) (Out, error)) func(context.Context, string, *none) (Out, error) {
	return func(ctx context.Context, _ string, _ *none) (out Out, err error) {
		r, ok := khttp.RequestFromServerContext(ctx)
		if !ok {
			return out, errors.New("no request behind the call")
		}
		parts := strings.Split(strings.TrimPrefix(r.URL.EscapedPath(), api.PathWebhooks+"/"), "/")
		name, err := url.PathUnescape(parts[0])
		if err != nil {
			return out, inventory.NoWebhook(parts[0])
		}
		var seq int64
		if len(parts) > 2 {
			if seq, err = strconv.ParseInt(parts[2], 10, 64); err != nil || seq < 1 {
				return out, sluice.Refuse(sluice.NotFound, "%.80q: want the number of an event", parts[2])
			}
		}
		return do(ctx, name, seq)
	}
}

// listWebhooks answers every endpoint, and how far each is behind where the store has events.
func (w *Worker) listWebhooks(ctx context.Context, _ string, _ *none) (api.Webhooks, error) {
	hooks, err := w.Store.Webhooks(ctx)
	if err != nil {
		return api.Webhooks{}, err
	}
	positions, err := w.Store.Readers(ctx)
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return api.Webhooks{}, err
	}
	if len(positions) > 0 {
		newest, err := w.Store.Events(ctx, math.MaxInt64, 1)
		if err != nil {
			return api.Webhooks{}, err
		}
		for i := range hooks {
			if position, read := positions["webhook:"+hooks[i].Name]; read {
				behind := max(0, newest.Newest-position)
				hooks[i].Behind = &behind
			}
		}
	}
	return api.Webhooks{Webhooks: append([]sluice.Webhook{}, hooks...)}, nil
}

func (w *Worker) resumeWebhook(ctx context.Context, name string, _ int64) (sluice.Webhook, error) {
	if err := w.Store.ResumeWebhook(ctx, name); err != nil {
		return sluice.Webhook{}, err
	}
	w.changed(ctx, "webhook resumed", name, 0)
	return w.webhook(ctx, name)
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

func (w *Worker) listDead(ctx context.Context, name string, _ int64) (api.DeadDeliveries, error) {
	after, limit, err := pageInQuery(ctx)
	if err != nil {
		return api.DeadDeliveries{}, err
	}
	page, err := w.Store.ListDeliveries(ctx, name, sluice.DeliveryDead, after, limit)
	if err == nil && len(page) == 0 {
		_, err = w.webhook(ctx, name)
	}
	return api.DeadDeliveries{Deliveries: append([]sluice.Delivery{}, page...)}, err
}

// pageInQuery reads ?after=SEQ&limit=N.
func pageInQuery(ctx context.Context) (after int64, limit int, err error) {
	r, ok := khttp.RequestFromServerContext(ctx)
	if !ok {
		return 0, 0, errors.New("no request behind the call")
	}
	limit = api.DefaultPage
	for name, values := range r.URL.Query() {
		n, err := strconv.ParseInt(values[0], 10, 64)
		switch {
		case name == "after" && err == nil && n >= 0:
			after = n
		case name == "limit" && err == nil && n >= 1 && n <= api.MaxPage:
			limit = int(n)
		default:
			return 0, 0, sluice.Refuse(sluice.BadRequest, "%.80q: want ?after=SEQ&limit=N, a limit of at most %d", name+"="+values[0], api.MaxPage)
		}
	}
	return after, limit, nil
}

func (w *Worker) getDead(ctx context.Context, name string, seq int64) (sluice.Delivery, error) {
	d, err := w.Store.Delivery(ctx, name, seq)
	if err == nil && d.State != sluice.DeliveryDead {
		err = inventory.NoDelivery(name, seq, "dead delivery")
	}
	if err != nil {
		return sluice.Delivery{}, err
	}
	return d, nil
}

func (w *Worker) replayDead(ctx context.Context, name string, seq int64) (sluice.Delivery, error) {
	d, err := w.Store.ReplayDelivery(ctx, name, seq)
	if err == nil {
		w.changed(ctx, "webhook's dead event replayed", name, seq)
	}
	return d, err
}

func (w *Worker) dropDead(ctx context.Context, name string, seq int64) (sluice.Delivery, error) {
	d, err := w.getDead(ctx, name, seq)
	if err == nil {
		err = w.Store.DropDelivery(ctx, name, seq)
	}
	if err != nil {
		return sluice.Delivery{}, fmt.Errorf("drop: %w", err)
	}
	w.changed(ctx, "webhook's dead event dropped", name, seq)
	return d, nil
}

// changed logs who changed something of an endpoint.
func (w *Worker) changed(ctx context.Context, what, endpoint string, seq int64) {
	who := callerOf(ctx)
	w.Logger.Info("webhooks changed", "operator", who.operator, "remote", who.remote, "change", what, "endpoint", endpoint, "event", seq)
}
