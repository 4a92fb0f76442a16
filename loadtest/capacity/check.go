package capacity

import (
	"errors"
	"fmt"
	"io"
	"math"
	"text/tabwriter"
	"time"

	"sluice/loadtest"
	"sluice/loadtest/internal/figure"
)

// DefaultError is the share by which a prediction may be wrong.
const DefaultError = 0.25

// CheckLine is a figure as it was predicted and as it was measured.
type CheckLine struct {
	Figure    string
	Unit      string
	Predicted float64
	Measured  float64
	Headline  bool // plans rest on it
	Within    bool // the limit
}

// Error is by which share the prediction is wrong: infinite where nothing was measured and something predicted.
func (l *CheckLine) Error() float64 {
	if l.Predicted == l.Measured {
		return 0
	}
	return (l.Predicted - l.Measured) / math.Abs(l.Measured)
}

// Failed reports whether a figure that plans rest on was predicted worse than the limit allows.
func Failed(lines []CheckLine) bool {
	for i := range lines {
		if lines[i].Headline && !lines[i].Within {
			return true
		}
	}
	return false
}

// Check predicts one run from a model of another one, and puts what was measured beside it. The model is told the load that came, second
// by second, and the scenario's settings, and nothing of how it was answered. Valid rounds alone count, on both sides.
func Check(predictFrom, against *loadtest.Run, limit float64) ([]CheckLine, error) {
	if !(limit > 0 && limit < math.Inf(1)) {
		return nil, fmt.Errorf("limit %v: want a share above 0, such as 0.25 for 25 %%", limit)
	}
	if predictFrom.Plan == against.Plan && predictFrom.Began.Equal(against.Began) {
		return nil, errors.New("both reports are of one run: what a model was made from proves nothing of it")
	}
	m, err := Measure(predictFrom, false)
	if err != nil {
		return nil, fmt.Errorf("the report to predict from: %w", err)
	}
	if against.Partial {
		return nil, errors.New("the report to check against: its run was interrupted")
	}
	var other Model
	rounds, err := other.believable(against, false)
	if err != nil {
		return nil, fmt.Errorf("the report to check against: %w", err)
	}
	if predictFrom.Store != against.Store {
		return nil, fmt.Errorf("the stores differ (%s and %s): one says nothing of the other's drain", predictFrom.Store, against.Store)
	}
	if m.lowerBound() && against.Scenario.Parts.DrainRate == 0 {
		for _, r := range rounds {
			if load := highest(r, func(p *loadtest.Point) float64 { return float64(p.Orders) }); load > 1.1*m.drain {
				return nil, fmt.Errorf("the report to predict from settled %.0f orders a second, and could do more; %.0f came in the other: "+
					"how fast the store is can't be known from it", m.drain, load)
			}
		}
	}
	predicted, measured := make([]float64, len(checked)), make([]float64, len(checked))
	for _, r := range rounds {
		if len(r.Series) == 0 {
			return nil, errors.New("the report to check against: a round has no seconds, so that its load is not known")
		}
		out := m.replay(&against.Scenario, r)
		for i, c := range checked {
			predicted[i] += c.predicted(m, &out) / float64(len(rounds))
			measured[i] += c.measured(r) / float64(len(rounds))
		}
	}
	lines := make([]CheckLine, len(checked))
	for i, c := range checked {
		l := CheckLine{Figure: c.name, Unit: c.unit, Predicted: predicted[i], Measured: measured[i], Headline: c.headline}
		l.Within = math.Abs(l.Error()) <= limit
		lines[i] = l
	}
	return lines, nil
}

// checked are the figures that are checked.
var checked = []struct {
	name, unit string
	headline   bool
	predicted  func(*Model, *outcome) float64
	measured   func(*loadtest.Round) float64
}{
	{"accepted", "orders", true, func(_ *Model, o *outcome) float64 { return o.accepted }, func(r *loadtest.Round) float64 { return float64(r.Measured.Accepted) }},
	{"goodput", "orders/s", true, func(_ *Model, o *outcome) float64 { return o.settled / max(step, o.idle) }, func(r *loadtest.Round) float64 { return r.Measured.Goodput }},
	{"door CPU", "s", true, func(m *Model, o *outcome) float64 { return m.fits[door].of(o.total()) }, cpuOf(door)},
	{"worker CPU", "s", true, func(m *Model, o *outcome) float64 { return m.fits[worker].of(o.total()) }, cpuOf(worker)},
	{"sojourn p99", "s", true, func(_ *Model, o *outcome) float64 { return o.waitP99 }, func(r *loadtest.Round) float64 { return r.Audit.Sojourn.P99 / 1000 }},
	{"longest sojourn", "s", false, func(_ *Model, o *outcome) float64 { return o.waitMax }, func(r *loadtest.Round) float64 { return r.Audit.Sojourn.Max / 1000 }},
	{"shed", "share", false, func(_ *Model, o *outcome) float64 { return o.shed() }, func(r *loadtest.Round) float64 {
		return float64(r.Measured.Shed()) / float64(max(1, r.Measured.Orders))
	}},
	{"most outstanding", "orders", false, func(_ *Model, o *outcome) float64 { return o.outstanding }, func(r *loadtest.Round) (most float64) {
		for i := range r.Series {
			most = max(most, r.Series[i].Outstanding)
		}
		return most
	}},
}

func cpuOf(part string) func(*loadtest.Round) float64 {
	return func(r *loadtest.Round) float64 {
		s, _ := used(r.Measured.CPU, part)
		return s
	}
}

// unhurried is a drain that nobody waits for, where the load is known to be less than what the store carries.
const unhurried = 1e6

// replay plays a scenario with the load that came in a round. Those who came again are in it, so nobody else does.
func (m *Model) replay(s *loadtest.Scenario, r *loadtest.Round) outcome {
	st := story{
		quantity: float64(max(1, s.Crowd.Quantity)), double: s.Crowd.DoubleClick, buyers: float64(s.Crowd.Buyers), keyed: s.Crowd.Keyed,
		bound: float64(s.Parts.Bound), maxWait: time.Duration(s.Parts.MaxWait), drain: m.drain, slow: s.Parts.Slow, settle: m.settle,
	}
	if s.Parts.Bound == 0 {
		st.bound = 10_000 // as the service has it
	}
	if s.Parts.MaxWait == 0 {
		st.maxWait = 30 * time.Second
	}
	if rate := s.Parts.DrainRate; rate > 0 {
		st.drain, st.set = rate, true
	} else if m.lowerBound() {
		st.drain = unhurried
	}
	var weights float64
	for _, sale := range s.Sales {
		weights += weight(sale)
	}
	for _, sale := range s.Sales {
		st.sales = append(st.sales, stock{weight(sale) / weights, float64(sale.Stock), opens(s, sale.Opens)})
	}
	for i := range r.Series {
		if p, length := &r.Series[i], seconds(r, i); length > 0 && (p.Orders > 0 || p.Pages > 0 || p.At <= r.Measured.For) {
			st.spans = append(st.spans, span{length, float64(p.Orders), float64(p.Pages)})
		}
	}
	return st.run()
}

func weight(s loadtest.Sale) float64 {
	if s.Weight == 0 {
		return 1
	}
	return s.Weight
}

// opens is when the phase begins that a sale opens with, in seconds; 0: at once.
func opens(s *loadtest.Scenario, phase string) (at float64) {
	if phase == "" {
		return 0
	}
	for _, p := range s.Phases {
		if p.Name == phase {
			return at
		}
		at += time.Duration(p.For).Seconds()
	}
	return 0
}

// WriteCheck writes what was predicted beside what was measured.
func WriteCheck(w io.Writer, lines []CheckLine, limit float64) error {
	verdict := "The model holds: what plans rest on was predicted within "
	if Failed(lines) {
		verdict = "The model does NOT hold: what plans rest on was not predicted within "
	}
	fmt.Fprintf(w, "%s%s.\n\n", verdict, figure.Percent(limit))
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "figure\tpredicted\tmeasured\terror\twithin "+figure.Percent(limit)+"?")
	for i := range lines {
		l := &lines[i]
		within := "yes"
		if !l.Within {
			within = "NO"
		}
		if !l.Headline {
			within += " (for information)"
		}
		wrong := "-"
		if e := l.Error(); !math.IsInf(e, 0) {
			wrong = figure.Change(e)
		}
		fmt.Fprintf(table, "%s, %s\t%s\t%s\t%s\t%s\n", l.Figure, l.Unit, figure.Number(l.Predicted), figure.Number(l.Measured), wrong, within)
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("check: %w", err)
	}
	return nil
}
