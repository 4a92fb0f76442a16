package simulate

import (
	"bytes"
	"context"
	"fmt"
	"hash"
	"hash/fnv"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sluice"
)

// World is a shop in a synctest bubble: the goroutine that made it drives it, one action at a time, and looks at it only when all
// others wait.
type World struct {
	setup Setup
	plant Plant
	keys  *sluice.IDKey
	check *checker
	step  int
	trace hash.Hash64
	story io.Writer // nil: nobody reads it
	began time.Time
	moves int // actions that did something

	mu      sync.Mutex // what goroutines of doors and workers change while the driver waits for them
	queue   nsqd
	calls   map[string]*call
	doors   []*door
	workers []*workerLife // nil: it is down
	store   *store        // changed by the driver alone
}

// badBuyer is one whose orders the store chokes on.
const badBuyer = "b0"

// Result is what came of a run.
type Result struct {
	Violation *Violation // nil: every promise was kept
	Hash      uint64     // of everything that happened
	Moves     int        // actions that did something
	Orders    int        // that were settled
}

// Run plays a schedule, then heals everything and waits for what was promised. The story, if anybody wants it, says in words what happened.
func Run(t *testing.T, s Schedule, story io.Writer) (r Result) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w, err := newWorld(s, story)
		if err != nil {
			t.Fatal(err)
		}
		w.play(s.Actions)
		if err := w.end(); err != nil {
			t.Fatal(err)
		}
		r = Result{w.check.found, w.trace.Sum64(), w.moves, len(w.store.orders)}
	})
	return r
}

func newWorld(s Schedule, story io.Writer) (*World, error) {
	keys, err := sluice.NewIDKey(bytes.Repeat([]byte("k"), sluice.MinIDKeyBytes))
	if err != nil {
		return nil, fmt.Errorf("make an id key: %w", err)
	}
	w := &World{
		setup: s.Setup, plant: s.Plant, keys: keys, trace: fnv.New64a(), story: story, began: time.Now(),
		calls: map[string]*call{}, store: newStore(s.Setup, s.Plant),
	}
	w.check = newChecker(w)
	w.queue.begin(time.Now())
	for n := range s.Doors {
		w.doors = append(w.doors, w.newDoor(n))
		if err := w.doors[n].begin(); err != nil {
			return nil, err
		}
	}
	for n := range s.Workers {
		w.workers = append(w.workers, w.newWorker(n))
	}
	for n := range s.Doors { // so that the first actions of a schedule are not spent on it
		w.act(Refresh, n)
	}
	w.answerAll()
	return w, nil
}

// play plays the actions until a promise is broken, then heals.
func (w *World) play(actions []Action) {
	for i, a := range actions {
		w.step = i + 1
		time.Sleep(a.After)
		if w.do(a) {
			w.moves++
		}
		if w.check.found != nil {
			return
		}
	}
	w.step = len(actions) + 1
	w.heal()
}

// end ends every goroutine.
func (w *World) end() error {
	for n, l := range w.workers {
		if l != nil {
			l.end()
			l.running.Wait()
			w.workers[n] = nil
		}
	}
	for _, d := range w.doors {
		if l := d.life; l != nil {
			d.life = nil
			if err := l.close(); err != nil {
				return err
			}
		}
	}
	synctest.Wait()
	return nil
}

type ctx = context.Context
