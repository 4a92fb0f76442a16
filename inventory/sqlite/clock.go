package sqlite

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"sluice/inventory"
)

const (
	noteEvery   = time.Second // how far the time that is written down may be behind
	clockBehind = time.Hour   // how far this host's clock may be behind it
)

// clock is the store's time: the host's wall clock as it was when the store was opened, and then what has passed since.
// So a jump of the wall clock while the store is open moves no deadline.
//
// The first transaction of each second writes the time down, and the next start never begins before it: a wall clock that
// was set back would open ended sales again, and lease what is leased for too long.
type clock struct {
	opened time.Time    // with its monotonic reading
	anchor time.Time    // the store's time at that moment
	noted  atomic.Int64 // microseconds, as they were last written
}

func newClock(opened, anchor time.Time) *clock {
	return &clock{opened: opened, anchor: anchor.Round(0)}
}

func (c *clock) now() time.Time { return inventory.Micros(c.anchor.Add(time.Since(c.opened))) }

// startClock anchors the store's time. A host whose clock is far behind what was written would, for as long as it is, be
// told to hold everything for longer than it says: somebody must look.
func (s *Store) startClock(ctx context.Context) error {
	var noted int64
	if err := s.write.QueryRowContext(ctx, "SELECT at FROM clock WHERE id = 1").Scan(&noted); err != nil {
		return fmt.Errorf("read the time: %w", err)
	}
	opened, last := time.Now(), time.UnixMicro(noted).UTC()
	if last.Sub(opened) > clockBehind {
		return fmt.Errorf("it was last written at %s, and this host's clock says %s: set the clock, or, where that one is right, "+
			"have the database forget by UPDATE clock SET at = 0", last.Format(time.RFC3339), opened.UTC().Format(time.RFC3339))
	}
	anchor := opened
	if last.After(anchor) {
		anchor = last
	}
	s.clock = newClock(opened, anchor)
	s.clock.noted.Store(noted)
	return nil
}

// note writes the time down in a transaction, once a second. Of several processes on one file the latest time stands.
func (c *clock) note(ctx context.Context, t *tx) error {
	now := t.now.UnixMicro()
	if now-c.noted.Load() < noteEvery.Microseconds() {
		return nil
	}
	if _, err := t.ExecContext(ctx, "UPDATE clock SET at = max(at, ?) WHERE id = 1", now); err != nil {
		return fmt.Errorf("write the time down: %w", err)
	}
	c.noted.Store(now)
	return nil
}
