//go:build !race

// Package race tells tests whether the race detector is on: under it sync.Pool forgets on purpose, so allocations can't
// be counted.
package race

// Enabled says that the race detector is off.
const Enabled = false
