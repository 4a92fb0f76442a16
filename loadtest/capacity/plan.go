package capacity

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"time"

	"sluice/loadtest"
)

// Options are what the sale will be, and what its machines are.
type Options struct {
	Peak      float64       // orders a second at the highest, without those who come again
	Pages     float64       // requests for the sale's page at the peak, a second; negative: as many for each order as in the report
	Buyers    float64       // who come at the peak's rate; 0: see Burst
	Burst     time.Duration // how long the peak holds; 0: what Buyers take, or 10 s
	Stock     int64         // units
	Quantity  int           // units of an order
	MaxWait   time.Duration // longest wait in the queue to admit for
	DrainRate float64       // orders a second that the database carries; 0: what was measured, less a margin
	Cores     int           // of a machine
	Use       float64       // highest use of its processors, as a share
	Retry     float64       // share of buyers told to come again who do; negative: as in the report's scenario
	Tries     int           // most requests of a buyer; 0: as in the report's scenario, 3 at least where any come again
	Spare     int           // machines of a kind that may fail
	Force     bool          // reckon with a report that is invalid or of an interrupted run
}

// DefaultOptions are what holds where nobody said otherwise. Peak and Stock have no default.
func DefaultOptions() Options {
	return Options{Pages: -1, Quantity: 1, MaxWait: 30 * time.Second, Cores: 4, Use: 0.6, Retry: -1, Spare: 1}
}

// What is assumed and was not measured. The text says so.
const (
	drainMargin  = 0.8  // of the rate that was measured
	journalBytes = 1024 // of an order, its outcome and the journal's own
	messageBytes = 1024 // of an order in nsqd's memory
	creditBytes  = 2048 // of an outstanding order in a door's memory, twice for the garbage collector
	usualBurst   = 10 * time.Second
	longestBurst = time.Hour
)

// check refuses impossible numbers, and says which are possible.
func (o *Options) check() error {
	for _, c := range []struct {
		good bool
		name string
		got  any
		want string
	}{
		{o.Peak > 0 && o.Peak <= largest, "peak", o.Peak, "above 0 and up to 1000M orders a second"},
		{o.Pages <= largest, "pages", o.Pages, "from 0 to 1000M a second"},
		{o.Buyers >= 0 && o.Buyers <= largest, "buyers", o.Buyers, "from 1 to 1000M"},
		{o.Burst >= 0 && o.Burst <= longestBurst, "burst", o.Burst, "above 0s and up to 1h"},
		{o.Stock >= 1 && o.Stock <= largest, "stock", o.Stock, "from 1 to 1000M units"},
		{o.Quantity >= 1 && int64(o.Quantity) <= max(1, o.Stock), "quantity", o.Quantity, "from 1 to the stock"},
		{o.MaxWait >= time.Second && o.MaxWait <= time.Hour, "max-wait", o.MaxWait, "from 1s to 1h"},
		{o.DrainRate >= 0 && o.DrainRate <= 1e6, "drain-rate", o.DrainRate, "from 1 to 1M orders a second"},
		{o.Cores >= 1 && o.Cores <= 1024, "cores", o.Cores, "from 1 to 1024"},
		{o.Use >= 0.05 && o.Use <= 1, "use", o.Use, "from 5 % to 100 %"},
		{o.Retry <= 1, "retry", o.Retry, "a share from 0 to 1"},
		{o.Tries >= 0 && o.Tries <= 100, "tries", o.Tries, "from 1 to 100"},
		{o.Spare >= 0 && o.Spare <= 100, "spare", o.Spare, "from 0 to 100 machines"},
	} {
		if !c.good {
			return fmt.Errorf("%s %v: want %s", c.name, c.got, c.want)
		}
	}
	if o.Buyers > 0 && o.Burst > 0 {
		return errors.New("buyers and burst: want one of them; with the peak it says the other")
	}
	return nil
}

// Machines are so many of a kind.
type Machines struct {
	Kind   string
	Needed int
	Spare  int
	Cores  int     // of each
	Busy   float64 // highest use of those that are needed, as a share
}

// Plan is what a sale needs, and what its buyers see.
type Plan struct {
	Options   Options
	Model     *Model
	Machines  []Machines
	Drain     float64 // orders a second that are reckoned with
	Bound     int64   // of all doors
	DoorBound int64   // of each
	Journal   int64   // bytes of disk, each door
	NSQd      int64   // bytes of memory
	Door      int64   // bytes of memory, each
	Warnings  []string

	seen outcome
	peak events // of the second that costs the doors most
	busy events // of the second that costs the others most
}

// Reckon makes the plan from a measured run.
func Reckon(run *loadtest.Run, o Options) (*Plan, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	m, err := Measure(run, o.Force)
	if err != nil {
		return nil, err
	}
	o.fill(run, m)
	if o.Burst > longestBurst {
		return nil, fmt.Errorf("%.0f buyers at %.0f a second come for %v: want a burst of 1h at most", o.Buyers, o.Peak, o.Burst.Round(time.Second))
	}
	p := &Plan{Options: o, Model: m, Drain: cmp.Or(o.DrainRate, drainMargin*m.drain), Warnings: m.warnings}
	p.Bound = max(1, int64(p.Drain*o.MaxWait.Seconds()))
	if p.Bound > 10_000_000 {
		return nil, fmt.Errorf("a drain of %.0f orders a second and a wait of %v make a bound of %d orders: want 10 million at most; lower max-wait", p.Drain, o.MaxWait, p.Bound)
	}
	p.seen = p.story().run()
	p.peak, p.busy = busiest(&p.seen, o.Burst, m)
	if err := p.machines(); err != nil {
		return nil, err
	}
	p.sizes()
	p.doubt()
	return p, nil
}

// fill takes from the report what was left to it.
func (o *Options) fill(run *loadtest.Run, m *Model) {
	if o.Pages < 0 {
		o.Pages = m.pages * o.Peak
	}
	if o.Retry < 0 {
		o.Retry = run.Scenario.Crowd.Retry
	}
	if o.Tries == 0 && o.Retry > 0 {
		o.Tries = max(3, run.Scenario.Crowd.Tries)
	}
	switch {
	case o.Buyers > 0:
		o.Burst = time.Duration(o.Buyers / o.Peak * float64(time.Second))
	case o.Burst == 0:
		o.Burst = usualBurst
	}
	o.Burst = max(o.Burst, 10*time.Millisecond)
	o.Buyers = o.Peak * o.Burst.Seconds()
}

// story is the sale as the model plays it: the peak from the first moment on, as long as it holds.
func (p *Plan) story() story {
	o := &p.Options
	return story{
		spans:    []span{{o.Burst.Seconds(), o.Buyers, o.Pages * o.Burst.Seconds()}},
		sales:    []stock{{weight: 1, units: float64(o.Stock)}},
		quantity: float64(o.Quantity), retry: o.Retry, tries: o.Tries,
		bound: float64(p.Bound), maxWait: o.MaxWait, drain: p.Drain, set: true, settle: p.Model.settle,
	}
}

// busiest are the second that costs doors most, and the one that costs the other parts most. A shorter burst is taken as if it held for
// a second.
func busiest(o *outcome, burst time.Duration, m *Model) (doors, others events) {
	for i, e := range o.seconds {
		if e[second] <= 0 {
			continue
		}
		length := e[second]
		if i == 0 && burst < time.Second {
			length = max(step, burst.Seconds())
		}
		for k := range e {
			e[k] /= length
		}
		if m.fits[door].work(e) > m.fits[door].work(doors) {
			doors = e
		}
		if e[carried]+e[settled] > others[carried]+others[settled] {
			others = e
		}
	}
	return doors, others
}

// machines reckons how many of each kind.
func (p *Plan) machines() error {
	kinds := []struct {
		part string
		load events
	}{{door, p.peak}, {nsqd, p.busy}, {worker, p.busy}, {database, p.busy}}
	for _, k := range kinds {
		f := p.Model.fits[k.part]
		if f == nil {
			continue
		}
		room := float64(p.Options.Cores)*p.Options.Use - f.idle()
		if room <= 0 {
			return fmt.Errorf("a %s that does nothing takes %.2f cores, more than %.0f %% of %d: want more cores or a higher use",
				k.part, f.idle(), 100*p.Options.Use, p.Options.Cores)
		}
		needed := max(1, int(math.Ceil(f.work(k.load)/room-1e-9)))
		m := Machines{Kind: k.part, Needed: needed, Cores: p.Options.Cores}
		m.Busy = (f.work(k.load)/float64(needed) + f.idle()) / float64(m.Cores)
		if k.part == door || k.part == worker {
			m.Spare = p.Options.Spare
		}
		p.Machines = append(p.Machines, m)
	}
	return nil
}

func (p *Plan) doors() int { return p.Machines[0].Needed + p.Machines[0].Spare }

// sizes reckons memory and disk.
func (p *Plan) sizes() {
	doors := int64(p.doors())
	p.DoorBound = max(1, p.Bound/doors)
	p.Journal = int64(p.seen.accepted) / doors * journalBytes
	p.NSQd = p.Bound * messageBytes
	p.Door = int64(p.Model.memory*1e6) + p.DoorBound*creditBytes
}

// doubt warns of what the plan rests on and was not measured.
func (p *Plan) doubt() {
	warn := func(format string, args ...any) { p.Warnings = append(p.Warnings, fmt.Sprintf(format, args...)) }
	m := p.Model
	if factor := p.peak.answers() / max(1, m.offered); factor > 1 {
		warn("extrapolated: the peak second has %.3g times the answers of the highest measured one; that doors share load evenly, and that a load balancer carries it, is assumed", factor)
	}
	each := p.peak[accepted] / float64(p.Machines[0].Needed)
	if factor := each / max(1, m.admitted); factor > 1 {
		warn("extrapolated: a door would accept %.0f orders in its busiest second, %.3g times what one was seen to; its journal's disk must sync as often", each, factor)
	}
	if p.Options.DrainRate == 0 {
		switch {
		case m.drainSet:
			warn("the report's workers were set to a rate: the database may carry more; measure without, or give --drain-rate")
		case !m.backlog:
			warn("no orders waited in the report: its drain rate is what came, and the database may carry more; measure with a higher load, or give --drain-rate")
		}
	} else if p.Options.DrainRate > m.drain {
		warn("extrapolated: the drain rate given is %.3g times the highest that was measured", p.Options.DrainRate/m.drain)
	}
	if p.Bound < 2*defaultBatch {
		warn("a bound of %d is less than two batches of 256: doors admit two batches by time, and the bound is what holds", p.Bound)
	}
	if m.Cores < p.Options.Cores {
		warn("measured on %d cores, planned for %d: that a process uses more cores as well as fewer is assumed", m.Cores, p.Options.Cores)
	}
}
