package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/netip"
	"slices"
	"time"

	khttp "github.com/go-kratos/kratos/v2/transport/http"

	"sluice"
	"sluice/api"
	"sluice/inventory"
)

const maxBlockFor = 10 * 366 * 24 * time.Hour

// limits reads the present limits.
func (w *Worker) limits(ctx context.Context) (sluice.Limits, error) {
	l, err := w.Store.Limits(ctx)
	if err == nil {
		w.metrics.limited(l)
	}
	return l, err
}

func (w *Worker) getLimits(ctx context.Context, _ string, _ *none) (sluice.Limits, error) {
	return w.limits(ctx)
}

// changeLimits makes one change and logs who made it. change says in a few words what it is, and may be called again.
func (w *Worker) changeLimits(ctx context.Context, change func(*sluice.Limits) (string, error)) (sluice.Limits, error) {
	var what string
	l, err := w.Store.ChangeLimits(ctx, func(l *sluice.Limits) (err error) {
		what, err = change(l)
		return err
	})
	if err != nil {
		return sluice.Limits{}, err
	}
	w.metrics.limited(l)
	who := callerOf(ctx)
	w.Logger.Info("limits changed", "operator", who.operator, "remote", who.remote, "version", l.Version, "change", shortened(what))
	return l, nil
}

// patchLimits sets what the patch names: JSON merge patch, in which null leaves the doors what they were started with.
func (w *Worker) patchLimits(ctx context.Context, _ string, in *map[string]json.RawMessage) (sluice.Limits, error) {
	if err := checkPatchType(ctx); err != nil {
		return sluice.Limits{}, err
	}
	if err := checkPatch(*in); err != nil {
		return sluice.Limits{}, err
	}
	if len(*in) == 0 {
		return w.limits(ctx)
	}
	patch, err := json.Marshal(*in)
	if err != nil {
		return sluice.Limits{}, fmt.Errorf("read the patch: %w", err)
	}
	return w.changeLimits(ctx, func(l *sluice.Limits) (string, error) {
		difference, err := mergeLimits(l, patch)
		return "set " + difference, err
	})
}

func checkPatchType(ctx context.Context) error {
	r, ok := khttp.RequestFromServerContext(ctx)
	if !ok || r.Header.Get("Content-Type") == "" {
		return nil
	}
	switch t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); {
	case err == nil && (t == api.ContentMergePatch || t == "application/json"):
		return nil
	default:
		return sluice.Refuse(sluice.UnsupportedMediaType, "content type %.80q: want %s or application/json", t, api.ContentMergePatch)
	}
}

// patchable is what a patch may set. Names are compared as they are: the JSON decoder would take MAX_WAIT for max_wait,
// the merge would not.
var patchable = []string{"bounds", "max_wait", "buyer_rate", "address_rate", "connections", "address_connections"}

const wantPatch = `want some of {"bounds":{"DOOR":500},"max_wait":"10s","buyer_rate":5,"address_rate":100,"connections":5000,` +
	`"address_connections":100}, and null for what the doors were started with`

func checkPatch(patch map[string]json.RawMessage) error {
	if patch == nil {
		return sluice.Refuse(sluice.BadRequest, "the body is empty: %s", wantPatch)
	}
	for name := range patch {
		switch {
		case name == "blocks":
			return sluice.Refuse(sluice.BadRequest, "blocks can't be patched: POST and DELETE %s add and lift them", api.PathBlocks)
		case name == "version":
			return sluice.Refuse(sluice.BadRequest, "version can't be patched: it counts the changes; GET %s reads it", api.PathLimits)
		case !slices.Contains(patchable, name):
			return sluice.Refuse(sluice.BadRequest, "%.80q is no limit: %s", name, wantPatch)
		}
	}
	return nil
}

// mergeLimits applies a patch to all but the blocks, and answers as a patch what it changed.
func mergeLimits(l *sluice.Limits, patch []byte) (difference string, err error) {
	patched := withoutBlocks(*l)
	if difference, err = merge(&patched, patch, wantPatch); err != nil {
		return "", err
	}
	patched.Blocks = l.Blocks
	*l = patched
	return difference, nil
}

func withoutBlocks(l sluice.Limits) sluice.Limits {
	l.Blocks = nil
	return l
}

// addBlock turns a buyer or a network away, for a time by the store's clock.
func (w *Worker) addBlock(ctx context.Context, _ string, in *api.NewBlock) (api.BlockChange, error) {
	b, err := blockOf(in.User, in.Network)
	if err != nil {
		return api.BlockChange{}, err
	}
	b.Note = in.Note
	switch d := time.Duration(in.For); {
	case d < 0 || d > maxBlockFor:
		return api.BlockChange{}, sluice.Refuse(sluice.BadRequest, "for %v: want 0s, until it is lifted, to %v", d, maxBlockFor)
	case d > 0:
		clock, err := w.Store.Statuses(ctx, nil) // of no order: the store's time alone
		if err != nil {
			return api.BlockChange{}, err
		}
		b.Until = inventory.Micros(clock.Now.Add(d))
	}
	if err := b.Validate(); err != nil {
		return api.BlockChange{}, err
	}
	l, err := w.changeLimits(ctx, func(l *sluice.Limits) (string, error) {
		if i := slices.IndexFunc(l.Blocks, b.Same); i >= 0 {
			l.Blocks[i] = b
		} else {
			l.Blocks = append(l.Blocks, b)
		}
		return describe("block", b)
	})
	return api.BlockChange{Version: l.Version, Block: b}, err
}

// liftBlock lets a buyer or a network in again.
func (w *Worker) liftBlock(ctx context.Context, _ string, _ *none) (api.BlockChange, error) {
	b, err := blockInQuery(ctx)
	if err != nil {
		return api.BlockChange{}, err
	}
	l, err := w.changeLimits(ctx, func(l *sluice.Limits) (string, error) {
		i := slices.IndexFunc(l.Blocks, b.Same)
		if i < 0 {
			return "", sluice.Refuse(sluice.NotFound, "%s is not blocked", nameOf(b))
		}
		b = l.Blocks[i]
		l.Blocks = slices.Delete(l.Blocks, i, i+1)
		return describe("lift", b)
	})
	return api.BlockChange{Version: l.Version, Block: b}, err
}

func blockInQuery(ctx context.Context) (sluice.Block, error) {
	r, ok := khttp.RequestFromServerContext(ctx)
	if !ok {
		return sluice.Block{}, fmt.Errorf("%s %s: no request behind the call", http.MethodDelete, api.PathBlocks)
	}
	q := r.URL.Query()
	if len(q) != 1 || len(q["user"])+len(q["network"]) != 1 {
		return sluice.Block{}, sluice.Refuse(sluice.BadRequest, "want either ?user=USER or ?network=NETWORK")
	}
	b, err := blockOf(q.Get("user"), q.Get("network"))
	if err != nil {
		return b, err
	}
	return b, b.Validate()
}

// blockOf reads what is to be blocked. An address alone means that one, or the /64 of an IPv6 address, which is what one
// host usually has.
func blockOf(user, network string) (sluice.Block, error) {
	b := sluice.Block{User: user}
	if network == "" {
		return b, nil
	}
	prefix, err := netip.ParsePrefix(network)
	if addr, e := netip.ParseAddr(network); e == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		prefix, err = addr.Prefix(min(addr.BitLen(), 64))
	}
	if err != nil {
		return b, sluice.Refuse(sluice.BadRequest, "network %.80q: want a network such as 203.0.113.0/24 or 2001:db8::/48, or an address", network)
	}
	if prefix.Addr().Is4In6() && prefix.Bits() >= 96 { // doors know an IPv4 address as such
		prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96)
	}
	b.Network = prefix
	return b, nil
}

func nameOf(b sluice.Block) string {
	if b.User != "" {
		return fmt.Sprintf("user %q", b.User)
	}
	return "network " + b.Network.String()
}

func describe(what string, b sluice.Block) (string, error) {
	text, err := json.Marshal(b)
	if err != nil {
		return "", fmt.Errorf("write the block: %w", err)
	}
	return what + " " + string(text), nil
}
