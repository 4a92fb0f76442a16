package capacity

import (
	"flag"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/loadtest"
)

var update = flag.Bool("update", false, "write the golden text")

func sale() Options {
	o := DefaultOptions()
	o.Peak, o.Stock, o.MaxWait = 500_000, 10_000, 10*time.Second
	return o
}

func TestPlan_ReadsAsTheGoldenText(t *testing.T) {
	o := sale()
	o.Retry, o.Burst, o.Cores = 0.5, 5*time.Second, 8
	p, err := Reckon(usual().run(), o)
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	if err := p.WriteText(&got); err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "plan.txt")
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || got.String() != string(want) {
		t.Errorf("%v; the text is not that of %s; go test -update writes it, and git diff shows what changed:\n%s", err, golden, got.String())
	}
}

func TestPlan_NeedsTheDoorsThatItsFormulaSays(t *testing.T) {
	made := usual()
	made.noise = 0
	o := sale()
	o.Pages, o.Retry = 0, 0
	p, err := Reckon(made.run(), o)
	if err != nil {
		t.Fatal(err)
	}
	// The first second: 8,000 for the bound and what leaves come in, everybody else is refused.
	in := 8000 + 0.99*800
	cores := (in*30 + (500_000-in)*15 + 0.99*800*8) / 1e6
	if want := int(math.Ceil(cores / (4*0.6 - 0.05))); p.Machines[0].Kind != door || p.Machines[0].Needed != want || p.Machines[0].Spare != 1 {
		t.Errorf("machines %+v, want %d doors and a spare one", p.Machines, want)
	}
	if p.Drain < 790 || p.Drain > 810 || p.Bound != int64(p.Drain*10) {
		t.Errorf("drain %v, bound %v; want 0.8 × 1,000, and 10 s of it", p.Drain, p.Bound)
	}
	for _, m := range p.Machines {
		if m.Busy > 0.6 {
			t.Errorf("%s is busy to %v, want 0.6 at most", m.Kind, m.Busy)
		}
	}
}

func TestPlan_NeedsMoreForMore(t *testing.T) {
	few, err := Reckon(usual().run(), sale())
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Options){
		"twice the peak":        func(o *Options) { o.Peak *= 2 },
		"half the cores":        func(o *Options) { o.Cores /= 2 },
		"a lower use":           func(o *Options) { o.Use = 0.3 },
		"buyers who come again": func(o *Options) { o.Retry, o.Tries = 1, 5 },
	} {
		o := sale()
		change(&o)
		many, err := Reckon(usual().run(), o)
		if err != nil || many.Machines[0].Needed <= few.Machines[0].Needed {
			t.Errorf("%s: %v, %d doors, and %d without", name, err, many.Machines[0].Needed, few.Machines[0].Needed)
		}
	}
}

func TestPlan_SaysHowFarItWasExtrapolated(t *testing.T) {
	p, err := Reckon(usual().run(), sale())
	if err != nil || !strings.Contains(strings.Join(p.Warnings, "\n"), "extrapolated: the peak second has") {
		t.Errorf("%v, warnings %q", err, p.Warnings)
	}
	o := sale()
	o.Peak, o.Pages = 1000, 0
	p, err = Reckon(usual().run(), o)
	if err != nil || strings.Contains(strings.Join(p.Warnings, "\n"), "the peak second has") {
		t.Errorf("%v, warnings %q of a peak that was measured", err, p.Warnings)
	}
}

func TestPlan_RefusesImpossibleNumbers(t *testing.T) {
	for want, change := range map[string]func(*Options){
		"peak":                       func(o *Options) { o.Peak = math.NaN() },
		"stock":                      func(o *Options) { o.Stock = 0 },
		"quantity":                   func(o *Options) { o.Quantity = 20_000 },
		"max-wait":                   func(o *Options) { o.MaxWait = 0 },
		"drain-rate":                 func(o *Options) { o.DrainRate = -1 },
		"cores":                      func(o *Options) { o.Cores = 0 },
		"use":                        func(o *Options) { o.Use = 1.5 },
		"retry":                      func(o *Options) { o.Retry = 2 },
		"spare":                      func(o *Options) { o.Spare = -1 },
		"buyers and":                 func(o *Options) { o.Buyers, o.Burst = 5, time.Second },
		"want a burst of 1h at most": func(o *Options) { o.Peak, o.Buyers = 1, 1e6 },
		"lower max-wait":             func(o *Options) { o.DrainRate, o.MaxWait = 1e6, time.Hour },
		"want more cores":            func(o *Options) { o.Cores, o.Use = 1, 0.05; o.Peak = 1 },
	} {
		o := sale()
		change(&o)
		made := usual()
		made.idle = 0.06
		if _, err := Reckon(made.run(), o); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "want") && !strings.Contains(err.Error(), "lower") {
			t.Errorf("error %v, want one with %q that says what is allowed", err, want)
		}
	}
}

func TestParse_ReadsNumbersAsPeopleWriteThem(t *testing.T) {
	for text, want := range map[string]float64{"500000/s": 500000, "500k/s": 500000, "30000/min": 500, "1.5M/s": 1.5e6, "500_000/s": 500000, "36k/h": 10} {
		if got, err := ParseRate(text); err != nil || got != want {
			t.Errorf("ParseRate(%q) is %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "500000", "500000/", "/s", "-5/s", "0/s", "NaN/s", "Inf/s", "1e99/s", "500/day", "5kk/s", "0x10/s", "5 k/s"} {
		if got, err := ParseRate(text); err == nil || !strings.Contains(err.Error(), "500k/s") {
			t.Errorf("ParseRate(%q) is %v, %v; want an error that shows what is allowed", text, got, err)
		}
	}
	for text, want := range map[string]int64{"10000": 10000, "10k": 10000, "1.5M": 1500000} {
		if got, err := ParseCount(text); err != nil || got != want {
			t.Errorf("ParseCount(%q) is %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "0", "1.5", "-1", "NaN", "2000M", "ten"} {
		if got, err := ParseCount(text); err == nil {
			t.Errorf("ParseCount(%q) is %v, want an error", text, got)
		}
	}
	for text, want := range map[string]float64{"60%": 0.6, "0.6": 0.6, "0": 0, "100 %": 1} {
		if got, err := ParseShare(text); err != nil || got != want {
			t.Errorf("ParseShare(%q) is %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "60", "-1%", "NaN", "101%"} {
		if got, err := ParseShare(text); err == nil {
			t.Errorf("ParseShare(%q) is %v, want an error", text, got)
		}
	}
}

func check(t *testing.T, from, against *loadtest.Run) (lines []CheckLine, text string) {
	t.Helper()
	lines, err := Check(from, against, DefaultError)
	if err != nil {
		t.Fatal(err)
	}
	var w strings.Builder
	if err := WriteCheck(&w, lines, DefaultError); err != nil {
		t.Fatal(err)
	}
	return lines, w.String()
}

// other is a second point: another load on the same service.
func other() made {
	m := usual()
	m.spans, m.bound = []span{{5, 4000, 0}, {10, 90000, 500}, {5, 1000, 0}}, 700
	return m
}

func TestCheck_PredictsASecondPointOfTheSameService(t *testing.T) {
	lines, text := check(t, usual().run(), other().run())
	if Failed(lines) || strings.Contains(text, "NOT") || len(lines) != len(checked) {
		t.Errorf("the model does not hold for its own service:\n%s", text)
	}
}

func TestCheck_PredictsALoadThatNothingWaitsFor(t *testing.T) {
	calm := usual()
	calm.spans, calm.drain = []span{{6, 1200, 0}, {6, 4800, 100}, {6, 2400, 50}}, 5000
	run := func() *loadtest.Run {
		r := calm.run()
		r.Scenario.Parts.DrainRate = 0
		for i := range r.Rounds[0].Series {
			r.Rounds[0].Series[i].Outstanding = 16
		}
		return r
	}
	from := run()
	calm.spans = []span{{6, 4900, 0}, {6, 600, 0}, {6, 3000, 50}}
	if lines, text := check(t, from, run()); Failed(lines) {
		t.Errorf("the model does not hold where nothing waits:\n%s", text)
	}
}

func TestCheck_FailsWhereTheServiceIsAnother(t *testing.T) {
	for figure, change := range map[string]func(*made){
		"door CPU":   func(m *made) { m.accept, m.refuse = 60, 30 },
		"worker CPU": func(m *made) { m.settle = 90 },
	} {
		slower := other()
		change(&slower)
		lines, text := check(t, usual().run(), slower.run())
		if !Failed(lines) || !strings.Contains(text, "does NOT hold") {
			t.Errorf("%s was made dearer, and nobody sees it:\n%s", figure, text)
		}
		for _, l := range lines {
			if l.Within == (l.Figure == figure) {
				t.Errorf("%s was made dearer; %s is within: %v", figure, l.Figure, l.Within)
			}
		}
	}
}

func TestCheck_FailsWhereOrdersWaitLonger(t *testing.T) {
	slower := other().run()
	slower.Rounds[0].Audit.Sojourn.P99 *= 1.5
	if lines, text := check(t, usual().run(), slower); !Failed(lines) {
		t.Errorf("orders waited half as long again, and nobody sees it:\n%s", text)
	}
}

func TestCheck_RefusesWhatSaysNothingOfTheOther(t *testing.T) {
	for want, change := range map[string]func(from, against *loadtest.Run){
		"both reports are of one": func(from, against *loadtest.Run) { *against = *from },
		"promises were broken":    func(from, _ *loadtest.Run) { from.Rounds[0].Audit.Wrong = []string{"P1: oversold"} },
		"the stores differ":       func(_, against *loadtest.Run) { against.Store = "postgres" },
		"to check against":        func(_, against *loadtest.Run) { against.Partial = true },
		"no valid round":          func(_, against *loadtest.Run) { against.Rounds[0].Invalid = []string{"lag"} },
		"to predict from":         func(from, _ *loadtest.Run) { from.Partial = true },
		"how fast the store is":   func(_, against *loadtest.Run) { against.Scenario.Parts.DrainRate = 0 },
		"a round has no seconds":  func(_, against *loadtest.Run) { against.Rounds[0].Series = nil },
	} {
		from, against := usual().run(), other().run()
		change(from, against)
		if _, err := Check(from, against, DefaultError); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	if _, err := Check(usual().run(), other().run(), 0); err == nil {
		t.Error("a limit of 0 is taken")
	}
}
