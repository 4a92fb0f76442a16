package simulate

import (
	"slices"
	"testing"
	"time"
)

// Shrink looks for a shorter and plainer schedule that breaks the same promise: it takes actions out, ever smaller runs of them (delta
// debugging; Zeller and Hildebrandt, 2002), then makes pauses, numbers and the shop smaller. It gives up at a deadline with what it has.
func Shrink(t *testing.T, s Schedule, broken *Violation, until time.Time) Schedule {
	t.Helper()
	fails := func(s Schedule) bool {
		v := Run(t, s, nil).Violation
		return v != nil && v.Promise == broken.Promise
	}
	if cut := s; broken.Step < len(s.Actions) {
		cut.Actions = slices.Clone(s.Actions[:broken.Step])
		if fails(cut) {
			s = cut
		}
	}
	for before := -1; before != weight(s) && time.Now().Before(until); {
		before = weight(s)
		s = without(s, fails, until)
		s = plainer(s, fails, until)
	}
	return s
}

// weight is what shrinking makes less.
func weight(s Schedule) (n int) {
	n = 1000*len(s.Actions) + 100*(s.Doors+s.Workers)
	for _, a := range s.Actions {
		n += a.N[0] + a.N[1] + a.N[2]
		if a.After > time.Millisecond {
			n++
		}
	}
	return n
}

// without takes runs of actions out. What comes later stays at its time, or moves up.
func without(s Schedule, fails func(Schedule) bool, until time.Time) Schedule {
	for size := (len(s.Actions) + 1) / 2; size > 0; size /= 2 {
		for from := 0; from < len(s.Actions) && time.Now().Before(until); {
			to := min(from+size, len(s.Actions))
			less := s
			less.Actions = slices.Delete(slices.Clone(s.Actions), from, to)
			later := less
			later.Actions = slices.Clone(less.Actions)
			if from < len(later.Actions) {
				for _, a := range s.Actions[from:to] {
					later.Actions[from].After += a.After
				}
			}
			switch {
			case fails(less):
				s = less
			case fails(later):
				s = later
			default:
				from = to
			}
		}
	}
	return s
}

// plainer makes one thing after the other smaller.
func plainer(s Schedule, fails func(Schedule) bool, until time.Time) Schedule {
	try := func(change func(*Schedule)) {
		next := s
		next.Actions = slices.Clone(s.Actions)
		change(&next)
		if time.Now().Before(until) && weight(next) < weight(s) && fails(next) {
			s = next
		}
	}
	try(func(s *Schedule) { s.Doors = 1 })
	try(func(s *Schedule) { s.Doors = 2 })
	try(func(s *Schedule) { s.Workers = 1 })
	for i := range s.Actions {
		try(func(s *Schedule) { s.Actions[i].After = time.Millisecond })
		for n := range s.Actions[i].N {
			try(func(s *Schedule) { s.Actions[i].N[n] = 0 })
			try(func(s *Schedule) { s.Actions[i].N[n] = 1 })
		}
	}
	return s
}
