package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"sluice"
	"sluice/api"
)

const wantPoolsPatch = `want {"pools":{"NAME":{"rate":500,"window":1000}}}, and null for what the workers were started with`

// getPools answers from memory, so that an operator sees the pools also while the store is away.
func (w *Worker) getPools(context.Context, string, *none) (api.Pools, error) {
	w.poolsMu.Lock()
	out := api.Pools{Pools: w.poolsSet, Worker: make([]api.Pool, 0, len(w.pools))}
	w.poolsMu.Unlock()
	for _, p := range w.pools {
		out.Worker = append(out.Worker, p.state())
	}
	return out, nil
}

// patchPools sets what the patch names, for the pools of all workers: JSON merge patch.
func (w *Worker) patchPools(ctx context.Context, _ string, in *map[string]json.RawMessage) (api.Pools, error) {
	if err := checkPatchType(ctx); err != nil {
		return api.Pools{}, err
	}
	patch, err := checkPoolsPatch(*in)
	if err != nil {
		return api.Pools{}, err
	}
	if len(*in) > 0 {
		if err := w.changePools(ctx, patch); err != nil {
			return api.Pools{}, err
		}
	}
	return w.getPools(ctx, "", nil)
}

func (w *Worker) changePools(ctx context.Context, patch []byte) error {
	var what string
	set, err := w.Store.ChangePools(ctx, func(p *sluice.Pools) error {
		before := slices.Collect(maps.Keys(p.Pools))
		difference, err := merge(p, patch, wantPoolsPatch)
		if err != nil {
			return err
		}
		what = difference
		maps.DeleteFunc(p.Pools, func(_ string, pool sluice.Pool) bool { return pool == sluice.Pool{} })
		return w.knownPools(*p, before)
	})
	if err != nil {
		return err
	}
	who := callerOf(ctx)
	w.Logger.Info("pools changed", "operator", who.operator, "remote", who.remote, "version", set.Version, "change", shortened("set "+what))
	w.applyPools(set)
	return nil
}

// checkPoolsPatch answers the patch as it came, once its names are good: they are compared as they are, the JSON decoder
// would take RATE for rate.
func checkPoolsPatch(in map[string]json.RawMessage) ([]byte, error) {
	if in == nil {
		return nil, sluice.Refuse(sluice.BadRequest, "the body is empty: %s", wantPoolsPatch)
	}
	for name := range in {
		if name != "pools" {
			return nil, sluice.Refuse(sluice.BadRequest, "%.80q can't be patched: %s", name, wantPoolsPatch)
		}
	}
	var pools map[string]map[string]json.RawMessage
	if text := in["pools"]; text != nil {
		if err := json.Unmarshal(text, &pools); err != nil {
			return nil, sluice.Refuse(sluice.BadRequest, "pools can't be read: %s", wantPoolsPatch)
		}
	}
	for name, pool := range pools {
		for key := range pool {
			if key != "rate" && key != "window" {
				return nil, sluice.Refuse(sluice.BadRequest, "pool %.80q: %.80q can't be set: %s", name, key, wantPoolsPatch)
			}
		}
	}
	patch, err := json.Marshal(in)
	if err != nil {
		return nil, fmt.Errorf("read the patch: %w", err)
	}
	return patch, nil
}

// knownPools refuses what is set of a pool that neither this worker has nor was set before, at another one: it is a slip.
func (w *Worker) knownPools(p sluice.Pools, before []string) error {
	for name := range p.Pools {
		if w.pool(name) == nil && !slices.Contains(before, name) {
			var names []string
			for _, p := range w.pools {
				names = append(names, p.cfg.Name)
			}
			return sluice.Refuse(sluice.BadRequest, "%.80q is no pool of this worker: it has %s", name, strings.Join(names, ", "))
		}
	}
	return nil
}
