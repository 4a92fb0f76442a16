package report

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"sluice"
	"sluice/loadtest"
	"sluice/loadtest/lab"
)

// flashSale is a run as a flash sale gives it: buyers wait for the start, come all at once, and are far more than the shop can serve.
func flashSale(rounds int) (*loadtest.Run, []loadtest.Interval) {
	run := &loadtest.Run{
		Format: loadtest.RunFormat,
		Scenario: loadtest.Scenario{
			Name: "flash", About: "A crowd that waits for the start, comes all at once, and asks again when it was refused.", Seed: 7,
			Parts:  loadtest.Parts{Bound: 5000, DrainRate: 900},
			Phases: []loadtest.Phase{{Name: "countdown"}, {Name: "rush"}, {Name: "afterwards"}},
			SLO: loadtest.SLO{
				AcceptedP99: sluice.Duration(50 * time.Millisecond), RefusedP99: sluice.Duration(20 * time.Millisecond),
				SojournP99: sluice.Duration(10 * time.Second), Failed: 0.001,
			},
		},
		Command: "sluice loadtest run flash --store sqlite --seed 7",
		Began:   time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC), Took: 71.4, Commit: "0123456789abcdef", Store: "sqlite", Seed: 7,
		Plan: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
		Machine: lab.Machine{
			CPU: "Intel(R) Xeon(R) Processor", Cores: 2, Kernel: "Linux 6.1.0", Go: "go1.26.0", FileSystem: "ext4", Sync: 0.42,
			Load: "1.9 1.2 0.7", Steal: 0.1,
		},
		Ceiling: &loadtest.Ceiling{Rate: 14850, LagP99: 1.2, P99: 0.83, CPUEach: 61},
	}
	var intervals []loadtest.Interval
	for n := range rounds {
		seed := rand.New(rand.NewPCG(7, uint64(n))) //nolint:gosec // figures to look at
		round, logged := playRound(seed, n+1, run.Began.Add(time.Duration(n)*90*time.Second))
		run.Rounds = append(run.Rounds, round)
		intervals = append(intervals, logged...)
	}
	return run, intervals
}

// moment by moment: the crowd comes, the door lets in as many as the bound has room for, the shop sells 900 a second.
func playRound(seed *rand.Rand, n int, began time.Time) (loadtest.Round, []loadtest.Interval) {
	const seconds, bound, rate = 60, 5000.0, 900.0
	round := loadtest.Round{Invalid: []string{}, Broken: []string{}}
	whole := map[loadtest.Class]*hdrhistogram.Histogram{}
	var intervals []loadtest.Interval
	phases := []loadtest.Figures{
		{Name: "countdown", From: 0, For: 10}, {Name: "rush", From: 10, For: 25}, {Name: "afterwards", From: 35, For: 25},
	}
	outstanding, settled := 0.0, 0.0
	for s := range seconds {
		p := loadtest.Point{At: float64(s + 1), Bound: bound, Window: 512, DrainRate: rate, Commit: 3 + seed.Float64()}
		phase := &phases[2]
		switch {
		case s < 10:
			phase, p.Pages = &phases[0], 400+seed.Int64N(40)
		case s < 35:
			phase, p.Orders = &phases[1], int64(5800*math.Exp(-float64(s-10)/9)+300)+seed.Int64N(90)
		default:
			p.Orders = 240 + seed.Int64N(40)
		}
		outstanding -= min(outstanding, rate)
		p.Accepted = min(p.Orders, int64(bound-outstanding))
		p.Refused = p.Orders - p.Accepted
		p.Shed = p.Refused - p.Refused/20
		outstanding += float64(p.Accepted)
		p.Outstanding, p.InHand = outstanding, min(outstanding, 512)
		p.Settled = min(outstanding, rate)
		settled += p.Settled
		p.Planned = p.Orders + p.Pages
		p.Sent = p.Planned
		answers := map[loadtest.Class]int64{loadtest.Accepted: p.Accepted, loadtest.Refused: p.Refused, loadtest.Page: p.Pages}
		for _, class := range loadtest.Classes() { // in this order: the figures are the same each time
			many := answers[class]
			if many == 0 {
				continue
			}
			h := latencies(seed, class, many, float64(p.Planned))
			if whole[class] == nil {
				whole[class] = hdrhistogram.New(1, 60_000_000, 3)
			}
			whole[class].Merge(h)
			intervals = append(intervals, loadtest.Interval{
				Round: n, Class: class, From: began.Add(time.Duration(s) * time.Second), For: time.Second, Values: h,
			})
			if into := map[loadtest.Class]*float64{loadtest.Accepted: &p.AcceptedP99, loadtest.Refused: &p.RefusedP99}[class]; into != nil {
				*into = float64(h.ValueAtQuantile(99)) / 1000
			}
		}
		load := float64(p.Planned) / 6000
		p.CPU = map[string]float64{"door": 0.1 + 0.6*load, "worker": 0.05 + p.Settled/rate*0.35, "nsqd": 0.02 + 0.12*load, generator: 0.05 + 0.5*load}
		p.Memory = map[string]float64{"door": 48 + p.Outstanding/200, "worker": 39 + seed.Float64(), "nsqd": 22 + seed.Float64(), generator: 61 + load*20}
		p.GC = map[string]float64{"door": seed.Float64()}
		addTo(phase, &p)
		round.Series = append(round.Series, p)
	}
	m := &round.Measured
	m.Name, m.For, m.Refused, m.Failed, m.Latency = "all", seconds, map[string]int64{}, map[string]int64{}, map[loadtest.Class]loadtest.Latency{}
	for i := range phases {
		p := &phases[i]
		p.Offered = float64(p.Orders) / p.For
		m.Planned, m.Sent, m.Orders, m.Accepted, m.Pages = m.Planned+p.Planned, m.Sent+p.Sent, m.Orders+p.Orders, m.Accepted+p.Accepted, m.Pages+p.Pages
		for reason, many := range p.Refused {
			m.Refused[reason] += many
		}
	}
	for class, h := range whole {
		m.Latency[class] = distribution(h)
	}
	round.Phases = phases
	m.Lag = loadtest.Latency{Count: m.Sent, P50: 0.04, P90: 0.2, P99: 0.9, P999: 2.8, Max: 4.1}
	m.Offered, m.Goodput = float64(m.Orders)/seconds, float64(m.Accepted)/(seconds+0.5*seed.Float64())
	m.CPU = map[string]float64{"door": 13.2, "worker": 12.9, "nsqd": 3.1, generator: 17.5}
	m.Each = 1.18
	round.Audit = loadtest.Audit{
		Balanced: true, Promised: m.Accepted, Settled: m.Accepted, States: map[string]int64{"paid": m.Accepted}, Sold: m.Accepted, Stock: 100000,
		Sojourn: loadtest.Latency{Count: m.Accepted, P50: 3100, P90: 5200, P99: 5610, P999: 5640, Max: 5702}, Sampled: m.Accepted, Wrong: []string{},
	}
	shed, idle, calm := 10.4, 0.31, 1.0
	round.Recovery = loadtest.Recovery{FirstShed: &shed, Idle: &idle, Calm: &calm}
	return round, intervals
}

func latencies(seed *rand.Rand, class loadtest.Class, many int64, rate float64) *hdrhistogram.Histogram {
	h := hdrhistogram.New(1, 60_000_000, 3)
	usual := map[loadtest.Class]float64{loadtest.Accepted: 2400, loadtest.Refused: 350, loadtest.Page: 300}[class] * (1 + rate/4000)
	for range many {
		_ = h.RecordValue(int64(max(1, usual*math.Exp(seed.NormFloat64()*0.6))))
	}
	return h
}

func addTo(phase *loadtest.Figures, p *loadtest.Point) {
	phase.Planned += p.Planned
	phase.Sent += p.Sent
	phase.Orders += p.Orders
	phase.Accepted += p.Accepted
	phase.Pages += p.Pages
	if phase.Refused == nil {
		phase.Refused, phase.Latency = map[string]int64{}, map[loadtest.Class]loadtest.Latency{}
	}
	if p.Refused > 0 {
		phase.Refused["saturated"] += p.Refused - p.Refused/20
		phase.Refused["user_limit"] += p.Refused / 20
		phase.Latency[loadtest.Refused] = loadtest.Latency{Count: sum(phase.Refused), P99: max(p.RefusedP99, phase.Latency[loadtest.Refused].P99)}
	}
	if p.Accepted > 0 {
		phase.Latency[loadtest.Accepted] = loadtest.Latency{Count: phase.Accepted, P99: max(p.AcceptedP99, phase.Latency[loadtest.Accepted].P99)}
	}
}

func distribution(h *hdrhistogram.Histogram) loadtest.Latency {
	at := func(q float64) float64 { return float64(h.ValueAtQuantile(q)) / 1000 }
	l := loadtest.Latency{
		Count: h.TotalCount(), Mean: h.Mean() / 1000, P50: at(50), P90: at(90), P99: at(99), P999: at(99.9), Max: float64(h.Max()) / 1000,
	}
	for _, bracket := range h.CumulativeDistribution() {
		l.Curve = append(l.Curve, loadtest.Quantile{Q: bracket.Quantile / 100, MS: float64(bracket.ValueAt) / 1000})
	}
	return l
}

// search adds a capacity search to a run, which ends with the service at its end.
func search(run *loadtest.Run) {
	run.Search = &loadtest.Search{Rate: 4210, Sustains: 4210, Margin: 130, Limit: "service", Why: []string{"at 4,240 orders/s it refused for load"}}
	for i, rate := range []float64{500, 1000, 2000, 4000, 8000, 5657, 4757, 4362, 4180, 4210, 4240, 4210, 4150, 4330} {
		p := loadtest.Probe{Stage: "ramp", Rate: rate, Goodput: min(rate, 4250-max(0, rate-4250)/20), P99: 4 + rate/400, Sojourn: 20 + rate/50, Kept: rate < 4300}
		switch {
		case i > 8:
			p.Stage = "repeat"
		case i > 4:
			p.Stage = "bisection"
		}
		if !p.Kept {
			p.P99, p.Shed, p.Why = 61, int64(rate-4250)*10, []string{fmt.Sprintf("%.0f orders refused for load", rate-4250)}
		}
		run.Search.Probes = append(run.Search.Probes, p)
	}
}
