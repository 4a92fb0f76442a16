package simulate

import (
	"fmt"
	"slices"
	"time"
)

// prepareDoor is for a door that is up.
func (w *World) prepareDoor(a Action, d *door, l *doorLife) func() bool {
	switch a.Kind {
	case Order:
		r := &request{wish: wishes[a.N[2]%len(wishes)], buyer: fmt.Sprint("b", a.N[1])}
		return func() bool { return w.order(l, r, "") }
	case SlowOrder:
		return func() bool { return w.slowOrder(l, a.N[1]) }
	case GoOn:
		return w.saying(func() bool { return l.goOn(a.N[1]) }, "a buyer who was held up at door %s goes on", d.name)
	case Read:
		return func() bool { return w.read(l, a.N[1], a.N[2] == 1) }
	case Refresh:
		return w.saying(func() bool { return l.pass(refreshing, func(ctx ctx) { _ = l.real.Refresh(ctx) }) }, "door %s asks for the facts", d.name)
	case Reconcile:
		if w.planted(NeverReconciles) {
			return nil
		}
		return w.saying(func() bool { return l.pass(reconciling, func(ctx ctx) { _ = l.real.Reconcile(ctx) }) }, "door %s reconciles", d.name)
	case Inquire:
		return w.saying(func() bool { return l.pass(inquiring, l.real.Inquire) }, "door %s asks what its buyers want to know", d.name)
	case Probe:
		return func() bool {
			if l.carrier.look(&w.queue, time.Now()) {
				w.tell("door %s sees that nsqd has restarted", d.name)
			}
			return true
		}
	case Publish:
		return w.saying(func() bool { return l.carrier.publish(&w.queue, a.N[1]) }, "door %s publishes%s", d.name, named(a.N[1], "", fateDoubt, ", and it lands, but is not answered", fateOther, ", and it does not land"))
	case Report:
		return w.saying(func() bool { return l.carrier.report(&w.queue, a.N[1]) }, "door %s hears of what it published%s", d.name, named(a.N[1], "", fateDoubt, ": a broken connection"))
	case Stall:
		return w.saying(l.disk.stall, "the disk of door %s stalls", d.name)
	case Sync:
		return w.saying(l.disk.release, "the disk of door %s syncs", d.name)
	case CrashDoor:
		left := named(a.N[1], diskSynced, 1, diskWritten, 2, diskWritten, 3, diskWritten, 4, diskWritten, 5, diskOrderly, 6, diskOrderly, 15, diskLost)
		return w.saying(func() bool {
			if err := d.crash(left); err != nil {
				panic(err)
			}
			return true
		}, "door %s %s", d.name, named(left, "crashes", diskOrderly, "stops", diskWritten, "crashes, its disk keeps what was written but not synced", diskLost, "crashes, and its disk with it"))
	case Deafen:
		return w.saying(func() bool { return l.deafen() }, "door %s loses its channel of outcomes", d.name)
	case Listen:
		return w.saying(func() bool { return l.listen(&w.queue) }, "door %s has a channel of outcomes again", d.name)
	case Notice:
		return w.saying(l.notice, "door %s notices that it has missed outcomes", d.name)
	case Hear:
		return w.saying(func() bool { return l.hear(a.N[1], 1+a.N[2]) }, "door %s hears %d messages of outcomes", d.name, min(1+a.N[2], len(l.outcomes)))
	case RepeatOutcome:
		return w.saying(func() bool { return l.repeat(a.N[1]) }, "an outcome will come to door %s once more", d.name)
	case LoseOutcome:
		return w.saying(func() bool { return l.lose(a.N[1]) }, "door %s never gets an outcome", d.name)
	default:
		return nil
	}
}

func (w *World) order(l *doorLife, r *request, how string) bool {
	r.door = l.door
	w.tell("buyer %s asks door %s for %d of sale %s, key %q%s", r.buyer, l.door.name, r.units, saleIDs[r.sale], r.key, how)
	w.check.sent(r)
	l.send(r)
	return true
}

// slowOrder has one of the last who were accepted somewhere ask once more, and holds them up where the door finds nothing of their order:
// its outcome may come meanwhile.
func (w *World) slowOrder(l *doorLife, back int) bool {
	n := len(w.check.accepted)
	if n == 0 {
		return false
	}
	was := w.check.accepted[n-1-back%n]
	r := &request{wish: was.wish, buyer: was.buyer, hold: &hold{gate: make(chan struct{}), bound: l.door.bound}}
	return w.order(l, r, ", and is slow")
}

func (w *World) read(l *doorLife, order int, wait bool) bool {
	if len(w.check.known) == 0 {
		return false
	}
	r := &request{read: w.check.known[order%len(w.check.known)], door: l.door, buyer: "?", wait: wait}
	w.tell("somebody asks door %s after order %v%s", l.door.name, r.read, map[bool]string{true: " and waits for news"}[wait])
	w.check.sent(r)
	l.send(r)
	return true
}

// goOn lets one of those go on who are held up.
func (l *doorLife) goOn(n int) bool {
	var held []*request
	for _, r := range l.requests {
		if r.hold.holds() {
			held = append(held, r)
		}
	}
	if len(held) == 0 {
		return false
	}
	held[n%len(held)].hold.release()
	return true
}

func (l *doorLife) deafen() bool {
	was := l.listens
	l.listens, l.outcomes = 0, nil
	return was != 0
}

func (l *doorLife) listen(q *nsqd) bool {
	if !q.up || l.listens == q.life {
		return false
	}
	l.listens, l.outcomes, l.gap = q.life, nil, true
	return true
}

func (l *doorLife) notice() bool {
	was := l.gap
	if was {
		l.gap = false
		l.real.Missed()
	}
	return was
}

func (l *doorLife) repeat(at int) bool {
	if len(l.outcomes) == 0 {
		return false
	}
	l.outcomes = append(l.outcomes, l.outcomes[at%len(l.outcomes)])
	return true
}

func (l *doorLife) lose(at int) bool {
	if len(l.outcomes) == 0 {
		return false
	}
	at %= len(l.outcomes)
	l.outcomes = slices.Delete(l.outcomes, at, at+1)
	return true
}
