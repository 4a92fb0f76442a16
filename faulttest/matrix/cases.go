package main

import (
	"context"
	"slices"
	"strings"
	"time"
)

// story is one case of the matrix: what is done to a service while buyers buy, and what must hold besides every promise. Its file says
// which subject it belongs to; a new one is written there, or in a file of its own whose list is named in stories.
type story struct {
	name   string
	holds  string        // in a sentence
	stores []string      // sqlite, postgres; nil: both
	loads  []load        // nil: both
	length time.Duration // in which buyers come; 0: usually

	doors   int              // 0: one
	disks   map[string]int   // by part, or postgres: MiB of a disk of its own; 0: the machine's
	crowd   int              // connections that are opened at once beside those of buyers
	labour  int              // how much more work than others it makes, in runs at the lower load
	takes   time.Duration    // most that a run may take; 0: as usual
	streams bool             // the history is a file only, since the run is long
	long    bool             // played only where it is named in full
	joined  bool             // all parts are one process, "up"
	setup   map[string]setup // by part
	plenty  bool             // more units than anybody wants, paid at once; otherwise they are held, paid, left, and run out in the end
	window  time.Duration    // for payment; 0: usually
	deeds   []deed           // of who holds units, in their proportion; nil: likely
	late    time.Duration    // how far from the deadline it is that who pays at it pays, at most; 0: usually
	poison  string           // how the names of those begin whose orders no store takes
	shifts  string           // the kind of part whose wall clock is wrong: door, worker or nsqd; empty: none

	// prepare is called before the parts are described. nil: there is nothing to do.
	prepare func(ctx context.Context, s *scene) error

	// between may put something into a connection: it is told where the connection goes, and answers where the part shall connect to
	// instead. It is called once for each, before the part starts, also when it starts again. nil: nothing is between.
	between func(ctx context.Context, s *scene, l link, to string) (string, error)

	// inject does what the story is about and undoes it: when it returns, every part runs and every connection works again. It uses
	// s.random for all that is to be left to chance, and s.must to say what has to be true for the story to test what it says.
	inject func(ctx context.Context, s *scene) error

	// afterwards looks at what the story alone knows of, when the sale has ended, before the checker does. nil: nothing.
	afterwards func(ctx context.Context, s *scene) error
}

// setup is how a part is started, beside what every part of its kind is.
type setup struct {
	flags   []string
	env     []string
	program string // instead of sluice
	files   int    // most open files; 0: any
}

// load is how many orders come, as a share of the capacity.
type load struct {
	name  string
	share float64
}

var (
	calm  = load{"30%", 0.3}
	crush = load{"300%", 3}
)

const (
	capacity    = 200 // orders a second that are settled: small enough for several stories side by side
	totalBound  = 600 // three seconds of it
	usualLength = 12 * time.Second
	payWindow   = 2 * time.Second
	payLate     = 200 * time.Millisecond
	payLimit    = 2
	saleID      = "rush"
)

// link is a connection, by the parts that it joins: from is a door or a worker, to is nsqd, nsqd-http, worker or postgres.
type link struct{ from, to string }

// stories is the matrix.
func stories() []story {
	return slices.Concat(kills, stops, operations, cuts, slow, commits, clocks, copies, poison, events, deadlines, disks, descriptors, crowds)
}

// run is one story with everything that it depends on.
type run struct {
	story
	store string
	load  load
	seed  uint64
}

func (r run) name() string { return r.story.name + "/" + r.store + "/" + r.load.name }

// plan is every run of the stories whose names have one of these, separated by commas, as a part.
func plan(only string, first uint64, seeds int, short bool) (runs []run) {
	for _, s := range stories() {
		if s.long && !strings.HasPrefix(only, s.name) {
			continue
		}
		stores, loads := s.stores, s.loads
		if stores == nil {
			stores = []string{"sqlite", "postgres"}
		}
		if loads == nil {
			loads = []load{calm, crush}
		}
		for i, store := range stores {
			for j, l := range loads {
				if short && (i+j)%2 != 0 { // each store and each load, not each pair of them
					continue
				}
				r := run{story: s, store: store, load: l}
				if !wanted(r.name(), only) {
					continue
				}
				for seed := range seeds {
					r.seed = first + uint64(seed)
					runs = append(runs, r)
				}
			}
		}
	}
	return runs
}

func wanted(name, only string) bool {
	return only == "" || slices.ContainsFunc(strings.Split(only, ","), func(part string) bool { return strings.Contains(name, part) })
}
