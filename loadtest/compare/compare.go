// Package compare tells whether one load test went better than another, by benchstat's statistics over their rounds. It never calls
// a change what chance explains, and never judges from too few rounds.
package compare

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"golang.org/x/perf/benchmath"

	"sluice/loadtest"
)

// DefaultLimit is the share by which a figure may be worse before that is a regression.
const DefaultLimit = 0.05

const (
	confidence = 0.95 // of the intervals around the medians
	fewest     = 4    // rounds a side: of fewer not even the most different ones are told apart at benchmath's alpha of 0.05
)

// Options are what the asker decides.
type Options struct {
	Limit float64 // a significant change for the worse beyond this share is a regression; 0.05 is 5 %
	Force bool    // compare what is not alike
}

// Verdict is what is to be thought of a change.
type Verdict string

// Verdicts.
const (
	Better Verdict = "better"
	Worse  Verdict = "worse"
	Same   Verdict = "no significant change"
	TooFew Verdict = "not enough rounds"
)

// Side is what one side's rounds say of a figure.
type Side struct {
	Median float64
	Range  string // half of the confidence interval, as a share of the median: "3%"; "∞" below six rounds
	N      int    // rounds that have the figure
}

// Line is one figure of both sides.
type Line struct {
	Figure    string
	Unit      string
	A, B      Side
	P         float64 // how likely such a difference is where there is none
	Verdict   Verdict
	Regressed bool
}

// Change is B against A as a share of A, and whether there is such a share: of nothing there is none.
func (l *Line) Change() (share float64, known bool) {
	if l.A.N == 0 || l.B.N == 0 || l.A.Median == 0 && l.B.Median != 0 {
		return 0, false
	}
	if l.A.Median == l.B.Median {
		return 0, true
	}
	return l.B.Median/l.A.Median - 1, true
}

// Comparison is two sides, figure by figure.
type Comparison struct {
	Scenario string
	Limit    float64
	Rounds   [2]int   // valid ones of A and B
	Broken   []string // promises that B broke: whatever its figures are, that is worse
	Notes    []string // what was left out, and what makes the comparison doubtful
	Lines    []Line
}

// Compare puts the valid rounds of all runs of a side together and compares them. Runs of different loads or settings are an error that
// names what differs, unless forced.
func Compare(a, b []*loadtest.Run, o Options) (Comparison, error) {
	if len(a) == 0 || len(b) == 0 {
		return Comparison{}, errors.New("compare: want at least one report on each side")
	}
	if !(o.Limit >= 0 && o.Limit < math.Inf(1)) {
		return Comparison{}, fmt.Errorf("compare: limit %v: want a share of 0 or more, such as 0.05 for 5 %%", o.Limit)
	}
	all := slices.Concat(a, b)
	c := Comparison{Scenario: a[0].Scenario.Name, Limit: o.Limit}
	if differ := differences(all); len(differ) > 0 {
		if !o.Force {
			return Comparison{}, fmt.Errorf("compare: these runs are not alike: %s; --force compares them nevertheless", strings.Join(differ, ", "))
		}
		c.Notes = append(c.Notes, "WARNING: not alike, and compared by force: "+strings.Join(differ, ", "))
	}
	c.Notes = append(c.Notes, doubts(all)...)
	c.Broken = broken(b)
	samples, compared := valid, measures
	if a[0].Search != nil && b[0].Search != nil {
		samples, compared = sustained, measures[:1] // rounds of other rates say nothing of each other
	}
	roundsA, notes := samples("A", a)
	c.Notes = append(c.Notes, notes...)
	roundsB, notes := samples("B", b)
	c.Notes = append(c.Notes, notes...)
	c.Rounds = [2]int{len(roundsA), len(roundsB)}
	for _, m := range compared {
		if l, seen := m.compare(roundsA, roundsB, o.Limit); seen {
			c.Lines = append(c.Lines, l)
		}
	}
	return c, nil
}

// Regressed reports whether a figure became worse, significantly and beyond the limit, or a promise was broken.
func (c Comparison) Regressed() bool {
	return len(c.Broken) > 0 || slices.ContainsFunc(c.Lines, func(l Line) bool { return l.Regressed })
}

// Judged reports whether there were rounds enough for a verdict on any figure.
func (c Comparison) Judged() bool {
	return slices.ContainsFunc(c.Lines, func(l Line) bool { return l.Verdict != TooFew })
}

// compare judges one figure; seen is whether a round of either side has it.
func (m measure) compare(a, b []*loadtest.Round, limit float64) (l Line, seen bool) {
	as, bs := m.sample(a), m.sample(b)
	l = Line{Figure: m.name, Unit: m.unit, A: side(as), B: side(bs), P: 1, Verdict: TooFew}
	if min(l.A.N, l.B.N) < fewest {
		return l, l.A.N+l.B.N > 0
	}
	test := benchmath.AssumeNothing.Compare(as, bs)
	l.P = test.P
	higher := l.B.Median > l.A.Median
	switch {
	case test.P > test.Alpha || l.A.Median == l.B.Median:
		l.Verdict = Same
	case higher == m.higher:
		l.Verdict = Better
	default:
		l.Verdict = Worse
		share, known := l.Change()
		l.Regressed = !known || math.Abs(share) > limit // from nothing to something is beyond every limit
	}
	return l, true
}

func (m measure) sample(rounds []*loadtest.Round) *benchmath.Sample {
	var values []float64
	for _, r := range rounds {
		if v, known := m.of(r); known {
			values = append(values, v)
		}
	}
	return benchmath.NewSample(values, &benchmath.DefaultThresholds)
}

func side(s *benchmath.Sample) Side {
	if len(s.Values) == 0 {
		return Side{}
	}
	sum := benchmath.AssumeNothing.Summary(s, confidence)
	return Side{sum.Center, sum.PctRangeString(), len(s.Values)}
}
