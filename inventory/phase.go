package inventory

import (
	"time"

	"sluice"
)

// Phase is what was announced last of a sale. It is stored with the sale, so that each announcement is made once.
type Phase string

// The phases. A sale is planned until its start was announced, and never again afterwards.
const (
	PhasePlanned Phase = "planned"
	PhaseOpen    Phase = "open"
	PhaseSoldOut Phase = "sold_out"
	PhaseEnded   Phase = "ended"

	unread Phase = ""
)

// phaseOf is the phase that a sale is in, whatever was announced. The stores' Tick statements must say the same.
func phaseOf(now time.Time, s sluice.Sale) Phase {
	switch {
	case !s.EndsAt.IsZero() && !now.Before(s.EndsAt):
		return PhaseEnded
	case !begun(now, s):
		return PhasePlanned
	case s.Free == 0 && s.Held == 0:
		return PhaseSoldOut
	}
	return PhaseOpen
}

func begun(now time.Time, s sluice.Sale) bool { return s.StartsAt.IsZero() || !now.Before(s.StartsAt) }

// Announce is what must be said of a sale whose phase was announced as said, and the phase to store then.
//
//   - sale.opened: its start has come; once in its life. A sale without a start opens as it is created. One that was ended
//     before its start never opens.
//   - sale.sold_out: no unit is free and none is held, so nobody can have any. A sale without stock is sold out from its
//     start.
//   - sale.reopened: it was announced as sold out or ended, and units can be had again: units were added, or its end was
//     moved. Not while it waits for a start that was moved into the future, but when that has come.
//   - sale.ended: its end has come, or it was ended by hand. What happens to its holds afterwards is not announced.
//
// A sale that is sold out when its start comes is opened, then sold out; one whose start and end came while nobody looked
// is opened, then ended; one whose end is moved when all is sold is sold out again. Where its start is moved into the
// future nothing is said: it is as announced until that start.
func Announce(now time.Time, said Phase, s sluice.Sale) ([]sluice.EventType, Phase) {
	is := phaseOf(now, s)
	if is == said || is == PhasePlanned {
		return nil, said
	}
	var types []sluice.EventType
	if said == PhasePlanned && begun(now, s) {
		types = append(types, sluice.EventOpened)
	}
	switch is {
	case PhaseSoldOut:
		types = append(types, sluice.EventSoldOut)
	case PhaseEnded:
		types = append(types, sluice.EventEnded)
	case PhaseOpen:
		if said != PhasePlanned {
			types = append(types, sluice.EventReopened)
		}
	case PhasePlanned, unread:
	}
	return types, is
}
