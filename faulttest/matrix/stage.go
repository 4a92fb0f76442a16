package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"sluice/faulttest/check"
	"sluice/loadtest/lab"
)

// runTime is the most that a run may take.
const runTime = 3 * time.Minute

// result is how a run ended.
type result struct {
	Case    string         `json:"case"`
	Holds   string         `json:"holds"`
	Store   string         `json:"store"`
	Load    string         `json:"load"`
	Seed    uint64         `json:"seed"`
	OK      bool           `json:"ok"`
	Trouble string         `json:"trouble,omitempty"` // why not
	Late    bool           `json:"late,omitempty"`    // it failed for want of time alone: everything else was as it should be
	Skipped string         `json:"skipped,omitempty"` // why it was not played: neither ok nor failed
	Verdict *check.Verdict `json:"verdict,omitempty"`
	Faults  []check.Fault  `json:"faults"`
	Cut     int64          `json:"cut"` // purchases without an answer
	Seconds float64        `json:"seconds"`
	Phases  []phase        `json:"phases"`        // what they went to
	Dir     string         `json:"dir,omitempty"` // kept where it failed

	samples []check.Sample // for who reads more out of them
}

// phase is a part of a run, and when it was over.
type phase struct {
	Name string  `json:"name"`
	Over float64 `json:"over"` // seconds since the run began
}

// play plays one run in a folder of its own, and has it judged.
func play(ctx context.Context, r run, p programs, dir string, say func(string, ...any)) result {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, max(runTime, r.takes))
	defer cancel()
	s := &scene{run: r, programs: p, dir: dir, say: say}
	s.over = func(name string) { s.phases = append(s.phases, phase{name, time.Since(began).Seconds()}) }
	out := result{Case: r.story.name, Holds: r.holds, Store: r.store, Load: r.load.name, Seed: r.seed, Dir: dir}
	judged, err := s.perform(ctx)
	out.Verdict = judged
	err = errors.Join(err, s.close())
	for _, little := range s.tooLittle {
		err = errors.Join(err, fmt.Errorf("the case tests less than it says: %s", little))
	}
	for _, tardy := range s.tardy {
		err = errors.Join(err, late(tardy))
	}
	out.samples = s.uses.samples
	out.Faults, out.Phases, out.Seconds = s.faults, s.phases, time.Since(began).Seconds()
	if s.buyers != nil {
		out.Cut = s.buyers.cut.Load()
	}
	if why, ok := errors.AsType[*skipped](err); ok {
		out.Skipped = why.Error()
		return out
	}
	if err != nil {
		out.Trouble, out.Late = err.Error(), onlyLate(err)
		return out
	}
	out.OK, out.Dir = true, ""
	if err := os.RemoveAll(dir); err != nil {
		say("%s is left behind: %v", dir, err)
	}
	return out
}

// perform is a run from the first process to the verdict.
func (s *scene) perform(ctx context.Context) (*check.Verdict, error) {
	if err := s.open(ctx); err != nil {
		return nil, err
	}
	if err := s.readClock(ctx); err != nil {
		return nil, err
	}
	s.over("start")
	defer s.sampleUses(ctx)()
	s.buyers = newBuyers(s)
	defer s.buyers.client.CloseIdleConnections()
	var rush sync.WaitGroup
	rush.Go(func() { s.buyers.rush(ctx) })
	err := s.inject(ctx, s)
	if err != nil {
		err = fmt.Errorf("the fault: %w", err)
	}
	s.over("fault")
	err = errors.Join(err, s.allRun(ctx))
	rush.Wait()
	s.over("rush")
	if err != nil {
		return nil, err
	}
	if err := s.finish(ctx); err != nil { // the checker finds out what is behind it
		verdict, judged := s.judge(ctx)
		return verdict, errors.Join(err, judged)
	}
	s.rested(ctx)
	s.over("rest")
	if s.afterwards != nil {
		err = s.afterwards(ctx, s)
	}
	verdict, judged := s.judge(ctx)
	s.over("verdict")
	return verdict, errors.Join(err, judged)
}

// allRun: a story undoes what it did.
func (s *scene) allRun(ctx context.Context) (err error) {
	for _, p := range s.order {
		if e := lab.Eventually(ctx, startTime, p.name+" runs again", func() error { return p.answers(ctx) }); e != nil {
			err = errors.Join(err, fmt.Errorf("%w; it says:\n%s", e, p.process.Said(20)))
		}
	}
	return err
}

// judge has the checker, a process of its own, look at what is left.
func (s *scene) judge(ctx context.Context) (*check.Verdict, error) {
	s.testify()
	if err := errors.Join(s.readClock(ctx), s.history.Err()); err != nil {
		return nil, err
	}
	var err error
	if n := s.buyers.gaveUp.Load(); n > 0 {
		err = fmt.Errorf("P7: %d buyers got no definite answer", n)
	}
	if e := s.describe().Write(s.dir); e != nil {
		return nil, e
	}
	var said bytes.Buffer
	checker := exec.CommandContext(ctx, s.programs.checker, s.dir)
	checker.Stdout, checker.Stderr, checker.SysProcAttr = &said, &said, lab.Apart()
	failed := checker.Run()
	v, e := check.ReadVerdict(s.dir)
	if e != nil {
		return nil, errors.Join(err, failed, fmt.Errorf("the checker: %w\n%s", e, strings.TrimSpace(said.String())))
	}
	if failed != nil {
		text := fmt.Sprintf("the checker: %v\n%s", failed, strings.TrimSpace(said.String()))
		if v.Late() {
			err = errors.Join(err, late(text))
		} else {
			err = errors.Join(err, errors.New(text))
		}
	}
	audit := exec.CommandContext(ctx, s.programs.sluice, "audit", "--admin", s.admin)
	audit.Env, audit.SysProcAttr = lab.CleanEnv(), lab.Apart()
	if text, e := audit.CombinedOutput(); e != nil {
		err = errors.Join(err, fmt.Errorf("P8: sluice audit: %w\n%s", e, bytes.TrimSpace(text)))
	}
	return v, err
}

// late is a failure of time alone: answers that came, and not in time (P7). A machine that does other work too has some.
type late string

func (l late) Error() string { return string(l) }

// onlyLate reports whether nothing but time is wrong.
func onlyLate(err error) bool {
	if all, ok := err.(interface{ Unwrap() []error }); ok {
		return !slices.ContainsFunc(all.Unwrap(), func(one error) bool { return !onlyLate(one) })
	}
	_, ok := err.(late) //nolint:errorlint // it goes through the tree itself
	return ok
}
