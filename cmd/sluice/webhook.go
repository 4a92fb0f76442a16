package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"sluice"
	"sluice/api"
	"sluice/config"
	"sluice/inventory"
	"sluice/webhook"
)

// loadWebhooks reads the endpoints that events are posted to; none where no file is named.
func loadWebhooks(cfg config.Config) ([]webhook.Endpoint, error) {
	if cfg.WebhooksFile == "" {
		return nil, nil
	}
	endpoints, err := webhook.Load(cfg.WebhooksFile)
	if err != nil {
		return nil, &usageError{fmt.Errorf("webhooks-file %s: %w", cfg.WebhooksFile, err)}
	}
	return endpoints, nil
}

// withWebhooks delivers events while run runs, and ends with ctx as run does.
func withWebhooks(ctx context.Context, store inventory.Store, endpoints []webhook.Endpoint, log *slog.Logger, registry *prometheus.Registry, run func() error) error {
	if len(endpoints) == 0 {
		return run()
	}
	dispatcher := webhook.New(store, endpoints, log, registry)
	ctx, cancel := context.WithCancel(ctx)
	over := make(chan struct{})
	go func() {
		defer close(over)
		dispatcher.Run(ctx)
	}()
	err := run()
	cancel()
	<-over
	return err
}

func webhookCommand() *cobra.Command {
	cmd := group("webhook", "See how the endpoints of webhooks do, and deal with what they did not take", "  sluice webhook list\n  sluice webhook dead points")
	resume := operatorCommand("resume ENDPOINT", "Send to an endpoint again that answered 410 Gone", "  sluice webhook resume points", cobra.ExactArgs(1),
		func(ctx context.Context, c *api.Client, args []string) error {
			return printed(c.ResumeWebhook(ctx, args[0]))
		})
	cmd.AddCommand(webhookListCommand(), webhookDeadCommand(), resume,
		deliveryCommand("replay", "Try an event again that was given up; it comes after later ones of its order", (*api.Client).ReplayDelivery),
		deliveryCommand("drop", "Forget an event that was given up", (*api.Client).DropDelivery),
		webhookTestCommand())
	return cmd
}

func webhookListCommand() *cobra.Command {
	var asJSON bool
	cmd := operatorCommand("list", "Print every endpoint: what waits, what is dead, since when it fails", "  sluice webhook list\n  sluice webhook list --json",
		cobra.NoArgs, func(ctx context.Context, c *api.Client, _ []string) error {
			hooks, err := c.Webhooks(ctx)
			if err != nil {
				return err
			}
			out := newRows(os.Stdout, "endpoint\taddress\tstate\tbehind\twaiting\tdead\tfailing since\tlast error", asJSON)
			for _, h := range hooks.Webhooks {
				if err := out.add(h, h.Name, h.Address, webhookState(h), behindText(h.Behind), h.Waiting, h.Dead, h.FailingSince, h.LastError); err != nil {
					return err
				}
			}
			return out.end()
		})
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, one endpoint a line")
	return cmd
}

func webhookState(h sluice.Webhook) string {
	switch {
	case h.Disabled:
		return "disabled"
	case !h.FailingSince.IsZero():
		return "failing"
	default:
		return "well"
	}
}

// behindText is empty where it is unknown.
func behindText(events *int64) string {
	if events == nil {
		return ""
	}
	return strconv.FormatInt(*events, 10)
}

func webhookDeadCommand() *cobra.Command {
	var after int64
	var limit int
	cmd := operatorCommand("dead ENDPOINT [EVENT]", "Print the events that were given up, or one of them whole", "  sluice webhook dead points\n  sluice webhook dead points 4711",
		cobra.RangeArgs(1, 2),
		func(ctx context.Context, c *api.Client, args []string) error {
			if len(args) == 1 {
				return printed(c.DeadDeliveries(ctx, args[0], after, limit))
			}
			seq, err := eventNumber(args[1])
			if err != nil {
				return err
			}
			return printed(c.DeadDelivery(ctx, args[0], seq))
		})
	cmd.Flags().Int64Var(&after, "after", 0, "begin after the event of this number")
	cmd.Flags().IntVar(&limit, "limit", api.DefaultPage, "most events to print")
	return cmd
}

func deliveryCommand(use, short string, do func(*api.Client, context.Context, string, int64) (sluice.Delivery, error)) *cobra.Command {
	return operatorCommand(use+" ENDPOINT EVENT", short, "  sluice webhook "+use+" points 4711", cobra.ExactArgs(2),
		func(ctx context.Context, c *api.Client, args []string) error {
			seq, err := eventNumber(args[1])
			if err != nil {
				return err
			}
			return printed(do(c, ctx, args[0], seq))
		})
}

func eventNumber(text string) (int64, error) {
	seq, err := strconv.ParseInt(text, 10, 64)
	if err != nil || seq < 1 {
		return 0, &usageError{fmt.Errorf("%q: want the number of an event, as sluice webhook dead prints it", text)}
	}
	return seq, nil
}

// webhookTestCommand sends from where it runs, with the secrets that it finds there: it asks no worker.
func webhookTestCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "test ENDPOINT", Short: "Send a signed event that means nothing to an endpoint, from here",
		Example: "  sluice webhook test points --webhooks-file webhooks.yaml", Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			cfg, err := config.Load(c.Flags())
			if err != nil {
				return err
			}
			if cfg.WebhooksFile == "" {
				return &usageError{errors.New("webhooks-file: it is missing; want the file with the endpoints")}
			}
			endpoints, err := loadWebhooks(cfg)
			if err != nil {
				return err
			}
			for _, e := range endpoints {
				if e.Name == args[0] {
					return ping(c.Context(), e)
				}
			}
			return &usageError{fmt.Errorf("%s has no endpoint %.80q", cfg.WebhooksFile, args[0])}
		},
	}
	config.Flags(cmd.Flags(), "webhooks-file")
	return cmd
}

func ping(ctx context.Context, e webhook.Endpoint) error {
	began := time.Now()
	if err := webhook.Ping(ctx, e); err != nil {
		return err
	}
	fmt.Printf("%s took it in %v\n", e.Name, time.Since(began).Round(time.Millisecond))
	return nil
}
