package sluice

// Pools are what operators set of the workers' pools while they run: every worker takes them over within a second.
type Pools struct {
	Version int64           `json:"version"` // grows with every change
	Pools   map[string]Pool `json:"pools,omitempty"`
}

// Pool is how one pool is to drain. A nil field leaves each worker what it was started with.
type Pool struct {
	Rate   *float64 `json:"rate,omitempty"`   // orders a second, of each worker; 0: as fast as the store
	Window *int     `json:"window,omitempty"` // the largest RDY window; 0 pauses the pool
}
