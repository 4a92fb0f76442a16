package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"sluice/faulttest/check"
	"sluice/loadtest/lab"
)

// operations are stories of what an operator does on purpose.
var operations = []story{
	term("ingress", "door-1", "The door answers what it has begun, and what it promised it carries when it is back."),
	term("nsqd", "nsqd", "What it has is kept or carried again."),
	term("worker", "worker", "It ends what it has begun; the rest is delivered again."),
	{
		name:   "live-limits",
		holds:  "A bound or a pace that changes while buyers come holds within a second, and no order notices.",
		length: 20 * time.Second,
		inject: func(ctx context.Context, s *scene) error {
			for _, bound := range []int64{150, 400, 100, totalBound} {
				s.wait(ctx, 3*time.Second, 4*time.Second) // each is in force for long enough to be met
				if err := s.changeBound(ctx, "door-1", bound); err != nil {
					return err
				}
				if err := s.changeRate(ctx, s.number(capacity/2, 2*capacity)); err != nil {
					return err
				}
			}
			return s.changeRate(ctx, capacity)
		},
	},
}

// term is a story of a part that is asked to end under load, and started again.
func term(what, name, holds string) story {
	return story{
		name:  "term-" + what,
		holds: holds,
		inject: func(ctx context.Context, s *scene) error {
			p := s.parts[name]
			for range 2 {
				s.wait(ctx, 1500*time.Millisecond, 3*time.Second)
				answered, cut := s.buyers.answered(), s.buyers.cut.Load()
				if err := p.stop(ctx); err != nil {
					return err
				}
				s.wait(ctx, 0, time.Second)
				met := s.buyers.answered() > answered || p.verb == "ingress" && s.buyers.cut.Load() > cut // a door may end between two buyers
				s.must(met || s.load == calm, "nobody came while it ended")
				if err := p.start(ctx); err != nil {
					return err
				}
				if err := s.ready(ctx); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// changeBound changes a door's share. The run says the higher one as long as the door may have either.
func (s *scene) changeBound(ctx context.Context, door string, bound int64) error {
	raised := bound > s.boundOf(door)
	if raised {
		s.setBound(door, bound)
	}
	s.operated(fmt.Sprintf("its bound is %d from now on", bound), door)
	_, err := send(ctx, http.MethodPatch, "http://"+s.admin+"/v1/limits", map[string]any{"bounds": map[string]int64{door: bound}})
	if err != nil {
		return err
	}
	told := time.Now()
	err = lab.Eventually(ctx, startTime, door+" has its new bound", func() error {
		n, err := check.Metric(ctx, s.metricsOf(door), "sluice_door_bound_set_orders")
		if err == nil && n != bound {
			err = fmt.Errorf("it has %d", n)
		}
		return err
	})
	if took := time.Since(told); err == nil && took > hearsWithin {
		s.tardy = append(s.tardy, fmt.Sprintf("P7: %s heard of another bound after %v, and operators are promised %v", door, took.Round(time.Millisecond), hearsWithin))
	}
	if err == nil && !raised {
		s.setBound(door, bound)
	}
	return err
}

func (s *scene) metricsOf(door string) string {
	for _, d := range s.doorList {
		if d.Name == door {
			return d.Metrics
		}
	}
	return ""
}

// hearsWithin is how long a door may take to hear of another limit.
const hearsWithin = time.Second

// changeRate changes how many orders are settled a second.
func (s *scene) changeRate(ctx context.Context, rate int64) error {
	s.operated(fmt.Sprintf("it settles %d orders a second from now on", rate), "worker")
	_, err := send(ctx, http.MethodPatch, "http://"+s.admin+"/v1/pools", map[string]any{"pools": map[string]any{"settle": map[string]any{"rate": rate}}})
	return err
}

// operated writes down what an operator did; no door is excused for it.
func (s *scene) operated(what, part string) { s.healed(s.suffers(0, part+", by its operator", what)) }

func (s *scene) boundOf(door string) (bound int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.bounds {
		if b.Door == door {
			bound = b.Bound
		}
	}
	return bound
}
