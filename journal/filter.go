package journal

import (
	"encoding/binary"
	"errors"
	"sync/atomic"

	"sluice"
)

// filter knows of nearly every order that was never settled that it was not: nearly every order that arrives is new, and
// Pebble's own look-up costs more than all else that a refusal does. It errs on one side alone: an order that was
// settled may always be known. It is a blocked Bloom filter (Putze, Sanders, Singler, 2007) in a fixed room, 2 % wrong at ten million orders; beyond
// that it only saves less. Safe for concurrent use.
type filter struct {
	blocks []filterBlock
	ready  atomic.Bool // what was settled in earlier runs is in it, too
}

type filterBlock [8]atomic.Uint64 // a cache line

const (
	filterBits       = 4 // of each order, in one block
	filterBlockBytes = 64
)

func newFilter(bytes int) *filter {
	return &filter{blocks: make([]filterBlock, max(1, bytes/filterBlockBytes))}
}

// place spreads an id, which is a keyed hash already but for a few fixed bits, over a block and the bits in it.
func (f *filter) place(id sluice.OrderID) (block *filterBlock, bits uint64) {
	h := binary.LittleEndian.Uint64(id[:8]) ^ binary.LittleEndian.Uint64(id[8:])*0x9e3779b97f4a7c15
	h ^= h >> 32
	h *= 0xd6e8feb86659fd93
	h ^= h >> 32
	return &f.blocks[h%uint64(len(f.blocks))], h >> 28
}

// add notes an order before Pebble can show it.
func (f *filter) add(id sluice.OrderID) {
	block, bits := f.place(id)
	for range filterBits {
		block[bits>>6&7].Or(1 << (bits & 63))
		bits >>= 9
	}
}

// missing reports whether an order was certainly not settled.
func (f *filter) missing(id sluice.OrderID) bool {
	if !f.ready.Load() {
		return false
	}
	block, bits := f.place(id)
	for range filterBits {
		if block[bits>>6&7].Load()&(1<<(bits&63)) == 0 {
			return true
		}
		bits >>= 9
	}
	return false
}

var errClosing = errors.New("the journal is closing")

// fillFilter adds what was settled in earlier runs. Until it is done, Pebble is asked every time.
func (j *Journal) fillFilter() {
	err := j.scan(settledPrefix, func(id sluice.OrderID, _ []byte) error {
		select {
		case <-j.stop:
			return errClosing
		default:
			j.filter.add(id)
			return nil
		}
	})
	switch {
	case err == nil:
		j.filter.ready.Store(true)
	case !errors.Is(err, errClosing):
		j.log.Warn("journal: settled orders can't be listed; each look-up takes longer", "error", err)
	}
}
