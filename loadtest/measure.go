package loadtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"sluice/loadtest/lab"
)

// Options say how a scenario is played.
type Options struct {
	Scenario Scenario
	Rounds   int // each with parts, or at least sales, of its own
	Lab      *lab.Lab
	Program  string   // sluice, for parts of its own
	Store    Store    // of these
	Foreign  *Service // plays against it instead; nil: parts of its own
	Ceiling  *Ceiling // what is known of the generator; nil: nothing
	Progress io.Writer
	Say      func(format string, args ...any)
	Command  string // that repeats the run
	Commit   string
}

// SetupError is what keeps a load test from beginning: what it was given is to be mended, not the service.
type SetupError struct{ Err error }

func (e *SetupError) Error() string { return e.Err.Error() }
func (e *SetupError) Unwrap() error { return e.Err }

// Measure plays a scenario and tells what was seen. A round in which the generator or the machine was measured is played again, twice
// at most on average; what is kept then is kept as invalid. Where ctx ends early it answers what there is, marked as partial, and no error;
// where something fails after a round, what there is and the error.
func Measure(ctx context.Context, o Options) (*Run, []Interval, error) {
	if err := o.Check(ctx); err != nil {
		return nil, nil, err
	}
	run, finish, err := o.begin()
	if err != nil {
		return nil, nil, err
	}
	run.played(&o.Scenario)
	p := newPlan(&o.Scenario)
	var log []Interval
	var failure error
	for n := 1; n <= o.Rounds && !run.Partial && failure == nil; {
		round, intervals, err := (&player{Options: &o, plan: p, number: n}).play(ctx)
		run.Partial, failure = ctx.Err() != nil, err
		if !round.measured() {
			continue
		}
		if err == nil && round.doubtful() && !run.Partial && len(run.Discarded) < mostAgain*o.Rounds {
			o.Say("round %d is not valid, and is played again: %s", n, round.Invalid[0])
			run.Discarded = append(run.Discarded, round.Invalid[0])
			continue
		}
		run.Rounds, log = append(run.Rounds, round), append(log, intervals...)
		n++
	}
	if run.Partial && errors.Is(failure, context.Canceled) {
		failure = nil // that is the interrupt itself
	}
	if len(run.Rounds) == 0 {
		return nil, nil, cmp.Or(failure, errInterrupted)
	}
	if failure != nil {
		run.Partial, run.Failure = true, failure.Error()
	}
	finish()
	return run, log, failure
}

// measured reports whether a round came to its end, though perhaps an early one.
func (r *Round) measured() bool { return len(r.Phases) > 0 }

// doubtful reports whether a round's figures are not to be believed. A promise that was broken is, whatever else.
func (r *Round) doubtful() bool { return len(r.Invalid) > 0 && !r.Audit.Failed() }

// errInterrupted says that there is nothing to report.
var errInterrupted = errors.New("interrupted before anything was measured")

// begin notes what is known of a run before it begins; finish what is known when it is over.
func (o *Options) begin() (run *Run, finish func(), err error) {
	run = &Run{
		Format: RunFormat, Command: o.Command, Began: time.Now().Round(time.Second).UTC(), Commit: o.Commit,
		Store: o.Store.Kind, Ceiling: o.Ceiling,
	}
	if o.Foreign != nil {
		run.Store, run.Target = "unknown", o.Foreign.Doors[0]
	}
	machine, err := lab.ReadMachine(o.Lab.Dir())
	if err != nil {
		return nil, nil, err
	}
	then, began := lab.Now(), time.Now()
	return run, func() { run.Took, run.Machine = time.Since(began).Seconds(), machine.Since(then) }, nil
}

// played notes the scenario that the rounds were played by.
func (run *Run) played(s *Scenario) { run.Scenario, run.Seed, run.Plan = *s, s.Seed, newPlan(s).hash() }

// Check says what keeps a load test from beginning, as a SetupError. It starts nothing.
func (o *Options) Check(ctx context.Context) error {
	if err := o.Scenario.Validate(); err != nil {
		return &SetupError{fmt.Errorf("scenario %s: %w", o.Scenario.Name, err)}
	}
	if err := checkDescriptors(o.Scenario.Connections, openFiles()); err != nil {
		return &SetupError{err}
	}
	if o.Foreign == nil {
		return nil
	}
	if o.Scenario.Parts.Slow != (Slow{}) {
		return &SetupError{errors.New("parts.slow: the database of a foreign service can't be slowed; leave out --target, or the key")}
	}
	if err := o.Foreign.ready(ctx); err != nil {
		return &SetupError{err}
	}
	return nil
}

// service is what is played against; stop ends it, where it is ours.
func (o *Options) service(ctx context.Context) (s *Service, stop func() error, err error) {
	if o.Foreign != nil {
		return o.Foreign, func() error { return nil }, nil
	}
	if s, err = StartParts(ctx, o.Lab, o.Program, o.Store, o.Scenario.Parts); err != nil {
		return nil, nil, err
	}
	return s, func() error { // also after an interrupt
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		return s.Stop(bounded)
	}, nil
}

// ready asks a foreign service whether it can be aimed at.
func (s *Service) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for _, door := range s.Doors {
		if err := get(ctx, door+"/readyz"); err != nil {
			return fmt.Errorf("the front door at %s is not ready: %w", door, err)
		}
	}
	c := s.operations()
	defer c.Close()
	if _, err := c.Audit(ctx); err != nil {
		return fmt.Errorf("the operations API at %s does not answer: %w", s.Admin, err)
	}
	return nil
}
