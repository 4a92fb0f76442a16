package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"sluice"
	"sluice/api"
)

func saleCommand() *cobra.Command {
	cmd := group("sale", "Create, read, change, pause and end sales", "  sluice sale create spring --stock 1000\n  sluice sale list")
	get := operatorCommand("get SALE", "Print a sale", "  sluice sale get spring", cobra.ExactArgs(1),
		func(ctx context.Context, c *api.Client, args []string) error { return printed(c.Sale(ctx, args[0])) })
	end := operatorCommand("end SALE", "Close a sale's admission now; what was admitted is settled", "  sluice sale end spring", cobra.ExactArgs(1),
		func(ctx context.Context, c *api.Client, args []string) error {
			return printed(c.EndSale(ctx, args[0]))
		})
	topup := operatorCommand("topup SALE UNITS", "Add units to a sale, or take free ones away (-- -UNITS)",
		"  sluice sale topup spring 500\n  sluice sale topup spring -- -100", cobra.ExactArgs(2),
		func(ctx context.Context, c *api.Client, args []string) error {
			units, err := strconv.ParseInt(args[1], 10, 64)
			if err != nil {
				return &usageError{fmt.Errorf("units %q: want a whole number", args[1])}
			}
			return printed(c.TopUp(ctx, args[0], units))
		})
	pause := operatorCommand("pause SALE", "Turn buyers away until it is resumed; what was admitted is settled", "  sluice sale pause spring", cobra.ExactArgs(1),
		func(ctx context.Context, c *api.Client, args []string) error {
			return printed(c.PauseSale(ctx, args[0]))
		})
	resume := operatorCommand("resume SALE", "Let buyers in again", "  sluice sale resume spring", cobra.ExactArgs(1),
		func(ctx context.Context, c *api.Client, args []string) error {
			return printed(c.ResumeSale(ctx, args[0]))
		})
	cmd.AddCommand(saleCreateCommand(), get, saleListCommand(), saleChangeCommand(), topup, pause, resume, extendHoldsCommand(), end)
	return cmd
}

func saleCreateCommand() *cobra.Command {
	var (
		n            api.NewSale
		limit        int
		window       time.Duration
		grace        time.Duration
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
			n.ID, n.PerUserLimit, n.PaymentWindow, n.OverAdmission = args[0], &limit, &paymentWindow, &over
			n.PaymentGrace, n.MaxAge = sluice.Duration(grace), sluice.Duration(maxAge)
			return printed(c.CreateSale(ctx, n))
		})
	f := cmd.Flags()
	f.StringVar(&n.SKU, "sku", "", "what is sold")
	f.Int64Var(&n.Stock, "stock", 0, "units to sell")
	f.IntVar(&limit, "per-user-limit", sluice.DefaultPerUserLimit, "most units of one buyer")
	f.StringVar(&starts, "starts-at", "", "RFC 3339 time; empty: now")
	f.StringVar(&ends, "ends-at", "", "RFC 3339 time; empty: when ended by hand")
	f.DurationVar(&window, "payment-window", time.Duration(sluice.DefaultPaymentWindow), "how long units are held for payment; 0s: paid at once")
	f.DurationVar(&grace, "payment-grace", 0, "how long after its deadline a hold is kept and may still be paid")
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

// noTime is how a flag says that there is no such time.
const noTime = "none"

func parseTime(flag, text string) (time.Time, error) {
	if text == "" || text == noTime {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, &usageError{fmt.Errorf("%s %q: want none, or an RFC 3339 time such as 2027-03-01T18:00:00Z", flag, text)}
	}
	return t, nil
}

func saleListCommand() *cobra.Command {
	var list listFlags
	cmd := operatorCommand("list", "Print all sales, and where their units are", "  sluice sale list\n  sluice sale list --json", cobra.NoArgs,
		func(ctx context.Context, c *api.Client, _ []string) error {
			var now time.Time // the store's
			row := func(s sluice.Sale) []any {
				return []any{s.ID, s.SKU, saleState(s, now), s.Stock + s.TopUps, s.Free, s.Held, s.Sold, s.StartsAt, s.EndsAt}
			}
			return printList(&list, "sale\tsku\tstate\tunits\tfree\theld\tsold\tstarts\tends", row, func(after string, limit int) ([]sluice.Sale, string, error) {
				page, err := c.Sales(ctx, after, limit)
				now = page.Now
				return page.Sales, page.Next, err
			})
		})
	list.add(cmd, "")
	return cmd
}

// saleState is how a sale stands, in a word or two.
func saleState(s sluice.Sale, now time.Time) string {
	switch {
	case !s.EndsAt.IsZero() && !now.Before(s.EndsAt):
		return "ended"
	case s.Paused:
		return "paused"
	case now.Before(s.StartsAt):
		return "not started"
	case s.Free == 0 && s.Held == 0:
		return "sold out"
	case s.Free == 0:
		return "none free"
	default:
		return "open"
	}
}

func extendHoldsCommand() *cobra.Command {
	var by time.Duration
	cmd := operatorCommand("extend-holds SALE", "See to it that no hold of a sale falls due earlier than in a while; later ones stay",
		"  sluice sale extend-holds spring --for 15m", cobra.ExactArgs(1),
		func(ctx context.Context, c *api.Client, args []string) error {
			if by == 0 {
				return &usageError{errors.New("--for is missing: how long shall buyers have from now, such as 15m?")}
			}
			return printed(c.ExtendHolds(ctx, args[0], by))
		})
	cmd.Flags().DurationVar(&by, "for", 0, "how long buyers have from now on, such as 15m")
	return cmd
}
