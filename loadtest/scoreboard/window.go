package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	labs "sluice/loadtest/lab"
)

// target is one side as it runs: its processes, and the load that is put on it.
type target struct {
	name      string
	processes []*labs.Process
	load      *load
	settled   func(context.Context) error // waits until what was answered is done with; nil: it is at once
}

// window is a time in which one side was loaded.
type window struct {
	tally
	cpu map[string]time.Duration // by process
}

// run loads the side for a while. The processor time of work that its answers leave behind is counted too.
func (t *target) run(ctx context.Context, most time.Duration) (window, error) {
	before, err := t.cpu()
	if err != nil {
		return window{}, err
	}
	w := window{}
	if w.tally, err = t.load.run(ctx, most, 0); err == nil && ctx.Err() == nil && t.settled != nil {
		err = t.settled(ctx)
	}
	if err != nil {
		return w, fmt.Errorf("%s: %w", t.name, err)
	}
	if ctx.Err() != nil {
		return w, ctx.Err()
	}
	if w.cpu, err = t.cpu(); err != nil {
		return w, err
	}
	for name := range w.cpu {
		w.cpu[name] -= before[name]
	}
	return w, nil
}

func (t *target) cpu() (map[string]time.Duration, error) {
	used := map[string]time.Duration{}
	for _, p := range t.processes {
		d, err := p.CPU()
		if err != nil {
			return nil, err
		}
		used[p.Name()] += d
	}
	return used, nil
}

// cost is the processor time of an answer, in microseconds.
func (w window) cost() float64 {
	var sum time.Duration
	for _, d := range w.cpu {
		sum += d
	}
	return w.of(sum)
}

func (w window) of(d time.Duration) float64 {
	return float64(d) / float64(time.Microsecond) / float64(w.total)
}

// describe sums up the windows of one side for a reader.
func describe(windows []window) side {
	s := side{Parts: map[string]float64{}, Answers: map[string]int64{}}
	seen := newHistogram()
	var costs, rates []float64
	parts := map[string][]float64{}
	for _, w := range windows {
		costs = append(costs, w.cost())
		rates = append(rates, float64(w.total)/w.took.Seconds())
		for name, d := range w.cpu {
			parts[name] = append(parts[name], w.of(d))
		}
		for kind, n := range w.answers {
			s.Answers[kind] += n
		}
		seen.Merge(w.seen)
	}
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		s.Parts[name] = median(parts[name])
	}
	s.CPU, s.PerSecond = median(costs), median(rates)
	s.P50, s.P99 = float64(seen.ValueAtQuantile(50))/1000, float64(seen.ValueAtQuantile(99))/1000
	return s
}

// compare loads two sides in turn and answers the ratio of their costs.
func (l *lab) compare(ctx context.Context, ours, bare *target) (figure, error) {
	pairs, length := 15, 3*time.Second // many short pairs: a machine is seldom quiet for long
	if l.short {
		pairs, length = 9, 1500*time.Millisecond
	}
	for _, t := range []*target{ours, bare} {
		if _, err := t.run(ctx, 3*time.Second); err != nil {
			return figure{}, fmt.Errorf("warm up: %w", err)
		}
	}
	one := func(t *target) func() (window, error) {
		return func() (window, error) {
			w, err := t.run(ctx, length)
			if err == nil {
				l.say("  %s: %.2f µs, %.0f a second %v", t.name, w.cost(), float64(w.total)/w.took.Seconds(), w.answers)
			}
			return w, err
		}
	}
	windows, err := interleaved(pairs, one(ours), one(bare))
	if err != nil {
		return figure{}, err
	}
	as, bs := windows[0], windows[1]
	ratios := make([]float64, pairs)
	for i := range ratios {
		ratios[i] = as[i].cost() / bs[i].cost()
	}
	f := over(ratios)
	f.sides = map[string]side{ours.name: describe(as), bare.name: describe(bs)}
	return f, nil
}
