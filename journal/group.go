package journal

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"sluice"
)

// Commit is the fate of records that one sync confirms together. It belongs to the journal's mutex until the committer
// takes it, then to the committer until done is closed.
type Commit struct {
	batch   *pebble.Batch
	settles []sluice.OrderID // the orders whose status it has
	done    chan struct{}
}

// Done is closed once the records are on disk. It stays open where that can't be known.
func (c *Commit) Done() <-chan struct{} { return c.done }

// Durable reports whether the records are on disk.
func (c *Commit) Durable() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// collect runs write on the batch that gathers now. It never waits for the disk.
func (j *Journal) collect(write func(*pebble.Batch) error) (*Commit, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil, ErrClosed
	}
	if j.next == nil {
		j.next = &Commit{batch: j.db.NewBatch(), done: make(chan struct{})}
		j.wake <- struct{}{} // never blocks: one token for each commit that waits, and there is one at most
	}
	return j.next, write(j.next.batch)
}

// Append records an admitted order as outstanding, and answers its number among all that were ever appended, from 0. The caller
// answers only after Done. first is the id of the first attempt where o is a later one, else o.ID.
func (j *Journal) Append(o *sluice.Order, first sluice.OrderID) (c *Commit, number uint64, err error) {
	c, err = j.collect(func(b *pebble.Batch) error {
		op := b.SetDeferred(lineKeyBytes, orderBytes(o))
		line := lineKey(j.line, o.ID)
		copy(op.Key, line[:])
		putOrder(op.Value, o)
		if err := op.Finish(); err != nil {
			return err
		}
		number = j.line
		j.numbers[o.ID] = number
		j.line++
		if o.Attempt == 0 {
			return nil
		}
		key := keyOf(attemptPrefix, first)
		return b.Set(key[:], putAttempt(o.Attempt), nil)
	})
	return c, number, err
}

// Settle records what became of orders, which are no longer outstanding then. Tell nobody before Done: a status that
// a crash takes back would make the order go backwards (P10).
func (j *Journal) Settle(statuses []sluice.Status) (*Commit, error) {
	return j.collect(func(b *pebble.Batch) error {
		before := len(j.numbers)
		for i := range statuses {
			s := &statuses[i]
			j.filter.add(s.Order) // before Pebble can show it
			if err := j.leaveLine(b, s.Order); err != nil {
				return err
			}
			op := b.SetDeferred(keyBytes, statusBytes(s))
			key := keyOf(settledPrefix, s.Order)
			copy(op.Key, key[:])
			putStatus(op.Value, s)
			if err := op.Finish(); err != nil {
				return err
			}
			j.next.settles = append(j.next.settles, s.Order)
			j.settling[s.Order] = j.next
		}
		j.unsynced.Store(int64(len(j.settling)))
		if len(j.numbers) == before {
			return nil
		}
		// The last of the line may have left it: without this, its number would be another's after a start.
		return b.Set([]byte{linePrefix}, binary.BigEndian.AppendUint64(nil, j.line), nil)
	})
}

// leaveLine deletes the outstanding record of an order, if it has one. Such a record is written once and deleted once, which
// spares Pebble to keep a mark of the deletion.
func (j *Journal) leaveLine(b *pebble.Batch, id sluice.OrderID) error {
	number, outstanding := j.numbers[id]
	if !outstanding {
		return nil
	}
	delete(j.numbers, id)
	key := lineKey(number, id)
	return b.SingleDelete(key[:], nil)
}

// Settling answers the commit that an order's newest status waits for, or nil. A status that was read before the call is
// durable where the answer is nil: look at the status first, then here.
func (j *Journal) Settling(id sluice.OrderID) *Commit {
	if j.unsynced.Load() == 0 {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.settling[id]
}

// commitAll owns every commit that was taken: one sync at a time, and whatever arrives meanwhile is the next one,
// so commits grow with the load and nobody waits on purpose.
func (j *Journal) commitAll() {
	for {
		select {
		case <-j.wake:
			j.commitNext()
		case <-j.stop:
			select {
			case <-j.wake: // what came in before Close
				j.commitNext()
			default:
			}
			return
		}
	}
}

func (j *Journal) commitNext() {
	j.mu.Lock()
	c := j.next
	j.next = nil
	j.syncing = time.Now()
	j.mu.Unlock()

	if err := j.db.Apply(c.batch, pebble.Sync); err != nil {
		// Whether the records are on disk is unknown now, and memory may show what the disk lacks.
		j.opts.Fatal(fmt.Errorf("commit to the journal: %w", err))
		select {}
	}
	j.mu.Lock()
	j.syncing = time.Time{}
	for _, id := range c.settles {
		if j.settling[id] == c { // else a later commit has news of it already
			delete(j.settling, id)
		}
	}
	j.unsynced.Store(int64(len(j.settling)))
	j.mu.Unlock()
	close(c.done)
	if err := c.batch.Close(); err != nil {
		j.log.Warn("journal: release a batch", "error", err)
	}
	c.batch, c.settles = nil, nil
}
