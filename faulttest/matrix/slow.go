package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"sluice/loadtest/lab"
)

// slow is the story of a database that takes its time.
var slow = []story{
	{
		name:    "slow-postgres",
		holds:   "Every statement takes two seconds more: the door sheds, memory stays flat, the worker takes fewer orders in hand, and all comes back by itself.",
		stores:  []string{"postgres"},
		length:  mostSlow + 18*time.Second,
		between: proxied(link{"worker", "postgres"}),
		inject: func(ctx context.Context, s *scene) error {
			s.wait(ctx, 2*time.Second, 3*time.Second) // until the worker knows what a batch takes
			if err := s.untilInHand(ctx); err != nil {
				return err
			}
			before, err := s.memory()
			if err != nil {
				return err
			}
			wide, err := s.takes(ctx)
			if err != nil {
				return err
			}
			heal, err := s.slowDown(link{"worker", "postgres"}, 2*time.Second)
			if err != nil {
				return err
			}
			enough := max(slowBatch, wide*slowCut)
			narrow, shed, settled, err := s.whileSlow(ctx, enough)
			if err = errors.Join(err, heal()); err != nil {
				return err
			}
			s.must(narrow <= enough, "the worker's window was %v before, and never smaller than %v", wide, narrow)
			s.must(shed > 0, "no door turned anybody away")
			s.must(settled < min(s.rate(), capacity)/2, "%v orders a second were settled all the same", settled)
			after, err := s.memory()
			if err == nil && after > before+memoryAllowance {
				err = fmt.Errorf("P9: door and worker had %d MiB, and %d MiB after a slow database", before>>20, after>>20)
			}
			if err != nil {
				return err
			}
			return s.untilItSettles(ctx, min(s.rate(), capacity)*0.8)
		},
	},
}

const (
	// A batch takes four statements and more, two workers take turns, and after four batches the window is cut; a transaction that is
	// idle for too long is an outage, and then it is none.
	slowFor         = 30 * time.Second
	mostSlow        = 60 * time.Second
	slowBatch       = 20.0     // orders: the least window but none
	slowCut         = 0.75     // of a window, at most, is left when it is cut
	memoryAllowance = 64 << 20 // what a garbage collector may leave lying about
)

// whileSlow looks on until the worker's window is small enough, or for as long as it may be slow. It answers the smallest window that the
// worker had, how many the door turned away, and how many orders were settled a second.
func (s *scene) whileSlow(ctx context.Context, enough float64) (narrow, shed, settled float64, err error) {
	door := s.doorList[0].Metrics
	refused, err := metric(ctx, door, "sluice_door_refused_total", "")
	before, counted := s.rows(ctx)
	if err = errors.Join(err, counted); err != nil {
		return 0, 0, 0, err
	}
	began := time.Now()
	narrow = math.Inf(1)
	for ctx.Err() == nil && (time.Since(began) < slowFor || narrow > enough && time.Since(began) < mostSlow) {
		now, err := s.takes(ctx)
		if err != nil {
			return 0, 0, 0, err
		}
		narrow = min(narrow, now)
		pause(ctx, 100*time.Millisecond)
	}
	shed, err = metric(ctx, door, "sluice_door_refused_total", "")
	after, counted := s.rows(ctx)
	return narrow, shed - refused, float64(after-before) / time.Since(began).Seconds(), errors.Join(err, counted)
}

// untilItSettles waits until so many orders a second are settled, for two seconds.
func (s *scene) untilItSettles(ctx context.Context, least float64) error {
	return lab.Eventually(ctx, startTime, "orders are settled as before", func() error {
		before, err := s.rows(ctx)
		began := time.Now()
		pause(ctx, 2*time.Second)
		after, counted := s.rows(ctx)
		if now := float64(after-before) / time.Since(began).Seconds(); now < least {
			err = errors.Join(err, fmt.Errorf("%.0f a second are, want %.0f", now, least))
		}
		return errors.Join(err, counted)
	})
}

// takes is how many orders the worker lets nsqd give it at a time.
func (s *scene) takes(ctx context.Context) (float64, error) {
	return metric(ctx, s.admin, "sluice_worker_pool_window", `pool="settle"`)
}

// untilItTakes waits until the worker takes so many at a time.
func (s *scene) untilItTakes(ctx context.Context, least float64) error {
	return lab.Eventually(ctx, startTime, "the worker's window is wide again", func() error {
		now, err := s.takes(ctx)
		if err == nil && now < least {
			err = fmt.Errorf("it is %v, want %v", now, least)
		}
		return err
	})
}

// memory is what doors and workers have together.
func (s *scene) memory() (sum int64, err error) {
	for _, p := range s.order {
		if p.verb != "nsqd" {
			n, e := p.process.Memory()
			sum, err = sum+n, errors.Join(err, e)
		}
	}
	return sum, err
}

// slowDown delays all that goes in a connection's own direction, so that each question takes so much longer, until it is healed.
func (s *scene) slowDown(l link, by time.Duration) (heal func() error, err error) {
	p, err := s.proxyOf(l)
	if err != nil {
		return nil, err
	}
	const name = "slow"
	if _, err := p.Toxics.AddToxicJson(strings.NewReader(
		fmt.Sprintf(`{"name":"`+name+`","type":"latency","stream":"upstream","attributes":{"latency":%d}}`, by.Milliseconds()))); err != nil {
		return nil, err
	}
	fault := s.suffers(0, l.from+" to "+l.to, fmt.Sprintf("each question takes %v more", by))
	return func() error {
		s.healed(fault)
		return p.Toxics.RemoveToxic(context.Background(), name)
	}, nil
}
