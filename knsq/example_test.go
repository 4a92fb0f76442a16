package knsq_test

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/go-kratos/kratos/v2"
	"github.com/go-kratos/kratos/v2/log"
	"github.com/go-kratos/kratos/v2/middleware/logging"
	"github.com/go-kratos/kratos/v2/middleware/metadata"
	"github.com/go-kratos/kratos/v2/middleware/recovery"
	"github.com/go-kratos/kratos/v2/middleware/tracing"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"sluice/knsq"
)

// OrderPaid is an event of another service: of its fields this one names those that it needs.
type OrderPaid struct {
	Type  string `json:"type"`
	Order string `json:"order"`
	User  string `json:"user"`
	Units int    `json:"units"`
}

type points struct{ broker *knsq.Broker }

var errNoSuchBuyer = errors.New("no such buyer")

func (p *points) credit(ctx context.Context, e *OrderPaid) error {
	if e.Type != "order.paid" {
		return nil // of no interest: finished
	}
	if e.User == "" {
		return knsq.Permanent(errNoSuchBuyer)
	}
	// An error makes the message come again. It may come twice anyway: add by order, not by message.
	return p.broker.Publish(ctx, "points", map[string]any{"order": e.Order, "points": 10 * e.Units})
}

// A service that takes events and publishes others.
func Example() {
	logger := log.NewStdLogger(os.Stderr)
	broker, err := knsq.NewBroker(
		knsq.WithEndpoint("127.0.0.1:4150"),
		knsq.WithMiddleware(tracing.Client(), metadata.Client()),
	)
	if err != nil {
		log.NewHelper(logger).Fatal(err)
	}
	srv := knsq.NewServer(
		knsq.Address("127.0.0.1:4150"),
		knsq.Middleware(recovery.Recovery(), tracing.Server(), metadata.Server(), logging.Server(logger)),
		knsq.Timeout(10*time.Second),
		knsq.Logger(logger),
		knsq.AfterStop(broker.Close),
	)
	p := &points{broker}
	knsq.RegisterSubscriber(srv, "events", "points", p.credit, knsq.Workers(4), knsq.Version(1))

	app := kratos.New(kratos.Name("points"), kratos.Server(srv), kratos.StopTimeout(20*time.Second))
	if err := app.Run(); err != nil {
		log.NewHelper(logger).Error(err)
	}
}

// Batches are for stores that take many at once. A span of a batch can be linked to those of its messages.
func ExampleRegisterBatch() {
	var insert func(context.Context, []OrderPaid) error
	srv := knsq.NewServer(knsq.Address("10.0.0.1:4150", "10.0.0.2:4150"))
	sub := knsq.RegisterBatch(srv, "events", "archive",
		func(ctx context.Context, batch []*knsq.Delivery[OrderPaid]) error {
			rows := make([]OrderPaid, 0, len(batch))
			for _, d := range batch {
				if d.Value.Order == "" {
					d.Finish() // answered: what the handler returns is about the others
					continue
				}
				rows = append(rows, *d.Value)
				from := propagation.TraceContext{}.Extract(ctx, d.Header)
				trace.SpanFromContext(ctx).AddLink(trace.LinkFromContext(from))
			}
			return insert(ctx, rows)
		},
		knsq.Batch(500), knsq.Flush(50*time.Millisecond), knsq.MaxAttempts(0))

	sub.SetMaxInFlight(100) // at any time; 0 pauses
}
