package loadtest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sluice"
)

// MeasureCapacity searches the highest rate at which a service keeps the scenario's SLO: the scenario is played again and again, with
// all its rates scaled so that the highest one of its orders is the one that is tried, each time for sales of its own. The rounds of
// the answer are the repeats at the rate that it ends with.
func MeasureCapacity(ctx context.Context, o Options, how SearchOptions) (run *Run, log []Interval, err error) {
	if err := o.check(ctx); err != nil {
		return nil, nil, err
	}
	if how, err = how.checked(); err != nil {
		return nil, nil, &SetupError{err}
	}
	run, finish, err := o.begin(newPlan(&o.Scenario))
	if err != nil {
		return nil, nil, err
	}
	service, stop, err := o.service(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	if o.Ceiling != nil {
		how.Ceiling = o.Ceiling.Rate
	}
	p := &prober{options: o, service: service}
	found, err := search(ctx, how, p.probe, o.Say)
	if err != nil && !errors.Is(err, errPartial) {
		return nil, nil, err
	}
	run.Search, run.Partial = &found, err != nil
	for _, r := range p.repeats {
		run.Rounds, log = append(run.Rounds, r.round), append(log, r.log...)
	}
	if len(run.Rounds) == 0 {
		return nil, nil, errInterrupted
	}
	finish()
	return run, log, nil
}

// prober plays a scenario at one rate after the other.
type prober struct {
	options Options
	service *Service
	rate    float64
	repeats []played // at the rate that was repeated last
}

type played struct {
	round Round
	log   []Interval
}

func (p *prober) probe(ctx context.Context, stage string, rate float64) (Probe, error) {
	o := p.options
	o.Scenario, o.Foreign, o.Rounds = o.Scenario.scaled(rate), p.service, 1
	if err := o.Scenario.Validate(); err != nil {
		return Probe{}, err
	}
	if rate != p.rate {
		p.rate, p.repeats = rate, nil
	}
	r := &player{Options: &o, plan: newPlan(&o.Scenario), number: len(p.repeats) + 1}
	round, log, err := r.play(ctx)
	if err != nil {
		return Probe{}, err
	}
	m := &round.Measured
	p.repeats = append(p.repeats, played{round, log})
	return Probe{
		Stage: stage, Rate: rate, Goodput: m.Goodput, P99: m.Latency[Accepted].P99, Sojourn: round.Audit.Sojourn.P99, Shed: m.Shed(),
		Kept: len(round.Broken) == 0 && len(round.Audit.Wrong) == 0, Why: append(round.Broken, round.Audit.Wrong...), Invalid: round.Invalid,
	}, nil
}

// scaled is the scenario with all rates scaled so that the highest one of its orders is this one.
func (s Scenario) scaled(rate float64) Scenario {
	var highest float64
	for i := range s.Phases {
		highest = max(highest, s.Phases[i].Orders.highest())
	}
	by := rate / highest
	s.Phases = append([]Phase(nil), s.Phases...)
	for i := range s.Phases {
		for _, a := range []*Arrivals{&s.Phases[i].Orders, &s.Phases[i].Pages} {
			a.Rate, a.To = a.Rate*by, a.To*by
		}
	}
	s.Warmup.Rate = min(s.Warmup.Rate, rate)
	return s
}

// MeasureCeiling finds what the generator reaches by itself on this machine, against a server that answers at once and does nothing.
func MeasureCeiling(ctx context.Context, o Options) (c Ceiling, err error) {
	address, err := o.Lab.FreeAddress()
	if err != nil {
		return Ceiling{}, err
	}
	if _, err := o.Lab.Start("null", o.Program, "loadtest", "null", "--listen", address); err != nil {
		return Ceiling{}, err
	}
	defer func() { err = errors.Join(err, o.Lab.End()) }()
	door := "http://" + address
	for end := time.Now().Add(10 * time.Second); get(ctx, door+"/readyz") != nil; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) || ctx.Err() != nil {
			return Ceiling{}, fmt.Errorf("the null server at %s does not answer", address)
		}
	}
	return ceiling(ctx, CeilingOptions{}, func(ctx context.Context, rate float64) (Figures, error) {
		const length = 2 * time.Second
		return o.nullRun(ctx, door, rate, length)
	})
}

// nullRun sends orders to the null server for a while.
func (o *Options) nullRun(ctx context.Context, door string, rate float64, length time.Duration) (Figures, error) {
	s := o.Scenario
	s.Crowd = Crowd{Quantity: 1, Keyed: 1, Tries: 1}
	s.Warmup = Warmup{For: sluice.Duration(time.Second), Rate: rate}
	s.Phases = []Phase{{Name: "null", For: sluice.Duration(length), Orders: Arrivals{Rate: rate}}}
	p := newPlan(&s)
	a, err := newAttack(ctx, &s, p, []string{door}, []string{"null"}, "null")
	if err != nil {
		return Figures{}, err
	}
	books := newTally(&s, p, a.schedule)
	self := newSelf()
	before, _ := self() // what can't be read of it is 0
	a.run(books.see)
	books.end(p.end)
	f := books.all.figures("null", 0, length, false)
	after, _ := self()
	f.CPU[generator] = after.cpu - before.cpu
	return f, ctx.Err()
}
