// Package kit is what the example services share, and what every shop has of its own: a database file and figures. It
// knows nothing of orders.
package kit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"

	"github.com/go-kratos/kratos/v2/middleware"
	"github.com/go-kratos/kratos/v2/middleware/metrics"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/sdk/metric"
	_ "modernc.org/sqlite" // database/sql driver "sqlite"
)

// Open opens a SQLite file, that several processes may share, and makes the tables of schema where they are missing. What
// is committed is on disk.
func Open(ctx context.Context, file, schema string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", "file:"+file+"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1) // one writer at a time is all that SQLite has
	if _, err := db.ExecContext(ctx, schema); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", file, err), db.Close())
	}
	return db, nil
}

// Metrics is Kratos' middleware that counts and times requests and messages, and the handler that shows Prometheus the
// figures.
func Metrics(service string) (middleware.Middleware, http.Handler, error) {
	exporter, err := prometheus.New()
	if err != nil {
		return nil, nil, err
	}
	meter := metric.NewMeterProvider(metric.WithReader(exporter)).Meter(service)
	requests, err := metrics.DefaultRequestsCounter(meter, metrics.DefaultServerRequestsCounterName)
	if err != nil {
		return nil, nil, err
	}
	seconds, err := metrics.DefaultSecondsHistogram(meter, metrics.DefaultServerSecondsHistogramName)
	if err != nil {
		return nil, nil, err
	}
	return metrics.Server(metrics.WithRequests(requests), metrics.WithSeconds(seconds)), promhttp.Handler(), nil
}
