package capacity

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"sluice/loadtest"
)

// Parts of the service, as their processes are called.
const (
	door     = "door"
	worker   = "worker"
	nsqd     = "nsqd"
	database = "database"
)

// Model is what a run tells of the service.
type Model struct {
	Scenario  string
	Cores     int // of the machine that it was measured on
	fits      map[string]*Fit
	drain     float64 // orders a second, the highest sustained
	drainFrom string
	drainSet  bool     // the workers were set to a rate: the store may carry more
	backlog   bool     // orders waited while that was seen; otherwise no more came
	settle    float64  // seconds of an order that nobody is before
	settleHow string   // it is known
	memory    float64  // MB of a door, the highest
	offered   float64  // answers a second, the highest that was seen
	admitted  float64  // orders a second that one door accepted, the highest
	doors     int      // that were measured
	pages     float64  // requests for pages for each order, in the busiest second
	warnings  []string // of the run
}

// Measure fits a model to the valid rounds of a run. A run without any, or that was interrupted, is refused unless forced.
func Measure(run *loadtest.Run, force bool) (*Model, error) {
	m := &Model{Scenario: run.Scenario.Name, Cores: run.Machine.Cores, fits: map[string]*Fit{}}
	if run.Partial {
		if !force {
			return nil, errors.New("the report is of a run that was interrupted; --force reckons with it nevertheless")
		}
		m.warn("the report is PARTIAL: its run was interrupted")
	}
	rounds, err := m.believable(run, force)
	if err != nil {
		return nil, err
	}
	m.fitAll(rounds)
	if m.fits[door] == nil || m.fits[worker] == nil {
		return nil, errors.New("the report has no processor time of doors and workers, as of a service that was running elsewhere; use one of parts of its own")
	}
	m.seeDrain(run, rounds)
	if m.drain == 0 {
		return nil, errors.New("no order was settled in the report; there is nothing to reckon from")
	}
	m.seeSettling(rounds)
	m.seeRange(rounds)
	m.doubt(run, rounds)
	return m, nil
}

func (m *Model) warn(format string, args ...any) {
	m.warnings = append(m.warnings, fmt.Sprintf(format, args...))
}

// believable is the valid rounds, or all where it is forced to.
func (m *Model) believable(run *loadtest.Run, force bool) (rounds []*loadtest.Round, err error) {
	var why []string
	for i := range run.Rounds {
		switch r := &run.Rounds[i]; {
		case r.Audit.Failed():
			why = append(why, fmt.Sprintf("round %d: promises were broken: %s", i+1, strings.Join(r.Audit.Wrong, "; ")))
		case len(r.Invalid) > 0:
			why = append(why, fmt.Sprintf("round %d: %s", i+1, strings.Join(r.Invalid, "; ")))
		default:
			rounds = append(rounds, r)
		}
	}
	switch {
	case len(rounds) == 0 && !force:
		return nil, fmt.Errorf("the report has no valid round (%s); --force reckons with it nevertheless", strings.Join(why, "; "))
	case len(rounds) == 0:
		m.warn("the report is INVALID: %s", strings.Join(why, "; "))
		for i := range run.Rounds {
			rounds = append(rounds, &run.Rounds[i])
		}
	case len(why) > 0:
		m.warn("left out as INVALID: %s", strings.Join(why, "; "))
	}
	if len(rounds) == 0 {
		return nil, errors.New("the report has no rounds")
	}
	return rounds, nil
}

// partOf tells by a process' name what part it is; nothing is known of others.
func partOf(process string) string {
	for _, p := range [][2]string{{"door", door}, {"ingress", door}, {"worker", worker}, {"nsqd", nsqd}, {"postgres", database}, {"database", database}} {
		if strings.HasPrefix(process, p[0]) {
			return p[1]
		}
	}
	return ""
}

// used is the processor time of a part by process.
func used(cpu map[string]float64, part string) (all float64, processes int) {
	for name, s := range cpu {
		if partOf(name) == part {
			all, processes = all+s, processes+1
		}
	}
	return all, processes
}

// levels are the ways to split a part's cost, the finest first.
func levels(part string) []level {
	idle := term{name: "idle", kinds: []kind{second}}
	switch part {
	case door:
		accept := term{name: "accepted", kinds: []kind{accepted}}
		refuse := term{name: "refused or repeated", kinds: []kind{refused}}
		pages := term{name: "page", kinds: []kind{page}}
		outcome := term{name: "outcome heard", kinds: []kind{settled}}
		other := term{name: "refused, repeated or page", kinds: []kind{refused, page}}
		answer := term{name: "answer of any kind", kinds: []kind{accepted, refused, page}}
		return []level{
			{[]term{idle, accept, refuse, pages, outcome}, ""},
			{[]term{idle, accept, refuse, pages}, "hearing an outcome can't be told from accepting: it is in accepted"},
			{[]term{idle, accept, other}, "pages can't be told from refusals"},
			{[]term{idle, answer}, "answers can't be told apart: one cost for all, which holds only for a mix as in the report"},
		}
	case nsqd:
		return []level{{terms: []term{idle, {name: "order carried", kinds: []kind{carried}}}}}
	default:
		return []level{{terms: []term{idle, {name: "order settled", kinds: []kind{settled}}}}}
	}
}

// fitAll fits each part's cost to the seconds of all rounds.
func (m *Model) fitAll(rounds []*loadtest.Round) {
	for name := range rounds[0].Measured.CPU {
		if partOf(name) == "" && name != "generator" {
			m.warn("of process %q it is not known what part it is; its processor time is left out", name)
		}
	}
	slices.Sort(m.warnings)
	for _, part := range []string{door, worker, nsqd, database} {
		var (
			seen   []events
			cpu    []float64
			all    events
			allCPU float64
			most   int
		)
		for _, r := range rounds {
			s, processes := used(r.Measured.CPU, part)
			allCPU, most = allCPU+s, max(most, processes)
			all.add(totals(r, m.length(r)))
			for i := range r.Series {
				length := seconds(r, i)
				if s, n := used(r.Series[i].CPU, part); n >= max(1, processes) && length > 0 { // of fewer, somebody could not be asked
					seen, cpu = append(seen, eventsOf(&r.Series[i], length)), append(cpu, s*length)
				}
			}
		}
		if most > 0 {
			f := fit(part, levels(part), seen, cpu, all, allCPU)
			f.processes = most
			m.fits[part] = &f
		}
	}
}

func seconds(r *loadtest.Round, i int) float64 {
	if i == 0 {
		return r.Series[0].At
	}
	return r.Series[i].At - r.Series[i-1].At
}

// length is the time from the first phase until the last order was settled, in seconds.
func (m *Model) length(r *loadtest.Round) float64 {
	if r.Measured.Goodput > 0 {
		return float64(r.Audit.Settled) / r.Measured.Goodput
	}
	return r.Measured.For
}

const (
	sustained = 5   // seconds that a rate must hold to be believed
	noBacklog = 256 // fewer outstanding than a batch: the drain waits for orders, and not they for it
)

// seeDrain finds the rate that orders were settled at while some waited all the time: the median over five seconds in a row each, for the
// highest of them is the highest of the noise as well. Where none waited the highest rate is what came, and the drain's lower bound.
func (m *Model) seeDrain(run *loadtest.Run, rounds []*loadtest.Round) {
	var waited []float64
	for _, r := range rounds {
		windows(r, func(points []loadtest.Point, length float64) {
			rate := sum(points, func(p *loadtest.Point) float64 { return p.Settled }) / length
			if rate > m.drain {
				m.drain, m.drainFrom = rate, fmt.Sprintf("the highest of %.0f seconds in a row", length)
			}
			if backlog(points) && !slowed(&run.Scenario.Parts.Slow, points, length) {
				waited = append(waited, rate)
			}
		})
		if r.Measured.Goodput > m.drain {
			m.drain, m.drainFrom = r.Measured.Goodput, "goodput of a round"
		}
	}
	if run.Search != nil && run.Search.Sustains > m.drain {
		m.drain, m.drainFrom = run.Search.Sustains, "the rate that the search sustained"
	} else if rate := median(waited); rate > 0 {
		m.drain, m.backlog, m.drainFrom = rate, true, fmt.Sprintf("the median of %.0f seconds in a row each, with orders waiting", float64(sustained))
	}
	m.drainSet = run.Scenario.Parts.DrainRate > 0
}

// backlog reports whether orders waited all the time.
func backlog(points []loadtest.Point) bool {
	return !slices.ContainsFunc(points, func(p loadtest.Point) bool { return p.Outstanding < noBacklog })
}

// slowed reports whether the database was made slow in some of that time.
func slowed(slow *loadtest.Slow, points []loadtest.Point, length float64) bool {
	end := points[len(points)-1].At
	return slow.For > 0 && end > time.Duration(slow.From).Seconds() && end-length < time.Duration(slow.From+slow.For).Seconds()
}

func sum(points []loadtest.Point, of func(*loadtest.Point) float64) (n float64) {
	for i := range points {
		n += of(&points[i])
	}
	return n
}

// lowerBound reports whether the store may carry more than what was seen.
func (m *Model) lowerBound() bool { return m.drainSet || !m.backlog }

// windows visits each five seconds in a row of a round; of a shorter round, the whole. A second in which somebody did not tell his figures
// has none, and the one after it those of both: no window begins or ends between the two.
func windows(r *loadtest.Round, visit func(points []loadtest.Point, length float64)) {
	for first := range r.Series {
		length, end := 0.0, first
		for ; end < len(r.Series) && length < sustained-0.01; end++ {
			length += seconds(r, end)
		}
		torn := first > 0 && r.Series[first-1].Gap || end > 0 && r.Series[end-1].Gap
		if length > 0 && !torn && (length >= sustained-0.01 || first == 0) {
			visit(r.Series[first:end], length)
		}
	}
}

// highest is the highest rate of something that lasted for five seconds.
func highest(r *loadtest.Round, of func(*loadtest.Point) float64) (rate float64) {
	windows(r, func(points []loadtest.Point, length float64) { rate = max(rate, sum(points, of)/length) })
	return rate
}

// seeSettling finds what an order takes that nobody is before: what orders took in a round without a backlog, or else two commits, the
// one that is under way and the order's own.
func (m *Model) seeSettling(rounds []*loadtest.Round) {
	var calm, commits []float64
	for _, r := range rounds {
		waited := slices.ContainsFunc(r.Series, func(p loadtest.Point) bool { return p.Outstanding >= noBacklog })
		if !waited && r.Audit.Sojourn.Count > 0 {
			calm = append(calm, r.Audit.Sojourn.P99/1000)
		}
		for i := range r.Series {
			commits = append(commits, r.Series[i].Commit/1000)
		}
	}
	if len(calm) > 0 {
		m.settle, m.settleHow = median(calm), "p99 of the sojourn, measured without a backlog"
		return
	}
	if len(commits) > 0 {
		slices.Sort(commits)
		m.settle, m.settleHow = 2*commits[len(commits)*99/100], "two commits, each as the p99 of the seconds"
	}
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	return (v[len(v)/2] + v[(len(v)-1)/2]) / 2
}

// seeRange notes how far the measurement went.
func (m *Model) seeRange(rounds []*loadtest.Round) {
	m.doors = max(1, m.fits[door].processes)
	busiest := 0.0
	for _, r := range rounds {
		for i := range r.Series {
			p, length := &r.Series[i], seconds(r, i)
			if length < 0.5 {
				continue // an end that is too short for a rate
			}
			m.offered = max(m.offered, eventsOf(p, length).answers()/length)
			m.admitted = max(m.admitted, float64(p.Accepted)/length/float64(m.doors))
			if orders := float64(p.Orders); orders > busiest {
				busiest, m.pages = orders, float64(p.Pages)/orders
			}
			for _, name := range slices.Sorted(maps.Keys(p.Memory)) {
				if partOf(name) == door {
					m.memory = max(m.memory, p.Memory[name])
				}
			}
		}
		if r.Measured.For > 0 {
			m.offered = max(m.offered, totals(r, 0).answers()/r.Measured.For)
		}
	}
}

// allCores is how many cores all processes took, the generator's too.
func allCores(p *loadtest.Point) (cores float64) {
	for _, c := range p.CPU {
		cores += c
	}
	return cores
}

// doubt warns of what makes the figures less certain.
func (m *Model) doubt(run *loadtest.Run, rounds []*loadtest.Round) {
	if c := run.Ceiling; c != nil && c.Rate > 0 && m.offered >= 0.9*c.Rate {
		m.warn("generator-limited: up to %.0f answers a second were measured, and the generator's own ceiling is %.0f", m.offered, c.Rate)
	}
	if run.Search != nil && run.Search.Limit == "generator" {
		m.warn("generator-limited: the search ended at what the generator could send, and the service may carry more")
	}
	var busy float64
	for _, r := range rounds {
		busy = max(busy, highest(r, allCores))
	}
	if m.Cores > 0 && busy >= 0.9*float64(m.Cores) {
		m.warn("%.1f of the %d cores were busy in the report, the generator's among them: on machines of their own the parts are faster, the drain too", busy, m.Cores)
	}
	for _, part := range []string{door, worker, nsqd, database} {
		f := m.fits[part]
		if f == nil {
			continue
		}
		if f.note != "" {
			m.warn("cost of %s: %s", part, f.note)
		}
		for _, t := range f.terms {
			if t.kinds[0] != second && t.err > t.each/4 {
				m.warn("cost of %s, %s: uncertain by %.0f %%", part, t.name, 100*t.err/t.each)
			}
		}
	}
	if m.fits[database] == nil {
		m.warn("the report has no process of a database (with SQLite its cost is the worker's): its machine is not reckoned")
	}
	m.Cores = cmp.Or(m.Cores, 1)
}
