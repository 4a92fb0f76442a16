package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"sluice"
)

// Settled answers what became of an order, as far as this journal was told; false where it was told nothing.
func (j *Journal) Settled(id sluice.OrderID) (status sluice.Status, known bool, err error) {
	if j.filter.missing(id) && !j.ended.Load() {
		return status, false, nil
	}
	known, err = j.get(settledPrefix, id, func(b []byte) (err error) {
		status, err = readStatus(id, b)
		return err
	})
	return status, known, err
}

// Attempt answers the number of the latest attempt after the first, by the first one's id; 0 where there was none.
func (j *Journal) Attempt(first sluice.OrderID) (n int, err error) {
	_, err = j.get(attemptPrefix, first, func(b []byte) (err error) {
		n, err = readAttempt(b)
		return err
	})
	return n, err
}

// keys keeps a look-up from allocating: every refused request makes one.
var keys = sync.Pool{New: func() any { return new([keyBytes]byte) }}

func (j *Journal) get(prefix byte, id sluice.OrderID, read func([]byte) error) (bool, error) {
	if j.ended.Load() {
		return false, ErrClosed
	}
	key := keys.Get().(*[keyBytes]byte)
	*key = keyOf(prefix, id)
	b, closer, err := j.db.Get(key[:])
	keys.Put(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the journal: %w", err)
	}
	err = read(b)
	return true, errors.Join(err, closer.Close())
}

// Outstanding calls yield with every order that was appended and not settled, and its number, in the order in which they were
// appended.
func (j *Journal) Outstanding(yield func(o sluice.Order, number uint64) error) error {
	return j.scan(outstandingPrefix, func(id sluice.OrderID, b []byte) error {
		o, err := readOrder(id, b)
		if err != nil {
			return err
		}
		j.mu.Lock()
		number := j.numbers[id]
		j.mu.Unlock()
		return yield(o, number)
	})
}

// Appended is how many orders were ever appended.
func (j *Journal) Appended() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.line
}

// Forget drops the settled records for which old says so, and returns how many. Nobody waits for it: what a
// crash brings back is dropped the next time.
func (j *Journal) Forget(old func(sluice.Status) bool) (dropped int, err error) {
	const chunk = 1000
	batch := j.db.NewBatch()
	defer func() { err = errors.Join(err, batch.Close()) }()
	flush := func() error {
		if err := batch.Commit(pebble.NoSync); err != nil {
			return err
		}
		full := batch
		batch = j.db.NewBatch()
		return full.Close()
	}
	err = j.scan(settledPrefix, func(id sluice.OrderID, b []byte) error {
		s, err := readStatus(id, b)
		if err != nil || !old(s) {
			return err
		}
		dropped++
		for _, prefix := range []byte{settledPrefix, attemptPrefix} {
			key := keyOf(prefix, id)
			if err := batch.Delete(key[:], nil); err != nil {
				return err
			}
		}
		if batch.Count() >= chunk {
			return flush()
		}
		return nil
	})
	if err == nil {
		err = flush()
	}
	return dropped, err
}

func (j *Journal) scan(prefix byte, visit func(sluice.OrderID, []byte) error) (err error) {
	it, err := j.db.NewIter(&pebble.IterOptions{LowerBound: []byte{prefix}, UpperBound: []byte{prefix + 1}})
	if err != nil {
		return fmt.Errorf("scan the journal: %w", err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for it.First(); it.Valid(); it.Next() {
		id, ok := idOf(it.Key())
		if !ok {
			return fmt.Errorf("scan the journal: key %x: %w", it.Key(), errRecord)
		}
		value, err := it.ValueAndErr()
		if err != nil {
			return fmt.Errorf("scan the journal: %w", err)
		}
		if err := visit(id, value); err != nil {
			return err
		}
	}
	return it.Error()
}

// idOf is the order that a key is of.
func idOf(key []byte) (sluice.OrderID, bool) {
	want := keyBytes
	if key[0] == outstandingPrefix {
		want = lineKeyBytes
	}
	if len(key) != want {
		return sluice.OrderID{}, false
	}
	return sluice.OrderID(key[len(key)-len(sluice.OrderID{}):]), true
}

// readLine takes up the line where an earlier run left it.
func (j *Journal) readLine() (err error) {
	if j.line, err = j.lineWhenLeft(); err != nil {
		return err
	}
	it, err := j.db.NewIter(&pebble.IterOptions{LowerBound: []byte{outstandingPrefix}, UpperBound: []byte{outstandingPrefix + 1}})
	if err != nil {
		return fmt.Errorf("read the line of outstanding orders: %w", err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for it.First(); it.Valid(); it.Next() {
		id, ok := idOf(it.Key())
		if !ok {
			return fmt.Errorf("read the line of outstanding orders: key %x: %w", it.Key(), errRecord)
		}
		number := binary.BigEndian.Uint64(it.Key()[1:])
		j.numbers[id] = number
		j.line = max(j.line, number+1)
	}
	return it.Error()
}

// lineWhenLeft is how long the line was when an order left it last: whoever came then is still in it.
func (j *Journal) lineWhenLeft() (uint64, error) {
	b, closer, err := j.db.Get([]byte{linePrefix})
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the length of the line: %w", err)
	}
	if len(b) != 8 {
		return 0, errors.Join(fmt.Errorf("read the length of the line: %w", errRecord), closer.Close())
	}
	return binary.BigEndian.Uint64(b), closer.Close()
}
