package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sluice"
	"sluice/api"
)

// termFlags are the flags of sale change: a sale's terms, each as it is given.
type termFlags struct {
	sku, starts, ends, checkout, reservedFor string
	limit                                    int
	window, grace, maxAge                    time.Duration
	over, share                              float64
}

func saleChangeCommand() *cobra.Command {
	var terms termFlags
	var flags *pflag.FlagSet
	cmd := operatorCommand("change SALE", "Change a sale's terms; those not named stay, and so do deadlines of units that are held",
		"  sluice sale change spring --per-user-limit 2 --payment-window 10m\n  sluice sale change spring --starts-at none --ends-at 2027-03-02T00:00:00Z",
		cobra.ExactArgs(1), func(ctx context.Context, c *api.Client, args []string) error {
			patch, err := terms.patch(flags)
			if err != nil {
				return err
			}
			return printed(c.PatchSale(ctx, args[0], patch))
		})
	flags = cmd.Flags()
	flags.StringVar(&terms.sku, "sku", "", "what is sold")
	flags.IntVar(&terms.limit, "per-user-limit", 0, "most units of one buyer")
	flags.StringVar(&terms.starts, "starts-at", "", "RFC 3339 time; none: now")
	flags.StringVar(&terms.ends, "ends-at", "", "RFC 3339 time; none: when ended by hand")
	flags.DurationVar(&terms.window, "payment-window", 0, "how long units are held for payment; 0s: paid at once")
	flags.DurationVar(&terms.grace, "payment-grace", 0, "how long after its deadline a hold is kept and may still be paid")
	flags.DurationVar(&terms.maxAge, "max-age", 0, "longest wait in the queue before an order is stale; 0s: any")
	flags.StringVar(&terms.checkout, "checkout-url", "", "where a buyer pays; {order} becomes the order's id; empty: nowhere")
	flags.Float64Var(&terms.over, "over-admission", 0, "units that orders may queue for, for each free unit")
	flags.StringVar(&terms.reservedFor, "reserved-for", "", "class of tickets that --reserved-share is kept for; empty: none")
	flags.Float64Var(&terms.share, "reserved-share", 0, "share of each door's bound that is kept for --reserved-for, 0 to 0.9")
	return cmd
}

// patch has the terms whose flags were given.
func (t *termFlags) patch(given *pflag.FlagSet) (sluice.SalePatch, error) {
	starts, badStart := parseTime("starts-at", t.starts)
	ends, badEnd := parseTime("ends-at", t.ends)
	if err := errors.Join(badStart, badEnd); err != nil {
		return sluice.SalePatch{}, err
	}
	patch := sluice.SalePatch{
		SKU: set(given, "sku", t.sku), PerUserLimit: set(given, "per-user-limit", t.limit),
		StartsAt: set(given, "starts-at", starts), EndsAt: set(given, "ends-at", ends),
		PaymentWindow: set(given, "payment-window", sluice.Duration(t.window)), PaymentGrace: set(given, "payment-grace", sluice.Duration(t.grace)),
		MaxAge: set(given, "max-age", sluice.Duration(t.maxAge)), CheckoutURL: set(given, "checkout-url", t.checkout),
		OverAdmission: set(given, "over-admission", t.over),
		ReservedFor:   set(given, "reserved-for", t.reservedFor), ReservedShare: set(given, "reserved-share", t.share),
	}
	if patch == (sluice.SalePatch{}) {
		return patch, &usageError{errors.New("no term is given: what shall change? (see sluice sale change --help)")}
	}
	return patch, nil
}

// set is a flag's value, or nil where it was not given.
func set[T any](given *pflag.FlagSet, flag string, value T) *T {
	if !given.Changed(flag) {
		return nil
	}
	return &value
}
