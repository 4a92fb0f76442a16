package capacity

import (
	"math"
	"strings"
	"testing"

	"sluice/loadtest"
)

func cost(f *Fit, name string) float64 {
	for _, t := range f.terms {
		if t.name == name {
			return t.each * 1e6
		}
	}
	return -1
}

func near(got, want, share float64) bool { return math.Abs(got-want) <= share*math.Abs(want) }

func TestMeasure_RecoversTheCostsOfAMadeUpRun(t *testing.T) {
	made := usual()
	made.noise = 0
	m, err := Measure(made.run(), false)
	if err != nil {
		t.Fatal(err)
	}
	d := m.fits[door]
	for name, want := range map[string]float64{"idle": 50000, "accepted": 30, "refused or repeated": 15, "page": 6, "outcome heard": 8} {
		if got := cost(d, name); !near(got, want, 0.03) {
			t.Errorf("door, %s: %.3f µs, want %v", name, got, want)
		}
	}
	if w := cost(m.fits[worker], "order settled"); !near(w, 20, 0.01) {
		t.Errorf("an order costs the worker %.3f µs, want 20", w)
	}
	if q := cost(m.fits[nsqd], "order carried"); !near(q, 9, 0.01) {
		t.Errorf("an order costs nsqd %.3f µs, want 9", q)
	}
	if d.r2 < 0.999 || d.points < 28 {
		t.Errorf("R² %v over %d seconds, want nearly 1 over all of them", d.r2, d.points)
	}
}

func TestMeasure_TellsHowUncertainNoisyCostsAre(t *testing.T) {
	m, err := Measure(usual().run(), false)
	if err != nil {
		t.Fatal(err)
	}
	for _, term := range m.fits[door].terms[1:] {
		want := map[string]float64{"accepted": 30, "refused or repeated": 15, "page": 6, "outcome heard": 8}[term.name] / 1e6
		if term.err <= 0 || math.Abs(term.each-want) > 4*term.err {
			t.Errorf("%s: %v ± %v, want %v within four standard errors", term.name, term.each, term.err, want)
		}
	}
}

func TestMeasure_FallsBackWhereCostsCannotBeToldApart(t *testing.T) {
	for _, test := range []struct {
		name  string
		spans []span
		terms int
		note  string
	}{
		{"an even load", []span{{20, 16000, 0}}, 1, "so even"},
		{"few seconds", []span{{2, 8000, 100}}, 1, "fewer than 8 seconds"},
		{"nobody refused, rates that change", []span{{10, 2000, 0}, {10, 8000, 0}}, 2, "hearing an outcome"},
	} {
		t.Run(test.name, func(t *testing.T) {
			made := usual()
			made.spans, made.bound, made.drain = test.spans, 1e6, 1e5
			m, err := Measure(made.run(), false)
			if err != nil {
				t.Fatal(err)
			}
			f := m.fits[door]
			if len(f.terms) != test.terms || !strings.Contains(f.note, test.note) {
				t.Errorf("costs %v, note %q; want %d costs and a note of %q", f, f.note, test.terms, test.note)
			}
			if !strings.Contains(strings.Join(m.warnings, "\n"), test.note) {
				t.Errorf("warnings %q do not say so", m.warnings)
			}
		})
	}
}

func TestMeasure_RefusesWhatCannotBeBelieved(t *testing.T) {
	for want, spoil := range map[string]func(*loadtest.Run){
		"interrupted":                   func(r *loadtest.Run) { r.Partial = true },
		"no valid round (round 1: lag)": func(r *loadtest.Run) { r.Rounds[0].Invalid = []string{"lag"} },
	} {
		r := usual().run()
		spoil(r)
		if _, err := Measure(r, false); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "--force") {
			t.Errorf("error %v, want one with %q that names --force", err, want)
		}
		if m, err := Measure(r, true); err != nil || len(m.warnings) == 0 {
			t.Errorf("by force: %v, want a model with a warning", err)
		}
	}
	r := usual().run()
	r.Rounds[0].Measured.CPU = map[string]float64{"generator": 5}
	if _, err := Measure(r, true); err == nil || !strings.Contains(err.Error(), "no processor time") {
		t.Errorf("of a foreign service: error %v, want one that says what is missing", err)
	}
	if _, err := Measure(&loadtest.Run{}, true); err == nil {
		t.Error("a run without rounds is taken")
	}
}

func TestMeasure_WarnsWhereTheGeneratorWasTheLimit(t *testing.T) {
	r := usual().run()
	r.Ceiling = &loadtest.Ceiling{Rate: 6500}
	m, err := Measure(r, false)
	if err != nil || !strings.Contains(strings.Join(m.warnings, "\n"), "generator-limited") {
		t.Errorf("%v, warnings %q; want one that the generator was the limit", err, m.warnings)
	}
}

func TestMeasure_WarnsWhereAllProcessorsWereBusy(t *testing.T) {
	r := usual().run()
	for i := range r.Rounds[0].Series {
		r.Rounds[0].Series[i].CPU["generator"] = 1.9
	}
	m, err := Measure(r, false)
	if err != nil || !strings.Contains(strings.Join(m.warnings, "\n"), "of the 2 cores were busy") {
		t.Errorf("%v, warnings %q; want one that no core was left", err, m.warnings)
	}
}

func TestMeasure_LeavesOutSecondsInWhichAProcessWasNotAsked(t *testing.T) {
	r := usual().run()
	for i := range r.Rounds[0].Series {
		r.Rounds[0].Series[i].CPU["door-2"] = 0
	}
	r.Rounds[0].Measured.CPU["door-2"] = 0
	delete(r.Rounds[0].Series[3].CPU, "door")
	m, err := Measure(r, false)
	if err != nil || m.fits[door].points != len(r.Rounds[0].Series)-1 || m.fits[door].processes != 2 {
		t.Errorf("%v, fitted %+v; want all seconds but one, of 2 doors", err, m.fits[door])
	}
}

// The highest of many noisy seconds is not what a store carries, and a second that was not told is not two in one.
func TestMeasure_TakesTheUsualDrainAndNotTheHighest(t *testing.T) {
	r := loadtest.Round{Measured: loadtest.Figures{For: 60}, Audit: loadtest.Audit{Balanced: true}}
	for i := range 60 {
		settled := 1000.0
		switch i {
		case 20, 21, 22, 23, 24:
			settled = 1300
		case 40: // nobody told, and the next second has both
			settled = 0
		case 41:
			settled = 2000
		}
		r.Series = append(r.Series, loadtest.Point{At: float64(i + 1), Settled: settled, Outstanding: 900, Gap: i == 40})
	}
	m := &Model{}
	m.seeDrain(&loadtest.Run{}, []*loadtest.Round{&r})
	if m.drain != 1000 || !m.backlog {
		t.Errorf("drain %v (%s), backlog %v; want 1,000 with one", m.drain, m.drainFrom, m.backlog)
	}
}
