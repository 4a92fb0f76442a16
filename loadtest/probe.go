package loadtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"sluice"
)

// MeasureCapacity searches the highest rate at which a service keeps the scenario's SLO: the scenario is played again and again, with
// all its rates scaled so that the highest one of its orders is the one that is tried, each time for sales of its own, against one
// service. The answer's scenario and plan are those of the rate that it ends with, and its rounds the valid repeats there; where there are
// none, the last round that was played. With an answer an error says what ended the search.
func MeasureCapacity(ctx context.Context, o Options, how SearchOptions) (run *Run, log []Interval, err error) {
	if how, err = how.checked(); err != nil {
		return nil, nil, &SetupError{err}
	}
	if err := o.Check(ctx); err != nil {
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
	run, finish, err := o.begin()
	if err != nil {
		return nil, nil, err
	}
	p := &prober{options: o, service: service}
	found, err := search(ctx, how, p.probe, o.Say)
	if err != nil && !errors.Is(err, errPartial) {
		return nil, nil, err
	}
	run.Search, run.Partial = &found, found.Limit == LimitEnd
	if found.Limit != LimitEnd || ctx.Err() != nil {
		err = nil // the report says what ended it
	}
	if err != nil {
		run.Failure = err.Error()
	}
	for _, r := range p.of(&found) {
		run.Rounds, log = append(run.Rounds, r.round), append(log, r.log...)
		run.played(&r.scenario)
	}
	if len(run.Rounds) == 0 {
		return nil, nil, cmp.Or(err, errInterrupted)
	}
	finish()
	return run, log, err
}

// prober plays a scenario at one rate after the other.
type prober struct {
	options Options
	service *Service
	repeats []played // valid ones
	last    *played
}

type played struct {
	rate     float64
	scenario Scenario
	round    Round
	log      []Interval
}

func (p *prober) probe(ctx context.Context, stage string, rate float64) (Probe, error) {
	o := p.options
	o.Scenario, o.Foreign, o.Rounds = o.Scenario.scaled(rate), p.service, 1
	if err := o.Scenario.Validate(); err != nil {
		return Probe{}, err
	}
	number := 1
	for i := range p.repeats {
		if p.repeats[i].rate == rate {
			number++
		}
	}
	round, log, err := (&player{Options: &o, plan: newPlan(&o.Scenario), number: number}).play(ctx)
	if err != nil {
		return Probe{}, err
	}
	p.last = &played{rate, o.Scenario, round, log}
	if stage == StageRepeat && len(round.Invalid) == 0 {
		p.repeats = append(p.repeats, *p.last)
	}
	m := &round.Measured
	return Probe{
		Stage: stage, Rate: rate, Goodput: m.Goodput, P99: m.Latency[Accepted].P99, Sojourn: round.Audit.Sojourn.P99, Shed: m.Shed(),
		Kept: len(round.Broken) == 0, Why: round.Broken, Invalid: round.Invalid, Wrong: round.Audit.Wrong,
	}, nil
}

// of is the rounds that a search's figures are of, or else the last one: that which broke a promise, say.
func (p *prober) of(found *Search) (rounds []played) {
	for _, r := range p.repeats {
		if r.rate == found.Rate {
			rounds = append(rounds, r)
		}
	}
	if len(rounds) == 0 && p.last != nil {
		return []played{*p.last}
	}
	return rounds
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
	return ceiling(ctx, CeilingOptions{Connections: o.Scenario.Connections}, func(ctx context.Context, rate float64) (Figures, error) {
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
	used := usedSince(a.schedule, p.start, newSelf()) //nolint:contextcheck // the schedule has it
	a.run(books.see)
	books.end(p.end)
	f := books.all.figures("null", 0, length, false)
	f.CPU[generator] = used()
	return f, ctx.Err()
}
