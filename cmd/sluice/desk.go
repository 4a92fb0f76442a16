package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"sluice/api"
	"sluice/inventory"
)

func refundCommand() *cobra.Command {
	cmd := group("refund", "List payments that must be given back, and note which were", "  sluice refund list\n  sluice refund given 7")
	given := operatorCommand("given REFUND", "Note that a refund was given; again it changes nothing", "  sluice refund given 7", cobra.ExactArgs(1),
		func(ctx context.Context, c *api.Client, args []string) error {
			id, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil || id < 1 {
				return &usageError{fmt.Errorf("%q: want the number of a refund, as sluice refund list prints it", args[0])}
			}
			return printed(c.GiveRefund(ctx, id))
		})
	cmd.AddCommand(refundListCommand(), given)
	return cmd
}

func refundListCommand() *cobra.Command {
	var list listFlags
	cmd := operatorCommand("list", "Print payments that came too late, or twice, and must be given back", "  sluice refund list\n  sluice refund list --all --json",
		cobra.NoArgs, func(ctx context.Context, c *api.Client, _ []string) error {
			row := func(r inventory.Refund) []any {
				return []any{r.ID, r.PaymentRef, r.Reason, r.User, r.Sale, r.Units, r.Order, r.At, r.GivenAt}
			}
			return printList(&list, "refund\tref\treason\tuser\tsale\tunits\torder\tsince\tgiven", row, func(after int64, limit int) ([]inventory.Refund, int64, error) {
				page, err := c.Refunds(ctx, after, limit, list.all)
				return page.Refunds, page.Next, err
			})
		})
	list.add(cmd, "print those too that were given")
	return cmd
}

func deadLetterCommand() *cobra.Command {
	cmd := group("deadletter", "See orders that could not be settled, and settle or drop them", "  sluice deadletter list\n  sluice deadletter show 0c8f3d1e2a4b5c6d")
	show := letterVerb("show", "Print a dead letter with its body", func(ctx context.Context, c *api.Client, message string) error {
		letter, err := c.DeadLetter(ctx, message)
		return printed(legible(letter), err)
	})
	replay := letterVerb("replay", "Settle a dead letter's order after all, under a new id; again it answers with the same one",
		func(ctx context.Context, c *api.Client, message string) error {
			return printed(c.ReplayDeadLetter(ctx, message))
		})
	drop := letterVerb("drop", "Forget a dead letter; its order stays failed", func(ctx context.Context, c *api.Client, message string) error {
		if err := c.DropDeadLetter(ctx, message); err != nil {
			return err
		}
		fmt.Printf("dead letter %s is dropped\n", message)
		return nil
	})
	cmd.AddCommand(letterListCommand(), show, replay, drop)
	return cmd
}

// letterVerb makes a verb about one dead letter.
func letterVerb(verb, short string, ask func(ctx context.Context, c *api.Client, message string) error) *cobra.Command {
	return operatorCommand(verb+" MESSAGE", short, "  sluice deadletter "+verb+" 0c8f3d1e2a4b5c6d", cobra.ExactArgs(1),
		func(ctx context.Context, c *api.Client, args []string) error { return ask(ctx, c, args[0]) })
}

func letterListCommand() *cobra.Command {
	var list listFlags
	cmd := operatorCommand("list", "Print the messages that could not be settled", "  sluice deadletter list\n  sluice deadletter list --all --json",
		cobra.NoArgs, func(ctx context.Context, c *api.Client, _ []string) error {
			row := func(l api.DeadLetter) []any {
				return []any{l.Message, l.At, l.Attempts, known(l.Order), known(l.ReplayedAs), l.Error}
			}
			return printList(&list, "message\tsince\tattempts\torder\treplayed as\terror", row, func(after int64, limit int) ([]api.DeadLetter, int64, error) {
				page, err := c.DeadLetters(ctx, after, limit, list.all)
				return page.DeadLetters, page.Next, err
			})
		})
	list.add(cmd, "print those too that were replayed")
	return cmd
}

// known is what is known of something; empty where nothing is.
func known[T comparable](v T) any {
	if v == *new(T) {
		return ""
	}
	return v
}

// readable is a dead letter whose body people can read: as JSON where it is JSON, else as text, else in base64.
type readable struct {
	api.DeadLetter
	Body   any    `json:"body,omitempty"`
	Base64 []byte `json:"body_base64,omitempty"`
}

func legible(l api.DeadLetter) readable {
	r := readable{DeadLetter: l}
	switch {
	case json.Valid(l.Body):
		r.Body = json.RawMessage(l.Body)
	case utf8.Valid(l.Body):
		r.Body = string(l.Body)
	default:
		r.Base64 = l.Body
	}
	return r
}
