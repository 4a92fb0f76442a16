package worker

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"sluice"
	"sluice/api"
	apiv1 "sluice/api/v1"
)

const wantPoolsPatch = `want {"pools":{"NAME":{"rate":500,"window":1000}}}, and null for what the workers were started with`

// GetPools answers from memory, so that an operator sees the pools also while the store is away.
func (s *service) GetPools(context.Context, *apiv1.Nothing) (*apiv1.Pools, error) {
	return reply[apiv1.Pools](s.poolsNow(), nil)
}

func (w *Worker) poolsNow() api.Pools {
	w.poolsMu.Lock()
	out := api.Pools{Pools: w.poolsSet, Worker: make([]api.Pool, 0, len(w.pools))}
	w.poolsMu.Unlock()
	for _, p := range w.pools {
		out.Worker = append(out.Worker, p.state())
	}
	return out
}

// ChangePools sets what the patch names, for the pools of all workers: JSON merge patch.
func (s *service) ChangePools(ctx context.Context, in *apiv1.MergePatch) (*apiv1.Pools, error) {
	patch, err := patchOf(ctx, in)
	if err != nil {
		return nil, err
	}
	if err := checkPoolsPatch(patch); err != nil {
		return nil, err
	}
	if len(patch) > 0 {
		if err := s.changePools(ctx, in.GetPatch()); err != nil {
			return nil, err
		}
	}
	return s.GetPools(ctx, nil)
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
	w.logChange(ctx, "pools changed", "version", set.Version, "change", bounded("set "+what))
	w.applyPools(set)
	return nil
}

// checkPoolsPatch looks at a patch's names as they are: the JSON decoder would take RATE for rate.
func checkPoolsPatch(in map[string]json.RawMessage) error {
	if in == nil {
		return sluice.Refuse(sluice.BadRequest, "the body is empty: %s", wantPoolsPatch)
	}
	for name := range in {
		if name != "pools" {
			return sluice.Refuse(sluice.BadRequest, "%.80q can't be patched: %s", name, wantPoolsPatch)
		}
	}
	var pools map[string]map[string]json.RawMessage
	if text := in["pools"]; text != nil {
		if err := json.Unmarshal(text, &pools); err != nil {
			return sluice.Refuse(sluice.BadRequest, "pools can't be read: %s", wantPoolsPatch)
		}
	}
	for name, pool := range pools {
		for key := range pool {
			if key != "rate" && key != "window" {
				return sluice.Refuse(sluice.BadRequest, "pool %.80q: %.80q can't be set: %s", name, key, wantPoolsPatch)
			}
		}
	}
	return nil
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
