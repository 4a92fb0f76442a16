package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"

	"sluice/inventory"
)

const (
	storePatience   = 8 * time.Second // how long a batch waits for the store before it goes back to the queue
	storeBackoff    = 100 * time.Millisecond
	storeMaxBackoff = 2 * time.Second
	pingTimeout     = 2 * time.Second
)

// outage knows whether the store is away, for all of a worker's pools. The first call that finds it away closes the gate
// for all; then one probe at a time asks after the store, and when it answers, one of the batches that wait goes first.
// Only when that is settled do the others follow, not all in the same instant.
type outage struct {
	ping   func(context.Context) error
	turned func(away, long bool) // hears of every turn; the first try to come back has failed in a long outage
	log    *slog.Logger

	fell     chan struct{}   // capacity 1: wakes the probe
	first    chan chan error // the probe asks one of those who wait to go first, and hears what came of it
	stopping chan struct{}   // closed: nobody waits any longer
	stopOnce sync.Once

	mu       sync.Mutex
	back     chan struct{} // closed when the store is back; nil while it is there
	failures int           // of calls and probes since a call succeeded
}

func newOutage(ping func(context.Context) error, turned func(away, long bool), log *slog.Logger) *outage {
	return &outage{
		ping: ping, turned: turned, log: log,
		fell: make(chan struct{}, 1), first: make(chan chan error), stopping: make(chan struct{}),
	}
}

// errAway is what a call comes to that waited in vain.
var errAway = fmt.Errorf("it was away before this: %w", inventory.ErrUnavailable)

// patiently has call called while the store is there, and repeats what it could not do for being away, up to storePatience.
func (o *outage) patiently(ctx context.Context, call func() error) error {
	do := func() error { return guarded(call) }
	patience := time.NewTimer(storePatience)
	defer patience.Stop()
	err := errAway
	for {
		away := o.awayUntil()
		if away == nil {
			if err = do(); o.note(ctx, err) {
				continue
			}
			return err
		}
		select {
		case <-away:
			pauseFor(ctx, rand.N(storeBackoff))
		case tell := <-o.first:
			err = do()
			tell <- err
			if !errors.Is(err, inventory.ErrUnavailable) {
				return err
			}
		case <-patience.C:
			return err
		case <-o.stopping:
			return err
		case <-ctx.Done():
			return err
		}
	}
}

// guarded makes a panic an error of the order that it comes of, which is found and buried like any other that the store chokes on.
func guarded(call func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return call()
}

func pauseFor(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// awayUntil is closed when the store is back; nil while it is there.
func (o *outage) awayUntil() chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.back
}

func (o *outage) away() bool { return o.awayUntil() != nil }

// note takes the result of a call in, and reports whether the store was away.
func (o *outage) note(ctx context.Context, err error) (away bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !errors.Is(err, inventory.ErrUnavailable) || ctx.Err() != nil { // whose context ended learnt nothing
		if err == nil {
			o.failures = 0
		}
		return false
	}
	if o.back == nil {
		o.back = make(chan struct{})
		o.failures++
		o.log.Warn("the store is unavailable; orders wait", "error", err)
		o.turned(true, false)
		select {
		case o.fell <- struct{}{}:
		default:
		}
	}
	return true
}

// stop lets those go who wait: their batches go back to the queue.
func (o *outage) stop() { o.stopOnce.Do(func() { close(o.stopping) }) }

// run probes the store whenever it is away, until ctx ends.
func (o *outage) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-o.fell:
		}
		for tries := 0; ctx.Err() == nil; tries++ {
			pauseFor(ctx, o.wait())
			if o.probe(ctx) {
				o.isBack(tries > 0)
				break
			}
		}
	}
}

// wait is longer with every failure, and drawn from its upper half: several workers must not knock in the same instant.
func (o *outage) wait() time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	d := storeMaxBackoff
	if o.failures < 6 {
		d = min(storeBackoff<<max(0, o.failures-1), storeMaxBackoff)
	}
	return d/2 + rand.N(d/2)
}

// probe reports whether the store answers and one of those who wait, if there is any, was served.
func (o *outage) probe(ctx context.Context) bool {
	limited, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	err, served := o.ping(limited), false
	if err == nil {
		told := make(chan error, 1)
		select {
		case o.first <- told:
			err, served = <-told, true
		default: // nobody waits
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if err != nil && errors.Is(err, inventory.ErrUnavailable) {
		o.failures++
		return false
	}
	if err == nil && served {
		o.failures = 0
	}
	return true
}

func (o *outage) isBack(long bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.back)
	o.back = nil
	o.log.Info("the store is back")
	o.turned(false, long)
}
