package limiter

import (
	"net/netip"
	"slices"
	"time"

	"sluice"
)

// Blocks are the buyers and networks that are turned away. They never change once made: a change makes new ones. Safe for
// concurrent use; nil blocks nobody.
type Blocks struct {
	users    map[string]time.Time // until when; zero: for good
	networks map[netip.Prefix]time.Time
	lengths4 []int // the prefix lengths among the networks, so that an address is looked up once for each
	lengths6 []int
}

// NewBlocks makes blocks that can be looked up.
func NewBlocks(list []sluice.Block) *Blocks {
	b := &Blocks{users: make(map[string]time.Time), networks: make(map[netip.Prefix]time.Time)}
	for _, block := range list {
		if block.User != "" {
			b.users[block.User] = block.Until
			continue
		}
		network := block.Network.Masked()
		b.networks[network] = block.Until
		lengths := &b.lengths6
		if network.Addr().Is4() {
			lengths = &b.lengths4
		}
		if !slices.Contains(*lengths, network.Bits()) {
			*lengths = append(*lengths, network.Bits())
		}
	}
	return b
}

// User reports whether a buyer is blocked at now, which is the store's time.
func (b *Blocks) User(now time.Time, user []byte) bool {
	if b == nil || len(b.users) == 0 {
		return false
	}
	until, listed := b.users[string(user)]
	return listed && inForce(until, now)
}

// AnyNetwork reports whether some network is listed: only then is it worth while to find out an address.
func (b *Blocks) AnyNetwork() bool { return b != nil && len(b.networks) > 0 }

// Address reports whether an address is in a blocked network at now. It must not be an IPv4 address in IPv6 clothes.
func (b *Blocks) Address(now time.Time, a netip.Addr) bool {
	if !b.AnyNetwork() || !a.IsValid() {
		return false
	}
	lengths := b.lengths6
	if a.Is4() {
		lengths = b.lengths4
	}
	for _, bits := range lengths {
		network, err := a.Prefix(bits)
		if err != nil {
			continue
		}
		if until, listed := b.networks[network]; listed && inForce(until, now) {
			return true
		}
	}
	return false
}

func inForce(until, now time.Time) bool { return until.IsZero() || now.Before(until) }
