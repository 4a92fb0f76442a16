package ingress

import (
	"sync"
	"time"

	"sluice"
	"sluice/journal"
)

// outstanding is an admitted order until its outcome is known.
type outstanding struct {
	order  sluice.Order
	sale   *listing
	commit *journal.Commit // nil where an earlier run of the door made the promise: durable already
	place  uint64          // its number among all that this door ever admitted, from 0

	mu          sync.Mutex // guards what follows: how the order travels
	phase       phase
	incarnation uint64    // of the queue when it was sent
	again       time.Time // not carried again before
	tries       int
}

// phase says where an order is on its way to the workers.
type phase int

const (
	promised phase = iota // on its way to the disk
	carried               // the carrier has it
	sent                  // the queue took it
	doubtful              // the queue may or may not have it: ask before sending again
)

func (o *outstanding) durable() bool { return o.commit == nil || o.commit.Durable() }

// moved notes a new phase, in a given life of the queue.
func (o *outstanding) moved(p phase, incarnation uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.phase, o.incarnation = p, incarnation
}

// Outstanding is how many orders are admitted and not settled.
func (d *Door) Outstanding() int64 { return d.credits.Outstanding() }

// position is how many orders are before this one, itself included. It never grows while the order waits, however often the door
// starts anew: all that left the line count, also those from behind this one.
func (d *Door) position(o *outstanding) int64 {
	return max(1, int64(o.place+1)-int64(d.gone)-int64(d.released.Load()))
}

// assumedRate is what a database settles one by one on a hot row: a first guess, before the drain has been seen.
const assumedRate = 1000

// likelyRate is how many orders are likely to leave the queue in a second.
func (d *Door) likelyRate() float64 {
	if rate := d.drainRate(); rate > 0 {
		return rate
	}
	return assumedRate
}

// eta is how long an order at this position is likely to wait.
func (d *Door) eta(position int64) time.Duration {
	return time.Duration(float64(position) / d.likelyRate() * float64(time.Second))
}
