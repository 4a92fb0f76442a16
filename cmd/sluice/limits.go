package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sluice"
	"sluice/api"
)

func limitsCommand() *cobra.Command {
	get := func(use, example string) *cobra.Command {
		return operatorCommand(use, "Print what operators set for all doors while they run", example, cobra.NoArgs,
			func(ctx context.Context, c *api.Client, _ []string) error { return printed(c.Limits(ctx)) })
	}
	cmd := get("limits", "  sluice limits\n  sluice limits set --max-wait 10s")
	cmd.Short = "Print, set and reset the limits of all doors while they run"
	cmd.AddCommand(get("get", "  sluice limits get"), limitsSetCommand())
	return cmd
}

// limitFlags are the flags of limits set, by the limits' names in JSON.
type limitFlags struct {
	maxWait                         time.Duration
	buyerRate, addressRate          float64
	connections, addressConnections int
	bounds                          map[string]int64
	reset                           []string
}

func limitsSetCommand() *cobra.Command {
	var limits limitFlags
	var flags *pflag.FlagSet
	cmd := operatorCommand("set", "Set limits; every door takes them over within a second, those not named stay as they are",
		"  sluice limits set --max-wait 10s --bound door-1=5000\n  sluice limits set --reset max-wait,bound.door-1", cobra.NoArgs,
		func(ctx context.Context, c *api.Client, _ []string) error {
			patch, err := limits.patch(flags)
			if err != nil {
				return err
			}
			return printed(c.PatchLimits(ctx, patch))
		})
	flags = cmd.Flags()
	flags.DurationVar(&limits.maxWait, "max-wait", 0, "longest wait in the queue to admit for; 0s: any")
	flags.Float64Var(&limits.buyerRate, "buyer-rate", 0, "new orders a second that one buyer may ask for; 0: any")
	flags.Float64Var(&limits.addressRate, "address-rate", 0, "new orders a second from one address (IPv6: a /64) with --identity open, and bad tickets with others; 0: any")
	flags.IntVar(&limits.connections, "connections", 0, "most connections of buyers at once, of each door")
	flags.IntVar(&limits.addressConnections, "address-connections", 0, "most connections of one address at once; 0: a quarter of all")
	flags.StringToInt64Var(&limits.bounds, "bound", nil, "most outstanding orders of a door, as `DOOR=N`; once for each")
	flags.StringSliceVar(&limits.reset, "reset", nil, "flags, or bound.DOOR, that doors shall take from what they were started with again")
	return cmd
}

// patch is the flags that were given as a JSON merge patch.
func (l *limitFlags) patch(given *pflag.FlagSet) (map[string]any, error) {
	values := map[string]any{
		"max-wait": sluice.Duration(l.maxWait), "buyer-rate": l.buyerRate, "address-rate": l.addressRate,
		"connections": l.connections, "address-connections": l.addressConnections,
	}
	patch, bounds := map[string]any{}, map[string]any{}
	for flag, value := range values {
		if given.Changed(flag) {
			patch[jsonName(flag)] = value
		}
	}
	for door, bound := range l.bounds {
		bounds[door] = bound
	}
	for _, name := range l.reset {
		in, key := patch, jsonName(name)
		if door, ok := strings.CutPrefix(name, "bound."); ok && door != "" {
			in, key = bounds, door
		} else if _, ok := values[name]; !ok {
			return nil, &usageError{fmt.Errorf("--reset %q: want max-wait, buyer-rate, address-rate, connections, address-connections or bound.DOOR", name)}
		}
		if _, ok := in[key]; ok {
			return nil, &usageError{fmt.Errorf("--reset %q: it is given twice, or set and reset at once", name)}
		}
		in[key] = nil
	}
	if len(bounds) > 0 {
		patch["bounds"] = bounds
	}
	if len(patch) == 0 {
		return nil, &usageError{errors.New("no limit is given: which one shall be set? (see sluice limits set --help)")}
	}
	return patch, nil
}

func jsonName(flag string) string { return strings.ReplaceAll(flag, "-", "_") }

func blockCommand() *cobra.Command {
	cmd := group("block", "Turn a buyer or a network away at every door", "  sluice block user u1 --for 1h --note \"bot\"\n  sluice block network 203.0.113.0/24")
	for _, kind := range blockKinds {
		var n api.NewBlock
		var lasts time.Duration
		add := operatorCommand(kind.use, kind.block, "  sluice block "+kind.example+" --for 1h --note \"bot\"", cobra.ExactArgs(1),
			func(ctx context.Context, c *api.Client, args []string) error {
				*kind.field(&n), n.For = args[0], sluice.Duration(lasts)
				return printed(c.AddBlock(ctx, n))
			})
		add.Flags().DurationVar(&lasts, "for", 0, "how long; 0s: until it is lifted")
		add.Flags().StringVar(&n.Note, "note", "", "why, for other operators; buyers never see it")
		cmd.AddCommand(add)
	}
	return cmd
}

func unblockCommand() *cobra.Command {
	cmd := group("unblock", "Let a buyer or a network in again", "  sluice unblock user u1")
	for _, kind := range blockKinds {
		cmd.AddCommand(operatorCommand(kind.use, kind.lift, "  sluice unblock "+kind.example, cobra.ExactArgs(1),
			func(ctx context.Context, c *api.Client, args []string) error {
				var n api.NewBlock
				*kind.field(&n) = args[0]
				return printed(c.LiftBlock(ctx, n.User, n.Network))
			}))
	}
	return cmd
}

// blockKinds are what can be blocked.
var blockKinds = []struct {
	use, block, lift, example string
	field                     func(*api.NewBlock) *string
}{
	{
		"user USER", "Turn a buyer away", "Let a buyer in again", "user u1",
		func(n *api.NewBlock) *string { return &n.User },
	},
	{
		"network NETWORK", "Turn a network away; an address alone is that one, or the /64 of an IPv6 address", "Let a network in again",
		"network 203.0.113.0/24", func(n *api.NewBlock) *string { return &n.Network },
	},
}
