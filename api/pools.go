package api

import "sluice"

// PathPools is where the workers' pools are read and set.
const PathPools = "/v1/pools"

// Pools answers what operators have set of all workers' pools, and how those of the worker that answers are.
type Pools struct {
	sluice.Pools
	Worker []Pool `json:"worker"`
}

// Pool is a pool of one worker as it is at the moment.
type Pool struct {
	Name    string          `json:"name"`
	Topic   string          `json:"topic"`
	Channel string          `json:"channel"`
	Workers int             `json:"workers"` // most transactions at a time
	Flush   sluice.Duration `json:"flush"`   // longest wait for a batch to fill
	Started PoolStart       `json:"started"` // what it was started with, and goes by where nothing is set
	Set     sluice.Pool     `json:"set"`     // what operators have set

	State   PoolState `json:"state"`
	Rate    float64   `json:"rate"`           // orders a second; 0: as fast as the store
	Batch   int       `json:"batch"`          // most orders in one transaction, a tenth of a second of the rate
	Largest int       `json:"largest_window"` // what the window may grow to
	Window  int       `json:"window"`         // most orders in hand now
	InHand  int       `json:"in_hand"`        // orders that its workers have

	// What commits take lately, and what the same ones take when nothing is wrong; 0s: none was made yet.
	CommitLatency  sluice.Duration `json:"commit_latency"`
	CommitBaseline sluice.Duration `json:"commit_baseline"`
}

// PoolStart is what a pool was started with.
type PoolStart struct {
	Rate   float64 `json:"rate"`
	Window int     `json:"window"`
	Batch  int     `json:"batch"`
}

// PoolState is what a pool is doing.
type PoolState string

// The states of a pool.
const (
	PoolWaiting  PoolState = "waiting"  // until it knows what operators have set
	PoolDraining PoolState = "draining" // as it should
	PoolPaused   PoolState = "paused"   // its largest window was set to 0
	PoolProbing  PoolState = "probing"  // the store is away; it is asked now and then
)
