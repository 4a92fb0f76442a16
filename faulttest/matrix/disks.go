package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"sluice/faulttest/check"
	"sluice/loadtest/lab"
)

// disks are stories of disks that are full for a while.
var disks = []story{
	{
		name:  "full-journal",
		holds: "Below the floor a door says so and promises nothing new, and goes on by itself when there is room again.",
		disks: map[string]int{"door-1": 256}, // its journal takes 100 MiB at three times the capacity
		setup: map[string]setup{"door-1": {flags: []string{"--disk-floor", "32"}}},
		inject: func(ctx context.Context, s *scene) error {
			s.wait(ctx, 2*time.Second, 4*time.Second)
			return s.belowFloor(ctx, s.parts["door-1"])
		},
	},
	{
		name:  "full-journal-unprotected",
		holds: "Without a floor the door ends rather than guess what the disk has; with room it starts, and every 202 is still there.",
		disks: map[string]int{"door-1": 24}, // too small for Pebble to reserve room for its log, 35 MiB, which would last for longer than the story
		setup: map[string]setup{"door-1": {flags: []string{"--disk-floor", "0", "--journal-memory", "128"}}},
		inject: func(ctx context.Context, s *scene) error {
			s.wait(ctx, 2*time.Second, 4*time.Second)
			return s.fullToTheBrim(ctx, s.parts["door-1"])
		},
	},
	{
		name:   "full-nsqd",
		holds:  "What nsqd can't keep is carried again once it can; the door goes on, and nothing is lost.",
		length: 18 * time.Second,
		disks:  map[string]int{"nsqd": 4},
		setup:  smallQueue,
		inject: func(ctx context.Context, s *scene) error {
			s.wait(ctx, 2*time.Second, 3*time.Second)
			return s.fullNSQD(ctx, func() error { return nil })
		},
	},
	{
		name:   "full-nsqd-killed",
		holds:  "nsqd that dies on its full disk keeps what it has there, whether it starts on it or not; with room it goes on.",
		length: 24 * time.Second,
		disks:  map[string]int{"nsqd": 4},
		setup:  smallQueue,
		inject: func(ctx context.Context, s *scene) error {
			nsqd := s.parts["nsqd"]
			s.wait(ctx, 2*time.Second, 3*time.Second)
			err := s.fullNSQD(ctx, func() error { return errors.Join(nsqd.kill(), nsqd.tryInVain(ctx)) })
			if err == nil && nsqd.process.Ended() { // as it may: whoever looks after it starts it once more
				err = errors.Join(s.lab.Gone(nsqd.process), nsqd.start(ctx))
			}
			nsqd.healed()
			return err
		},
	},
	{
		name:   "full-database",
		holds:  "The door goes on up to its bound and refuses then, workers take less in hand, and all of it goes on by itself when there is room again.",
		length: 18 * time.Second,
		disks:  map[string]int{"worker": 48, "postgres": 256},
		inject: func(ctx context.Context, s *scene) error {
			s.wait(ctx, 2*time.Second, 4*time.Second)
			return s.fullDatabase(ctx)
		},
	},
}

// smallQueue is an nsqd whose memory holds few messages, so that the rest goes to its disk, and a worker that takes few.
var smallQueue = map[string]setup{
	"nsqd":   {flags: []string{"--bound", "20"}},
	"worker": {flags: []string{"--batch", "16", "--window", "32"}},
}

// fullNSQD takes nsqd every byte of its disk for a while, as orders pile up on it, and does something meanwhile.
func (s *scene) fullNSQD(ctx context.Context, meanwhile func() error) error {
	worker, nsqd := s.parts["worker"], s.parts["nsqd"]
	if err := worker.freeze(ctx); err != nil { // so that orders pile up
		return err
	}
	heal, err := s.fillDisk(ctx, "nsqd", 10*time.Second, func() bool { return complainsOfDisk(nsqd.process.Said(200)) })
	if err != nil {
		return err
	}
	answered := s.buyers.answered()
	err = meanwhile()
	s.wait(ctx, time.Second, 2*time.Second)
	s.must(s.buyers.answered() > answered, "nobody was answered while nsqd's disk was full")
	return errors.Join(err, heal(), worker.thaw())
}

// complainsOfDisk reports whether a log says that a disk is full, in the words of the system, SQLite's or PostgreSQL's.
func complainsOfDisk(log string) bool {
	return slices.ContainsFunc([]string{"no space left", "No space left", "disk is full", "could not extend file"},
		func(words string) bool { return strings.Contains(log, words) })
}

// fillDisk fills a part's disk until it has bitten, and keeps it full until heal is called: what its users give back is taken.
func (s *scene) fillDisk(ctx context.Context, name string, within time.Duration, bitten func() bool) (heal func() error, err error) {
	d := s.mounted[name]
	fault := s.suffers(0, name+"'s disk", "it is full")
	for end := time.Now().Add(within); !bitten(); pause(ctx, 20*time.Millisecond) {
		if err := d.fill(0); err != nil {
			return nil, err
		}
		if time.Now().After(end) || ctx.Err() != nil {
			s.must(false, "nobody missed room on %s's disk within %v", name, within)
			break
		}
	}
	return func() error {
		s.healed(fault)
		return d.empty()
	}, nil
}

// belowFloor leaves a door less room than its floor for some seconds.
func (s *scene) belowFloor(ctx context.Context, door *part) error {
	d := s.mounted[door.name]
	fault := s.suffers(0, door.name+"'s disk", "less is free than the floor") // it must answer all the same
	if err := d.fill(16 << 20); err != nil {
		return err
	}
	err := lab.Eventually(ctx, 5*time.Second, door.name+" says that it is not ready", func() error {
		return saysUnavailable(ctx, "http://"+door.address+"/readyz")
	})
	if err != nil {
		return err
	}
	full := s.history.Now()
	s.wait(ctx, 3*time.Second, 5*time.Second)
	promised, refused := s.answersSince(full)
	if promised > 0 {
		return fmt.Errorf("P3: %d orders were promised below the floor", promised)
	}
	s.must(refused > 0, "nobody asked for a new order while the disk was full")
	s.healed(fault)
	if err := d.empty(); err != nil {
		return err
	}
	if err := s.ready(ctx); err != nil {
		return fmt.Errorf("it does not go on by itself: %w", err)
	}
	return door.answers(ctx)
}

// answersSince counts the answers to purchases that were asked for since a moment: new promises, and 503 unavailable.
func (s *scene) answersSince(moment int64) (promised, unavailable int) {
	for _, e := range s.history.Events() {
		if e.Event != check.Answer || e.Call != check.Place || e.Asked < moment {
			continue
		}
		if e.Status == http.StatusAccepted {
			promised++
		}
		if e.Status == http.StatusServiceUnavailable && e.Reason == "unavailable" {
			unavailable++
		}
	}
	return promised, unavailable
}

// saysUnavailable fails unless the answer is a 503 with that reason.
func saysUnavailable(ctx context.Context, url string) error {
	code, err := send(ctx, http.MethodGet, url, nil)
	if code != http.StatusServiceUnavailable || err == nil || !strings.Contains(err.Error(), `"reason":"unavailable"`) {
		return fmt.Errorf("it says %d: %w", code, err)
	}
	return nil
}

// fullToTheBrim takes a door every byte of its disk. It must end by itself; whoever looks after it starts it again, in vain at first.
func (s *scene) fullToTheBrim(ctx context.Context, door *part) error {
	door.suffers("its disk is full")
	before := s.history.Now()
	heal, err := s.fillDisk(ctx, door.name, 20*time.Second, door.process.Ended)
	if err != nil {
		return err
	}
	promised, _ := s.answersSince(before) // they are on the disk, or the checker finds that they are lost
	s.say("%d orders were promised while the disk filled", promised)
	if !door.process.Ended() {
		return heal()
	}
	if said := door.process.Said(20); !complainsOfDisk(said) {
		return errors.Join(fmt.Errorf("%s ended and does not say that its disk is full:\n%s", door.name, said), heal())
	}
	if err := errors.Join(s.lab.Gone(door.process), door.tryInVain(ctx), heal()); err != nil {
		return err
	}
	if door.process.Ended() { // as it may: whoever looks after it starts it once more
		if err := errors.Join(s.lab.Gone(door.process), door.start(ctx)); err != nil {
			return err
		}
	}
	err = s.ready(ctx)
	door.healed()
	return err
}

// tryInVain starts a part on a full disk, and gives it some seconds. It may end, or wait for room; a door must not be ready, and what it says
// of that must not fill the next disk.
func (p *part) tryInVain(ctx context.Context) error {
	if err := p.launch(); err != nil {
		return err
	}
	before := len(p.process.Said(everyLine))
	pause(ctx, 5*time.Second)
	if !p.process.Ended() && status(ctx, http.MethodGet, "http://"+p.address+"/readyz") == nil {
		return fmt.Errorf("P3: %s is ready on a full disk", p.name)
	}
	if said := len(p.process.Said(everyLine)) - before; said > mostSaid {
		return fmt.Errorf("P9: %s said %d KiB in 5 s of a full disk", p.name, said>>10)
	}
	return nil
}

const (
	everyLine = 1 << 30
	mostSaid  = 32 << 10 // bytes
)

// fullDatabase takes the store every byte of its disk for some seconds.
func (s *scene) fullDatabase(ctx context.Context) error {
	worker, name := s.parts["worker"], "worker"
	if s.postgres != nil {
		name = "postgres"
	}
	before, err := s.inHandAtMost(ctx)
	if err != nil {
		return err
	}
	answered := s.buyers.answered()
	heal, err := s.fillDisk(ctx, name, 12*time.Second, func() bool { return complainsOfDisk(worker.process.Said(200)) })
	if err != nil {
		return err
	}
	shrunk := lab.Eventually(ctx, 10*time.Second, "the worker takes less in hand", func() error {
		if err := s.mounted[name].fill(0); err != nil {
			return err
		}
		now, err := s.inHandAtMost(ctx)
		if err == nil && now >= before {
			err = fmt.Errorf("it takes %d, and took %d", now, before)
		}
		return err
	})
	s.wait(ctx, time.Second, 2*time.Second)
	s.must(s.buyers.answered() > answered, "nobody was answered while the database's disk was full")
	if err := errors.Join(heal(), shrunk, s.reviveDatabase(ctx)); err != nil {
		return err
	}
	return lab.Eventually(ctx, startTime, "the worker takes orders again", func() error {
		now, err := s.inHandAtMost(ctx)
		if err == nil && now == 0 {
			err = errors.New("it takes none")
		}
		return err
	})
}

// reviveDatabase starts PostgreSQL again where it has ended, as it does when it can't write its log.
func (s *scene) reviveDatabase(ctx context.Context) error {
	if s.postgres == nil || !s.postgres.cluster.Ended() {
		return nil
	}
	s.postgres.suffers("it ended by itself")
	return s.postgres.start(ctx)
}

// inHandAtMost is how many orders the worker has told nsqd to give it at once.
func (s *scene) inHandAtMost(ctx context.Context) (int64, error) {
	return check.Metric(ctx, s.parts["worker"].address, `sluice_worker_pool_window{pool="settle"}`)
}
