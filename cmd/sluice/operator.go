package main

import (
	"context"
	"encoding/json"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sluice"
	"sluice/api"
	"sluice/config"
)

// operatorTimeout bounds one question of an operator's: an audit, the longest, reads every order.
const operatorTimeout = 5 * time.Minute

// asking is what a verb asks the operations API.
type asking func(ctx context.Context, c *api.Client, args []string) error

// operatorCommand makes a verb that asks the operations API one thing.
func operatorCommand(use, short, example string, args cobra.PositionalArgs, ask asking) *cobra.Command {
	return streamCommand(use, short, example, args, func(ctx context.Context, c *api.Client, args []string) error {
		ctx, cancel := context.WithTimeout(ctx, operatorTimeout)
		defer cancel()
		return ask(ctx, c, args)
	})
}

// streamCommand makes a verb that asks the operations API again and again, for however long it takes.
func streamCommand(use, short, example string, args cobra.PositionalArgs, ask asking) *cobra.Command {
	settings := pflag.NewFlagSet(use, pflag.ContinueOnError) // the verb's own flags may share a setting's name
	config.Flags(settings, "admin", "admin-ca", "admin-token-file")
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
			operations, err := operationsAt(cfg, "admin", cfg.Admin)
			if err != nil {
				return err
			}
			client := operations.client(token)
			defer client.Close()
			err = ask(c.Context(), client, args)
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

// group is a verb that only has others under it.
func group(use, short, example string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Example: example, Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
}

// printed prints what a call answered.
func printed[T any](answer T, err error) error {
	if err != nil {
		return err
	}
	return printJSON(answer)
}

func printJSON(v any) error {
	e := json.NewEncoder(os.Stdout)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
