package simulate

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/internal/race"
)

// What `make simulate` sets.
var (
	seedFlag  = flag.Uint64("seed", 0, "the first seed; 0: by the clock, or, where no time is set, always the same")
	stepsFlag = flag.Int("steps", 2000, "actions of each schedule")
	forFlag   = flag.Duration("for", 0, "how long to go on; 0: a short while")
	keepFlag  = flag.Bool("keep", false, "write testdata anew: of each planted fault a shrunk schedule that finds it")
)

// Schedules of one seed after the other, on all processors: every promise is kept, while everything goes wrong and once it is well again.
func TestSimulation_KeepsEveryPromise(t *testing.T) {
	first, schedules, deadline := *seedFlag, int64(60), time.Now().Add(time.Hour)
	if testing.Short() || race.Enabled {
		schedules = 12
	}
	switch {
	case *forFlag > 0:
		schedules, deadline = 1<<62, time.Now().Add(*forFlag)
		if first == 0 {
			first = uint64(time.Now().UnixMilli())
		}
	case first != 0:
		schedules = 1 // that one again
	default:
		first = 1
	}
	var next, steps, orders atomic.Int64
	var failed atomic.Bool
	began := time.Now()
	t.Run("seeds", func(t *testing.T) { // returns once all of them have
		for n := range runtime.GOMAXPROCS(0) {
			t.Run(fmt.Sprint("processor ", n+1), func(t *testing.T) {
				t.Parallel()
				for i := next.Add(1); i <= schedules && time.Now().Before(deadline) && !failed.Load(); i = next.Add(1) {
					seed := first + uint64(i-1)
					s := NewSchedule(seed, *stepsFlag)
					r := Run(t, s, nil)
					steps.Add(int64(r.Moves))
					orders.Add(int64(r.Orders))
					if r.Violation != nil && !failed.Swap(true) {
						explain(t, seed, s, r.Violation)
					}
				}
			})
		}
	})
	took := time.Since(began)
	t.Logf("%d steps in %v, %.0f a minute; %d schedules from seed %d on, %d orders settled",
		steps.Load(), took.Round(time.Millisecond), float64(steps.Load())/took.Minutes(), min(next.Load(), schedules), first, orders.Load())
}

// explain shrinks a schedule that broke a promise, tells its story, and leaves it where it can become a test.
func explain(t *testing.T, seed uint64, s Schedule, v *Violation) {
	t.Helper()
	t.Logf("seed %d: %v; shrinking, a minute at most", seed, v)
	s = Shrink(t, s, v, time.Now().Add(time.Minute))
	v = Run(t, s, nil).Violation
	path := filepath.Join(os.TempDir(), fmt.Sprintf("sluice-seed-%d.schedule", seed))
	keep(t, path, s, fmt.Sprintf("seed %d: %v", seed, v))
	t.Errorf("seed %d breaks a promise with %d actions: %v\n%s\nIt is repeated by go test once it is in testdata: cp %s internal/simulate/testdata/",
		seed, len(s.Actions), v, Story(t, s), path)
}

func keep(t *testing.T, path string, s Schedule, why string) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n", why)
	s.Write(&b)
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Every schedule in testdata keeps every promise, unless a fault is planted in it; then it breaks one, and keeps all without the fault.
func TestSimulation_KeptSchedules(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.schedule")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no schedules in testdata: %v", err)
	}
	planted := map[Plant]bool{}
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		s, err := ReadSchedule(f)
		_ = f.Close()
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if s.Plant != "" {
			planted[s.Plant] = true
			if r := Run(t, s, nil); r.Violation == nil {
				t.Errorf("%s: nobody notices that %s\n%s", path, s.Plant, Story(t, s))
			}
			s.Plant = ""
		}
		if r := Run(t, s, nil); r.Violation != nil {
			t.Errorf("%s: %v\n%s", path, r.Violation, Story(t, s))
		}
	}
	for _, p := range Plants() {
		if !planted[p] && !*keepFlag {
			t.Errorf("no schedule in testdata has the fault that %s", p)
		}
	}
}

// A fault that is built in is found within some seeds, and what finds it is shrunk to a page.
func TestSimulation_FindsAndShrinksPlantedFaults(t *testing.T) {
	plants := []Plant{LiesOfVersions, AnnouncesFirst}
	if *keepFlag {
		plants = Plants()
	}
	for _, p := range plants {
		t.Run(string(p), func(t *testing.T) {
			t.Parallel()
			s, v, seed := find(t, p)
			s = Shrink(t, s, v, time.Now().Add(5*time.Minute)) // it takes seconds
			v = Run(t, s, nil).Violation
			if v == nil || len(s.Actions) > 40 {
				t.Errorf("shrunk to %d actions, which break %v\n%s", len(s.Actions), v, Story(t, s))
			}
			if *keepFlag {
				keep(t, filepath.Join("testdata", "planted-"+slug(p)+".schedule"), s, fmt.Sprintf("seed %d: %v", seed, v))
			}
		})
	}
}

// find answers the shortest of some schedules that break a promise.
func find(t *testing.T, p Plant) (found Schedule, v *Violation, seed uint64) {
	t.Helper()
	const most = 300
	for n, hits := uint64(1), 0; n <= most && hits < 3; n++ {
		s := NewSchedule(n, 400)
		s.Plant = p
		if r := Run(t, s, nil); r.Violation != nil {
			if hits++; v == nil || r.Violation.Step < v.Step {
				found, v, seed = s, r.Violation, n
			}
		}
	}
	if v == nil {
		t.Fatalf("%d schedules, and nobody notices that %s", most, p)
	}
	return found, v, seed
}

func slug(p Plant) string {
	words := strings.Fields(strings.ReplaceAll(string(p), "'", ""))
	return strings.ToLower(strings.Join(words, "-"))
}

// The same schedule gives the same run, to the last answer, however goroutines are scheduled.
func TestSimulation_TheSameSeedIsTheSameRun(t *testing.T) {
	const seeds = 10
	first := map[uint64]Result{}
	for seed := range uint64(seeds) {
		first[seed] = Run(t, NewSchedule(seed, 1000), nil)
	}
	var mu sync.Mutex
	hashes := map[uint64]bool{}
	for n := range 2 {
		t.Run(fmt.Sprint("again ", n+1), func(t *testing.T) {
			t.Parallel()
			for seed, want := range first {
				got := Run(t, NewSchedule(seed, 1000), nil)
				if got.Hash != want.Hash || got.Moves != want.Moves || got.Orders != want.Orders {
					t.Errorf("seed %d: %+v, and before %+v", seed, got, want)
				}
				mu.Lock()
				hashes[got.Hash] = true
				mu.Unlock()
			}
		})
	}
	t.Cleanup(func() {
		if len(hashes) != seeds {
			t.Errorf("%d seeds have %d hashes", seeds, len(hashes))
		}
	})
}

// A schedule is what its file says.
func TestSchedule_ReadsWhatItWrites(t *testing.T) {
	for seed := range uint64(20) {
		s := NewSchedule(seed, 300)
		s.Plant = Plants()[rand.New(rand.NewPCG(seed, 0)).IntN(len(Plants()))]
		var b strings.Builder
		s.Write(&b)
		got, err := ReadSchedule(strings.NewReader("# for people\n\n" + b.String()))
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(got) != fmt.Sprint(s) {
			t.Errorf("seed %d: read %v\nwant %v", seed, got, s)
		}
	}
	for _, wrong := range []string{
		"+1ms fly door 1", "+1ms sync", "+1ms sync door -1", "1 sync door 1", "+1ms sync door 1 door 2", "sync", "shop doors 9 workers 1 bound 1 stock 1 window 0s",
		"shop doors x", "",
	} {
		if s, err := ReadSchedule(strings.NewReader(wrong)); err == nil {
			t.Errorf("%q is read as %v", wrong, s)
		}
	}
}
