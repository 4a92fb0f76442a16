// Package limiter decides admission at once: it never waits, never does I/O, and decides from its arguments and its
// own memory alone, which is bounded.
package limiter

import (
	"encoding/binary"
	"sync"
	"sync/atomic"

	"sluice"
)

// Taken is the answer to a request for a credit.
type Taken int

// The answers.
const (
	Full    Taken = iota // the bound is reached
	Granted              // the order is outstanding from now on
	Present              // the order was outstanding already
)

const shards = 64

// Credits is the set of outstanding orders, each with what its owner keeps of it. A credit is membership: it is given
// back by deleting the id, so nothing gives it back twice, and the set never has more members than the bound in
// force when the last was added (P4). Safe for concurrent use.
type Credits[E any] struct {
	count  atomic.Int64
	shards [shards]creditShard[E]
}

type creditShard[E any] struct {
	mu      sync.Mutex
	members map[sluice.OrderID]E
	_       [40]byte // keeps neighbours' locks off one cache line
}

// NewCredits makes an empty set.
func NewCredits[E any]() *Credits[E] {
	c := &Credits[E]{}
	for i := range c.shards {
		c.shards[i].members = make(map[sluice.OrderID]E)
	}
	return c
}

func (c *Credits[E]) shard(id sluice.OrderID) *creditShard[E] {
	return &c.shards[binary.LittleEndian.Uint32(id[:4])%shards] // ids begin with a hash
}

// Take makes id outstanding unless bound orders are already. enter is called, under the set's lock, only where the
// credit is granted; it must be quick. The entry is the new or the present one.
func (c *Credits[E]) Take(id sluice.OrderID, bound int64, enter func() (E, error)) (entry E, taken Taken, err error) {
	s := c.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if entry, ok := s.members[id]; ok {
		return entry, Present, nil
	}
	if !c.reserve(bound) {
		return entry, Full, nil
	}
	defer func() {
		if taken != Granted { // an error, or a panic on its way
			c.count.Add(-1)
		}
	}()
	if entry, err = enter(); err != nil {
		return entry, Full, err
	}
	s.members[id] = entry
	return entry, Granted, nil
}

// reserve counts one more unless that would exceed the bound.
func (c *Credits[E]) reserve(bound int64) bool {
	for {
		n := c.count.Load()
		if n >= bound {
			return false
		}
		if c.count.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Restore makes id outstanding whatever the bound: it was promised before a restart.
func (c *Credits[E]) Restore(id sluice.OrderID, entry E) {
	s := c.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.members[id]; !ok {
		c.count.Add(1)
	}
	s.members[id] = entry
}

// Release gives the credit of id back if it is held, and says whether it was.
func (c *Credits[E]) Release(id sluice.OrderID) (entry E, held bool) {
	s := c.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	entry, held = s.members[id]
	if held {
		delete(s.members, id)
		c.count.Add(-1)
	}
	return entry, held
}

// Get answers the entry of an outstanding order.
func (c *Credits[E]) Get(id sluice.OrderID) (entry E, held bool) {
	s := c.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	entry, held = s.members[id]
	return entry, held
}

// Outstanding is how many credits are out.
func (c *Credits[E]) Outstanding() int64 { return c.count.Load() }

// Each calls visit with every outstanding order; those that come or go meanwhile may be missed. visit runs under a
// part of the set's lock: it must be quick and must not call the set.
func (c *Credits[E]) Each(visit func(sluice.OrderID, E)) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		for id, entry := range s.members {
			visit(id, entry)
		}
		s.mu.Unlock()
	}
}
