// Package work is a request that costs processor time: the same for every rival, and never anything else.
package work

import "crypto/sha256"

// Do hashes a kilobyte so many times.
func Do(times int) {
	var block [1024]byte
	for range times {
		sum := sha256.Sum256(block[:])
		copy(block[:], sum[:])
	}
}
