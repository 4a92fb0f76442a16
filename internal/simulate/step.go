package simulate

import (
	"encoding/binary"
	"slices"
	"testing/synctest"
	"time"
)

// act does an action outside of the schedule.
func (w *World) act(k Kind, n ...int) bool {
	a := Action{Kind: k}
	copy(a.N[:], n)
	return w.do(a)
}

// do does an action, lets everybody react, and looks at what came of it. It reports whether the action made sense.
func (w *World) do(a Action) bool {
	synctest.Wait()
	w.settle() // what timers have done since
	w.mu.Lock()
	act := w.prepare(a)
	w.mu.Unlock()
	if act == nil {
		return false
	}
	done := act()
	synctest.Wait()
	if done {
		w.mark(int(a.Kind), int(time.Since(w.began)))
	}
	w.settle()
	return done
}

// settle takes in what goroutines have done, in an order that does not depend on theirs.
func (w *World) settle() {
	w.mu.Lock() // a timer can wake a goroutine that has not seen what was looked at here before
	defer w.mu.Unlock()
	for _, d := range w.doors {
		l := d.life
		if l == nil {
			continue
		}
		l.carrier.gather()
		l.heard()
		d.allowed = d.bound
		l.requests = slices.DeleteFunc(l.requests, func(r *request) bool {
			if r.hold != nil {
				d.allowed = max(d.allowed, r.hold.bound)
			}
			if r.done {
				// But not its position: what leaves the line by the same sync of the disk is before it still, or no more.
				w.mark(r.door.n, r.status, int(r.answer.Version))
				_, _ = w.trace.Write(r.answer.Order[:])
				w.told(r)
				w.check.answered(r)
			}
			return r.done
		})
		w.mark(int(l.real.Outstanding()), len(l.outcomes), len(l.carrier.waiting), int(l.carrier.incarnation))
	}
	w.mark(w.store.commits, len(w.queue.orders), len(w.calls))
	w.check.always()
}

// mark goes into the hash of everything that happens.
func (w *World) mark(numbers ...int) {
	var b [8]byte
	for _, n := range numbers {
		binary.LittleEndian.PutUint64(b[:], uint64(n))
		_, _ = w.trace.Write(b[:]) // a hash takes everything
	}
}

// prepare says what an action is as things stand; nil: nothing. What it answers is called without the lock.
func (w *World) prepare(a Action) func() bool {
	switch a.Kind {
	case Pay, Cancel, Expire, TopUp, Bound, Away, Back:
		return w.prepareStore(a)
	case Proceed, Take, LoseOrder, RepeatOrder, Poison, CrashQueue, StartQueue, CrashWorker, StartWorker:
		return w.prepareWork(a)
	default:
	}
	d := w.doors[a.N[0]%len(w.doors)]
	if a.Kind == StartDoor && d.life == nil {
		return func() bool {
			w.tell("door %s starts", d.name)
			if err := d.begin(); err != nil {
				panic(err)
			}
			return true
		}
	}
	if d.life == nil {
		return nil
	}
	return w.prepareDoor(a, d, d.life)
}
