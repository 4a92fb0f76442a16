package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
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
	"trust-store-network", "drain-rate", "drain-workers", "batch", "flush", "window", "pools", "events-channels", "events-backlog", "events-retention",
	"webhooks-file", "admin-connections",
}

// adminServerKeys are the settings of TLS of the operations API.
var adminServerKeys = []string{"admin-tls-cert", "admin-tls-key"}

func workerCommand() *cobra.Command {
	return serviceCommand("worker", "Settle orders, and serve the operations API",
		"  sluice worker --nsqd 127.0.0.1:4150 --store postgres://shop@127.0.0.1/shop --id-key id.key",
		slices.Concat([]string{"nsqd", "nsqd-http", "admin", "store", "data", "id-key", "admin-token-file"}, workerKeys, adminServerKeys, nsqdClientKeys),
		func(ctx context.Context, cfg config.Config, log *slog.Logger) error {
			if err := needIDKey(cfg); err != nil {
				return err
			}
			nsqd, err := nsqdOf(cfg)
			if err != nil {
				return err
			}
			admin, err := prepareWorker(cfg, log)
			if err != nil {
				return err
			}
			log.Info("operations API", "url", admin.url())
			return runParts(ctx, workerPart(cfg, nsqd, admin, newRegistry(), log))
		})
}

// prepareWorker checks and makes what a worker needs before it runs, and answers where its operators will find it.
func prepareWorker(cfg config.Config, log *slog.Logger) (adminPort, error) {
	if err := checkStore(cfg, log); err != nil {
		return adminPort{}, err
	}
	if err := os.MkdirAll(cfg.Data, 0o700); err != nil {
		return adminPort{}, fmt.Errorf("make the data folder: %w", err)
	}
	cert, err := loadAdminCertificate(cfg, log)
	if err != nil {
		return adminPort{}, err
	}
	l, err := listenAdmin(cfg)
	if err != nil {
		return adminPort{}, err
	}
	if cert == nil && !loopback(l) {
		log.Warn("tokens and answers of the operations API cross the network in plain text; give it --admin-tls-cert and --admin-tls-key, or have a proxy speak TLS", "admin", l.Addr())
	}
	return adminPort{l, cert}, nil
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
func workerPart(cfg config.Config, nsqd nsqdPeer, admin adminPort, registry *prometheus.Registry, log *slog.Logger) part {
	log = log.With("part", "worker")
	return part{"worker", func(ctx context.Context) error {
		l := admin.Listener
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
		defer admin.cert.following(ctx)()
		secure := admin.cert.config()
		store, l, err := openStore(ctx, cfg, l, secure, log)
		if err != nil || store == nil {
			return err
		}
		wc := worker.DefaultConfig()
		wc.NSQD, wc.NSQDHTTP, wc.NSQDTLS, wc.Operators, wc.Pools = nsqd.tcp, nsqd.http, nsqd.secure, operators, poolConfigs(cfg)
		wc.Connections = adminConnections(cfg)
		wc.EventChannels, wc.EventBacklog, wc.EventRetention = cfg.EventChannels, cfg.EventBacklog, cfg.EventRetention
		w, err := worker.New(wc, worker.Parts{Store: store, Keys: keys, Listener: l, TLS: secure, Logger: log, Registry: registry})
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
func openStore(ctx context.Context, cfg config.Config, l net.Listener, secure *tls.Config, log *slog.Logger) (inventory.Store, net.Listener, error) {
	store, err := tryStore(ctx, cfg)
	if err == nil || !errors.Is(err, inventory.ErrUnavailable) {
		return storeOrClose(store, l, err)
	}
	log.Warn("waiting for the store", "error", err)
	waiting := worker.ServeWaiting(l, adminConnections(cfg), secure, log)
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

// checkStore tells a database URL that can't be understood from one that can't be reached. Beyond loopback the way to the
// database must be TLS, unless the operator says in words that whoever is on it may read and change everything.
func checkStore(cfg config.Config, log *slog.Logger) error {
	if cfg.Store == config.SQLite {
		return nil
	}
	way, err := postgres.CheckURL(cfg.Store)
	switch {
	case err != nil:
		return &usageError{fmt.Errorf("store: %w", err)}
	case way.PlainTo != "" && !cfg.TrustStoreNet:
		return &usageError{fmt.Errorf("store: %s is beyond loopback, and this URL may speak to it without TLS; "+
			"want sslmode=verify-full and sslrootcert=FILE in it, or --trust-store-network", way.PlainTo)}
	case way.UnverifiedTo != "" && !cfg.TrustStoreNet:
		log.Warn("the database need not prove who it is; want sslmode=verify-full and sslrootcert=FILE in the URL of the store", "host", way.UnverifiedTo)
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
