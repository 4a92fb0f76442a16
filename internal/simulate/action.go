package simulate

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Action is one step of a schedule: what happens next, how long after the one before, and to whom. One that makes no sense as things
// stand does nothing, so a schedule can be replayed with gaps.
type Action struct {
	After time.Duration
	Kind  Kind
	N     [3]int // what Kind's names say
}

// Kind is what happens.
type Kind int

// The kinds of actions.
const (
	Order Kind = iota
	SlowOrder
	GoOn
	Read
	Pay
	Cancel
	Expire
	TopUp
	Bound
	Refresh
	Reconcile
	Inquire
	Probe
	Publish
	Report
	Stall
	Sync
	CrashDoor
	StartDoor
	Deafen
	Listen
	Notice
	Hear
	LoseOutcome
	RepeatOutcome
	Proceed
	Away
	Back
	Take
	LoseOrder
	RepeatOrder
	Poison
	CrashQueue
	StartQueue
	CrashWorker
	StartWorker
	kinds
)

// kindSpec is how a kind is written, which numbers it has below which bounds, and how often it comes.
type kindSpec struct {
	name   string
	names  [3]string
	below  [3]int
	weight int
}

var specs = [kinds]kindSpec{
	Order:         {"order", [3]string{"door", "buyer", "key"}, [3]int{maxDoors, 30, len(wishes)}, 160},
	SlowOrder:     {"slow-order", [3]string{"door", "back"}, [3]int{maxDoors, 8}, 60},
	GoOn:          {"go-on", [3]string{"door", "request"}, [3]int{maxDoors, 4}, 60},
	Read:          {"read", [3]string{"door", "order", "wait"}, [3]int{maxDoors, 64, 3}, 30},
	Pay:           {"pay", [3]string{"order", "ref", "untold"}, [3]int{64, 2, 2}, 20},
	Cancel:        {"cancel", [3]string{"order", "untold"}, [3]int{64, 2}, 10},
	Expire:        {"expire", [3]string{"untold"}, [3]int{2}, 10},
	TopUp:         {"topup", [3]string{"sale", "units", "untold"}, [3]int{2, 4, 2}, 8},
	Bound:         {"bound", [3]string{"door", "orders"}, [3]int{maxDoors, 6}, 2},
	Refresh:       {"refresh", [3]string{"door"}, [3]int{maxDoors}, 40},
	Reconcile:     {"reconcile", [3]string{"door"}, [3]int{maxDoors}, 40},
	Inquire:       {"inquire", [3]string{"door"}, [3]int{maxDoors}, 15},
	Probe:         {"probe", [3]string{"door"}, [3]int{maxDoors}, 20},
	Publish:       {"publish", [3]string{"door", "fate"}, [3]int{maxDoors, 8}, 60},
	Report:        {"report", [3]string{"door", "fate"}, [3]int{maxDoors, 8}, 60},
	Stall:         {"stall", [3]string{"door"}, [3]int{maxDoors}, 8},
	Sync:          {"sync", [3]string{"door"}, [3]int{maxDoors}, 25},
	CrashDoor:     {"crash-door", [3]string{"door", "disk"}, [3]int{maxDoors, 16}, 3},
	StartDoor:     {"start-door", [3]string{"door"}, [3]int{maxDoors}, 30},
	Deafen:        {"deafen", [3]string{"door"}, [3]int{maxDoors}, 4},
	Listen:        {"listen", [3]string{"door"}, [3]int{maxDoors}, 20},
	Notice:        {"notice", [3]string{"door"}, [3]int{maxDoors}, 15},
	Hear:          {"hear", [3]string{"door", "message", "more"}, [3]int{maxDoors, 8, 4}, 110},
	LoseOutcome:   {"lose-outcome", [3]string{"door", "message"}, [3]int{maxDoors, 8}, 6},
	RepeatOutcome: {"repeat-outcome", [3]string{"door", "message"}, [3]int{maxDoors, 8}, 20},
	Proceed:       {"proceed", [3]string{"call", "fate"}, [3]int{8, 12}, 260},
	Away:          {"away", [3]string{}, [3]int{}, 3},
	Back:          {"back", [3]string{}, [3]int{}, 12},
	Take:          {"take", [3]string{"worker", "first", "count"}, [3]int{maxWorkers, 8, 6}, 80},
	LoseOrder:     {"lose-order", [3]string{"message"}, [3]int{16}, 3},
	RepeatOrder:   {"repeat-order", [3]string{"message"}, [3]int{16}, 8},
	Poison:        {"poison", [3]string{}, [3]int{}, 1},
	CrashQueue:    {"crash-queue", [3]string{"keep", "repeat"}, [3]int{4, 4}, 3},
	StartQueue:    {"start-queue", [3]string{}, [3]int{}, 20},
	CrashWorker:   {"crash-worker", [3]string{"worker", "late"}, [3]int{maxWorkers, 2}, 4},
	StartWorker:   {"start-worker", [3]string{"worker"}, [3]int{maxWorkers}, 30},
}

const (
	maxDoors   = 3
	maxWorkers = 2
)

// String is the action as a schedule has it, such as "+12ms order door 0 buyer 3 key 1".
func (a Action) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "+%v %s", a.After, specs[a.Kind].name)
	for i, name := range specs[a.Kind].names {
		if name != "" {
			fmt.Fprintf(&b, " %s %d", name, a.N[i])
		}
	}
	return b.String()
}

// ParseAction reads what String writes.
func ParseAction(line string) (a Action, err error) {
	words := strings.Fields(line)
	if len(words) < 2 {
		return a, fmt.Errorf("%q is no action; want +TIME NAME and its numbers", line)
	}
	if a.After, err = time.ParseDuration(strings.TrimPrefix(words[0], "+")); err != nil {
		return a, fmt.Errorf("%q: %w", line, err)
	}
	kind := slices.IndexFunc(specs[:], func(s kindSpec) bool { return s.name == words[1] })
	if kind < 0 {
		return a, fmt.Errorf("%q: there is no action %q", line, words[1])
	}
	a.Kind = Kind(kind)
	words = words[2:]
	for i, name := range specs[a.Kind].names {
		if name == "" {
			continue
		}
		if len(words) < 2 || words[0] != name {
			return a, fmt.Errorf("%q: want %s and a number", line, name)
		}
		if a.N[i], err = strconv.Atoi(words[1]); err != nil || a.N[i] < 0 {
			return a, fmt.Errorf("%q: %s: want a number from 0", line, name)
		}
		words = words[2:]
	}
	if len(words) > 0 {
		return a, fmt.Errorf("%q: %q is too much", line, words)
	}
	return a, nil
}

// Setup is the shop that a schedule plays in.
type Setup struct {
	Doors, Workers int
	Bound          int           // of each door
	Stock          int           // of each sale
	Window         time.Duration // to pay within; 0: orders are paid at once
}

// Schedule is everything that a run depends on.
type Schedule struct {
	Setup
	Plant   Plant // a fault that is built in; empty: none
	Actions []Action
}

// NewSchedule draws a schedule.
func NewSchedule(seed uint64, steps int) Schedule {
	r := rand.New(rand.NewPCG(seed, 0x51c1ce))
	s := Schedule{Setup: Setup{
		Doors: 1 + r.IntN(maxDoors), Workers: 1 + r.IntN(maxWorkers), Bound: 2 + r.IntN(5), Stock: 1 + r.IntN(8),
		Window: []time.Duration{0, 2 * time.Second, 20 * time.Second}[r.IntN(3)],
	}}
	total := 0
	for k := range specs {
		total += specs[k].weight
	}
	for range steps {
		a := Action{After: pauseOf(r)}
		for at := r.IntN(total); at >= specs[a.Kind].weight; a.Kind++ {
			at -= specs[a.Kind].weight
		}
		for i, n := range specs[a.Kind].below {
			if n > 0 {
				a.N[i] = r.IntN(n)
			}
			if a.Kind == Order && i == 1 { // a few buyers come often, and to several doors
				a.N[i] = r.IntN(a.N[i] + 1)
			}
		}
		s.Actions = append(s.Actions, a)
	}
	return s
}

// pauseOf is mostly short against every timer of the code, and now and then longer than all of them.
func pauseOf(r *rand.Rand) time.Duration {
	most := 20 * time.Millisecond
	switch n := r.IntN(1000); {
	case n < 3:
		most = 30 * time.Second
	case n < 25:
		most = 5 * time.Second
	case n < 120:
		most = time.Second
	}
	return (time.Microsecond + time.Duration(r.Int64N(int64(most)))).Truncate(time.Microsecond)
}

// Write writes the schedule as Read reads it. Lines that begin with # are for people.
func (s Schedule) Write(w io.Writer) {
	fmt.Fprintf(w, "shop doors %d workers %d bound %d stock %d window %v\n", s.Doors, s.Workers, s.Bound, s.Stock, s.Window)
	if s.Plant != "" {
		fmt.Fprintf(w, "plant %s\n", s.Plant)
	}
	for _, a := range s.Actions {
		fmt.Fprintln(w, a)
	}
}

// ReadSchedule reads what Write writes.
func ReadSchedule(r io.Reader) (s Schedule, err error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "shop "):
			var window string
			if _, err := fmt.Sscanf(line, "shop doors %d workers %d bound %d stock %d window %s",
				&s.Doors, &s.Workers, &s.Bound, &s.Stock, &window); err != nil {
				return s, fmt.Errorf("%q: %w", line, err)
			}
			if s.Window, err = time.ParseDuration(window); err != nil {
				return s, fmt.Errorf("%q: %w", line, err)
			}
		case strings.HasPrefix(line, "plant "):
			s.Plant = Plant(strings.TrimPrefix(line, "plant "))
		default:
			a, err := ParseAction(line)
			if err != nil {
				return s, err
			}
			s.Actions = append(s.Actions, a)
		}
	}
	if err := lines.Err(); err != nil {
		return s, fmt.Errorf("read a schedule: %w", err)
	}
	if s.Doors < 1 || s.Doors > maxDoors || s.Workers < 1 || s.Workers > maxWorkers {
		return s, fmt.Errorf("a shop of %d doors and %d workers; want 1 to %d and 1 to %d", s.Doors, s.Workers, maxDoors, maxWorkers)
	}
	return s, nil
}
