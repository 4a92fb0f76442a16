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
		[]string{"listen=127.0.0.1:4150", "nsqd-http", "data", "bound"},
		func(ctx context.Context, cfg config.Config, log *slog.Logger) error {
			server, err := startNSQD(cfg, cfg.Listen, nsqdHTTP(cfg.NSQDHTTP, cfg.Listen), cfg.Data, log)
			if err != nil {
				return err
			}
			log.Info("queue ready", "tcp", server.Addr(), "http", server.HTTPAddr())
			return runParts(ctx, nsqdPart(server))
		})
}

// startNSQD starts the embedded nsqd; its memory queue holds what the doors may have outstanding.
func startNSQD(cfg config.Config, listen, http, dir string, log *slog.Logger) (*queue.Server, error) {
	return queue.StartServer(queue.ServerConfig{
		Listen: listen, HTTP: http, DataDir: dir, MemQueueSize: cfg.Bound,
		Channels: []queue.Channel{{Topic: queue.TopicOrders, Name: queue.ChannelSettle}},
		Logger:   log.With("part", "nsqd"),
	})
}

func nsqdPart(server *queue.Server) part {
	return part{"nsqd", func(ctx context.Context) error {
		select {
		case <-ctx.Done():
		case <-server.Done():
		}
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
		defer cancel()
		return errors.Join(server.Err(), server.Stop(stop))
	}}
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
func waitForQueue(ctx context.Context, nsqd string, log *slog.Logger) {
	for told := false; ctx.Err() == nil; {
		err := queue.EnsureChannel(ctx, nsqd, queue.TopicOrders, queue.ChannelSettle)
		if err == nil {
			return
		}
		if !told {
			log.Warn("waiting for nsqd", "nsqd", nsqd, "error", err)
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
