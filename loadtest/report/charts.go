package report

import (
	"cmp"
	"maps"
	"math"
	"slices"

	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg/draw"

	"sluice/loadtest"
)

// columns is how many points a line has at most: a soak's hours are merged, so that its report stays small.
const columns = 480

// charts are the pictures of a run: of one of its rounds, and of its search.
func charts(run *loadtest.Run, round *loadtest.Round) []chart {
	moments := merge(round.Series, columns)
	var marks []mark
	for _, p := range round.Phases {
		if p.From >= 0 && p.From <= largest {
			marks = append(marks, mark{p.From, plain(p.Name, 40)})
		}
	}
	time := linear("seconds since the start")
	all := []chart{
		{
			file: "offered.svg", title: "What came, and what was sold", x: time, y: linear("orders a second"), lines: flow(moments),
			look: "The distance between offered and accepted is what was refused. Settled orders should stay level while the crowd is too large, and not sink. " + counters(run, round),
		},
		{
			file: "latency.svg", title: "How long buyers waited for an answer", x: time, y: logarithmic("ms, 99 of 100 were faster"), lines: waits(moments),
			look: "Flat lines are good, refused below accepted. A line that climbs while the crowd is large is a queue that grows. Upwards, equal distances are equal factors.",
		},
		{
			file: "outstanding.svg", title: "Orders on their way, and the most there may be", x: time, y: linear("orders"), lines: backlog(moments),
			look: "Outstanding may touch the bound and never be above it. How fast it falls after the burst is how fast the shop sells.",
		},
		{
			file: "percentiles.svg", title: "Answers by how long they took", x: quantiles("share of the answers that were faster"), y: logarithmic("ms"), lines: curves(round),
			look: "The further to the right, the rarer. A jump tells how many buyers met a stall, and how long it was.",
		},
		capacity(run, round, moments),
		{
			file: "cores.svg", title: "Processors in use", x: time, y: linear("cores in use"),
			lines: processes(moments, func(p *loadtest.Point) map[string]float64 { return p.CPU }),
			look:  "Whoever is level at the top is what limits the rate. Where it is the generator, the service could do more.",
		},
		{
			file: "memory.svg", title: "Memory by process", x: time, y: linear("MB"),
			lines: processes(moments, func(p *loadtest.Point) map[string]float64 { return p.Memory }),
			look:  "It should level off. What still climbs at the end would climb on.",
		},
	}
	for i := range all {
		if all[i].x.label == time.label {
			all[i].marks = marks
		}
	}
	return all
}

// moment is a point of a round with its rates.
type moment struct {
	loadtest.Point
	width float64 // seconds
}

// merge makes fewer moments of many points: counts are added, cores averaged, and of all else the largest is kept.
func merge(points []loadtest.Point, most int) []moment {
	var moments []moment
	each := max(1, (len(points)+most-1)/most)
	began := 0.0
	for chunk := range slices.Chunk(points, each) {
		m := moment{Point: chunk[0]}
		m.CPU, m.Memory = map[string]float64{}, map[string]float64{}
		asked := map[string]float64{} // of whom it is known how many cores he had in use, and how often
		for i, p := range chunk {
			if i > 0 {
				add(&m.Point, p)
			}
			for name, cores := range p.CPU {
				asked[name]++
				m.CPU[name] += (cores - m.CPU[name]) / asked[name]
			}
			for name, mb := range p.Memory {
				m.Memory[name] = max(m.Memory[name], mb)
			}
		}
		m.width = m.At - began
		began = m.At
		if m.width > 0.2 { // the rate of a moment is nobody's rate
			moments = append(moments, m)
		}
	}
	return moments
}

func add(to *loadtest.Point, p loadtest.Point) {
	to.At = p.At
	to.Orders += p.Orders
	to.Accepted += p.Accepted
	to.Refused += p.Refused
	to.Settled += p.Settled
	to.AcceptedP99 = max(to.AcceptedP99, p.AcceptedP99)
	to.RefusedP99 = max(to.RefusedP99, p.RefusedP99)
	to.Outstanding = max(to.Outstanding, p.Outstanding)
	to.Bound = max(to.Bound, p.Bound)
}

func series(name string, pen pen, moments []moment, value func(*moment) float64) line {
	l := line{name: name, pen: pen}
	for i := range moments {
		l.points = append(l.points, plotter.XY{X: moments[i].At, Y: value(&moments[i])})
	}
	return l
}

func flow(moments []moment) []line {
	return []line{
		series("offered", black, moments, func(m *moment) float64 { return float64(m.Orders) / m.width }),
		series("refused", vermilion, moments, func(m *moment) float64 { return float64(m.Refused) / m.width }),
		series("accepted", blue, moments, func(m *moment) float64 { return float64(m.Accepted) / m.width }),
		series("settled, by the workers' counters", green, moments, func(m *moment) float64 { return m.Settled / m.width }),
	}
}

func waits(moments []moment) []line {
	return []line{
		series("accepted", blue, moments, func(m *moment) float64 { return m.AcceptedP99 }),
		series("refused", vermilion, moments, func(m *moment) float64 { return m.RefusedP99 }),
	}
}

func backlog(moments []moment) []line {
	return []line{
		series("bound", black, moments, func(m *moment) float64 {
			if m.Bound == 0 {
				return math.NaN() // not known
			}
			return m.Bound
		}),
		series("outstanding", blue, moments, func(m *moment) float64 { return m.Outstanding }),
	}
}

// curves are the distributions of a round's classes. The largest of n values stands where 1 of n is slower.
func curves(round *loadtest.Round) []line {
	look := map[loadtest.Class]pen{
		loadtest.Accepted: blue, loadtest.Repeated: sky, loadtest.Page: purple, loadtest.Refused: vermilion, loadtest.Failed: orange,
	}
	var lines []line
	for _, class := range loadtest.Classes() {
		latency, ok := round.Measured.Latency[class]
		if !ok || len(latency.Curve) == 0 {
			continue
		}
		l := line{name: string(class), pen: look[class]}
		end := 1 - 1/float64(max(latency.Count, 2))
		few := thin(latency.Curve, 2*columns)
		for i, q := range few {
			if q.Q < end || i == len(few)-1 {
				l.points = append(l.points, plotter.XY{X: min(q.Q, end), Y: q.MS})
			}
		}
		lines = append(lines, l)
	}
	return lines
}

// thin leaves out points evenly, and never the last.
func thin[T any](all []T, most int) []T {
	if len(all) <= most {
		return all
	}
	var few []T
	for i := range most {
		few = append(few, all[i*len(all)/most])
	}
	return append(few[:most-1], all[len(all)-1])
}

// processes has a line for each process, the generator last, and of many those that use most.
func processes(moments []moment, of func(*loadtest.Point) map[string]float64) []line {
	top := map[string]float64{}
	for i := range moments {
		for name, v := range of(&moments[i].Point) {
			top[name] = max(top[name], v)
		}
	}
	names := slices.SortedFunc(maps.Keys(top), func(a, b string) int { return cmp.Or(cmp.Compare(top[b], top[a]), cmp.Compare(a, b)) })
	names = names[:min(len(names), len(pens))]
	slices.SortFunc(names, func(a, b string) int {
		if (a == generator) != (b == generator) {
			return map[bool]int{true: 1, false: -1}[a == generator]
		}
		return cmp.Compare(a, b)
	})
	var lines []line
	for i, name := range names {
		look := pens[i]
		if name == generator {
			look = black
		}
		lines = append(lines, series(plain(name, 24), look, moments, func(m *moment) float64 {
			v, ok := of(&m.Point)[name]
			if !ok {
				return math.NaN()
			}
			return v
		}))
	}
	return lines
}

// generator is what the load test itself is called among processes.
const generator = "generator"

// capacity is what was sold against what was asked for: of the search's probes, of each second of a ramp, or of the phases.
func capacity(run *loadtest.Run, round *loadtest.Round, moments []moment) chart {
	c := chart{
		file: "capacity.svg", title: "Sold against asked for", x: linear("orders offered a second"), y: linear("settled a second, by the workers' counters"),
		look: "On the dotted line everything that is asked for is sold. Where the points leave it is what the service carries; beyond, they should stay level, and not sink. Above it, orders from before were settled too.",
	}
	kept := line{name: "seen", pen: blue, glyph: draw.CircleGlyph{}}
	broke := line{name: "broke a limit", pen: vermilion, glyph: draw.PyramidGlyph{}}
	switch {
	case run.Search != nil && len(run.Search.Probes) > 0:
		kept.name, c.y = "kept the limits", linear("orders settled a second")
		for _, p := range run.Search.Probes {
			l := &kept
			if !p.Kept {
				l = &broke
			}
			l.points = append(l.points, plotter.XY{X: p.Rate, Y: p.Goodput})
		}
	case ramps(run):
		kept.name = "each second"
		for _, m := range moments {
			kept.points = append(kept.points, plotter.XY{X: float64(m.Orders) / m.width, Y: m.Settled / m.width})
		}
	default:
		kept.name = "each phase"
		for _, p := range round.Phases {
			if p.For > 0 {
				kept.points = append(kept.points, plotter.XY{X: p.Offered, Y: settled(round, p.From, p.From+p.For) / p.For})
			}
		}
	}
	if distinct(kept.points, broke.points) < 2 {
		return c // one point tells nothing
	}
	top := 0.0
	for _, p := range slices.Concat(kept.points, broke.points) {
		if _, ok := c.x.place(p.X); ok {
			top = max(top, p.X)
		}
	}
	c.lines = []line{{name: "all of it", pen: black, points: plotter.XYs{{}, {X: top, Y: top}}}, kept}
	if len(broke.points) > 0 {
		c.lines = append(c.lines, broke)
	}
	return c
}

func ramps(run *loadtest.Run) bool {
	return slices.ContainsFunc(run.Scenario.Phases, func(p loadtest.Phase) bool { return p.Orders.To != 0 && p.Orders.To != p.Orders.Rate })
}

// counters says what the workers' counters of settled orders are worth, which the charts over time are drawn from.
func counters(run *loadtest.Run, round *loadtest.Round) string {
	const what = "Settled is by the workers' counters, second by second"
	if run.Target != "" {
		return what + ": they count everybody's orders."
	}
	if said := astray(run, round); said != "" {
		return what + ". " + said
	}
	return what + "; they agree with the audit."
}

// astray says by how much the workers' counters differ from the audit, where it is more than 1 %. Those of a foreign service count
// everybody's orders, and those of a run that was interrupted end before the audit.
func astray(run *loadtest.Run, round *loadtest.Round) string {
	counted, found := settled(round, 0, math.Inf(1)), float64(round.Audit.Settled)
	if run.Target != "" || run.Partial || math.Abs(counted-found) <= 0.01*found {
		return ""
	}
	return "WARNING: the workers counted " + number(counted) + " settled orders, and the audit found " + number(found) + "."
}

// settled counts the orders that were settled in a time.
func settled(round *loadtest.Round, from, to float64) float64 {
	n := 0.0
	for _, p := range round.Series {
		if middle := p.At - 0.5; middle > from && middle <= to {
			n += p.Settled
		}
	}
	return n
}

func distinct(of ...plotter.XYs) int {
	seen := map[float64]bool{}
	for _, points := range of {
		for _, p := range points {
			if p.X > 0 && p.X <= largest {
				seen[p.X] = true
			}
		}
	}
	return len(seen)
}
