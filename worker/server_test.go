package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/go-kratos/kratos/v2/middleware"
	"github.com/go-kratos/kratos/v2/transport"
	dto "github.com/prometheus/client_model/go"

	"sluice"
	"sluice/knsq"
	"sluice/queue"
)

// around puts a middleware around the drain.
func around(m middleware.Middleware) func(*Parts) {
	return func(p *Parts) { p.Middleware = []middleware.Middleware{m} }
}

// measured answers what the registry holds of one metric.
func (s *shop) measured(name string) []*dto.Metric {
	s.t.Helper()
	families, err := s.registry.Gather()
	must(s.t, err)
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()
		}
	}
	return nil
}

func labels(m *dto.Metric) string {
	var all []string
	for _, l := range m.GetLabel() {
		all = append(all, l.GetName()+"="+l.GetValue())
	}
	return strings.Join(all, " ")
}

func TestDrain_RunsKratosMiddlewaresOnceABatch(t *testing.T) {
	var batches atomic.Int64
	var seen sync.Map // what the middleware was told of its batches
	s := newShop(t, nil, around(func(next middleware.Handler) middleware.Handler {
		return func(ctx context.Context, req any) (any, error) {
			batches.Add(1)
			tr, ok := transport.FromServerContext(ctx)
			if !ok || !strings.HasPrefix(fmt.Sprint(req), "batch of ") {
				t.Errorf("the middleware gets %.100v, with a transport: %t", req, ok)
				return next(ctx, req)
			}
			seen.Store(tr.Kind().String()+" "+tr.Operation(), true)
			return next(ctx, req)
		}
	}))
	s.open(`{"id":"demo","stock":10000,"payment_window":"0s"}`)
	s.placeMany(0, 2000)
	s.eventually("all are settled", func() bool { return s.heard() == 2000 })
	if _, ok := seen.Load("nsq /orders/settle"); !ok {
		t.Error("no batch of nsq /orders/settle was seen")
	}
	if n := batches.Load(); n < 1 || n > 1000 {
		t.Errorf("%d calls for 2000 orders: want one a batch", n)
	}
	s.eventually("Kratos' metrics count the same batches", func() bool {
		counted, timed := s.measured("sluice_worker_drain_batches_total"), s.measured("sluice_worker_drain_seconds")
		return len(counted) == 1 && len(timed) == 1 &&
			labels(counted[0]) == "code=200 kind=nsq operation=/orders/settle reason=" &&
			int64(counted[0].GetCounter().GetValue()) == batches.Load() &&
			int64(timed[0].GetHistogram().GetSampleCount()) == batches.Load()
	})
}

// P3: what a middleware turns away is not lost, and what it gives up is kept for the operator.
func TestDrain_WhatAMiddlewareRefusesComesAgain(t *testing.T) {
	var calls atomic.Int64
	s := newShop(t, nil, around(func(next middleware.Handler) middleware.Handler {
		return func(ctx context.Context, req any) (any, error) {
			if calls.Add(1) == 1 {
				return nil, errors.New("not now")
			}
			return next(ctx, req)
		}
	}))
	s.open(`{"id":"demo","stock":100,"payment_window":"0s"}`)
	s.place("a", "b")
	s.settled("a", sluice.Paid)
	s.settled("b", sluice.Paid)
	if n := calls.Load(); n < 2 {
		t.Errorf("%d calls, want the refused one and another", n)
	}
}

func TestDrain_WhatAMiddlewareGivesUpIsADeadLetter(t *testing.T) {
	s := newShop(t, nil, around(func(middleware.Handler) middleware.Handler {
		return func(context.Context, any) (any, error) { return nil, knsq.Permanent(errors.New("never")) }
	}))
	s.open(`{"id":"demo","stock":100,"payment_window":"0s"}`)
	s.place("a")
	s.settled("a", sluice.Failed)
	letters, err := s.store.Letters(t.Context(), 0, 10, true)
	if err != nil || len(letters) != 1 || !strings.Contains(letters[0].Error, "never") || letters[0].Order != s.order("a").ID {
		t.Errorf("dead letters %+v, %v", letters, err)
	}

	forged := s.order("b")
	forged.User = "c"
	s.orders.Publish(forged.ID, queue.AppendOrder(nil, forged))
	s.eventually("a forged one, too", func() bool {
		letters, err = s.store.Letters(t.Context(), 0, 10, true)
		return err == nil && len(letters) == 2
	})
	if letters[1].Order != (sluice.OrderID{}) {
		t.Errorf("%+v: the order that it says it is must not fail for it", letters[1])
	}
}

// A panic is the fault of the order that it comes of, and ends neither the process nor the probe of a store that was away.
func TestDrain_APanicIsAnOrdersFailure(t *testing.T) {
	s := newShop(t, nil)
	s.open(`{"id":"demo","stock":100,"payment_window":"0s"}`)
	s.store.set(func(s *troubled) { s.panics, s.down = "p", true })
	s.place("a", "b", "p", "c", "d")
	s.eventually("the store was asked in vain", func() bool { return s.store.pings.Load() >= 2 })
	s.store.set(func(s *troubled) { s.down = false })
	for _, u := range []string{"a", "b", "c", "d"} {
		s.settled(u, sluice.Paid)
	}
	s.settled("p", sluice.Failed)
	for _, m := range s.measured("sluice_worker_drain_batches_total") {
		if strings.Contains(labels(m), "code=500") {
			return
		}
	}
	t.Errorf("no batch is counted as failed: %v", s.measured("sluice_worker_drain_batches_total"))
}
