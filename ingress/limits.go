package ingress

import (
	"math"
	"time"

	"sluice"
	"sluice/limiter"
)

// limits are what is in force at a door: what it was started with, and over that what operators have set since. They never
// change once made; a change makes new ones, so that a request sees one state of them from beginning to end.
type limits struct {
	version            int64
	bound              int64
	maxWait            time.Duration
	buyerRate          limiter.Rate
	addressRate        limiter.Rate
	connections        int
	addressConnections int
	blocks             *limiter.Blocks
	blocked            int // buyers and networks
}

// limitsOf lays operators' limits over what the door was started with.
func limitsOf(cfg *Config, set *sluice.Limits) *limits {
	l := &limits{
		version: set.Version, bound: cfg.Bound, maxWait: cfg.MaxWait, buyerRate: cfg.BuyerRate, addressRate: cfg.AddressRate,
		connections: cfg.MaxConnections, addressConnections: cfg.AddressConnections,
		blocks: limiter.NewBlocks(set.Blocks), blocked: len(set.Blocks),
	}
	if bound, ok := set.Bounds[cfg.Name]; ok {
		l.bound = bound
	}
	if set.MaxWait != nil {
		l.maxWait = time.Duration(*set.MaxWait)
	}
	if set.BuyerRate != nil {
		l.buyerRate = RateOf(*set.BuyerRate)
	}
	if set.AddressRate != nil {
		l.addressRate = RateOf(*set.AddressRate)
	}
	if set.Connections != nil {
		l.connections = *set.Connections
	}
	if set.AddressConnections != nil {
		l.addressConnections = *set.AddressConnections
	}
	if l.addressConnections == 0 {
		l.addressConnections = max(1, l.connections/4) // no address shuts the others out
	}
	return l
}

// RateOf is a rate with a burst of two seconds' worth.
func RateOf(perSecond float64) limiter.Rate {
	return limiter.Rate{PerSecond: perSecond, Burst: max(1, int(math.Ceil(2*perSecond)))}
}

// SetLimits puts operators' limits in force, at once and for every request that begins from now on. Orders that are in
// already stay in, also beyond a lower bound.
func (d *Door) SetLimits(set *sluice.Limits) {
	l := limitsOf(&d.cfg, set)
	d.limits.Store(l)
	d.rebound()
	d.Connections.SetLimits(l.connections, l.addressConnections)
	d.Logger.Info("limits in force", "version", l.version, "bound", l.bound, "max_wait", l.maxWait, "buyer_rate", l.buyerRate.PerSecond,
		"address_rate", l.addressRate.PerSecond, "connections", l.connections, "address_connections", l.addressConnections, "blocks", l.blocked)
}

// rebound works out what can be drained within the longest wait, from the drain rate and the workers' batch.
func (d *Door) rebound() {
	d.rebounding.Lock()
	defer d.rebounding.Unlock()
	d.drainable.Store(limiter.EffectiveBound(math.MaxInt64, int64(2*d.board.workersPace().Batch), d.drainRate(), d.limits.Load().maxWait))
}

// boundOf is the bound in force under limits: theirs, or less where that would take too long to drain.
func (d *Door) boundOf(l *limits) int64 { return min(l.bound, d.drainable.Load()) }

func (d *Door) boundNow() int64 { return d.boundOf(d.limits.Load()) }
