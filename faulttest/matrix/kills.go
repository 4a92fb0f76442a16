package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"sluice/loadtest/lab"
)

// kills are stories of processes that die at once: kill -9.
var kills = []story{
	{
		name:   "kill-ingress",
		holds:  "Who got no answer is in doubt, and the same key again gives one order, whether it had been written down or not.",
		length: 15 * time.Second,
		inject: func(ctx context.Context, s *scene) error {
			for range 2 {
				s.wait(ctx, 2*time.Second, 3*time.Second)
				if err := s.killAmongRequests(ctx, s.parts["door-1"]); err != nil {
					return err
				}
				if err := s.ready(ctx); err != nil {
					return err
				}
			}
			s.must(s.buyers.cut.Load() > 0, "no request was cut off when the door died")
			return nil
		},
	},
	{
		name:  "kill-one-of-two-doors",
		holds: "The other one goes on; a key that was brought to both is one order, and in the end both say the same of it.",
		doors: 2,
		inject: func(ctx context.Context, s *scene) error {
			s.wait(ctx, 2*time.Second, 4*time.Second)
			victim := []string{"door-1", "door-2"}[s.random.IntN(2)]
			if err := s.killAmongRequests(ctx, s.parts[victim]); err != nil {
				return err
			}
			s.must(s.buyers.cut.Load() > 0, "no request was cut off when %s died", victim)
			s.wait(ctx, 500*time.Millisecond, 1500*time.Millisecond)
			return s.killNSQD(ctx, 1, nil)
		},
	},
	{
		name:   "kill-nsqd",
		holds:  "The door goes on; everything outstanding is carried again, and no credit leaks.",
		inject: func(ctx context.Context, s *scene) error { return s.killNSQD(ctx, 2, nil) },
	},
	{
		name:  "kill-nsqd-robbed",
		holds: "The same where nsqd comes back without its data directory.",
		inject: func(ctx context.Context, s *scene) error {
			return s.killNSQD(ctx, 2, func() error { return os.RemoveAll(s.parts["nsqd"].data) })
		},
	},
	{
		name:  "kill-worker",
		holds: "What it had in hand is delivered again, and settled once.",
		inject: func(ctx context.Context, s *scene) error {
			worker := s.parts["worker"]
			for range 2 {
				s.wait(ctx, 1500*time.Millisecond, 3*time.Second)
				if err := s.untilInHand(ctx); err != nil {
					return err
				}
				if err := worker.kill(); err != nil {
					return err
				}
				s.wait(ctx, 0, time.Second)
				if err := worker.start(ctx); err != nil {
					return err
				}
			}
			return nil
		},
	},
	{
		name:   "kill-worker-in-transaction",
		holds:  "A transaction that was not over never was; its orders are delivered again, and settled once.",
		stores: []string{"postgres"},
		inject: func(ctx context.Context, s *scene) error {
			worker := s.parts["worker"]
			s.wait(ctx, 2*time.Second, 4*time.Second)
			release, err := s.lockOrders(ctx)
			if err != nil {
				return err
			}
			err = s.untilSettling(ctx)
			err = errors.Join(err, worker.kill(), release())
			s.wait(ctx, 0, time.Second)
			return errors.Join(err, worker.start(ctx))
		},
	},
	{
		name:    "kill-worker-after-commit",
		holds:   "What it committed and could not tell nsqd is delivered again, which changes nothing.",
		between: proxied(link{"worker", "nsqd"}),
		inject: func(ctx context.Context, s *scene) error {
			worker := s.parts["worker"]
			s.wait(ctx, 2*time.Second, 4*time.Second)
			before, err := s.rows(ctx)
			if err != nil {
				return err
			}
			// From now on nsqd hears nothing of what the worker finishes, and goes on to give it orders.
			heal, err := s.silence(link{"worker", "nsqd"})
			if err != nil {
				return err
			}
			err = lab.Eventually(ctx, 10*time.Second, "orders are committed without nsqd's hearing of it", func() error {
				after, err := s.rows(ctx)
				if err == nil && after == before {
					err = errors.New("there are no more than before")
				}
				return err
			})
			if err != nil {
				return err
			}
			s.wait(ctx, 0, 500*time.Millisecond)
			_, inHand, err := s.queued(ctx)
			if err != nil {
				return err
			}
			s.must(inHand > 0, "nsqd believes that nothing is in the worker's hands")
			if err := errors.Join(worker.kill(), heal()); err != nil {
				return err
			}
			return worker.start(ctx)
		},
	},
	{
		name:   "kill-postgres",
		holds:  "The door goes on up to its bound and refuses then; everything is settled when the database is back.",
		stores: []string{"postgres"},
		inject: func(ctx context.Context, s *scene) error {
			s.wait(ctx, 2*time.Second, 4*time.Second)
			if err := s.untilInHand(ctx); err != nil {
				return err
			}
			answered := s.buyers.answered()
			if err := s.postgres.kill(); err != nil {
				return err
			}
			s.wait(ctx, 2*time.Second, 4*time.Second)
			s.must(s.buyers.answered() > answered, "nobody was answered while the database was dead")
			takes, err := s.takes(ctx)
			if err == nil && takes > 0 {
				err = fmt.Errorf("the worker takes %v orders in hand while the database is dead", takes)
			}
			return errors.Join(err, s.postgres.start(ctx), s.untilItTakes(ctx, 1))
		},
	},
	{
		name:   "kill-up",
		holds:  "Everything is one process that dies, twice: whoever asks again gets one order, and all that was promised is settled.",
		joined: true,
		length: 15 * time.Second,
		inject: func(ctx context.Context, s *scene) error {
			up := s.parts["up"]
			for range 2 {
				s.wait(ctx, 2*time.Second, 3*time.Second)
				if err := s.killAmongRequests(ctx, up); err != nil {
					return err
				}
				if err := s.ready(ctx); err != nil {
					return err
				}
			}
			s.must(s.buyers.cut.Load() > 0, "no request was cut off when all died")
			return nil
		},
	},
	{
		name:   "kill-all-across-deadline",
		holds:  "Everything is dead until every hold is overdue: each ends in exactly one of paid and expired, and its units come back once.",
		length: 16 * time.Second,
		inject: func(ctx context.Context, s *scene) error {
			for _, dead := range []time.Duration{0, payWindow + 500*time.Millisecond} { // once only for as long as it takes to start
				s.wait(ctx, 2*time.Second, 4*time.Second)
				if err := s.killAll(ctx, dead); err != nil {
					return err
				}
				if err := s.ready(ctx); err != nil {
					return err
				}
			}
			return nil
		},
	},
}

// killAll kills everything, the database too, while units are held, and starts it again after a time.
func (s *scene) killAll(ctx context.Context, dead time.Duration) error {
	err := lab.Eventually(ctx, 10*time.Second, "something is held", func() error {
		held, err := s.held(ctx)
		if err == nil && held == 0 {
			err = errors.New("nothing is")
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, p := range s.order {
		err = errors.Join(err, p.kill())
	}
	if s.postgres != nil {
		err = errors.Join(err, s.postgres.kill())
	}
	if err != nil {
		return err
	}
	pause(ctx, dead)
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
	return nil
}

// killAmongRequests kills a door in the middle of many requests: they pile up before one that stands still, and a moment after it goes
// on, with the first answers or before them, it is between journal and answer with some of them. Few buyers may all be answered by one
// sync, so a story with several kills needs only one of them to cut somebody off.
func (s *scene) killAmongRequests(ctx context.Context, door *part) error {
	answered := s.buyers.answered()
	if err := door.freeze(ctx); err != nil {
		return err
	}
	s.wait(ctx, 300*time.Millisecond, 800*time.Millisecond)
	if err := door.thaw(); err != nil {
		return err
	}
	for end := time.Now().Add(time.Duration(s.random.Int64N(int64(4 * time.Millisecond)))); s.buyers.answered() == answered && time.Now().Before(end); {
		time.Sleep(50 * time.Microsecond)
	}
	if err := door.kill(); err != nil {
		return err
	}
	return door.start(ctx)
}

// killNSQD kills nsqd with orders in it, which a worker that stands still for a moment leaves there, and starts it again a little later.
func (s *scene) killNSQD(ctx context.Context, times int, meanwhile func() error) error {
	nsqd, worker := s.parts["nsqd"], s.parts["worker"]
	for range times {
		s.wait(ctx, 1500*time.Millisecond, 2500*time.Millisecond)
		if err := worker.freeze(ctx); err != nil {
			return err
		}
		s.wait(ctx, 500*time.Millisecond, 1000*time.Millisecond)
		err := lab.Eventually(ctx, startTime, "nsqd has orders", func() error {
			waiting, inHand, err := s.queued(ctx)
			if err == nil && waiting+inHand == 0 {
				err = errors.New("it has none")
			}
			return err
		})
		if err != nil {
			return err
		}
		if err := nsqd.kill(); err != nil {
			return err
		}
		if meanwhile != nil {
			err = meanwhile()
		}
		if err := errors.Join(err, worker.thaw()); err != nil {
			return err
		}
		s.wait(ctx, 200*time.Millisecond, 1500*time.Millisecond)
		if err := nsqd.start(ctx); err != nil {
			return err
		}
	}
	return nil
}
