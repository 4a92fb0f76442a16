package limiter

import (
	"bytes"
	"net/netip"
	"slices"
)

// Proxies are the networks whose word on a buyer's address is taken.
type Proxies []netip.Prefix

// Trust reports whether an address is a proxy's.
func (p Proxies) Trust(a netip.Addr) bool {
	a = a.Unmap()
	for _, network := range p {
		if network.Contains(a) {
			return true
		}
	}
	return false
}

// Client finds the buyer's address from the peer's and, where that is a trusted proxy, from the lines of a header that
// lists addresses, the nearest last (X-Forwarded-For and the like, RFC 7239 section 1): the last one that is not
// itself a trusted proxy's. Whatever stands before that one is hearsay. Where an entry can't be read, the
// proxy that wrote it is answered.
func (p Proxies) Client(peer netip.Addr, header [][]byte) netip.Addr {
	client := peer.Unmap()
	if !p.Trust(client) {
		return client
	}
	for _, line := range slices.Backward(header) {
		for rest := line; len(rest) > 0; {
			entry := rest
			if comma := bytes.LastIndexByte(rest, ','); comma >= 0 {
				entry, rest = rest[comma+1:], rest[:comma]
			} else {
				rest = nil
			}
			hop, ok := parseHop(bytes.TrimSpace(entry))
			if !ok {
				return client
			}
			if client = hop; !p.Trust(client) {
				return client
			}
		}
	}
	return client
}

// parseHop reads an address, with or without a port.
func parseHop(text []byte) (netip.Addr, bool) {
	if a, err := netip.ParseAddr(string(text)); err == nil {
		return a.Unmap().WithZone(""), true
	}
	if a, err := netip.ParseAddrPort(string(text)); err == nil {
		return a.Addr().Unmap().WithZone(""), true
	}
	return netip.Addr{}, false
}

// household is the part of an IPv6 address that one customer has.
const household = 64

// Caller is the network that an address is counted as: an IPv4 address itself, an IPv6 address's /64, for whoever has
// one address of that has all of them.
func Caller(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is4() || !a.IsValid() {
		return a
	}
	network, err := a.Prefix(household)
	if err != nil {
		return a
	}
	return network.Addr()
}
