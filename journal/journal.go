// Package journal is the durable promise: what it has confirmed outlives the process and the machine's power (P3).
// It never confirms a record that is not synced, and where it can't tell, it ends the process rather than guess.
package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/time/rate"

	"sluice"
)

// Options says where the journal lives and what it may use.
type Options struct {
	Dir          string
	MinFreeBytes uint64          // below so much free disk Admitting refuses; 0 switches the floor off
	StallAfter   time.Duration   // a sync that takes longer makes Admitting refuse; default 1 s
	Memory       int             // bytes: half for Pebble's cache, a quarter for its memory table, an eighth for the filter; default 128 MiB
	Fatal        func(err error) // must end the process: the disk's state is unknown. Required.
	Logger       *slog.Logger    // required
	FS           vfs.FS          // nil: the operating system's
}

const (
	defaultMemory = 128 << 20
	bloomBits     = 10
	watchInterval = time.Second
)

// Journal records admitted orders and what became of them. All methods are safe for concurrent use.
type Journal struct {
	db   *pebble.DB
	fs   vfs.FS
	opts Options
	log  *slog.Logger

	mu     sync.Mutex
	next   *Commit // collects records until the committer takes it; nil when there are none
	closed bool
	// settling has every order whose status is on its way to the disk. Pebble shows a status before it is synced.
	settling map[sluice.OrderID]*Commit
	line     uint64                    // orders ever appended; the next one has this number
	numbers  map[sluice.OrderID]uint64 // of the outstanding orders
	syncing  time.Time                 // when the commit under way was taken; zero when none is

	unsynced atomic.Int64 // len(settling), to look without the lock
	ended    atomic.Bool  // closed, likewise

	filter *filter // of settled orders
	name   string  // tells this journal from every other
	life   uint64  // how often it was opened

	wake  chan struct{} // holds one token while next is not nil
	stop  chan struct{}
	wg    sync.WaitGroup
	floor floor
}

// Open opens or makes the journal in opts.Dir. It fails where the folder can't be written or another process has it.
func Open(opts Options) (*Journal, error) {
	if opts.StallAfter == 0 {
		opts.StallAfter = time.Second
	}
	if opts.Memory == 0 {
		opts.Memory = defaultMemory
	}
	fs := opts.FS
	if fs == nil {
		fs = vfs.Default
	}
	db, err := pebble.Open(opts.Dir, pebbleOptions(opts, fs))
	if err != nil {
		return nil, fmt.Errorf("open the journal in %s (is another sluice using it, may this user write there?): %w", opts.Dir, err)
	}
	j := &Journal{
		db: db, fs: fs, opts: opts, log: opts.Logger, settling: make(map[sluice.OrderID]*Commit), filter: newFilter(opts.Memory / 8),
		numbers: make(map[sluice.OrderID]uint64),
		wake:    make(chan struct{}, 1), stop: make(chan struct{}),
	}
	if err := errors.Join(j.readLine(), j.liveOn()); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	j.checkFloor()
	j.wg.Go(j.fillFilter)
	j.wg.Go(j.commitAll)
	j.wg.Go(j.watchFloor)
	return j, nil
}

func pebbleOptions(opts Options, fs vfs.FS) *pebble.Options {
	o := &pebble.Options{
		CacheSize:             int64(opts.Memory / 2),
		MemTableSize:          uint64(opts.Memory / 4),
		FormatMajorVersion:    pebble.FormatNewest,
		FS:                    fs,
		Logger:                fatalLogger{log: opts.Logger, fatal: opts.Fatal, complain: &rate.Sometimes{First: 1, Interval: time.Second}},
		L0CompactionThreshold: 4,
	}
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(bloomBits) // a new order is looked up before it is written
	}
	return o
}

// ErrClosed says that the journal was closed.
var ErrClosed = errors.New("the journal is closed")

// Close confirms what was appended, then closes the journal.
func (j *Journal) Close() error {
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return ErrClosed
	}
	j.closed = true
	j.mu.Unlock()
	close(j.stop)
	j.wg.Wait()
	j.ended.Store(true)
	return j.db.Close()
}

// fatalLogger makes Pebble's fatal errors fatal: Pebble reports success after Fatalf returns, so it never returns.
type fatalLogger struct {
	complain *rate.Sometimes // on a full disk Pebble tries again at once, hundreds of times a second
	log      *slog.Logger
	fatal    func(error)
}

func (l fatalLogger) Infof(string, ...any) {}

func (l fatalLogger) Errorf(format string, args ...any) {
	l.complain.Do(func() { l.log.Warn("journal", "detail", fmt.Sprintf(format, args...)) })
}

func (l fatalLogger) Fatalf(format string, args ...any) {
	l.fatal(fmt.Errorf(format, args...))
	select {} // whoever called must not go on, whatever fatal did
}

// Admitting says why no order may be admitted now, or nil.
func (j *Journal) Admitting() error {
	if err := j.floor.low(); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return ErrClosed
	}
	if !j.syncing.IsZero() {
		if d := time.Since(j.syncing); d > j.opts.StallAfter {
			return fmt.Errorf("the journal's disk has not finished a sync for %v", d.Round(time.Millisecond))
		}
	}
	return nil
}

// Records of one order. Outstanding ones are kept apart, so that a start reads these alone, and in the order in which they were
// admitted: what is written one after the other lies side by side, where Pebble finds its place at once, and restored orders
// keep their places in the line.
const (
	outstandingPrefix = 'o'
	settledPrefix     = 's'
	attemptPrefix     = 'a'
	linePrefix        = 'n' // alone it is the key of the line's length, as it was when an order left it last
	lifePrefix        = 'l' // alone it is the key of the journal's own name, and how often it was opened
	keyBytes          = 1 + len(sluice.OrderID{})
	lineKeyBytes      = keyBytes + 8
)

func keyOf(prefix byte, id sluice.OrderID) (k [keyBytes]byte) {
	k[0] = prefix
	copy(k[1:], id[:])
	return k
}

// lineKey is the key of an outstanding order: its number in the line, then its id.
func lineKey(number uint64, id sluice.OrderID) (k [lineKeyBytes]byte) {
	k[0] = outstandingPrefix
	binary.BigEndian.PutUint64(k[1:], number)
	copy(k[9:], id[:])
	return k
}
