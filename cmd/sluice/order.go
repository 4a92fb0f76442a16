package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"sluice"
	"sluice/api"
)

func orderCommand() *cobra.Command {
	cmd := group("order", "Read, trace, list, pay and cancel orders", "  sluice order list --sale spring --state held\n  sluice order trace "+exampleOrder)
	get := orderVerb("get", "Print what became of an order", func(ctx context.Context, c *api.Client, id sluice.OrderID) error { return printed(c.Order(ctx, id)) })
	cancel := orderVerb("cancel", "Give a held order's units back", func(ctx context.Context, c *api.Client, id sluice.OrderID) error {
		return printed(c.CancelOrder(ctx, id))
	})
	cmd.AddCommand(get, orderTraceCommand(), orderListCommand(), orderPayCommand(), cancel)
	return cmd
}

const exampleOrder = "5a46f2c0-0fce-814f-920e-caf5b0d6fdba"

// orderVerb makes a verb about one order.
func orderVerb(verb, short string, ask func(ctx context.Context, c *api.Client, id sluice.OrderID) error) *cobra.Command {
	return operatorCommand(verb+" ORDER", short, "  sluice order "+verb+" "+exampleOrder, cobra.ExactArgs(1),
		func(ctx context.Context, c *api.Client, args []string) error {
			id, err := sluice.ParseOrderID(args[0])
			if err != nil {
				return &usageError{fmt.Errorf("%w (an order's id is like %s)", err, exampleOrder)}
			}
			return ask(ctx, c, id)
		})
}

func orderPayCommand() *cobra.Command {
	var ref string
	cmd := orderVerb("pay", "Say that an order was paid; again with the same reference it changes nothing",
		func(ctx context.Context, c *api.Client, id sluice.OrderID) error {
			if ref == "" {
				return &usageError{errors.New("--ref is missing: what does the payment provider call the payment?")}
			}
			return printed(c.PayOrder(ctx, id, ref))
		})
	cmd.Example += " --ref pay-4711"
	cmd.Flags().StringVar(&ref, "ref", "", "the payment's reference, as the payment provider has it")
	return cmd
}

func orderTraceCommand() *cobra.Command {
	var asJSON bool
	cmd := orderVerb("trace", "Tell the story of an order: what happened to it, when and why",
		func(ctx context.Context, c *api.Client, id sluice.OrderID) error {
			trace, err := c.TraceOrder(ctx, id)
			if err != nil || asJSON {
				return printed(trace, err)
			}
			return printTrace(trace)
		})
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printTrace(t api.Trace) error {
	o := t.Order
	if o.State == sluice.Queued {
		fmt.Printf("order %s is genuine, but the store has not settled it: it waits in the queue, or its buyer was never promised anything\n", o.Order)
		return nil
	}
	fmt.Printf("order %s: user %s wants %d of sale %s\n\n", o.Order, o.User, o.Units, o.Sale)
	out := newTable(os.Stdout, "time\tevent\tversion\tmore")
	lines := []error{out.add(nil, o.AcceptedAt, "admitted", "", joined(pair("key", o.Key), pair("replay of", o.ReplayOf)))}
	for _, e := range t.Events {
		lines = append(lines, out.add(nil, e.At, e.Type, e.Version, joined(pair("reason", e.Reason), pair("pay by", timeText(e.PayBy)),
			pair("ref", e.PaymentRef), pair("refund because", e.RefundReason))))
	}
	if err := errors.Join(append(lines, out.end())...); err != nil {
		return err
	}
	if len(t.Events) == 0 {
		fmt.Println("(its events are no longer kept)")
	}
	deadline := ""
	if o.State == sluice.Held {
		deadline = joined(pair("pay by", timeText(o.PayBy)), pair("payable until", timeText(o.ReleaseAt)))
	}
	fmt.Printf("\nnow it is %s, %s\n", o.State, joined(fmt.Sprint("version ", o.Version), pair("reason", o.Reason),
		pair("settled", timeText(o.SettledAt)), deadline, pair("ref", o.PaymentRef)))
	return nil
}

// pair is a name and its value; empty where there is none.
func pair[T comparable](name string, value T) string {
	if value == *new(T) {
		return ""
	}
	return fmt.Sprintf("%s %v", name, value)
}

// joined puts commas between what is not empty.
func joined(parts ...string) string {
	var there []string
	for _, p := range parts {
		if p != "" {
			there = append(there, p)
		}
	}
	return strings.Join(there, ", ")
}

func orderListCommand() *cobra.Command {
	var q api.OrderQuery
	var state, format string
	var limit int
	var all bool
	cmd := streamCommand("list", "Print settled orders, by sale, buyer and state, in the order of their ids",
		"  sluice order list --user u1\n  sluice order list --sale spring --state paid --all --format csv > paid.csv", cobra.NoArgs,
		func(ctx context.Context, c *api.Client, _ []string) error {
			q.State = sluice.State(state)
			most, err := mostOrders(limit, all)
			if err != nil {
				return err
			}
			out, err := newOrderRows(os.Stdout, format)
			if err != nil {
				return err
			}
			return printOrders(ctx, c, q, most, out)
		})
	f := cmd.Flags()
	f.StringVar(&q.Sale, "sale", "", "orders of this sale only")
	f.StringVar(&q.User, "user", "", "orders of this buyer only")
	f.StringVar(&state, "state", "", "held, paid, expired, cancelled, rejected or failed; empty: any")
	f.IntVar(&limit, "limit", 0, fmt.Sprintf("most orders to print; 0: %d", api.DefaultPage))
	f.BoolVar(&all, "all", false, "print all orders, however many there are")
	f.StringVar(&format, "format", "table", "table, json (one order a line) or csv")
	return cmd
}

// mostOrders is how many orders to print; 0: all.
func mostOrders(limit int, all bool) (int, error) {
	switch {
	case all && limit != 0:
		return 0, &usageError{errors.New("--all and --limit: want one of them")}
	case limit < 0:
		return 0, &usageError{fmt.Errorf("--limit %d: want 1 or more", limit)}
	case all:
		return 0, nil
	case limit == 0:
		return api.DefaultPage, nil
	default:
		return limit, nil
	}
}

// printOrders prints as they come: an export of millions is never in memory at once.
func printOrders(ctx context.Context, c *api.Client, q api.OrderQuery, most int, out *rows) error {
	q.Limit = api.MaxPage
	if most > 0 {
		q.Limit = min(most+1, api.MaxPage) // one more, to know whether there is more
	}
	n := 0
	for o, err := range c.AllOrders(ctx, q) {
		if err != nil {
			return out.endAfter(err)
		}
		if n++; most > 0 && n > most {
			return out.endBefore("--limit and --all")
		}
		if err := out.add(&o, o.Order, o.Sale, o.User, o.Units, o.State, o.Reason, o.AcceptedAt, o.SettledAt, o.PayBy, o.PaymentRef); err != nil {
			return err
		}
	}
	return out.end()
}

func newOrderRows(to io.Writer, format string) (*rows, error) {
	switch format {
	case "table", "json":
		return newRows(to, "order\tsale\tuser\tunits\tstatus\treason\tadmitted\tsettled\tpay by\tref", format == "json"), nil
	case "csv":
		return newOrderCSV(to), nil
	default:
		return nil, &usageError{fmt.Errorf("--format %q: want table, json or csv", format)}
	}
}

var csvNames = []string{
	"order", "sale", "user", "units", "status", "reason", "version", "accepted_at", "settled_at", "pay_by", "release_at", "payment_ref",
	"key", "attempt", "replay_of", "attributes",
}

// newOrderCSV prints orders whole, as RFC 4180 has it, under a line of names.
func newOrderCSV(to io.Writer) *rows {
	out := csv.NewWriter(to)
	_ = out.Write(csvNames) // what goes wrong stays wrong: flush tells it
	record := func(entry any, _ []any) error {
		o := entry.(*api.Order)
		replayOf := ""
		if o.ReplayOf != (sluice.OrderID{}) {
			replayOf = o.ReplayOf.String()
		}
		return out.Write([]string{
			o.Order.String(), o.Sale, o.User, strconv.Itoa(o.Units), string(o.State), string(o.Reason), strconv.FormatInt(o.Version, 10),
			timeText(o.AcceptedAt), timeText(o.SettledAt), timeText(o.PayBy), timeText(o.ReleaseAt), o.PaymentRef,
			o.Key, strconv.Itoa(o.Attempt), replayOf, string(o.Attributes),
		})
	}
	flush := func() error {
		out.Flush()
		return out.Error()
	}
	return &rows{print: record, flush: flush}
}
