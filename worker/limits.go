package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"mime"
	"net/netip"
	"slices"
	"time"

	khttp "github.com/go-kratos/kratos/v2/transport/http"

	"sluice"
	"sluice/api"
	apiv1 "sluice/api/v1"
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

func (s *service) GetLimits(ctx context.Context, _ *apiv1.Nothing) (*apiv1.Limits, error) {
	return reply[apiv1.Limits](s.limits(ctx))
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
	w.logChange(ctx, "limits changed", "version", l.Version, "change", bounded(what))
	return l, nil
}

// ChangeLimits sets what the patch names: JSON merge patch, in which null leaves the doors what they were started with.
func (s *service) ChangeLimits(ctx context.Context, in *apiv1.MergePatch) (*apiv1.Limits, error) {
	patch, err := patchOf(ctx, in)
	if err != nil {
		return nil, err
	}
	if err := checkPatch(patch); err != nil {
		return nil, err
	}
	if len(patch) == 0 {
		return reply[apiv1.Limits](s.limits(ctx))
	}
	return reply[apiv1.Limits](s.changeLimits(ctx, func(l *sluice.Limits) (string, error) {
		difference, err := mergeLimits(l, in.GetPatch())
		return "set " + difference, err
	}))
}

// patchOf reads the names that a patch sets; nil where it is empty.
func patchOf(ctx context.Context, in *apiv1.MergePatch) (patch map[string]json.RawMessage, err error) {
	if err := checkPatchType(ctx); err != nil {
		return nil, err
	}
	if len(in.GetPatch()) > 0 {
		err = decode(in.GetPatch(), &patch)
	}
	return patch, err
}

// checkPatchType looks at the type of a patch that came over HTTP.
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

// Block turns a buyer or a network away, for a time by the store's clock.
func (s *service) Block(ctx context.Context, in *apiv1.NewBlock) (*apiv1.BlockChange, error) {
	b, err := blockOf(in.GetUser(), in.GetNetwork())
	if err != nil {
		return nil, err
	}
	b.Note = in.GetNote()
	switch d := in.GetFor().AsDuration(); {
	case d < 0 || d > maxBlockFor:
		return nil, sluice.Refuse(sluice.BadRequest, "for %v: want 0s, until it is lifted, to %v", d, maxBlockFor)
	case d > 0:
		clock, err := s.Store.Statuses(ctx, nil) // of no order: the store's time alone
		if err != nil {
			return nil, err
		}
		b.Until = inventory.Micros(clock.Now.Add(d))
	}
	l, err := s.changeLimits(ctx, func(l *sluice.Limits) (string, error) {
		if i := slices.IndexFunc(l.Blocks, b.Same); i >= 0 {
			l.Blocks[i] = b
		} else {
			l.Blocks = append(l.Blocks, b)
		}
		return describe("block", b)
	})
	return reply[apiv1.BlockChange](api.BlockChange{Version: l.Version, Block: b}, err)
}

// Unblock lets a buyer or a network in again.
func (s *service) Unblock(ctx context.Context, in *apiv1.Blocked) (*apiv1.BlockChange, error) {
	b, err := blockOf(in.GetUser(), in.GetNetwork())
	if err != nil {
		return nil, err
	}
	l, err := s.changeLimits(ctx, func(l *sluice.Limits) (string, error) {
		i := slices.IndexFunc(l.Blocks, b.Same)
		if i < 0 {
			return "", sluice.Refuse(sluice.NotFound, "%s is not blocked", nameOf(b))
		}
		b = l.Blocks[i]
		l.Blocks = slices.Delete(l.Blocks, i, i+1)
		return describe("lift", b)
	})
	return reply[apiv1.BlockChange](api.BlockChange{Version: l.Version, Block: b}, err)
}

// blockOf reads what is to be blocked. An address alone means that one, or the /64 of an IPv6 address, which is what one
// host usually has.
func blockOf(user, network string) (sluice.Block, error) {
	b := sluice.Block{User: user}
	if network == "" {
		return b, b.Validate()
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
	return b, b.Validate()
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
