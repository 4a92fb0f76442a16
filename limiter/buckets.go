package limiter

import (
	"sync"
	"time"
)

// Buckets are token buckets for any number of callers in a fixed room. Each caller is a hash; what is kept of one is a
// single time (the generic cell rate algorithm, ITU-T I.371). A caller whose bucket is full again leaves no trace; where the
// room is taken by busier callers, the one nearest to that is forgotten, which errs in its favour. Safe for
// concurrent use.
type Buckets struct {
	shards [bucketShards]bucketShard
}

const (
	bucketShards = 64
	bucketWays   = 4 // places that a caller may take: a cache line, for each look at one is a miss
)

// bucketShard has its mutex directly above what it guards.
type bucketShard struct {
	mu    sync.Mutex
	cells []cell
}

// cell is when a caller's bucket will be full again, in nanoseconds of the callers' clock; the empty cell is nobody's.
type cell struct {
	caller uint64
	full   int64
}

// NewBuckets makes room for about callers of them: 16 bytes each.
func NewBuckets(callers int) *Buckets {
	sets := max(1, (callers+bucketShards*bucketWays-1)/(bucketShards*bucketWays))
	b := &Buckets{}
	for i := range b.shards {
		b.shards[i].cells = make([]cell, sets*bucketWays)
	}
	return b
}

// Rate is how often a caller may ask. The zero Rate sets no limit.
type Rate struct {
	PerSecond float64
	Burst     int // how many at once after a rest; at least 1
}

// Take takes a token of the caller's bucket, or says how long until there is one. now is the time since some fixed instant,
// by a clock that does not go back.
func (b *Buckets) Take(now time.Duration, caller uint64, rate Rate) (wait time.Duration) {
	if rate.PerSecond <= 0 {
		return 0
	}
	s := &b.shards[caller%bucketShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.find(caller)
	full, wait := spend(int64(now), c.full, rate)
	if wait > 0 {
		return wait
	}
	*c = cell{caller, full}
	return 0
}

// spend is the algorithm itself: a token fills the bucket's time up by one interval, and there is one to take while that
// stays within burst intervals from now. A bucket is never emptier than empty: the wait that a slower rate imposed does not
// outlive it.
func spend(now, full int64, rate Rate) (newFull int64, wait time.Duration) {
	interval := int64(float64(time.Second) / rate.PerSecond)
	burst := int64(max(1, rate.Burst)) * interval
	newFull = min(max(now, full), now+burst) + interval
	if over := newFull - now - burst; over > 0 {
		return full, time.Duration(over)
	}
	return newFull, 0
}

// find answers the caller's cell, or the one to take for it: the one that has been idle for longest, else will be next.
func (s *bucketShard) find(caller uint64) *cell {
	set := int(caller / bucketShards % uint64(len(s.cells)/bucketWays))
	ways := s.cells[set*bucketWays : (set+1)*bucketWays]
	best := &ways[0]
	for i := range ways {
		if ways[i].caller == caller { // also an idle one: a second cell would be a second bucket for who read the clock earlier
			return &ways[i]
		}
		if ways[i].full < best.full {
			best = &ways[i]
		}
	}
	*best = cell{}
	return best
}
