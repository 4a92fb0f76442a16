package sluice

// Bounds of what operators may set of the workers' pools.
const (
	MaxPools     = 100
	MaxPoolName  = 64
	MaxDrainRate = 1_000_000.0 // orders a second
	MaxWindow    = 100_000     // orders
)

// Pools are what operators set of the workers' pools while they run: every worker takes them over within a second.
type Pools struct {
	Version int64           `json:"version"` // grows with every change
	Pools   map[string]Pool `json:"pools,omitempty"`
}

// Pool is how one pool is to drain. A nil field leaves each worker what it was started with.
type Pool struct {
	Rate   *float64 `json:"rate,omitempty"`   // orders a second, of each worker, at least 1; 0: as fast as the store
	Window *int     `json:"window,omitempty"` // the largest RDY window; 0 pauses the pool
}

// Validate names the first field that is wrong.
func (p *Pools) Validate() error {
	if len(p.Pools) > MaxPools {
		return Refuse(BadRequest, "pools: %d; want at most %d", len(p.Pools), MaxPools)
	}
	for name, pool := range p.Pools {
		switch {
		case !ValidPoolName(name):
			return Refuse(BadRequest, "pool %.80q: want 1 to %d of a-z, 0-9, dot, dash and underscore, beginning with a letter or digit", name, MaxPoolName)
		case pool.Rate != nil && !ValidDrainRate(*pool.Rate):
			return Refuse(BadRequest, "pool %s: rate %v: want 0, or 1 to %.0f orders a second", name, *pool.Rate, MaxDrainRate)
		case pool.Window != nil && (*pool.Window < 0 || *pool.Window > MaxWindow):
			return Refuse(BadRequest, "pool %s: window %d: want 0, which pauses it, to %d orders", name, *pool.Window, MaxWindow)
		}
	}
	return nil
}

// ValidPoolName reports whether a pool may have the name: as a sale may.
func ValidPoolName(name string) bool { return ValidSaleID(name) }

// ValidDrainRate reports whether a pool can be paced so: orders that came slower than one a second would wait too long
// for each other. It is written so that NaN fails.
func ValidDrainRate(rate float64) bool { return rate == 0 || rate >= 1 && rate <= MaxDrainRate }
