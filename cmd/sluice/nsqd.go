package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"sluice/config"
	"sluice/queue"
)

func nsqdCommand() *cobra.Command {
	return serviceCommand("nsqd", "Run the queue: an nsqd with the topics and channels of sluice",
		"  sluice nsqd --listen 127.0.0.1:4150 --data /var/lib/sluice/nsqd",
		append([]string{"listen=127.0.0.1:4150", "nsqd-http", "data", "bound"}, nsqdServerKeys...),
		func(ctx context.Context, cfg config.Config, log *slog.Logger) error {
			server, err := startNSQD(cfg, cfg.Listen, nsqdHTTP(cfg.NSQDHTTP, cfg.Listen), cfg.Data, log)
			if err != nil {
				return err
			}
			warnOpenQueue(cfg, server.Addr(), log)
			log.Info("queue ready", "tcp", server.Addr(), "http", server.HTTPAddr())
			return runParts(ctx, nsqdPart(server))
		})
}

// nsqdServerKeys are the settings of an embedded nsqd's TLS, nsqdClientKeys those of whoever asks an nsqd.
var (
	nsqdServerKeys = []string{"nsqd-tls-cert", "nsqd-tls-key", "nsqd-client-ca"}
	nsqdClientKeys = []string{"nsqd-ca", "nsqd-client-cert", "nsqd-client-key"}
)

// startNSQD starts the embedded nsqd; its memory queue holds what the doors may have outstanding.
func startNSQD(cfg config.Config, listen, http, dir string, log *slog.Logger) (*queue.Server, error) {
	if (cfg.NSQDTLSCert == "") != (cfg.NSQDTLSKey == "") {
		return nil, &usageError{errors.New("nsqd-tls-cert and nsqd-tls-key: want both files or neither")}
	}
	if cfg.NSQDClientCA != "" && cfg.NSQDTLSCert == "" {
		return nil, &usageError{errors.New("nsqd-client-ca: clients show certificates over TLS only; want --nsqd-tls-cert and --nsqd-tls-key too")}
	}
	return queue.StartServer(queue.ServerConfig{
		TLSCert: cfg.NSQDTLSCert, TLSKey: cfg.NSQDTLSKey, ClientCA: cfg.NSQDClientCA,
		Listen: listen, HTTP: http, DataDir: dir, MemQueueSize: cfg.Bound,
		Channels: []queue.Channel{{Topic: queue.TopicOrders, Name: queue.ChannelSettle}},
		Logger:   log.With("part", "nsqd"),
	})
}

// warnOpenQueue says what an nsqd that asks nobody who he is means beyond loopback.
func warnOpenQueue(cfg config.Config, addr string, log *slog.Logger) {
	host, _, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err == nil && cfg.NSQDClientCA == "" && (ip == nil || !ip.IsLoopback()) {
		log.Warn("whoever reaches nsqd may read, change and drop orders; keep it on a private network, or give it --nsqd-client-ca", "tcp", addr)
	}
}

func nsqdPart(server *queue.Server) part {
	return part{"nsqd", func(ctx context.Context) error {
		select {
		case <-ctx.Done():
		case <-server.Done():
		}
		return errors.Join(server.Err(), stopNSQD(ctx, server))
	}}
}

// lastWords is how long an nsqd that serves no more may take to write down what it has. It waits for its clients after that, some of whom
// may wait for it.
const lastWords = 2 * time.Second

func stopNSQD(ctx context.Context, server *queue.Server) error {
	within := stopWithin
	if server.Err() != nil {
		within = lastWords
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), within)
	defer cancel()
	return server.Stop(stop)
}

// nsqdHTTP is nsqd's HTTP address: the one given, or the port after the TCP one, as NSQ has it by default.
func nsqdHTTP(given, tcp string) string {
	if given != "" {
		return given
	}
	host, port, err := net.SplitHostPort(tcp)
	if err != nil {
		return ""
	}
	n, err := strconv.Atoi(port)
	if err != nil || n == 0 {
		return net.JoinHostPort(host, "0")
	}
	return net.JoinHostPort(host, strconv.Itoa(n+1))
}

// waitForQueue makes sure that the orders have their channel before anything is published.
func waitForQueue(ctx context.Context, nsqd nsqdPeer, log *slog.Logger) {
	for told := false; ctx.Err() == nil; {
		err := queue.EnsureChannel(ctx, nsqd.tcp, nsqd.secure, queue.TopicOrders, queue.ChannelSettle)
		if err == nil {
			return
		}
		if !told {
			log.Warn("waiting for nsqd", "nsqd", nsqd.tcp, "error", err)
			told = true
		}
		pause(ctx, 250*time.Millisecond)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func inData(cfg config.Config, name string) string { return filepath.Join(cfg.Data, name) }
