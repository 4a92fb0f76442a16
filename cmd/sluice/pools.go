package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sluice"
	"sluice/api"
	"sluice/config"
	"sluice/worker"
)

// poolConfigs are the pools of a worker: the one that drain-rate and its like make, and those listed under pools.
func poolConfigs(cfg config.Config) []worker.PoolConfig {
	standard := worker.DefaultPool()
	var pools []worker.PoolConfig
	for _, p := range append([]config.Pool{cfg.DefaultPool()}, cfg.Pools...) {
		pools = append(pools, worker.PoolConfig{
			Name: p.Name, Topic: cmp.Or(p.Topic, standard.Topic), Channel: cmp.Or(p.Channel, standard.Channel),
			Workers: p.Workers, Batch: p.Batch, Flush: p.Flush, Window: p.Window, Rate: float64(p.Rate),
		})
	}
	return pools
}

func poolsCommand() *cobra.Command {
	get := func(use, example string) *cobra.Command {
		var asJSON bool
		cmd := operatorCommand(use, "Print the pools of a worker as they are now", example, cobra.NoArgs,
			func(ctx context.Context, c *api.Client, _ []string) error { return printPools(asJSON)(c.Pools(ctx)) })
		cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, with what operators have set of all workers' pools")
		return cmd
	}
	cmd := get("pools", "  sluice pools\n  sluice pools set settle --rate 500")
	cmd.Short = "Print the pools that drain the queue, set and reset their rates and windows while they run"
	cmd.AddCommand(get("get", "  sluice pools get --json"), poolsSetCommand())
	return cmd
}

// poolFlags are the flags of pools set.
type poolFlags struct {
	rate   float64
	window int
	reset  []string
	asJSON bool
}

func poolsSetCommand() *cobra.Command {
	var pool poolFlags
	var flags *pflag.FlagSet
	cmd := operatorCommand("set POOL", "Set a pool's rate and window; every worker takes them over within a second, what is not named stays",
		"  sluice pools set settle --rate 500\n  sluice pools set settle --window 0     # pauses it\n  sluice pools set settle --reset rate,window", cobra.ExactArgs(1),
		func(ctx context.Context, c *api.Client, args []string) error {
			patch, err := pool.patch(flags)
			if err != nil {
				return err
			}
			return printPools(pool.asJSON)(c.PatchPool(ctx, args[0], patch))
		})
	flags = cmd.Flags()
	flags.Float64Var(&pool.rate, "rate", 0, "orders a second of each worker; 0: as fast as the store")
	flags.IntVar(&pool.window, "window", 0, "most orders in hand of each worker; 0 pauses the pool")
	flags.StringSliceVar(&pool.reset, "reset", nil, "rate, window or both: workers shall take what they were started with again")
	flags.BoolVar(&pool.asJSON, "json", false, "print JSON")
	return cmd
}

// patch is the flags that were given as a JSON merge patch of the pool.
func (p *poolFlags) patch(given *pflag.FlagSet) (map[string]any, error) {
	patch := map[string]any{}
	for flag, value := range map[string]any{"rate": p.rate, "window": p.window} {
		if given.Changed(flag) {
			patch[flag] = value
		}
	}
	for _, name := range p.reset {
		if name != "rate" && name != "window" {
			return nil, &usageError{fmt.Errorf("--reset %q: want rate or window", name)}
		}
		if _, ok := patch[name]; ok {
			return nil, &usageError{fmt.Errorf("--reset %q: it is given twice, or set and reset at once", name)}
		}
		patch[name] = nil
	}
	if len(patch) == 0 {
		return nil, &usageError{errors.New("nothing is given: what shall be set? (see sluice pools set --help)")}
	}
	return patch, nil
}

// printPools prints what a call for pools answered.
func printPools(asJSON bool) func(api.Pools, error) error {
	return func(pools api.Pools, err error) error {
		switch {
		case err != nil:
			return err
		case asJSON:
			return printJSON(pools)
		}
		t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(t, "pool\tstate\trate\tset\twindow\tlargest\tset\tin hand\tworkers\tbatch\tcommit\tbaseline\t")
		for _, p := range pools.Worker {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%d\t%s\t%d\t%d\t%d\t%s\t%s\t\n", p.Name, p.State, rateText(p.Rate), setText(p.Set.Rate),
				p.Window, p.Largest, setText(p.Set.Window), p.InHand, p.Workers, p.Batch, shortDuration(p.CommitLatency), shortDuration(p.CommitBaseline))
		}
		return t.Flush()
	}
}

func rateText(rate float64) string {
	if rate == 0 {
		return "any"
	}
	return fmt.Sprintf("%g/s", rate)
}

// setText tells what operators have set.
func setText[T int | float64](set *T) string {
	if set == nil {
		return "-"
	}
	return fmt.Sprint(*set)
}

func shortDuration(d sluice.Duration) string {
	if d == 0 {
		return "-"
	}
	return time.Duration(d).Round(10 * time.Microsecond).String()
}
