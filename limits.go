package sluice

import (
	"net/netip"
	"time"
)

// Bounds of what operators may set for all doors.
const (
	MaxBound  = 10_000_000
	MaxRate   = 1_000_000.0 // a second
	MinRate   = 0.001
	MaxWait   = Duration(time.Hour)
	MaxDoors  = 1000
	MaxBlocks = 10_000
	MaxNote   = 200 // bytes
)

// Limits are what operators set while the service runs: every door takes them over within a second. A nil field leaves
// each door what it was started with.
type Limits struct {
	Version            int64            `json:"version"`                       // grows with every change
	Bounds             map[string]int64 `json:"bounds,omitempty"`              // most outstanding orders, by door
	MaxWait            *Duration        `json:"max_wait,omitempty"`            // longest wait to admit for; 0s: any
	BuyerRate          *float64         `json:"buyer_rate,omitempty"`          // new orders a second of one buyer; 0: any
	AddressRate        *float64         `json:"address_rate,omitempty"`        // requests a second of one address without an identity; 0: any
	Connections        *int             `json:"connections,omitempty"`         // most connections at once, of each door; at least 1
	AddressConnections *int             `json:"address_connections,omitempty"` // of one address; 0: a quarter of all
	Blocks             []Block          `json:"blocks,omitempty"`
}

// Block turns a buyer or a network away. Exactly one of User and Network is set.
type Block struct {
	User    string       `json:"user,omitempty"`
	Network netip.Prefix `json:"network,omitzero"`
	Until   time.Time    `json:"until,omitzero"` // the store's time; zero: until it is lifted
	Note    string       `json:"note,omitempty"` // for other operators; buyers never see it
}

// Validate names the first field that is wrong.
func (l *Limits) Validate() error {
	if len(l.Bounds) > MaxDoors {
		return Refuse(BadRequest, "bounds: %d doors; want at most %d", len(l.Bounds), MaxDoors)
	}
	for door, bound := range l.Bounds {
		if !PlainText([]byte(door), MaxUserBytes) || bound < 0 || bound > MaxBound {
			return Refuse(BadRequest, "bounds: %.80q: %d: want a door's name and 0 to %d orders", door, bound, MaxBound)
		}
	}
	switch {
	case l.MaxWait != nil && (*l.MaxWait < 0 || *l.MaxWait > MaxWait):
		return Refuse(BadRequest, "max_wait %v: want 0s to %v", time.Duration(*l.MaxWait), time.Duration(MaxWait))
	case !validRate(l.BuyerRate):
		return Refuse(BadRequest, "buyer_rate %v: want 0, or %v to %.0f a second", *l.BuyerRate, MinRate, MaxRate)
	case !validRate(l.AddressRate):
		return Refuse(BadRequest, "address_rate %v: want 0, or %v to %.0f a second", *l.AddressRate, MinRate, MaxRate)
	case l.Connections != nil && (*l.Connections < 1 || *l.Connections > MaxBound):
		return Refuse(BadRequest, "connections %d: want 1 to %d", *l.Connections, MaxBound)
	case l.AddressConnections != nil && (*l.AddressConnections < 0 || *l.AddressConnections > MaxBound):
		return Refuse(BadRequest, "address_connections %d: want 0 to %d", *l.AddressConnections, MaxBound)
	case len(l.Blocks) > MaxBlocks:
		return Refuse(BadRequest, "blocks: %d; want at most %d", len(l.Blocks), MaxBlocks)
	}
	for i := range l.Blocks {
		if err := l.Blocks[i].Validate(); err != nil {
			return err
		}
	}
	return nil
}

func validRate(r *float64) bool { return r == nil || *r == 0 || *r >= MinRate && *r <= MaxRate } // written so that NaN fails

// Validate says what is wrong with a block.
func (b *Block) Validate() error {
	switch {
	case (b.User == "") == !b.Network.IsValid():
		return Refuse(BadRequest, "a block: want either a user or a network")
	case b.User != "" && !PlainText([]byte(b.User), MaxUserBytes):
		return Refuse(BadRequest, "user: want 1 to %d bytes of UTF-8 without control characters", MaxUserBytes)
	case b.Network.IsValid() && b.Network != b.Network.Masked():
		return Refuse(BadRequest, "network %s: want %s, or a longer prefix", b.Network, b.Network.Masked())
	case b.Note != "" && !PlainText([]byte(b.Note), MaxNote):
		return Refuse(BadRequest, "note: want at most %d bytes of UTF-8 without control characters", MaxNote)
	}
	return nil
}

// Same reports whether two blocks are of the same buyer or network.
func (b *Block) Same(other Block) bool { return b.User == other.User && b.Network == other.Network }
