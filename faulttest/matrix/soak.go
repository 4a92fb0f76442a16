package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"sluice/faulttest/check"
	"sluice/loadtest/lab"
)

// trial is something that is done to a running scene and undone, any number of times.
type trial struct {
	name string
	do   func(ctx context.Context, s *scene, door *part) error
}

// trials are what a soak chooses from.
var trials = []trial{
	{"kill a door", func(ctx context.Context, s *scene, door *part) error { return s.die(ctx, door) }},
	{"kill nsqd", func(ctx context.Context, s *scene, _ *part) error { return s.die(ctx, s.parts["nsqd"]) }},
	{"kill nsqd, and take its data", func(ctx context.Context, s *scene, _ *part) error {
		nsqd := s.parts["nsqd"]
		if err := errors.Join(nsqd.kill(), os.RemoveAll(nsqd.data)); err != nil {
			return err
		}
		s.wait(ctx, 200*time.Millisecond, 2*time.Second)
		return nsqd.start(ctx)
	}},
	{"kill the worker", func(ctx context.Context, s *scene, _ *part) error { return s.die(ctx, s.parts["worker"]) }},
	{"kill PostgreSQL", func(ctx context.Context, s *scene, _ *part) error {
		if err := s.postgres.kill(); err != nil {
			return err
		}
		s.wait(ctx, 500*time.Millisecond, 3*time.Second)
		return s.postgres.start(ctx)
	}},
	{"stop a door", func(ctx context.Context, s *scene, door *part) error { return s.standStill(ctx, door) }},
	{"stop nsqd", func(ctx context.Context, s *scene, _ *part) error { return s.standStill(ctx, s.parts["nsqd"]) }},
	{"stop the worker", func(ctx context.Context, s *scene, _ *part) error { return s.standStill(ctx, s.parts["worker"]) }},
	{"stop PostgreSQL", func(ctx context.Context, s *scene, _ *part) error {
		if err := s.postgres.freeze(); err != nil {
			return err
		}
		s.wait(ctx, time.Second, 5*time.Second)
		return s.postgres.thaw()
	}},
	{"ask a door to end", func(ctx context.Context, _ *scene, door *part) error {
		return errors.Join(door.stop(ctx), door.start(ctx))
	}},
	{"ask the worker to end", func(ctx context.Context, s *scene, _ *part) error {
		return errors.Join(s.parts["worker"].stop(ctx), s.parts["worker"].start(ctx))
	}},
	{"cut a door off from nsqd", func(ctx context.Context, s *scene, door *part) error { return s.cutOff(ctx, link{door.name, "nsqd"}) }},
	{"cut a door off from the worker", func(ctx context.Context, s *scene, door *part) error { return s.cutOff(ctx, link{door.name, "worker"}) }},
	{"cut the worker off from nsqd", func(ctx context.Context, s *scene, _ *part) error { return s.cutOff(ctx, link{"worker", "nsqd"}) }},
	{"cut the worker off from PostgreSQL", func(ctx context.Context, s *scene, _ *part) error {
		return s.cutOff(ctx, link{"worker", "postgres"})
	}},
}

// die kills a part, and starts it again a little later.
func (s *scene) die(ctx context.Context, p *part) error {
	if err := p.kill(); err != nil {
		return err
	}
	s.wait(ctx, 0, 2*time.Second)
	return p.start(ctx)
}

func (s *scene) standStill(ctx context.Context, p *part) error {
	if err := p.freeze(ctx); err != nil {
		return err
	}
	s.wait(ctx, time.Second, 5*time.Second)
	return p.thaw()
}

// cutOff lets nothing arrive in one direction of a connection for some seconds. What was sent meanwhile is gone, and so the connection
// breaks when it is over: no end may take up a stream in its middle.
func (s *scene) cutOff(ctx context.Context, l link) error {
	p, err := s.proxyOf(l)
	if err != nil {
		return err
	}
	heal, err := s.silence(l) //nolint:contextcheck // what heals it does so also when the run is over
	if err != nil {
		return err
	}
	s.wait(ctx, time.Second, 6*time.Second)
	p.Stop()
	return errors.Join(heal(), p.Start())
}

const (
	trialEvery = 20 * time.Second
	warmTime   = 2 * time.Minute // after which caches are full
)

// tried is one trial that was made.
type tried struct {
	What    string  `json:"what"`
	At      float64 `json:"at"`      // seconds since the run began
	Healed  float64 `json:"healed"`  // when all that was done was undone
	Serving float64 `json:"serving"` // when every door was ready again
}

// soakStory is a story of one trial after the other for as long as buyers come.
func soakStory(length time.Duration, made *[]tried) story {
	between := proxied(link{"door-1", "nsqd"}, link{"door-2", "nsqd"}, link{"door-1", "worker"}, link{"door-2", "worker"},
		link{"worker", "nsqd"}, link{"worker", "postgres"})
	return story{
		name:  "soak",
		holds: "At three times the capacity, with a fault every 20 s, the bound holds, memory is flat and nothing is lost.",
		doors: 2, plenty: true, streams: true, length: length, takes: length + 10*time.Minute, between: between,
		inject: func(ctx context.Context, s *scene) error {
			began := time.Now()
			seconds := func() float64 { return time.Since(began).Seconds() }
			for n := 1; time.Duration(n+1)*trialEvery <= length; n++ { // the last one has its time too
				pause(ctx, time.Until(began.Add(time.Duration(n)*trialEvery)))
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				t, door := trials[s.random.IntN(len(trials))], s.parts[fmt.Sprintf("door-%d", 1+s.random.IntN(2))]
				one := tried{What: t.name, At: seconds()}
				s.say("%7.1fs %s", one.At, t.name)
				if err := t.do(ctx, s, door); err != nil {
					return fmt.Errorf("%s: %w", t.name, err)
				}
				one.Healed = seconds()
				if err := s.ready(ctx); err != nil {
					return fmt.Errorf("after %s: %w", t.name, err)
				}
				one.Serving = seconds()
				*made = append(*made, one)
			}
			s.must(len(*made) > 0, "it was too short for a fault")
			return nil
		},
	}
}

// soak plays the soak and writes soak.md and soak.json.
func soak(ctx context.Context, o options, out, complaints io.Writer) int {
	if err := os.MkdirAll(o.keep, 0o755); err != nil {
		fmt.Fprintln(complaints, "faults:", err)
		return 1
	}
	dir, err := os.MkdirTemp(o.keep, "soak-")
	if err != nil {
		fmt.Fprintln(complaints, "faults:", err)
		return 1
	}
	r := soakReport{Command: fmt.Sprintf("make soak FOR=%v SEED=%d", o.soak, o.seed), Commit: commitOf(o.programs.sluice), Seed: o.seed, For: o.soak.String(), Began: time.Now(), Capacity: capacity, Bound: totalBound}
	r.Offered = run{load: crush}.load.share * capacity
	then := lab.Now()
	if r.Machine, err = lab.ReadMachine(dir); err != nil {
		fmt.Fprintln(complaints, "faults:", err)
		return 1
	}
	say := func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }
	r.Result = play(ctx, run{story: soakStory(o.soak, &r.Trials), store: "postgres", load: crush, seed: o.seed}, o.programs, dir, say)
	r.Machine = r.Machine.Since(then)
	r.judge(r.Result.samples)
	say("%s", r.Result.line())
	say("%s", r.text())
	if o.out != "" {
		if err := errors.Join(os.MkdirAll(o.out, 0o755), r.write(o.out)); err != nil {
			fmt.Fprintln(complaints, "faults:", err)
			return 1
		}
	}
	if !r.OK {
		return 1
	}
	return 0
}

// samplesAt is how the memory of processes of an age is found: in steps, so that like is compared with like.
const ageStep = 10 * time.Second

// growth compares what a part's processes had when they were young as the run was, and what they had as the run ended, at the same age:
// a part that was restarted lately has had no time to fill its caches. It answers the largest ratio, or 0 where no age was met twice.
func growth(samples []check.Sample, part string, warm, late int64) (ratio float64, early, end int64) {
	type seen struct{ early, late []int64 }
	ages := map[int64]*seen{}
	for _, s := range samples {
		if s.Part != part || s.At < warm {
			continue
		}
		age := min((s.At-s.Born)/int64(ageStep), int64(warmTime/ageStep)) // those older than the warm time have full caches
		if ages[age] == nil {
			ages[age] = &seen{}
		}
		if s.At >= late {
			ages[age].late = append(ages[age].late, s.Memory)
		} else if s.At < warm+(late-warm)/2 {
			ages[age].early = append(ages[age].early, s.Memory)
		}
	}
	for _, a := range ages {
		if len(a.early) == 0 || len(a.late) == 0 {
			continue
		}
		e, l := middle(a.early), middle(a.late)
		if r := float64(l) / float64(e); r > ratio {
			ratio, early, end = r, e, l
		}
	}
	return ratio, early, end
}
