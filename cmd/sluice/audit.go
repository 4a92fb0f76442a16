package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"sluice"
	"sluice/api"
)

// errUnbalanced makes the audit's exit status 1.
var errUnbalanced = errors.New("the books do not balance")

func auditCommand() *cobra.Command {
	return operatorCommand("audit", "Prove that every sale's books balance; exit status 1 where they do not",
		"  sluice audit", cobra.NoArgs,
		func(ctx context.Context, c *api.Client, _ []string) error {
			audit, err := c.Audit(ctx)
			if err != nil {
				return err
			}
			if err := printAudit(audit); err != nil {
				return err
			}
			if !audit.Balanced {
				return errUnbalanced
			}
			return nil
		})
}

func printAudit(a sluice.Audit) error {
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "sale\tstock\ttopups\tfree\theld\tsold\torders\t")
	for _, s := range a.Sales {
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%d\t%s\t\n", s.ID, s.Stock, s.TopUps, s.Free, s.Held, s.Sold, counts(s.Orders))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, s := range a.Sales {
		for _, d := range s.Differences {
			fmt.Printf("sale %s: %s\n", s.ID, d)
		}
	}
	fmt.Printf("balanced: %t\n", a.Balanced)
	return nil
}

func counts(orders map[sluice.State]int64) string {
	parts := make([]string, 0, len(orders))
	for _, state := range slices.Sorted(maps.Keys(orders)) {
		parts = append(parts, fmt.Sprintf("%s %d", state, orders[state]))
	}
	return strings.Join(parts, ", ")
}
