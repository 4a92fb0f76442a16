package loadtest

import (
	"math"
	"strings"
	"testing"
	"time"

	"sluice"
)

// says reports whether there is one sentence for each of want, in order, with all its words.
func says(got []string, want ...string) bool {
	if len(got) != len(want) {
		return false
	}
	for i, words := range want {
		for word := range strings.SplitSeq(words, "|") {
			if !strings.Contains(got[i], word) {
				return false
			}
		}
	}
	return true
}

func TestGate_SaysWhyFiguresCantBeBelieved(t *testing.T) {
	lag := func(p99 float64) Figures { return Figures{Lag: Latency{Count: 1000, P99: p99}} }
	for _, c := range []struct {
		name          string
		f             Figures
		planned, sent int64
		steal         float64
		want          []string
	}{
		{"all is well", lag(0.4), 1000, 1000, 0, nil},
		{"at the limits", lag(5), 1000, 999, 2, nil},
		{"more sent than planned", lag(1), 1000, 1001, 0, nil},
		{"late", lag(5.1), 1000, 1000, 0, []string{"could not keep up|5.1 ms late|at most 5 ms|a lower rate"}},
		{"unsent", lag(1), 10_000, 9989, 0, []string{"11 of 10000 planned requests (0.11 %) were never sent, at most 0.1 %|more connections"}},
		{"steal", lag(1), 1000, 1000, 2.5, []string{"2.5 % of its processors (steal), at most 2 %"}},
		{"all of it", lag(900), 1000, 10, 50, []string{"990 of 1000", "900 ms late", "50 %"}},
		{"nothing planned", Figures{}, 0, 0, 0, []string{"of 0 planned requests 0 were sent"}},
		{"nothing sent", Figures{}, 1000, 0, 0, []string{"of 1000 planned requests 0 were sent"}},
		{"lag not measured", Figures{}, 1000, 1000, 0, []string{"not known how late"}},
		{"no numbers", lag(math.NaN()), 1000, 1000, math.NaN(), []string{"NaN ms late", "NaN % of its processors"}},
	} {
		c.f.Planned, c.f.Sent = c.planned, c.sent
		if got := gate(&Round{Measured: c.f}, 256, c.steal); !says(got, c.want...) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

// A request in a hundred that is late in a long round may be every third one of the second that mattered.
func TestGate_LooksAtPhasesAndTheBusiestSecond(t *testing.T) {
	whole := Figures{Planned: 38_400, Sent: 38_400, Lag: Latency{Count: 38_400, P99: 1}}
	late := Figures{Name: "step", Lag: Latency{Count: 3200, P99: 400}}
	few := Figures{Name: "few", Lag: Latency{Count: 99, P99: 400}}
	for name, c := range map[string]struct {
		phases []Figures
		series []Point
		want   []string
	}{
		"a phase":             {[]Figures{{Lag: whole.Lag}, late}, nil, []string{"could not keep up: in the phase step it sent requests 400 ms late"}},
		"a phase of few":      {[]Figures{few}, nil, nil},
		"the busiest second":  {nil, []Point{{At: 1, Planned: 500}, {At: 2, Planned: 4000, Late: 300}}, []string{"in the busiest second, up to 2 s, it sent 300 of 4000"}},
		"late one in hundred": {nil, []Point{{At: 2, Planned: 4000, Late: 40}}, nil},
		"another second":      {nil, []Point{{At: 1, Planned: 500, Late: 300}, {At: 2, Planned: 4000}}, nil},
	} {
		if got := gate(&Round{Measured: whole, Phases: c.phases, Series: c.series}, 256, 0); !says(got, c.want...) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestGate_TellsTheCapOfConnectionsFromASlowService(t *testing.T) {
	waited := func(slow float64) Figures {
		return Figures{Name: "rush", Planned: 1000, Sent: 1000, Lag: Latency{Count: 1000}, Wait: Latency{Count: 1000, P99: 80}, Slow: slow}
	}
	quick := Figures{Planned: 9000, Sent: 9000, Lag: Latency{Count: 9000}}
	for name, c := range map[string]struct {
		round Round
		want  []string
	}{
		"a quick service":           {Round{Measured: waited(0.1)}, []string{"the cap of 7 connections was reached: requests waited 80 ms|raise connections"}},
		"in one phase":              {Round{Measured: quick, Phases: []Figures{waited(0)}}, []string{"the cap of 7|in the phase rush"}},
		"a service that keeps them": {Round{Measured: waited(0.9), Phases: []Figures{waited(0.9)}}, nil},
		"nobody knows for how long": {Round{Measured: waited(math.NaN())}, []string{"the cap of 7"}},
	} {
		if got := gate(&c.round, 7, 0); !says(got, c.want...) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestBroken_SaysWhichLimitsWithFigures(t *testing.T) {
	p99 := func(ms float64) Latency { return Latency{Count: 100, P99: ms} }
	shed := func(share float64) *float64 { return &share }
	good := func(change func(f *Figures)) Figures {
		f := Figures{
			Sent: 1000, Orders: 800, Accepted: 700, Refused: map[string]int64{}, Failed: map[string]int64{},
			Latency: map[Class]Latency{Accepted: p99(20), Refused: p99(3)},
		}
		if change != nil {
			change(&f)
		}
		return f
	}
	settled := Audit{Promised: 700, Settled: 700, Sojourn: p99(1500)}
	all := SLO{
		AcceptedP99: sluice.Duration(20 * time.Millisecond), RefusedP99: sluice.Duration(3 * time.Millisecond),
		SojournP99: sluice.Duration(1500 * time.Millisecond), Failed: 0.001, Shed: shed(0.05),
	}
	for _, c := range []struct {
		name string
		slo  SLO
		f    Figures
		a    Audit
		want []string
	}{
		{"nothing is asked for", SLO{}, good(nil), Audit{}, nil},
		{"all at the limits", all, good(func(f *Figures) {
			f.Failed["timeout"], f.Refused["queue-full"] = 1, 40
		}), settled, nil},
		{
			"accepted orders", all, good(func(f *Figures) { f.Latency[Accepted] = p99(20.5) }), settled,
			[]string{"accepted p99 20.5 ms, the SLO allows 20 ms"},
		},
		{"refused orders", all, good(func(f *Figures) { f.Latency[Refused] = p99(4) }), settled, []string{"refused p99 4 ms, the SLO allows 3 ms"}},
		{
			"sojourn", all, good(nil),
			Audit{Promised: 700, Settled: 700, Sojourn: p99(2000)},
			[]string{"admission to settlement: p99 2000 ms, the SLO allows 1500 ms"},
		},
		{
			"failures, that nobody allowed",
			SLO{},
			good(func(f *Figures) { f.Failed["timeout"], f.Failed["reset"] = 1, 2 }),
			Audit{},
			[]string{"3 of 1000 requests (0.3 %) failed|most of them: reset|allows 0 %"},
		},
		{"more failures than allowed", all, good(func(f *Figures) { f.Failed["timeout"] = 2 }), settled, []string{"2 of 1000|allows 0.1 %"}},
		{"refused for load", all, good(func(f *Figures) {
			f.Refused["queue-full"], f.Refused["too-slow"], f.Refused["sold-out"] = 20, 21, 500
		}), settled, []string{"41 of 800 orders (5.125 %) were refused for load, the SLO allows 5 %"}},
		{"refused for other reasons", all, good(func(f *Figures) {
			for _, reason := range []string{"sold-out", "none-free", "ended", "not-started", "paused", "rate-limited"} {
				f.Refused[reason] = 800
			}
		}), settled, nil},
		{
			"none may be refused for load",
			SLO{Shed: shed(0)},
			good(func(f *Figures) { f.Refused["queue-full"] = 1 }),
			Audit{},
			[]string{"1 of 800 orders (0.125 %)|allows 0 %"},
		},
		{"any may be refused for load", SLO{}, good(func(f *Figures) { f.Refused["queue-full"] = 800 }), Audit{}, nil},
		{"no refusal has no latency", all, good(func(f *Figures) { delete(f.Latency, Refused) }), settled, nil},
		{"nothing was accepted", all, good(func(f *Figures) { delete(f.Latency, Accepted) }), Audit{}, []string{"no order was accepted|20ms"}},
		{
			"orders without an end", all, good(nil),
			Audit{Promised: 700, Settled: 692, Sojourn: p99(10)},
			[]string{"8 of 700 promised orders were not settled|1.5s"},
		},
		{"fewer than the percentile sees", all, good(nil), Audit{Promised: 700, Settled: 693, Sojourn: p99(10)}, nil},
		{"sojourn not known", all, good(nil), Audit{Promised: 700, Settled: 700}, []string{"no order's time"}},
		{"too few times known", all, good(nil), Audit{Promised: 700, Settled: 700, Read: 700, Sampled: 690}, []string{"of 700 orders only 690|1.5s"}},
		{"sojourn not asked for", SLO{}, good(nil), Audit{Promised: 700}, nil},
		{"nothing was accepted, and nothing is asked for", SLO{}, good(func(f *Figures) { delete(f.Latency, Accepted) }), Audit{}, []string{"no order of 800 was accepted"}},
		{"only pages", SLO{}, good(func(f *Figures) { f.Orders, f.Latency = 0, nil }), Audit{}, nil},
		{"everything", all, good(func(f *Figures) {
			f.Latency[Accepted], f.Latency[Refused] = p99(math.NaN()), p99(99)
			f.Failed["timeout"], f.Refused["too-slow"] = 100, 100
		}), Audit{Promised: 700, Settled: 700, Sojourn: p99(9999)}, []string{"accepted p99 NaN", "refused p99", "settlement", "failed", "for load"}},
	} {
		if got := broken(c.slo, c.f, c.a); !says(got, c.want...) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}
