package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"sluice"
	"sluice/api"
	"sluice/config"
)

func upCommand() *cobra.Command {
	return serviceCommand("up", "Run everything in one process, on embedded parts",
		"  sluice up --demo\n  sluice up --store postgres://shop@127.0.0.1/shop --bound 20000 --drain-rate 2000",
		slices.Concat([]string{"listen", "admin", "nsqd=127.0.0.1:0", "data", "store", "bound", "id-key", "admin-token-file", "id", "demo"}, workerKeys, doorKeys),
		up)
}

// up is the parts composed: the same wiring as each has alone, in the order in which they stand on each other.
func up(ctx context.Context, cfg config.Config, log *slog.Logger) error {
	admin, err := prepareWorker(cfg)
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
	registry := newRegistry()
	parts := []part{
		nsqdPart(nsqd),
		workerPart(cfg, nsqd.Addr(), nsqd.HTTPAddr(), admin, registry, log),
		ingressPart(cfg, nsqd.Addr(), nsqd.HTTPAddr(), admin.Addr().String(), door, registry, log),
	}
	log.Info("sluice is up", "door", doorURL(cfg, door.Addr()), "operations", "http://"+admin.Addr().String(), "nsqd", nsqd.Addr(), "data", cfg.Data)
	if cfg.Demo {
		parts = append(parts, demoPart(cfg, admin.Addr(), doorURL(cfg, door.Addr())))
	}
	return runParts(ctx, parts...)
}

// demoPart creates the sale "demo" once the worker is there, and says how to buy.
func demoPart(cfg config.Config, admin net.Addr, door string) part {
	return part{"demo", func(ctx context.Context) error {
		token, err := readToken(cfg)
		if err != nil {
			return err
		}
		client := api.NewClient(admin.String(), token)
		defer client.Close()
		if err := createDemo(ctx, client); err != nil {
			return err
		}
		buyers := api.NewClient(door, "")
		defer buyers.Close()
		for ctx.Err() == nil {
			limited, cancel := context.WithTimeout(ctx, demoTimeout)
			_, err := buyers.Sale(limited, "demo")
			cancel()
			if err == nil || cfg.TLSCert != "" { // the door has heard of it; behind TLS a name may be missing to ask
				fmt.Printf(demoText, door, admin, door, door)
				break
			}
			pause(ctx, 50*time.Millisecond)
		}
		<-ctx.Done()
		return nil
	}}
}

func createDemo(ctx context.Context, client *api.Client) error {
	limit, window := 1, sluice.Duration(0)
	for ctx.Err() == nil {
		limited, cancel := context.WithTimeout(ctx, demoTimeout)
		_, err := client.CreateSale(limited, api.NewSale{ID: "demo", SKU: "demo", Stock: 1000, PerUserLimit: &limit, PaymentWindow: &window})
		cancel()
		if err == nil || sluice.RefusalOf(err) == sluice.SaleExists {
			return nil
		}
		if r := sluice.RefusalOf(err); r != sluice.Internal && r != sluice.Unavailable {
			return fmt.Errorf("create the sale demo: %w", err)
		}
		pause(ctx, 100*time.Millisecond) // the worker is not there yet
	}
	return nil
}

// demoTimeout bounds one try to reach a part that is just starting.
const demoTimeout = 5 * time.Second

const demoText = `
The sale "demo" is open: 1,000 units, one a buyer.

  front door   %s
  operations   http://%s   (sluice audit, sluice sale get demo, /metrics)

Buy one, then see what became of it:

  curl -s %s/v1/sales/demo/orders -H 'Content-Type: application/json' -d '{"user":"alice","quantity":1}'
  curl -s '%s/v1/orders/ORDER?wait=5s'

`
