package loadtest

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

func TestRead_SumsUpWhatALabelTellsApart(t *testing.T) {
	const text = `# TYPE sluice_worker_orders_total counter
sluice_worker_orders_total{state="held"} 100
sluice_worker_orders_total{state="paid"} 20
sluice_worker_orders_total{state="rejected"} 3
sluice_worker_orders_total{state="failed"} 1
sluice_worker_orders_total{state="expired"} 1000
sluice_worker_orders_total{state="cancelled"} 2000
# TYPE sluice_worker_pool_window gauge
sluice_worker_pool_window{pool="main"} 500
sluice_worker_pool_window{pool="vip"} 50
# TYPE sluice_worker_pool_in_hand gauge
sluice_worker_pool_in_hand{pool="main"} 7
sluice_worker_pool_in_hand{pool="vip"} 2
# TYPE sluice_worker_pool_rate gauge
sluice_worker_pool_rate{pool="main"} 900
sluice_worker_pool_rate{pool="vip"} 100
# TYPE sluice_worker_pool_commit_seconds gauge
sluice_worker_pool_commit_seconds{pool="main"} 0.004
sluice_worker_pool_commit_seconds{pool="vip"} 0.009
sluice_door_outstanding_orders 12
# TYPE sluice_door_bound_orders gauge
sluice_door_bound_orders NaN
# TYPE go_gc_duration_seconds summary
go_gc_duration_seconds{quantile="0"} 0.1
go_gc_duration_seconds{quantile="1"} 0.2
go_gc_duration_seconds_sum 0.75
go_gc_duration_seconds_count 4
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total 2.5
# TYPE process_resident_memory_bytes gauge
process_resident_memory_bytes 3e+07
`
	want := reading{
		outstanding: 12, settled: 124, window: 550, inHand: 9, rate: 1000, commit: 0.009, cpu: 2.5, memory: 3e7, gc: 0.75,
	}
	if got := readText(t, text); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	unlimited := strings.Replace(text, `rate{pool="vip"} 100`, `rate{pool="vip"} 0`, 1)
	if got := readText(t, unlimited); got.rate != 0 {
		t.Errorf("a pool without a rate: got %v a second of all, want 0", got.rate)
	}
}

func readText(t *testing.T, text string) reading {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return read(families)
}

func TestSelf_TellsOfTheGenerator(t *testing.T) {
	r, err := newSelf()()
	if err != nil || r.cpu <= 0 || r.memory < 1e6 {
		t.Errorf("got %+v, %v", r, err)
	}
}

// second makes a moment of two doors and a worker, all of which answer.
func second(at time.Duration, doors [2]reading, worker reading) moment {
	m := newMoment(at, []endpoint{{process: "door-1"}, {process: "door-2"}})
	m.told = map[string]reading{"door-1": doors[0], "door-2": doors[1], "worker": worker}
	for name, r := range m.told {
		m.uses(name, r)
		m.gc[name] = count{r.gc, at}
	}
	return m
}

func TestPoint_IsOfTheTimeSinceTheMomentBefore(t *testing.T) {
	before := second(time.Second,
		[2]reading{{outstanding: 9, bound: 50, cpu: 1, memory: 1e6}, {outstanding: 9, bound: 50, cpu: 3}}, reading{settled: 1000, cpu: 5, gc: 0.5})
	now := second(3*time.Second,
		[2]reading{{outstanding: 30, bound: 40, cpu: 2, memory: 2e6}, {outstanding: 12, bound: 20, cpu: 6}},
		reading{settled: 1600, window: 8, inHand: 4, rate: 300, commit: 0.02, cpu: 5, gc: 0.503})
	want := Point{
		At: 3, Settled: 600, Outstanding: 42, Bound: 60, Window: 8, InHand: 4, DrainRate: 300, Commit: 20,
		CPU: map[string]float64{"door-1": 0.5, "door-2": 1.5, "worker": 0}, Memory: map[string]float64{"door-1": 2},
		GC: map[string]float64{"door-1": 0, "door-2": 0, "worker": 3},
	}
	got := pointOf(before, now)
	got.GC["worker"] = float64(int(got.GC["worker"]*1e6+0.5)) / 1e6
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestPoint_OfTheBeginningCountsNothing(t *testing.T) {
	p := pointOf(moment{}, second(0, [2]reading{{outstanding: 3, cpu: 1}, {}}, reading{settled: 1000, gc: 1}))
	if p.Settled != 0 || len(p.CPU) != 0 || len(p.GC) != 0 || p.Outstanding != 3 {
		t.Errorf("got %+v", p)
	}
}

func TestPoint_OfAGapHasWhatWasToldLastAndTheNextOneCountsForBoth(t *testing.T) {
	first := second(time.Second, [2]reading{{outstanding: 5, cpu: 1}, {outstanding: 6, cpu: 1}}, reading{settled: 100, window: 9})
	gap := second(2*time.Second, [2]reading{{outstanding: 7, cpu: 2}, {}}, reading{})
	delete(gap.told, "door-2")
	delete(gap.told, "worker")
	delete(gap.gc, "door-2")
	delete(gap.gc, "worker")
	gap.gap = true
	gap = gap.after(first)
	p := pointOf(first, gap)
	if !p.Gap || p.Outstanding != 13 || p.Window != 9 || p.Settled != 0 || len(p.CPU) != 1 || len(p.GC) != 1 {
		t.Errorf("gap: got %+v", p)
	}
	third := second(3*time.Second, [2]reading{{cpu: 2}, {cpu: 2}}, reading{settled: 300}).after(gap)
	if p := pointOf(gap, third); p.Gap || p.Settled != 200 || p.CPU["door-2"] != 0.5 || p.CPU["door-1"] != 0 {
		t.Errorf("after the gap: got %+v", p)
	}
}

func TestPoint_CountsAnewWithANewProcess(t *testing.T) {
	p := pointOf(second(0, [2]reading{}, reading{settled: 1000, cpu: 50}), second(time.Second, [2]reading{}, reading{settled: 30, cpu: 0.5}))
	if p.Settled != 30 || p.CPU["worker"] != 0.5 {
		t.Errorf("got %+v, want 30 settled and half a core", p)
	}
}

func TestMerge_PutsLooksIntoTheSecondsThatTheyEnd(t *testing.T) {
	round := []Point{{At: 1, Sent: 10}, {At: 2, Sent: 20}, {At: 3, Sent: 30}}
	seen := []Point{
		{At: 0.001, Outstanding: 1}, {At: 1.002, Settled: 6, Outstanding: 2}, // then none of the second second
		{At: 3.1, Settled: 6, Outstanding: 4, Window: 3}, {At: 4, Settled: 7}, {At: 4.5, Settled: 2, Outstanding: 1},
	}
	got := merge(round, seen, time.Second)
	want := []struct {
		at, settled, outstanding float64
		sent                     int64
		gap                      bool
	}{{1, 5, 2, 10, false}, {2, 0, 2, 20, true}, {3, 6, 4, 30, false}, {4, 7, 0, 0, false}, {4.5, 2, 1, 0, false}}
	if len(got) != len(want) {
		t.Fatalf("got %d points, want %d: %+v", len(got), len(want), got)
	}
	for i, w := range want {
		if g := got[i]; g.At != w.at || g.Settled != w.settled || g.Outstanding != w.outstanding || g.Sent != w.sent || g.Gap != w.gap {
			t.Errorf("point %d: got %+v, want %+v", i, g, w)
		}
	}
	if _, err := json.Marshal(got); err != nil {
		t.Error(err)
	}
}

func TestMerge_OfOneSecondLosesNothingThatWasSettled(t *testing.T) {
	got := merge(nil, []Point{{}, {At: 0.9, Settled: 5}, {At: 1.1, Settled: 6, Outstanding: 2}}, time.Second)
	if len(got) != 1 || got[0].Settled != 11 || got[0].Outstanding != 2 {
		t.Errorf("got %+v, want one point with 11 settled", got)
	}
}

func TestMerge_LeavesOutWhatTheWarmUpHadLeft(t *testing.T) {
	got := merge(nil, []Point{{Outstanding: 7}, {At: 1, Settled: 5, Outstanding: 9}, {At: 2, Settled: 6}, {At: 3, Settled: 4}}, time.Second)
	if got[0].Settled != 0 || got[1].Settled != 4 || got[2].Settled != 4 {
		t.Errorf("got %+v, want 0, 4 and 4 settled: the first seven are the warm-up's", got)
	}
}
