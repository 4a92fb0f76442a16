package simulate

import (
	"testing/synctest"
	"time"
)

const (
	healFor   = 15 * time.Minute // an order that was sent, and lost without a trace, is asked after in up to four
	healEvery = 500 * time.Millisecond
)

// heal ends every fault, waits until all is settled, and looks at the end.
func (w *World) heal() {
	w.tell("everything heals")
	for waited := time.Duration(0); ; {
		w.round()
		if w.check.found != nil || w.calm() {
			break
		}
		pause := healEvery
		if waited > 5*time.Second && w.idle() {
			pause = 5 * time.Second
		}
		if waited += pause; waited > healFor {
			break
		}
		time.Sleep(pause)
	}
	if w.check.found != nil {
		return
	}
	w.check.healed()
	w.late()
	w.compare()
}

// calm reports whether nothing is outstanding or on its way.
func (w *World) calm() bool {
	for _, d := range w.doors {
		if d.life.real.Outstanding() > 0 {
			return false
		}
	}
	return len(w.queue.orders) == 0 && w.idle()
}

// idle reports whether nothing but time can move anything.
func (w *World) idle() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range w.doors {
		if c := d.life.carrier; len(c.waiting)+len(c.wire)+len(d.life.requests)+len(d.life.outcomes) > 0 {
			return false
		}
	}
	return len(w.calls) == 0 && len(w.queue.orders) == 0
}

// round gives everybody the time that their own loops would give them.
func (w *World) round() {
	w.act(Back)
	w.act(StartQueue)
	for n, d := range w.doors {
		for w.act(GoOn, n) {
		}
		for _, k := range []Kind{StartDoor, Sync, Listen, Notice, Probe, Report, Publish, Report, Refresh, Reconcile, Inquire} {
			w.act(k, n)
		}
		for range mostOutcomes {
			if !w.act(Hear, n) {
				break
			}
		}
		_ = d
	}
	w.answerAll()
	for n := range w.workers {
		w.act(StartWorker, n)
		for w.act(Take, n, 0, 100) {
			w.answerAll()
		}
	}
	for n := range w.doors {
		for range mostOutcomes {
			if !w.act(Hear, n) {
				break
			}
		}
	}
}

// answerAll lets every call through.
func (w *World) answerAll() {
	for range 1000 { // each batch and each pass makes a few
		synctest.Wait()
		w.mu.Lock()
		n := len(w.calls)
		w.mu.Unlock()
		if n == 0 {
			return
		}
		w.act(Proceed, 0, 0)
	}
}
