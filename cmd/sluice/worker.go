package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/go-kratos/kratos/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"sluice/config"
	"sluice/inventory"
	"sluice/inventory/postgres"
	"sluice/inventory/sqlite"
	"sluice/worker"
)

// workerKeys are the settings of the worker's own work, wherever it runs.
var workerKeys = []string{
	"drain-rate", "drain-workers", "batch", "flush", "window", "pools", "events-channels", "events-backlog", "events-retention",
	"webhooks-file",
}

func workerCommand() *cobra.Command {
	return serviceCommand("worker", "Settle orders, and serve the operations API",
		"  sluice worker --nsqd 127.0.0.1:4150 --store postgres://shop@127.0.0.1/shop --id-key id.key",
		append([]string{"nsqd", "nsqd-http", "admin", "store", "data", "id-key", "admin-token-file"}, workerKeys...),
		func(ctx context.Context, cfg config.Config, log *slog.Logger) error {
			if err := needIDKey(cfg); err != nil {
				return err
			}
			l, err := prepareWorker(cfg)
			if err != nil {
				return err
			}
			log.Info("operations API", "url", "http://"+l.Addr().String())
			return runParts(ctx, workerPart(cfg, cfg.NSQD, nsqdHTTP(cfg.NSQDHTTP, cfg.NSQD), l, newRegistry(), log))
		})
}

// prepareWorker checks and makes what a worker needs before it runs, and answers where its operators will find it.
func prepareWorker(cfg config.Config) (net.Listener, error) {
	if err := checkStore(cfg); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Data, 0o700); err != nil {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	return listenAdmin(cfg)
}

// listenAdmin listens for operators. Beyond loopback they must show a token.
func listenAdmin(cfg config.Config) (net.Listener, error) {
	if strings.Contains(cfg.Admin, "://") {
		return nil, &usageError{fmt.Errorf("admin %q: want host:port to listen on, not a URL", cfg.Admin)}
	}
	l, err := listen(cfg.Admin, "admin")
	if err != nil {
		return nil, err
	}
	if cfg.TokenFile == "" && !loopback(l) {
		return nil, errors.Join(l.Close(), &usageError{fmt.Errorf("admin %q listens beyond loopback: give it --admin-token-file", cfg.Admin)})
	}
	return l, nil
}

// loopback reports whether only this machine can reach a listener.
func loopback(l net.Listener) bool { return l.Addr().(*net.TCPAddr).IP.IsLoopback() }

// listen opens a port, and says which setting to change where it can't.
func listen(address, key string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w (choose another with --%s)", key, address, err, key)
	}
	return l, nil
}

// workerPart opens the store, waiting for it if need be, and runs the worker as a Kratos app.
func workerPart(cfg config.Config, nsqd, nsqdHTTP string, l net.Listener, registry *prometheus.Registry, log *slog.Logger) part {
	log = log.With("part", "worker")
	return part{"worker", func(ctx context.Context) error {
		operators, err := readOperators(cfg)
		if err != nil {
			return errors.Join(err, l.Close())
		}
		endpoints, err := loadWebhooks(cfg)
		if err != nil {
			return errors.Join(err, l.Close())
		}
		keys, err := loadIDKey(cfg)
		if err != nil {
			return errors.Join(err, l.Close())
		}
		store, l, err := openStore(ctx, cfg, l, log)
		if err != nil || store == nil {
			return err
		}
		wc := worker.DefaultConfig()
		wc.NSQD, wc.NSQDHTTP, wc.Operators, wc.Pools = nsqd, nsqdHTTP, operators, poolConfigs(cfg)
		wc.EventChannels, wc.EventBacklog, wc.EventRetention = cfg.EventChannels, cfg.EventBacklog, cfg.EventRetention
		w, err := worker.New(wc, worker.Parts{Store: store, Keys: keys, Listener: l, Logger: log, Registry: registry})
		if err != nil {
			return errors.Join(err, store.Close(), l.Close())
		}
		err = withWebhooks(ctx, store, endpoints, log, registry, func() error {
			return worker.Run(ctx, w, kratos.StopTimeout(stopWithin-2*time.Second), kratos.Signal(noSignal{}))
		})
		return errors.Join(err, store.Close())
	}}
}

// noSignal keeps Kratos from listening to signals, which is main's: without any signal it would listen to all.
type noSignal struct{}

func (noSignal) Signal()        {}
func (noSignal) String() string { return "none" }

// openStore opens the inventory. A database that is down is waited for, and the port says so meanwhile. A nil store
// without an error means that ctx ended first.
func openStore(ctx context.Context, cfg config.Config, l net.Listener, log *slog.Logger) (inventory.Store, net.Listener, error) {
	store, err := tryStore(ctx, cfg)
	if err == nil || !errors.Is(err, inventory.ErrUnavailable) {
		return storeOrClose(store, l, err)
	}
	log.Warn("waiting for the store", "error", err)
	waiting := worker.ServeWaiting(l, log)
	for ctx.Err() == nil && errors.Is(err, inventory.ErrUnavailable) {
		pause(ctx, time.Second)
		store, err = tryStore(ctx, cfg)
	}
	waiting()
	if ctx.Err() != nil {
		return nil, nil, nil //nolint:nilerr // told to stop before there was a store
	}
	log.Info("the store is there", "error", err)
	if err != nil {
		return nil, nil, err
	}
	l, err = listen(l.Addr().String(), "admin")
	return storeOrClose(store, l, err)
}

func storeOrClose(store inventory.Store, l net.Listener, err error) (inventory.Store, net.Listener, error) {
	if err == nil {
		return store, l, nil
	}
	if l != nil {
		err = errors.Join(err, l.Close())
	}
	if store != nil {
		err = errors.Join(err, store.Close())
	}
	return nil, nil, err
}

// checkStore tells a database URL that can't be understood from one that can't be reached.
func checkStore(cfg config.Config) error {
	if cfg.Store == config.SQLite {
		return nil
	}
	if err := postgres.CheckURL(cfg.Store); err != nil {
		return &usageError{fmt.Errorf("store: %w", err)}
	}
	return nil
}

func tryStore(ctx context.Context, cfg config.Config) (inventory.Store, error) {
	if cfg.Store == config.SQLite {
		return asStore(sqlite.Open(ctx, inData(cfg, "inventory.db")))
	}
	return asStore(postgres.Open(ctx, cfg.Store))
}

// asStore keeps a nil pointer from becoming an interface that is not nil.
func asStore[S inventory.Store](s S, err error) (inventory.Store, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}
