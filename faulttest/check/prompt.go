package check

import (
	"cmp"
	"slices"
	"time"
)

// definite reports whether an answer to a purchase says for certain what became of it.
func definite(e Event) bool { return e.Event == Answer && e.Call == Place && !e.Doubtful() }

// farOff is longer than any refusal for load may tell a buyer to stay away: a minute and a half, and what it is spread by.
const farOff = 3 * time.Minute

// muchTooLate is how many budgets an answer may take and still be late only: beyond, nobody waits for it.
const muchTooLate = 5

// prompt: a door answers within its budget whatever its neighbours do, and a refusal says why, and when to come back (P7). A door
// that was itself stopped meanwhile is excused, and no door answers for the time in which the machine kept a bystander waiting too.
func (f *findings) prompt() {
	answers, over := 0, []Event(nil)
	for _, e := range f.History {
		if e.Event != Answer || e.Call != Place || f.disturbed(e.Door, e.Asked, e.At) {
			continue
		}
		answers++
		if f.Budget > 0 && time.Duration(e.At-e.Asked-f.stalled(e.Asked, e.At)) > f.Budget { // without an answer too
			over = append(over, e)
		}
		if e.Status >= 400 {
			f.honest(e)
		}
	}
	if len(over) > 0 {
		slowest := slices.MaxFunc(over, func(a, b Event) int { return cmp.Compare(a.At-a.Asked, b.At-b.Asked) })
		f.wrongOf(nil, []Asker{{slowest.User, slowest.Key}}, "P7: %d of %d answers took more than %v: %s answered %s with %d %s after %v",
			len(over), answers, f.Budget, slowest.Door, slowest.User, slowest.Status, slowest.Reason, time.Duration(slowest.At-slowest.Asked).Round(time.Millisecond))
		f.list[len(f.list)-1].Late = !slices.ContainsFunc(over, func(e Event) bool {
			return e.Status == 0 || time.Duration(e.At-e.Asked) > muchTooLate*f.Budget
		})
	}
}

// honest: a refusal says why and, where that helps, when to come back.
func (f *findings) honest(e Event) {
	who := []Asker{{e.User, e.Key}}
	switch e.Reason {
	case "":
		f.wrongOf(nil, who, "P7: %s refused %s with %d and no reason", e.Door, e.User, e.Status)
	case "queue-full", "too-slow", "none-free", "rate-limited":
		if e.Retry <= 0 && len(f.Doors) > 0 {
			f.wrongOf(nil, who, "P7: %s refused %s with %s and does not say when to come back", e.Door, e.User, e.Reason)
		}
		if time.Duration(e.Retry) > farOff {
			f.wrongOf(nil, who, "P7: %s refused %s with %s and tells it to come back in %v", e.Door, e.User, e.Reason, time.Duration(e.Retry))
		}
	}
}

// stalled is for how long the machine kept a bystander waiting between two moments.
func (f *findings) stalled(from, to int64) (sum int64) {
	for _, s := range f.Stalls {
		sum += max(0, min(s.To, to)-max(s.From, from))
	}
	return sum
}

// disturbed reports whether something was done to a part between two moments.
func (f *findings) disturbed(part string, from, to int64) bool {
	return slices.ContainsFunc(f.Faults, func(a Fault) bool { return a.Part == part && a.From <= to && a.To >= from })
}

// outage is the longest time in which buyers asked and nobody got a definite answer, and when it began.
func outage(history []Event) (longest time.Duration, began int64) {
	waiting := false
	var since, last int64
	note := func(until int64) {
		if d := time.Duration(until - since); waiting && d > longest {
			longest, began = d, since
		}
	}
	for _, e := range history {
		last = e.At
		switch {
		case definite(e):
			note(e.At)
			waiting = false
		case e.Event == Ask && e.Call == Place && !waiting:
			waiting, since = true, e.At
		}
	}
	note(last)
	return longest, began
}
