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
	members map[sluice.OrderID]member[E]
	_       [40]byte // keeps neighbours' locks off one cache line
}

type member[E any] struct {
	entry E
	pool  *Pool // that its credit counts in; nil: none
}

// Pool counts the credits of one kind of order, so that a part of the bound can be kept for another kind. The zero Pool
// is empty.
type Pool struct{ taken atomic.Int64 }

// Taken is how many credits of the pool are out.
func (p *Pool) Taken() int64 { return p.taken.Load() }

// Share is a part of the bound: at most Limit credits of Pool.
type Share struct {
	Pool  *Pool
	Limit int64
}

// NewCredits makes an empty set.
func NewCredits[E any]() *Credits[E] {
	c := &Credits[E]{}
	for i := range c.shards {
		c.shards[i].members = make(map[sluice.OrderID]member[E])
	}
	return c
}

func (c *Credits[E]) shard(id sluice.OrderID) *creditShard[E] {
	return &c.shards[binary.LittleEndian.Uint32(id[:4])%shards] // ids begin with a hash
}

// Take makes id outstanding unless bound orders are already. Where shares are given the order counts in the first that has
// room, and is refused where none has. enter is called, under the set's lock, only where the credit is granted; it must be quick. The entry is the
// new or the present one.
func (c *Credits[E]) Take(id sluice.OrderID, bound int64, enter func() (E, error), shares ...Share) (entry E, taken Taken, err error) {
	s := c.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if m, ok := s.members[id]; ok {
		return m.entry, Present, nil
	}
	pool, room := c.reserve(bound, shares)
	if !room {
		return entry, Full, nil
	}
	defer func() {
		if taken != Granted { // an error, or a panic on its way
			c.giveBack(pool)
		}
	}()
	if entry, err = enter(); err != nil {
		return entry, Full, err
	}
	s.members[id] = member[E]{entry, pool}
	return entry, Granted, nil
}

// reserve counts one more in the first share with room, and in all. The share comes first: an order that its share has no
// room for must not be in the way of another kind, not even for an instant.
func (c *Credits[E]) reserve(bound int64, shares []Share) (pool *Pool, room bool) {
	for _, s := range shares {
		if countUpTo(&s.Pool.taken, s.Limit) {
			pool = s.Pool
			break
		}
	}
	if pool == nil && len(shares) > 0 {
		return nil, false
	}
	if !countUpTo(&c.count, bound) {
		if pool != nil {
			pool.taken.Add(-1)
		}
		return nil, false
	}
	return pool, true
}

func (c *Credits[E]) giveBack(pool *Pool) {
	c.count.Add(-1)
	if pool != nil {
		pool.taken.Add(-1)
	}
}

// countUpTo counts one more unless that would exceed most.
func countUpTo(count *atomic.Int64, most int64) bool {
	for {
		n := count.Load()
		if n >= most {
			return false
		}
		if count.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Restore makes id outstanding whatever the bound: it was promised before a restart. It counts in pool, if that is not nil.
func (c *Credits[E]) Restore(id sluice.OrderID, entry E, pool *Pool) {
	s := c.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if m, ok := s.members[id]; ok {
		c.giveBack(m.pool)
	}
	c.count.Add(1)
	if pool != nil {
		pool.taken.Add(1)
	}
	s.members[id] = member[E]{entry, pool}
}

// Release gives the credit of id back if it is held, and says whether it was.
func (c *Credits[E]) Release(id sluice.OrderID) (entry E, held bool) {
	s := c.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	m, held := s.members[id]
	if held {
		delete(s.members, id)
		c.giveBack(m.pool)
	}
	return m.entry, held
}

// Get answers the entry of an outstanding order.
func (c *Credits[E]) Get(id sluice.OrderID) (entry E, held bool) {
	s := c.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	m, held := s.members[id]
	return m.entry, held
}

// Outstanding is how many credits are out.
func (c *Credits[E]) Outstanding() int64 { return c.count.Load() }

// Each calls visit with every outstanding order; those that come or go meanwhile may be missed. visit runs under a
// part of the set's lock: it must be quick and must not call the set.
func (c *Credits[E]) Each(visit func(sluice.OrderID, E)) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		for id, m := range s.members {
			visit(id, m.entry)
		}
		s.mu.Unlock()
	}
}
