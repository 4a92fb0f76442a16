package simulate

import (
	"math/rand/v2"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// disk is a door's disk during one life of the door. What was synced outlives a crash; while it stalls, no sync of the journal's log
// ends.
type disk struct {
	*vfs.MemFS
	lies bool // a planted fault: it says that it has synced, and has not

	mu   sync.Mutex
	gate chan struct{} // closed when a stall is over; nil: there is none
}

func (d *disk) stall() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gate != nil {
		return false
	}
	d.gate = make(chan struct{})
	return true
}

func (d *disk) release() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gate == nil {
		return false
	}
	close(d.gate)
	d.gate = nil
	return true
}

func (d *disk) await() {
	d.mu.Lock()
	gate := d.gate
	d.mu.Unlock()
	if gate != nil {
		<-gate
	}
}

// crashed is what the disk has after a crash: all that was synced, and what was only written where written is set.
func (d *disk) crashed(written bool) *vfs.MemFS {
	cfg := vfs.CrashCloneCfg{}
	if written {
		cfg = vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(0, 0))} // nothing is left to chance at 100
	}
	return d.CrashClone(cfg)
}

// Create makes a file; a log's syncs go through the disk.
func (d *disk) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.MemFS.Create(name, category)
	return d.watched(name, f), err
}

// ReuseForWrite makes a file of an old one.
func (d *disk) ReuseForWrite(old, name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.MemFS.ReuseForWrite(old, name, category)
	return d.watched(name, f), err
}

func (d *disk) watched(name string, f vfs.File) vfs.File {
	if f == nil || !strings.HasSuffix(name, ".log") {
		return f
	}
	return &logFile{f, d}
}

type logFile struct {
	vfs.File
	disk *disk
}

func (f *logFile) Sync() error {
	f.disk.await()
	if f.disk.lies {
		return nil
	}
	return f.File.Sync()
}

func (f *logFile) SyncData() error {
	f.disk.await()
	if f.disk.lies {
		return nil
	}
	return f.File.SyncData()
}
