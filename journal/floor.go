package journal

import (
	"fmt"
	"sync/atomic"
	"time"
)

// floor remembers whether the disk has room for more promises.
type floor struct {
	reason atomic.Pointer[error]
}

func (f *floor) low() error {
	if p := f.reason.Load(); p != nil {
		return *p
	}
	return nil
}

// watchFloor looks at the free disk once a second until Close.
func (j *Journal) watchFloor() {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			j.checkFloor()
		case <-j.stop:
			return
		}
	}
}

func (j *Journal) checkFloor() {
	if j.opts.MinFreeBytes == 0 {
		return
	}
	err := j.measureFloor()
	before := j.floor.low()
	if err == nil {
		j.floor.reason.Store(nil)
	} else {
		j.floor.reason.Store(&err)
	}
	if (err == nil) != (before == nil) {
		j.log.Warn("journal: free disk", "admitting", err == nil, "error", err)
	}
}

func (j *Journal) measureFloor() error {
	usage, err := j.fs.GetDiskUsage(j.opts.Dir)
	if err != nil {
		return fmt.Errorf("measure the journal's free disk: %w", err)
	}
	if usage.AvailBytes < j.opts.MinFreeBytes {
		return fmt.Errorf("the journal's disk has %d MiB free; the floor is %d MiB", usage.AvailBytes>>20, j.opts.MinFreeBytes>>20)
	}
	return nil
}
