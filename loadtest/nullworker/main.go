// Command nullworker is the service's worker over a store that keeps nothing: it settles every order at once, so that the cost
// of accepting and carrying orders shows without a database's. It proves nothing about a sale.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice"
	"sluice/worker"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "nullworker:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	cfg := worker.DefaultConfig()
	flag.StringVar(&cfg.NSQD, "nsqd", "127.0.0.1:4150", "nsqd's TCP address")
	flag.IntVar(&cfg.Pools[0].Batch, "batch", cfg.Pools[0].Batch, "most orders in one transaction")
	admin := flag.String("admin", "127.0.0.1:8081", "address of the operations API")
	keyFile := flag.String("id-key", "", "file with the key of order ids")
	flag.Parse()
	secret, err := os.ReadFile(*keyFile)
	if err != nil {
		return fmt.Errorf("id-key: %w", err)
	}
	keys, err := sluice.NewIDKey(bytes.TrimSpace(secret))
	if err != nil {
		return fmt.Errorf("id-key: %w", err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", *admin)
	if err != nil {
		return err
	}
	w, err := worker.New(cfg, worker.Parts{
		Store: newStore(), Keys: keys, Listener: l, Registry: prometheus.NewRegistry(),
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return errors.Join(err, l.Close())
	}
	return serve(ctx, w)
}

// serve runs the worker until ctx ends.
func serve(ctx context.Context, w *worker.Worker) error {
	served := make(chan error, 1)
	go func() { served <- w.Start(ctx) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return errors.Join(w.Stop(limited), <-served)
}
