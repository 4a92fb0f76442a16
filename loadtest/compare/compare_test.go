package compare

import (
	"math"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/perf/benchmath"

	"sluice"
	"sluice/loadtest"
)

// run is one whose goodput is near rate, and everything else near what a good run has times slower.
func run(rounds int, rate, slower float64) *loadtest.Run {
	r := &loadtest.Run{Format: loadtest.RunFormat, Scenario: loadtest.Scenario{Name: "baseline"}, Plan: "0123456789abcdef", Store: "sqlite"}
	for i := range rounds {
		noise := 1 + float64(i)/1000
		r.Rounds = append(r.Rounds, loadtest.Round{
			Measured: loadtest.Figures{
				Sent: 1000, Orders: 1000, Accepted: 900, Goodput: rate * noise, Each: 0.06 * slower * noise,
				Refused: map[string]int64{string(sluice.QueueFull): int64(80 * slower)},
				Latency: map[loadtest.Class]loadtest.Latency{loadtest.Accepted: {Count: 900, P50: 2 * slower * noise, P99: 9 * slower * noise}},
			},
			Series: []loadtest.Point{{Memory: map[string]float64{"door": 100 * slower * noise, "generator": 5000}}},
			Audit:  loadtest.Audit{Balanced: true, Sojourn: loadtest.Latency{Count: 900, P99: 40 * slower * noise}},
		})
	}
	return r
}

func sides(a, b *loadtest.Run) ([]*loadtest.Run, []*loadtest.Run) {
	return []*loadtest.Run{a}, []*loadtest.Run{b}
}

func compared(t *testing.T, a, b *loadtest.Run, limit float64) (c Comparison, text string) {
	t.Helper()
	as, bs := sides(a, b)
	c, err := Compare(as, bs, Options{Limit: limit})
	if err != nil {
		t.Fatal(err)
	}
	var w strings.Builder
	if err := c.WriteText(&w); err != nil {
		t.Fatal(err)
	}
	return c, w.String()
}

func verdicts(c Comparison) map[string]Verdict {
	all := map[string]Verdict{}
	for _, l := range c.Lines {
		all[l.Figure] = l.Verdict
	}
	return all
}

func TestCompare_TellsBetterWorseAndSameApart(t *testing.T) {
	for _, test := range []struct {
		name         string
		rate, slower float64
		want         Verdict
		regressed    bool
	}{
		{"the same", 1000, 1, Same, false},
		{"better", 1200, 0.8, Better, false},
		{"worse", 800, 1.25, Worse, true},
		{"worse within the limit", 980, 1.02, Worse, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, text := compared(t, run(6, 1000, 1), run(6, test.rate, test.slower), 0.05)
			got := verdicts(c)
			for _, f := range []string{"goodput", "accepted p50", "accepted p99", "sojourn p99", "CPU for 1,000 orders", "highest memory"} {
				if got[f] != test.want {
					t.Errorf("%s: %q, want %q", f, got[f], test.want)
				}
			}
			if got["failed"] != Same {
				t.Errorf("failed, 0 on both sides: %q, want %q", got["failed"], Same)
			}
			if _, there := got["refused p99"]; there {
				t.Error("refused p99 has a line, and no round has a latency of refusals")
			}
			if c.Regressed() != test.regressed || strings.Contains(text, "REGRESSION") != test.regressed {
				t.Errorf("regressed %v, want %v; text:\n%s", c.Regressed(), test.regressed, text)
			}
		})
	}
}

func TestCompare_HonoursTheLimit(t *testing.T) {
	for limit, want := range map[float64]bool{0: true, 0.09: true, 0.3: false} {
		c, text := compared(t, run(6, 1000, 1), run(6, 900, 1), limit)
		if c.Regressed() != want {
			t.Errorf("10 %% less goodput, limit %v: regressed %v, want %v", limit, c.Regressed(), want)
		}
		if !strings.Contains(text, "worse (p=0.002, n=6+6)") || !strings.Contains(text, "-10.0 %") {
			t.Errorf("the text does not have the change:\n%s", text)
		}
	}
}

func TestCompare_CallsAnythingInsteadOfNothingARegression(t *testing.T) {
	b := run(6, 1000, 1)
	for i := range b.Rounds {
		b.Rounds[i].Measured.Failed = map[string]int64{"timeout": 1}
	}
	c, _ := compared(t, run(6, 1000, 1), b, 10)
	if !c.Regressed() || verdicts(c)["failed"] != Worse {
		t.Errorf("each round has a failed request where there was none: %+v", verdicts(c))
	}
}

func TestCompare_NeverJudgesFromTooFewRounds(t *testing.T) {
	for _, n := range [][2]int{{1, 1}, {3, 3}, {3, 60}, {60, 1}, {0, 6}} {
		c, text := compared(t, run(n[0], 1000, 1), run(n[1], 1, 50), 0.05)
		if c.Regressed() || c.Judged() || !strings.Contains(text, "No verdict: not enough rounds") || !strings.Contains(text, "need 4 a side at least (--rounds 6)") {
			t.Errorf("%d and %d rounds:\n%s", n[0], n[1], text)
		}
	}
}

// TestFewest_IsWhatTheLibraryNeeds asks benchmath after two samples that are as different as samples can be.
func TestFewest_IsWhatTheLibraryNeeds(t *testing.T) {
	p := func(n int) float64 {
		var a, b []float64
		for i := range n {
			a, b = append(a, float64(i)), append(b, float64(1000+i))
		}
		th := &benchmath.DefaultThresholds
		return benchmath.AssumeNothing.Compare(benchmath.NewSample(a, th), benchmath.NewSample(b, th)).P
	}
	if alpha := benchmath.DefaultThresholds.CompareAlpha; p(fewest) > alpha || p(fewest-1) <= alpha {
		t.Errorf("p of %d rounds is %v, of %d %v; alpha is %v", fewest, p(fewest), fewest-1, p(fewest-1), alpha)
	}
}

func TestCompare_LeavesOutWhatIsInvalidOrPartialAndSaysSo(t *testing.T) {
	b := run(7, 1000, 1)
	b.Rounds[2].Invalid = []string{"send lag p99 12 ms"}
	b.Rounds[2].Measured.Goodput = 1e9
	c, text := compared(t, run(6, 1000, 1), b, 0.05)
	if c.Rounds != [2]int{6, 6} || !strings.Contains(text, "B: round 3 is INVALID (send lag p99 12 ms); it is left out") {
		t.Errorf("rounds %v:\n%s", c.Rounds, text)
	}
	b.Partial = true
	c, text = compared(t, run(6, 1000, 1), b, 0.05)
	if c.Rounds != [2]int{6, 0} || !strings.Contains(text, "was interrupted; it is left out") {
		t.Errorf("rounds %v:\n%s", c.Rounds, text)
	}
}

// However fast a service is that breaks its promises, it is worse than one that keeps them.
func TestCompare_CallsABrokenPromiseARegression(t *testing.T) {
	b := run(6, 2000, 0.5)
	b.Rounds[3].Audit = loadtest.Audit{Wrong: []string{"P1: rush has 11 units held or sold, of 10"}}
	c, text := compared(t, run(6, 1000, 1), b, 0.05)
	if !c.Regressed() || c.Rounds != [2]int{6, 5} || !strings.HasPrefix(text, "REGRESSION: promises were broken in B: round 4: P1: rush has 11") {
		t.Errorf("rounds %v:\n%s", c.Rounds, text)
	}
	if c, text := compared(t, b, run(6, 1000, 1), 10); c.Regressed() || !strings.Contains(text, "A: in round 4 promises were broken") {
		t.Errorf("A's broken promise is no regression of B:\n%s", text)
	}
}

// searched is a search that found a rate, with a try beside it that does not count.
func searched(rate float64) *loadtest.Run {
	r := run(6, rate, rate/1000) // whose rounds were offered different rates
	r.Search = &loadtest.Search{Rate: rate, Sustains: rate, Limit: loadtest.LimitService}
	for i := range 6 {
		r.Search.Probes = append(r.Search.Probes,
			loadtest.Probe{Stage: loadtest.StageRepeat, Rate: rate, Goodput: rate + float64(i), Kept: true},
			loadtest.Probe{Stage: loadtest.StageBisection, Rate: 3 * rate, Goodput: 1})
	}
	return r
}

func TestCompare_ComparesSearchesByWhatTheySustain(t *testing.T) {
	c, text := compared(t, searched(1000), searched(2000), 0.05)
	if c.Regressed() || len(c.Lines) != 1 || verdicts(c)["goodput"] != Better || c.Rounds != [2]int{6, 6} {
		t.Errorf("%d lines, rounds %v:\n%s", len(c.Lines), c.Rounds, text)
	}
	bound := searched(2000)
	bound.Search.Limit = loadtest.LimitGenerator
	if _, text := compared(t, searched(1000), bound, 0.05); !strings.Contains(text, "its figure is a lower bound") {
		t.Errorf("a lower bound is not called one:\n%s", text)
	}
	as, bs := sides(searched(1000), run(6, 1000, 1))
	if _, err := Compare(as, bs, Options{Limit: 0.05}); err == nil || !strings.Contains(err.Error(), "kinds of runs differ (a search and a run)") {
		t.Errorf("a search against a run: %v", err)
	}
}

// Every field of a scenario but its name, its story, its seed (which the plan shows) and what is asked of it makes runs unlike.
func TestCompare_LooksAtEveryFieldOfAScenario(t *testing.T) {
	for i := range reflect.TypeFor[loadtest.Scenario]().NumField() {
		b := run(6, 1000, 1)
		field := reflect.ValueOf(&b.Scenario).Elem().Field(i)
		name := reflect.TypeFor[loadtest.Scenario]().Field(i).Name
		switch field.Kind() {
		case reflect.Slice:
			field.Set(reflect.MakeSlice(field.Type(), 1, 1))
		case reflect.Struct:
			setFirst(t, field)
		case reflect.String:
			field.SetString("other")
		case reflect.Uint64:
			field.SetUint(7)
		default:
			field.SetInt(7)
		}
		as, bs := sides(run(6, 1000, 1), b)
		_, err := Compare(as, bs, Options{Limit: 0.05})
		if alike := name == "About" || name == "Seed" || name == "SLO"; alike != (err == nil) {
			t.Errorf("another %s: %v", name, err)
		}
	}
}

func setFirst(t *testing.T, v reflect.Value) {
	t.Helper()
	switch f := v.Field(0); f.Kind() {
	case reflect.Float64:
		f.SetFloat(7)
	case reflect.Int, reflect.Int64:
		f.SetInt(7)
	default:
		t.Fatalf("a %v", f.Kind())
	}
}

func TestCompare_RefusesWhatIsNotAlike(t *testing.T) {
	for want, change := range map[string]func(*loadtest.Run){
		"scenarios differ (baseline and spike)":                   func(r *loadtest.Run) { r.Scenario.Name = "spike" },
		"plans of requests differ (0123456789ab and ffff)":        func(r *loadtest.Run) { r.Plan = "ffff" },
		"stores differ (sqlite and postgres)":                     func(r *loadtest.Run) { r.Store = "postgres" },
		"settings of the parts differ":                            func(r *loadtest.Run) { r.Scenario.Parts.Bound = 7 },
		"targets differ (parts of its own and a running service)": func(r *loadtest.Run) { r.Target = "http://shop.example" },
	} {
		b := run(6, 1000, 1)
		change(b)
		as, bs := sides(run(6, 1000, 1), b)
		if _, err := Compare(as, bs, Options{Limit: 0.05}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
		c, err := Compare(as, bs, Options{Limit: 0.05, Force: true})
		if err != nil || len(c.Notes) == 0 || !strings.Contains(c.Notes[0], want) {
			t.Errorf("by force: %v, notes %q; want a warning with %q", err, c.Notes, want)
		}
	}
}

func TestCompare_WarnsOfAnotherMachine(t *testing.T) {
	b := run(6, 1000, 1)
	b.Machine.Cores = 64
	if _, text := compared(t, run(6, 1000, 1), b, 0.05); !strings.Contains(text, "WARNING: the machines differ (cores: 0 and 64)") {
		t.Errorf("no warning in:\n%s", text)
	}
}

func TestCompare_RefusesImpossibleOptions(t *testing.T) {
	as, bs := sides(run(6, 1, 1), run(6, 1, 1))
	for _, limit := range []float64{-0.1, math.NaN(), math.Inf(1)} {
		if _, err := Compare(as, bs, Options{Limit: limit}); err == nil {
			t.Errorf("limit %v is taken", limit)
		}
	}
	if _, err := Compare(nil, bs, Options{}); err == nil {
		t.Error("no report on one side is taken")
	}
}
