package main

import (
	"context"
	"errors"
	"time"

	"sluice/faulttest/check"
)

// deadlines are stories of payments that come when a hold ends. That everything is dead meanwhile until all are overdue is
// kill-all-across-deadline.
var deadlines = []story{
	{
		name:  "deadline-race",
		holds: "Payments come within 50 ms of the deadline: each order ends in exactly one of paid and expired, and its units come back once.",
		deeds: atTheDeadline,
		late:  50 * time.Millisecond,
		inject: func(ctx context.Context, s *scene) error {
			pause(ctx, s.lasts())
			s.mustHaveRaced(0)
			return nil
		},
	},
	{
		name:   "deadline-all-down",
		holds:  "Everything is dead while some holds fall due and comes back before others do, with their buyers at the door: the same.",
		deeds:  atTheDeadline,
		late:   50 * time.Millisecond,
		window: 5 * time.Second,
		length: 16 * time.Second,
		inject: func(ctx context.Context, s *scene) error {
			s.wait(ctx, 6*time.Second, 8*time.Second)
			held, err := s.held(ctx)
			if err != nil {
				return err
			}
			s.must(held > 0, "nothing was held when everything died")
			for _, p := range s.order {
				err = errors.Join(err, p.kill())
			}
			if s.postgres != nil {
				err = errors.Join(err, s.postgres.kill())
			}
			if err != nil {
				return err
			}
			s.wait(ctx, 300*time.Millisecond, 1500*time.Millisecond)
			if s.postgres != nil {
				if err := s.postgres.start(ctx); err != nil {
					return err
				}
			}
			for _, p := range s.order {
				if err := p.start(ctx); err != nil {
					return err
				}
			}
			back := s.history.Now()
			pause(ctx, s.window())
			s.mustHaveRaced(back)
			return nil
		},
	},
}

// atTheDeadline is what nearly everybody does.
var atTheDeadline = []deed{paysAtTheDeadline, paysAtTheDeadline, paysAtTheDeadline, paysAtTheDeadline, paysAtTheDeadline, paysAtTheDeadline, pays, leaves}

// mustHaveRaced: since that moment some payments were in time, and some were not.
func (s *scene) mustHaveRaced(since int64) {
	inTime, tooLate := 0, 0
	for _, e := range s.history.Events() {
		switch {
		case e.Call != check.Pay || e.Event != check.Answer || e.At < since:
		case e.Status == 200:
			inTime++
		case e.Reason == "too-late":
			tooLate++
		}
	}
	s.must(inTime > 0 && tooLate > 0, "%d payments were in time, and %d too late: there was no race", inTime, tooLate)
}
