package simulate

import (
	"fmt"

	"sluice"
	"sluice/inventory"
)

// prepareStore is what shop and operators do at the store.
func (w *World) prepareStore(a Action) func() bool {
	s := w.store
	switch a.Kind {
	case Away:
		if !s.away {
			return w.saying(func() bool { s.away = true; return true }, "the store is away")
		}
		return nil
	case Back:
		if s.away {
			return w.saying(func() bool { s.away = false; return true }, "the store is back")
		}
		return nil
	default:
	}
	if s.away {
		return nil
	}
	switch a.Kind {
	case Pay, Cancel:
		if len(s.sorted) == 0 {
			return nil
		}
		id := s.sorted[a.N[0]%len(s.sorted)].order.ID
		if a.Kind == Cancel {
			return w.change(a.N[1] == 1, func() sluice.Changes { return s.update(inventory.DecideCancel(s.orders[id].now)) }, "order %v is cancelled", id)
		}
		return w.change(a.N[2] == 1, func() sluice.Changes { return s.pay(id, fmt.Sprint("ref", a.N[1])) }, "payment %d of order %v", a.N[1], id)
	case Expire:
		return w.change(a.N[0] == 1, s.expire, "what is overdue expires")
	case TopUp:
		return w.change(a.N[2] == 1, func() sluice.Changes { return s.topUp(saleIDs[a.N[0]%len(saleIDs)], int64(1+a.N[1])) },
			"sale %s gets %d more units", saleIDs[a.N[0]%len(saleIDs)], 1+a.N[1])
	case Bound:
		d := w.doors[a.N[0]%len(w.doors)]
		return w.saying(func() bool {
			s.limits.Version++
			s.limits.Bounds[d.name] = int64(1 + a.N[1])
			return true
		}, "the bound of door %s is to be %d", d.name, 1+a.N[1])
	default:
		return nil
	}
}

// change is a transaction that a worker makes for the shop. Where it is untold, the worker dies before it has told the doors.
func (w *World) change(untold bool, do func() sluice.Changes, format string, args ...any) func() bool {
	return w.saying(func() bool {
		c := do()
		if !untold {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.announce(c)
		}
		return true
	}, format+named(map[bool]int{true: 1}[untold], "", 1, ", and no door is told"), args...)
}
