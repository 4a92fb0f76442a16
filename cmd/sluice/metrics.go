package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"sluice/config"
	"sluice/worker"
)

// newMetricsPart serves a door's metrics apart from its buyers, guarded as the operations API is. Beyond loopback they ask
// for an operator's token; on loopback, where the door has one for the worker only, just pages are turned away.
func newMetricsPart(cfg config.Config, registry *prometheus.Registry, log *slog.Logger) (part, error) {
	operators, err := readOperators(cfg)
	if err != nil {
		return part{}, err
	}
	cert, err := loadAdminCertificate(cfg, log)
	if err != nil {
		return part{}, err
	}
	l, err := listen(cfg.Metrics, "metrics")
	if err != nil {
		return part{}, err
	}
	if len(operators) == 0 && !loopback(l) {
		return part{}, errors.Join(l.Close(), &usageError{fmt.Errorf("metrics %q listens beyond loopback: give it --admin-token-file", cfg.Metrics)})
	}
	if loopback(l) {
		operators = nil // the door's token is for the worker; who is on this machine needs none for figures
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	srv := &http.Server{
		Handler: worker.Guard(operators, mux), TLSConfig: cert.config(),
		ErrorLog:          worker.HTTPLog(log),
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 8 << 10,
	}
	return part{"metrics", func(ctx context.Context) error {
		defer cert.following(ctx)()
		defer context.AfterFunc(ctx, func() { _ = srv.Close() })()
		serve := srv.Serve
		if cert != nil {
			serve = func(l net.Listener) error { return srv.ServeTLS(l, "", "") }
		}
		if err := serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	}}, nil
}
