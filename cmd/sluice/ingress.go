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
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"golang.org/x/time/rate"

	"sluice"
	"sluice/api"
	"sluice/config"
	"sluice/ingress"
	"sluice/journal"
	"sluice/queue"
	"sluice/ticket"
)

func ingressCommand() *cobra.Command {
	return serviceCommand("ingress", "Run a front door; several share one nsqd, each with its share of the bound",
		"  sluice ingress --id door-1 --bound 5000 --nsqd 127.0.0.1:4150 --worker 127.0.0.1:8081 --id-key id.key",
		slices.Concat([]string{"listen", "id", "bound", "nsqd", "nsqd-http", "worker", "admin-ca", "data", "id-key", "admin-token-file", "metrics"},
			doorKeys, adminServerKeys, nsqdClientKeys),
		func(ctx context.Context, cfg config.Config, log *slog.Logger) error {
			if err := needIDKey(cfg); err != nil {
				return err
			}
			nsqd, err := nsqdOf(cfg)
			if err != nil {
				return err
			}
			operations, err := operationsAt(cfg, "worker", cfg.Worker)
			if err != nil {
				return err
			}
			l, err := listenDoor(cfg)
			if err != nil {
				return err
			}
			url := doorURL(cfg, l.Addr())
			log.Info("the front door is starting", "door", url)
			registry := newRegistry()
			up := func() { log.Info("the front door is up", "door", url) }
			parts := []part{ingressPart(cfg, nsqd, operations, l, up, registry, log)}
			if cfg.Metrics != "" {
				metrics, err := newMetricsPart(cfg, registry, log)
				if err != nil {
					return errors.Join(err, l.Close())
				}
				parts = append(parts, metrics)
			}
			return runParts(ctx, parts...)
		})
}

// doorKeys are the settings of a door, alone or within up.
var doorKeys = []string{
	"max-wait", "buyer-rate", "address-rate", "max-connections", "address-connections", "journal-memory", "disk-floor",
	"identity", "trust-any-buyer", "identity-header", "trusted-proxies", "address-header",
	"ticket-key", "ticket-issuer", "ticket-audience", "ticket-buyer-claim", "ticket-cookie",
	"base-path", "cors-origins", "waiting-page", "busy-page", "tls-cert", "tls-key",
}

// listenDoor listens for buyers. Beyond loopback a buyer must be known, unless the operator says in words that anybody may
// order in anybody's name.
func listenDoor(cfg config.Config) (net.Listener, error) {
	switch {
	case cfg.Identity == string(ingress.IdentityHeader) && len(cfg.TrustedProxies) == 0:
		return nil, &usageError{errors.New("identity header: --trusted-proxies is missing: whose word on the buyer counts?")}
	case cfg.Identity != string(ingress.IdentityTicket) && cfg.TicketKey != "":
		return nil, &usageError{fmt.Errorf("ticket-key %s: tickets are asked for with --identity ticket only; the identity is %s", cfg.TicketKey, cfg.Identity)}
	case cfg.Identity == string(ingress.IdentityTicket) && cfg.TicketKey == "":
		return nil, &usageError{errors.New("identity ticket: --ticket-key is missing: by which keys does the shop sign? (sluice ticket key makes a pair)")}
	}
	l, err := listen(cfg.Listen, "listen")
	if err != nil {
		return nil, err
	}
	if cfg.Identity == string(ingress.IdentityOpen) && !cfg.TrustAnyBuyer && !loopback(l) {
		return nil, errors.Join(&usageError{fmt.Errorf(
			"listen %s: beyond loopback with --identity open anybody could order in anybody's name; want --identity ticket or header, or --trust-any-buyer", cfg.Listen)}, l.Close())
	}
	return l, nil
}

// doorURL is where buyers reach a door that nothing stands before.
func doorURL(cfg config.Config, addr net.Addr) string {
	scheme := "http"
	if cfg.TLSCert != "" {
		scheme = "https"
	}
	return scheme + "://" + addr.String() + cfg.BasePath
}

// doorParts are what a door is wired from; they close in the reverse order.
type doorParts struct {
	journal *journal.Journal
	carrier *queue.Carrier
	worker  *api.Client
	tickets *ticket.Verifier // nil: buyers have none
	door    *ingress.Door
	cert    *certificate // nil: no TLS
}

// ingressPart runs a front door. It calls up once the door takes orders.
func ingressPart(cfg config.Config, nsqd nsqdPeer, operations operationsPeer, l net.Listener, up func(), registry *prometheus.Registry, log *slog.Logger) part {
	log = log.With("part", "ingress")
	return part{"ingress", func(ctx context.Context) error {
		p, err := wireDoor(cfg, nsqd, operations, registry, log)
		if err != nil {
			return errors.Join(err, l.Close())
		}
		served := serveDoor(ctx, p, cfg, nsqd, l, up, log)
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
		defer cancel()
		if err := p.carrier.Stop(stop); err != nil {
			log.Info("orders stay in the journal until the next start", "reason", err)
		}
		p.worker.Close()
		return errors.Join(served, p.journal.Close())
	}}
}

// wireDoor makes a door and what it stands on.
func wireDoor(cfg config.Config, nsqd nsqdPeer, operations operationsPeer, registry *prometheus.Registry, log *slog.Logger) (*doorParts, error) {
	keys, err := loadIDKey(cfg)
	if err != nil {
		return nil, err
	}
	token, err := readToken(cfg)
	if err != nil {
		return nil, err
	}
	cert, err := loadCertificate(cfg, log)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Data, 0o700); err != nil { // it has buyers' names in it
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	p := &doorParts{worker: operations.client(token), cert: cert}
	if cfg.Identity == string(ingress.IdentityTicket) {
		if p.tickets, err = openTickets(cfg, log); err != nil {
			return nil, err
		}
	}
	p.journal, err = journal.Open(journal.Options{
		Dir: inData(cfg, "journal"), Memory: cfg.JournalMemory << 20, MinFreeBytes: uint64(cfg.DiskFloor) << 20, Logger: log,
		Fatal: func(err error) {
			log.Error("the journal can't be trusted any more; ending", "error", err)
			os.Exit(exitFailed)
		},
	})
	if err != nil {
		return nil, err
	}
	p.carrier, err = queue.NewCarrier(queue.CarrierConfig{
		Addr: nsqd.tcp, HTTP: nsqd.http, TLS: nsqd.secure, MaxPending: cfg.Bound, Logger: log,
		Sent:  func(ids []sluice.OrderID, incarnation uint64) { p.door.Sent(ids, incarnation) },
		Doubt: func(ids []sluice.OrderID) { p.door.Doubt(ids) },
	})
	if err != nil {
		return nil, errors.Join(err, p.journal.Close())
	}
	p.door, err = ingress.New(doorConfig(cfg), ingress.Parts{
		Keys: keys, Journal: p.journal, Carrier: p.carrier, Truth: p.worker, Tickets: p.tickets, Logger: log, Metrics: registry,
	})
	if err != nil {
		return nil, errors.Join(err, p.carrier.Stop(context.Background()), p.journal.Close())
	}
	return p, nil
}

// openTickets reads the keys of buyers' tickets.
func openTickets(cfg config.Config, log *slog.Logger) (*ticket.Verifier, error) {
	v, err := ticket.Open(ticket.Config{
		KeyFile: cfg.TicketKey, Issuer: cfg.TicketIssuer, Audience: cfg.TicketAudience, BuyerClaim: cfg.TicketBuyer,
	}, log)
	if err != nil {
		return nil, &usageError{fmt.Errorf("ticket-key: %w", err)}
	}
	return v, nil
}

func doorConfig(cfg config.Config) ingress.Config {
	dc := ingress.DefaultConfig()
	dc.Name, dc.Bound, dc.MaxWait, dc.MaxConnections = cfg.ID, int64(cfg.Bound), cfg.MaxWait, maxConnections(cfg, 0)
	dc.AddressConnections = cfg.AddressConnections
	dc.Identity, dc.IdentityHeader = ingress.Identity(cfg.Identity), cfg.IdentityHeader
	dc.CORSOrigins, dc.BasePath, dc.WaitingPage, dc.BusyPage = cfg.CORSOrigins, cfg.BasePath, cfg.WaitingPage, cfg.BusyPage
	dc.TicketCookie = cfg.TicketCookie
	dc.Proxies, dc.AddressHeader = cfg.TrustedProxies, cfg.AddressHeader
	dc.BuyerRate, dc.AddressRate = ingress.RateOf(float64(cfg.BuyerRate)), ingress.RateOf(float64(cfg.AddressRate))
	return dc
}

// serveDoor serves buyers until ctx ends. The door is informed, and so open, once the queue has its channels.
func serveDoor(ctx context.Context, p *doorParts, cfg config.Config, nsqd nsqdPeer, l net.Listener, up func(), log *slog.Logger) error {
	consumer, err := outcomesConsumer(p.door, cfg.ID, nsqd, log)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	background, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() { p.carrier.Run(background) })
	wg.Go(func() {
		waitForQueue(background, nsqd, log)
		p.door.Introduce(background)
		consumer.Start(background)
		for !consumer.Connected() && background.Err() == nil { // outcomes of the first orders would go past the door
			pause(background, 10*time.Millisecond)
		}
		p.door.Run(background)
	})
	wg.Go(func() { noticeGaps(background, consumer, p.door) })
	wg.Go(func() { whenReady(background, p.door, up) })
	if p.tickets != nil {
		wg.Go(func() { p.tickets.Follow(background) })
	}

	l = p.door.Connections.Listen(patientListener{l}, p.cert != nil)
	if p.cert != nil {
		l = tls.NewListener(l, p.cert.config("http/1.1")) // it is each connection's own worker that shakes hands, within the read time-out
		wg.Go(func() { p.cert.watch(background, certificateLook) })
	}
	server := p.door.Server()
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err = <-failed:
		p.door.Close()
	case <-ctx.Done():
		p.door.Close()
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		if e := server.ShutdownWithContext(limited); e != nil {
			log.Info("connections were cut at shutdown", "reason", e)
		}
		_ = l.Close() // Serve may not have had it yet when it was told to stop
		err = <-failed
	}
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	err = errors.Join(err, consumer.Stop(limited))
	stop(errTold)
	wg.Wait()
	return err
}

// whenReady calls up once the door answers that it is ready.
func whenReady(ctx context.Context, door *ingress.Door, up func()) {
	for door.Ready() != nil {
		if pause(ctx, 20*time.Millisecond); ctx.Err() != nil {
			return
		}
	}
	up()
}

// noticeGaps has the door ask after its orders whenever its ears were gone: its channel vanishes with its connection.
func noticeGaps(ctx context.Context, ears *queue.Consumer, door *ingress.Door) {
	for heard := ears.Epoch(); ctx.Err() == nil; pause(ctx, 500*time.Millisecond) {
		if now := ears.Epoch(); now != heard {
			door.Missed()
			heard = now
		}
	}
}

// outcomesConsumer hears what became of orders, on a channel of this door's own.
func outcomesConsumer(door *ingress.Door, id string, nsqd nsqdPeer, log *slog.Logger) (*queue.Consumer, error) {
	channel, err := queue.DoorChannel(id)
	if err != nil {
		return nil, &usageError{fmt.Errorf("id: %w", err)}
	}
	complain := &rate.Sometimes{First: 1, Interval: time.Second}
	return queue.NewConsumer(queue.ConsumerConfig{
		Addr: nsqd.tcp, TLS: nsqd.secure, Topic: queue.TopicOutcomes, Channel: channel, MaxInFlight: 64, MaxBatch: 32, Logger: log,
		Handle: func(ctx context.Context, batch []*queue.Message) {
			hearOutcomes(ctx, door, batch, func(err error) {
				complain.Do(func() { log.Warn("a message of outcomes can't be read", "error", err) })
			})
		},
	})
}

// hearOutcomes finishes messages once the door has their news on disk. One that can't be read is dropped: the door
// asks after the orders by itself.
func hearOutcomes(ctx context.Context, door *ingress.Door, batch []*queue.Message, unreadable func(error)) {
	news := make([]sluice.Changes, 0, len(batch))
	for _, m := range batch {
		c, err := queue.DecodeChanges(m.Body)
		if err != nil {
			unreadable(err)
			continue
		}
		news = append(news, c)
	}
	if err := door.Hear(ctx, news...); err != nil {
		for _, m := range batch {
			m.Requeue(time.Second)
		}
		return
	}
	for _, m := range batch {
		m.Finish()
	}
}
