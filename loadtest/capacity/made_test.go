package capacity

import (
	"fmt"
	"math/rand/v2"
	"time"

	"sluice"
	"sluice/loadtest"
	"sluice/loadtest/lab"
)

// made is how the service of a made-up run is: what things cost, in microseconds, and how fast it drains.
type made struct {
	idle, accept, refuse, page, outcome float64
	settle, carry                       float64
	noise                               float64 // share of the processor time
	spans                               []span
	bound, drain                        float64
}

func usual() made {
	return made{
		idle: 0.05, accept: 30, refuse: 15, page: 6, outcome: 8, settle: 20, carry: 9, noise: 0.02, bound: 2000, drain: 1000,
		spans: []span{{8, 4000, 800}, {8, 40000, 9000}, {8, 4000, 1500}, {4, 400, 4000}},
	}
}

// run plays the made-up service by the fluid, which is not what these runs are to prove, and prices what it did.
func (m made) run() *loadtest.Run {
	random := rand.New(rand.NewPCG(1, 2))
	noise := func() float64 { return 1 + m.noise*random.NormFloat64() }
	var spans []span
	for _, s := range m.spans { // by the second, as runs are told
		for range int(s.seconds) {
			spans = append(spans, span{1, s.orders / s.seconds, s.pages / s.seconds})
		}
	}
	out := story{
		spans: spans, sales: []stock{{1, 1e9, 0}}, quantity: 1, bound: m.bound, maxWait: 30 * time.Second, drain: m.drain, set: true, settle: 0.02,
	}.run()
	r := loadtest.Round{Measured: loadtest.Figures{For: float64(len(spans)), Refused: map[string]int64{}, CPU: map[string]float64{}}}
	at := 0.0
	for i, e := range out.seconds {
		at += e[second]
		p := loadtest.Point{
			At: at, Accepted: int64(e[accepted]), Refused: int64(e[refused]), Pages: int64(e[page]), Settled: e[settled],
			Outstanding: 16, Commit: 10, Memory: map[string]float64{"door": 120},
		}
		if i < len(spans) {
			p.Orders = int64(spans[i].orders)
		}
		if e[settled] >= 0.99*m.drain*e[second] {
			p.Outstanding = m.bound
		}
		cpu := map[string]float64{
			"door":   (m.idle*e[second] + (m.accept*e[accepted]+m.refuse*e[refused]+m.page*e[page]+m.outcome*e[settled])/1e6) * noise(),
			"worker": (m.idle*e[second] + m.settle*e[settled]/1e6) * noise(), "nsqd": m.carry * e[carried] / 1e6 * noise(), "generator": 1,
		}
		p.CPU = map[string]float64{}
		for name, s := range cpu {
			p.CPU[name] = s / e[second]
			r.Measured.CPU[name] += s
		}
		r.Series = append(r.Series, p)
		r.Measured.Accepted += p.Accepted
		r.Measured.Refused[string(sluice.QueueFull)] += p.Refused
		r.Measured.Pages += p.Pages
		r.Measured.Orders += p.Orders
	}
	r.Measured.Goodput = out.settled / out.idle
	r.Audit = loadtest.Audit{Balanced: true, Settled: int64(out.settled), Sojourn: loadtest.Latency{Count: 1, P99: 1000 * out.waitP99, Max: 1000 * out.waitMax}}
	return &loadtest.Run{
		Format: loadtest.RunFormat, Store: "sqlite", Plan: fmt.Sprint(m), Machine: lab.Machine{Cores: 2}, Rounds: []loadtest.Round{r},
		Scenario: loadtest.Scenario{Name: "made-up", Sales: []loadtest.Sale{{Stock: 1e9}}, Parts: loadtest.Parts{Bound: int(m.bound), DrainRate: m.drain}},
	}
}
