package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sluice"
	"sluice/api"
	"sluice/config"
)

// operatorTimeout bounds one question of an operator's: an audit, the longest, reads every order.
const operatorTimeout = 5 * time.Minute

// operatorCommand makes a verb that asks the operations API one thing.
func operatorCommand(use, short, example string, args cobra.PositionalArgs, ask func(ctx context.Context, c *api.Client, args []string) error) *cobra.Command {
	settings := pflag.NewFlagSet(use, pflag.ContinueOnError) // the verb's own flags may share a setting's name
	config.Flags(settings, "admin", "admin-token-file")
	cmd := &cobra.Command{
		Use: use, Short: short, Example: example, Args: usageArgs(args),
		RunE: func(c *cobra.Command, args []string) error {
			cfg, err := config.Load(settings)
			if err != nil {
				return err
			}
			token, err := readToken(cfg)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(c.Context(), operatorTimeout)
			defer cancel()
			client := api.NewClient(cfg.Admin, token)
			defer client.Close()
			err = ask(ctx, client, args)
			if err != nil && sluice.RefusalOf(err) == sluice.BadRequest {
				return &usageError{err}
			}
			return err
		},
	}
	cmd.Flags().AddFlagSet(settings)
	cmd.Flags().SortFlags = false
	return cmd
}

func saleCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "sale", Short: "Create, read, top up and end sales",
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	get := operatorCommand("get SALE", "Print a sale", "  sluice sale get spring", cobra.ExactArgs(1),
		func(ctx context.Context, c *api.Client, args []string) error { return printSale(c.Sale(ctx, args[0])) })
	end := operatorCommand("end SALE", "Close a sale's admission now; what was admitted is settled", "  sluice sale end spring", cobra.ExactArgs(1),
		func(ctx context.Context, c *api.Client, args []string) error {
			return printSale(c.EndSale(ctx, args[0]))
		})
	topup := operatorCommand("topup SALE UNITS", "Add units to a sale, or take free ones away (-- -UNITS)",
		"  sluice sale topup spring 500\n  sluice sale topup spring -- -100", cobra.ExactArgs(2),
		func(ctx context.Context, c *api.Client, args []string) error {
			units, err := strconv.ParseInt(args[1], 10, 64)
			if err != nil {
				return &usageError{fmt.Errorf("units %q: want a whole number", args[1])}
			}
			return printSale(c.TopUp(ctx, args[0], units))
		})
	cmd.AddCommand(saleCreateCommand(), get, topup, end)
	return cmd
}

func saleCreateCommand() *cobra.Command {
	var (
		n            api.NewSale
		limit        int
		window       time.Duration
		maxAge       time.Duration
		over         float64
		starts, ends string
	)
	cmd := operatorCommand("create SALE", "Create a sale", "  sluice sale create spring --stock 1000 --payment-window 15m --starts-at 2027-03-01T18:00:00Z",
		cobra.ExactArgs(1), func(ctx context.Context, c *api.Client, args []string) error {
			var err error
			if n.StartsAt, err = parseTime("starts-at", starts); err != nil {
				return err
			}
			if n.EndsAt, err = parseTime("ends-at", ends); err != nil {
				return err
			}
			paymentWindow := sluice.Duration(window)
			n.ID, n.PerUserLimit, n.PaymentWindow, n.OverAdmission, n.MaxAge = args[0], &limit, &paymentWindow, &over, sluice.Duration(maxAge)
			return printSale(c.CreateSale(ctx, n))
		})
	f := cmd.Flags()
	f.StringVar(&n.SKU, "sku", "", "what is sold")
	f.Int64Var(&n.Stock, "stock", 0, "units to sell")
	f.IntVar(&limit, "per-user-limit", sluice.DefaultPerUserLimit, "most units of one buyer")
	f.StringVar(&starts, "starts-at", "", "RFC 3339 time; empty: now")
	f.StringVar(&ends, "ends-at", "", "RFC 3339 time; empty: when ended by hand")
	f.DurationVar(&window, "payment-window", time.Duration(sluice.DefaultPaymentWindow), "how long units are held for payment; 0s: paid at once")
	f.DurationVar(&maxAge, "max-age", 0, "longest wait in the queue before an order is stale; 0s: any")
	f.StringVar(&n.CheckoutURL, "checkout-url", "", "where a buyer pays; {order} becomes the order's id")
	f.StringVar(&n.ReservedFor, "reserved-for", "", "class of tickets that --reserved-share is kept for, such as members")
	f.Float64Var(&n.ReservedShare, "reserved-share", 0, "share of each door's bound that is kept for --reserved-for, 0 to 0.9")
	f.Float64Var(&over, "over-admission", sluice.DefaultOverAdmission, "units that orders may queue for, for each free unit")
	cmd.PreRunE = func(c *cobra.Command, _ []string) error {
		if !c.Flags().Changed("stock") {
			return &usageError{errors.New("--stock is missing: how many units are there to sell?")}
		}
		return nil
	}
	return cmd
}

func parseTime(flag, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, &usageError{fmt.Errorf("%s %q: want an RFC 3339 time such as 2027-03-01T18:00:00Z", flag, text)}
	}
	return t, nil
}

func printSale(sale sluice.Sale, err error) error {
	if err != nil {
		return err
	}
	return printJSON(sale)
}

func printJSON(v any) error {
	e := json.NewEncoder(os.Stdout)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
