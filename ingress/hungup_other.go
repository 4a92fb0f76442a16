//go:build !linux

package ingress

// hungUp is not to be known here without reading.
func hungUp(int) bool { return false }
