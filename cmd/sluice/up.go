package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"

	"github.com/spf13/cobra"

	"sluice/config"
)

func upCommand() *cobra.Command {
	return serviceCommand("up", "Run everything in one process, on embedded parts",
		"  sluice up --demo\n  sluice up --store postgres://shop@127.0.0.1/shop --bound 20000 --drain-rate 2000",
		slices.Concat([]string{"listen", "admin", "nsqd=127.0.0.1:0", "data", "store", "bound", "id-key", "admin-token-file", "id", "demo", "nsqd-client-cert", "nsqd-client-key"}, nsqdServerKeys, adminServerKeys, workerKeys, doorKeys),
		up)
}

// up is the parts composed: the same wiring as each has alone, in the order in which they stand on each other.
func up(ctx context.Context, cfg config.Config, log *slog.Logger) error {
	cfg.MaxConnections = maxConnections(cfg, adminConnections(cfg)) // in one process
	admin, err := prepareWorker(cfg, log)
	if err != nil {
		return err
	}
	door, err := listenDoor(cfg)
	if err != nil {
		return errors.Join(err, admin.Close())
	}
	nsqd, err := startNSQD(cfg, cfg.NSQD, nsqdHTTP("", cfg.NSQD), inData(cfg, "nsqd"), log)
	if err != nil {
		return errors.Join(err, admin.Close(), door.Close())
	}
	peer, err := ownNSQD(cfg, nsqd)
	if err != nil {
		return errors.Join(err, admin.Close(), door.Close(), stopNSQD(ctx, nsqd))
	}
	warnOpenQueue(cfg, nsqd.Addr(), log)
	registry := newRegistry()
	url, operations := doorURL(cfg, door.Addr()), admin.url()
	opened := make(chan struct{})
	said := func() {
		log.Info("sluice is up", "door", url, "operations", operations)
		close(opened)
	}
	parts := []part{
		nsqdPart(nsqd),
		workerPart(cfg, peer, admin, registry, log),
		ingressPart(cfg, peer, admin.own(), door, said, registry, log),
	}
	log.Info("sluice is starting", "door", url, "operations", operations, "nsqd", nsqd.Addr(), "data", cfg.Data)
	if cfg.Demo {
		parts = append(parts, demoPart(cfg, admin.own(), url, opened))
	}
	return runParts(ctx, parts...)
}
