package main

import (
	"context"
	"fmt"
	"time"
)

// speed is what one side did in one run.
type speed struct {
	orders  int64 // held rows in the database
	took    time.Duration
	answers map[string]int64 // what buyers heard, where there were any
}

func (s speed) perSecond() float64 { return float64(s.orders) / s.took.Seconds() }

// contender is one side of a race. The first of all is the service; the ratio to the second is the row's figure, and those to the
// others stand beside it.
type contender struct {
	name       string
	run        func() (speed, error)
	must, then float64 // the least ratio to it; the second side's is the row's
}

// race runs all sides in turn, and answers how many times as fast as each other one the first is. Each round is one ratio.
func (l *lab) race(ctx context.Context, rounds int, sides ...contender) (figure, error) {
	runs := make([]func() (speed, error), len(sides))
	for i, s := range sides {
		runs[i] = func() (speed, error) {
			if ctx.Err() != nil {
				return speed{}, ctx.Err()
			}
			v, err := s.run()
			if err != nil {
				return v, fmt.Errorf("%s: %w", s.name, err)
			}
			l.say("  %s: %d orders in %.2f s, %.0f a second %v", s.name, v.orders, v.took.Seconds(), v.perSecond(), v.answers)
			return v, nil
		}
	}
	speeds, err := interleaved(rounds, runs...)
	if err != nil {
		return figure{}, err
	}
	f := over(ratiosOf(speeds[0], speeds[1]))
	f.against = sides[1].name
	for i, s := range sides[2:] {
		f.also = append(f.also, newComparison(s.name, over(ratiosOf(speeds[0], speeds[i+2])), s.must, s.then))
	}
	f.sides = map[string]side{}
	for i, s := range sides {
		f.sides[s.name] = summary(speeds[i])
	}
	return f, nil
}

func ratiosOf(ours, theirs []speed) []float64 {
	ratios := make([]float64, len(ours))
	for i := range ratios {
		ratios[i] = ours[i].perSecond() / theirs[i].perSecond()
	}
	return ratios
}

// summary sums up the runs of one side for a reader.
func summary(runs []speed) side {
	s := side{Answers: map[string]int64{}}
	rates := make([]float64, len(runs))
	for i, r := range runs {
		rates[i] = r.perSecond()
		for kind, n := range r.answers {
			s.Answers[kind] += n
		}
	}
	f := over(rates)
	s.PerSecond, s.Figures = f.ratio, map[string]float64{"slowest run": f.spread[0], "fastest run": f.spread[1]}
	return s
}
