package simulate

import (
	"maps"
	"slices"
	"time"

	"sluice"
)

// prepareWork is what happens to messages, calls and workers.
func (w *World) prepareWork(a Action) func() bool {
	q := &w.queue
	switch a.Kind {
	case Proceed:
		return w.prepareCall(a)
	case Take:
		return w.prepareTake(a)
	case LoseOrder, RepeatOrder:
		if len(q.orders) == 0 || !q.up {
			return nil
		}
		m := q.orders[a.N[0]%len(q.orders)]
		if a.Kind == RepeatOrder {
			return w.saying(func() bool { q.put(m.order, m.body); return true }, "nsqd repeats order %v", m.order)
		}
		return w.saying(func() bool { w.lose(m); return true }, "nsqd loses order %v", m.order)
	case Poison:
		if !q.up {
			return nil
		}
		return w.saying(func() bool { q.put(sluice.OrderID{}, []byte("this is no order")); return true }, "somebody sends what is no order")
	case CrashQueue:
		if !q.up {
			return nil
		}
		return w.saying(func() bool {
			for _, m := range q.crash(a.N[0]%4, a.N[1]) {
				w.check.forgiven(m.order)
			}
			return true
		}, "nsqd dies%s", named(a.N[0]%4, " with all that it had", keepQueued, " and loses what is in flight", keepHalf, " and loses half of what it had", keepAll, " orderly"))
	case StartQueue:
		if q.up {
			return nil
		}
		return w.saying(func() bool { q.begin(time.Now()); return true }, "nsqd starts")
	case CrashWorker, StartWorker:
		return w.prepareWorker(a)
	default:
		return nil
	}
}

func (w *World) lose(m *message) {
	w.queue.drop(m)
	m.inFlight = nil
	w.check.forgiven(m.order)
}

func (w *World) prepareCall(a Action) func() bool {
	if len(w.calls) == 0 {
		return nil
	}
	owners := slices.Sorted(maps.Keys(w.calls))
	owner := owners[a.N[0]%len(owners)]
	c := w.calls[owner]
	done := c.done
	return w.saying(func() bool { return w.proceed(c, a.N[1]) }, "%s: the store %s%s", owner, map[bool]string{false: "does it", true: "answers"}[done],
		named(a.N[1], "", fateFails, ", but that fails"))
}

func (w *World) prepareTake(a Action) func() bool {
	l := w.workers[a.N[0]%len(w.workers)]
	ms := w.queue.deliverable(time.Now())
	if l == nil || len(ms) == 0 {
		return nil
	}
	first, n := a.N[1]%len(ms), min(1+a.N[2], len(ms))
	batch := append(ms[first:len(ms):len(ms)], ms[:first]...)[:n]
	if a.N[1]%2 == 1 {
		slices.Reverse(batch)
	}
	return w.saying(func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return l.take(batch)
	}, "%s gets %d messages", l.name, n)
}

func (w *World) prepareWorker(a Action) func() bool {
	n := a.N[0] % len(w.workers)
	l := w.workers[n]
	switch {
	case a.Kind == StartWorker && l == nil:
		return w.saying(func() bool { w.workers[n] = w.newWorker(n); return true }, "worker %d starts", n)
	case a.Kind == CrashWorker && l != nil:
		return w.saying(func() bool {
			l.end()
			l.running.Wait()
			w.workers[n] = nil
			for _, m := range w.queue.orders {
				if d := m.inFlight; d != nil && d.life == l && a.N[1] == 0 {
					m.inFlight = nil // nsqd sees the connection end
				}
			}
			return true
		}, "worker %d crashes%s", n, named(a.N[1], "", 1, ", and nsqd does not notice"))
	}
	return nil
}
