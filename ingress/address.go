package ingress

import (
	"hash/maphash"
	"net"
	"net/netip"
	"time"

	"github.com/valyala/fasthttp"

	"sluice/limiter"
)

// peer is the address at the other end of the connection; invalid where it has none.
func peer(ctx *fasthttp.RequestCtx) netip.Addr {
	if a, ok := ctx.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// client is the buyer's address, as far as trusted proxies tell.
func (d *Door) client(ctx *fasthttp.RequestCtx) netip.Addr {
	from := peer(ctx)
	if len(d.cfg.Proxies) == 0 {
		return from
	}
	return d.cfg.Proxies.Client(from, ctx.Request.Header.PeekAll(d.cfg.AddressHeader))
}

// tooFastAddress takes a token of the address's bucket, or says how long until there is one. Only callers without an
// identity are counted by address: behind one address of a carrier there may be thousands of buyers.
func (d *Door) tooFastAddress(ctx *fasthttp.RequestCtx, limits *limits) time.Duration {
	if limits.addressRate.PerSecond <= 0 {
		return 0
	}
	return d.addresses.Take(time.Since(d.began), maphash.Comparable(d.seed, limiter.Caller(d.client(ctx))), limits.addressRate)
}

// blocked reports whether an order is from a blocked buyer or network. What was promised to them before is still told.
func (d *Door) blocked(ctx *fasthttp.RequestCtx, limits *limits, now time.Time, user []byte) bool {
	return limits.blocks.User(now, user) || limits.blocks.AnyNetwork() && limits.blocks.Address(now, d.client(ctx))
}
