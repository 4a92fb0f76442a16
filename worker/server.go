package worker

import (
	"fmt"

	"github.com/go-kratos/kratos/v2/middleware"
	kmetrics "github.com/go-kratos/kratos/v2/middleware/metrics"
	"github.com/go-kratos/kratos/v2/middleware/recovery"
	"github.com/prometheus/client_golang/prometheus"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"sluice/knsq"
)

// newDrain is the Kratos server of all pools. Middlewares run once a batch: Kratos' metrics first, so that they see every
// failure, then the parts' own, then Kratos' recovery.
func (w *Worker) newDrain() (*knsq.Server, error) {
	measured, err := measure(w.Registry)
	if err != nil {
		return nil, fmt.Errorf("metrics of the drain: %w", err)
	}
	around := append([]middleware.Middleware{measured}, w.Middleware...)
	return knsq.NewServer(
		knsq.Address(w.cfg.NSQD), knsq.TLS(w.cfg.NSQDTLS), knsq.Slog(w.Logger), knsq.Middleware(append(around, recovery.Recovery())...),
	), nil
}

// measure is Kratos' metrics middleware for a registry of Prometheus.
func measure(reg *prometheus.Registry) (middleware.Middleware, error) {
	exporter, err := otelprom.New(otelprom.WithRegisterer(reg), otelprom.WithNamespace("sluice_worker"),
		otelprom.WithoutScopeInfo(), otelprom.WithoutTargetInfo())
	if err != nil {
		return nil, err
	}
	meter := sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter)).Meter("sluice/worker")
	batches, err := meter.Int64Counter("drain_batches", metric.WithDescription("Batches of messages, by what came of them."))
	if err != nil {
		return nil, err
	}
	took, err := meter.Float64Histogram("drain", metric.WithUnit("s"), metric.WithDescription("Time to handle one batch, pacing included."),
		metric.WithExplicitBucketBoundaries(prometheus.ExponentialBuckets(0.0005, 2, 15)...))
	if err != nil {
		return nil, err
	}
	return kmetrics.Server(kmetrics.WithRequests(batches), kmetrics.WithSeconds(took)), nil
}
