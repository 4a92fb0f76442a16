package main

import (
	"context"
	"errors"
	"os"
	"time"
)

// stops are stories of processes that stand still for a while: SIGSTOP, then SIGCONT.
var stops = []story{
	{
		name:  "stop-nsqd",
		holds: "Doors answer within their budget, and what they promised meanwhile is carried when nsqd goes on.",
		inject: func(ctx context.Context, s *scene) error {
			nsqd := s.parts["nsqd"]
			s.wait(ctx, 2*time.Second, 4*time.Second)
			if err := s.untilInHand(ctx); err != nil {
				return err
			}
			answered := s.buyers.answered()
			if err := nsqd.freeze(ctx); err != nil {
				return err
			}
			s.wait(ctx, 3*time.Second, 5*time.Second)
			s.must(s.buyers.answered() > answered, "nobody was answered while nsqd stood still")
			return nsqd.thaw()
		},
	},
	{
		name:  "stop-nsqd-robbed",
		holds: "The same where it never goes on, and another one comes in its place, with nothing.",
		inject: func(ctx context.Context, s *scene) error {
			nsqd := s.parts["nsqd"]
			s.wait(ctx, 2*time.Second, 4*time.Second)
			if err := s.untilInHand(ctx); err != nil {
				return err
			}
			answered := s.buyers.answered()
			if err := nsqd.freeze(ctx); err != nil {
				return err
			}
			s.wait(ctx, 2*time.Second, 3*time.Second)
			s.must(s.buyers.answered() > answered, "nobody was answered while nsqd stood still")
			if err := errors.Join(nsqd.kill(), os.RemoveAll(nsqd.data)); err != nil {
				return err
			}
			return nsqd.start(ctx)
		},
	},
	{
		name:   "stop-worker",
		holds:  "The door goes on up to its bound; a worker that was away for longer than nsqd waits settles nothing twice.",
		length: 24 * time.Second,
		inject: func(ctx context.Context, s *scene) error {
			worker := s.parts["worker"]
			s.wait(ctx, 2*time.Second, 3*time.Second)
			if err := s.untilInHand(ctx); err != nil {
				return err
			}
			if err := worker.freeze(ctx); err != nil {
				return err
			}
			_, before, err := s.queued(ctx)
			if err != nil {
				return err
			}
			s.wait(ctx, beyondTimeout, beyondTimeout+time.Second)
			s.must(before > 0, "it had nothing in hand")
			taken, err := s.timedOut(ctx)
			s.must(taken > 0, "nsqd took nothing from it")
			return errors.Join(err, worker.thaw())
		},
	},
	{
		name:   "stop-worker-taken-over",
		holds:  "Another worker is given what the one that stands still inside a transaction had in hand; when that goes on, it sells nothing twice.",
		stores: []string{"postgres"},
		length: 24 * time.Second,
		inject: func(ctx context.Context, s *scene) error {
			worker := s.parts["worker"]
			s.wait(ctx, 2*time.Second, 3*time.Second)
			release, err := s.lockOrders(ctx)
			if err != nil {
				return err
			}
			err = s.untilSettling(ctx)
			err = errors.Join(err, worker.freeze(ctx), release())
			_, inHand, failed := s.queued(ctx)
			s.must(inHand > 0, "it had nothing in hand")
			if err = errors.Join(err, failed, s.newWorker(ctx, "other")); err != nil {
				return err
			}
			if err := s.parts["other"].start(ctx); err != nil {
				return err
			}
			s.wait(ctx, beyondTimeout, beyondTimeout+time.Second)
			taken, err := s.timedOut(ctx)
			s.must(taken > 0, "nsqd took nothing from it")
			return errors.Join(err, worker.thaw())
		},
	},
	{
		name:   "stop-postgres",
		holds:  "The door goes on up to its bound and refuses then; everything is settled when the database goes on.",
		stores: []string{"postgres"},
		inject: func(ctx context.Context, s *scene) error {
			s.wait(ctx, 2*time.Second, 3*time.Second)
			if err := s.untilInHand(ctx); err != nil {
				return err
			}
			answered := s.buyers.answered()
			if err := s.postgres.freeze(); err != nil {
				return err
			}
			s.wait(ctx, 4*time.Second, 6*time.Second)
			s.must(s.buyers.answered() > answered, "nobody was answered while the database stood still")
			return s.postgres.thaw()
		},
	},
}

// beyondTimeout is longer than nsqd waits for a worker's answer to an order: 15 s, longer than for its heartbeats.
const beyondTimeout = 17 * time.Second
