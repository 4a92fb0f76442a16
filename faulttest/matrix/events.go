package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"sluice/faulttest/check"
	"sluice/loadtest/lab"
)

// events is the story of those who hear what happens to orders, and are away for a while.
var events = []story{
	{
		name:  "events",
		holds: "A subscriber and a webhook's receiver are away, and nsqd dies after the relay has published: every event arrives, none that there is not, and a receiver hears of an order in order.",
		setup: map[string]setup{"worker": {flags: []string{"--events-channels", "points,latecomer"}}},
		prepare: func(ctx context.Context, s *scene) (err error) {
			if err := s.receive(ctx); err != nil {
				return err
			}
			s.setup = maps.Clone(s.setup)
			its := s.setup["worker"]
			file, err := s.writeEndpoints()
			its.flags = append(slices.Clip(its.flags), "--webhooks-file", file)
			s.setup["worker"] = its
			return err
		},
		inject: func(ctx context.Context, s *scene) error {
			heard := newAudience()
			s.points = s.subscriber("points", heard)
			s.points.listen(ctx)
			s.ends = append(s.ends, s.points.hush)
			s.heard["points"] = heard

			s.wait(ctx, 2*time.Second, 3*time.Second)
			away := s.suffers(0, "receiver", "it is away")
			s.hooks.leave()
			gone := s.suffers(0, "subscriber", "it is away")
			s.points.hush()
			missed := heard.count()
			posted := s.hooks.count()
			s.wait(ctx, 1500*time.Millisecond, 2500*time.Millisecond)
			if err := s.killAfterPublish(ctx); err != nil {
				return err
			}
			s.must(s.hooks.tried(s.hooks.address) == nil, "the receiver was there")
			s.points.listen(ctx)
			s.healed(gone)
			s.wait(ctx, 500*time.Millisecond, 1500*time.Millisecond)
			s.must(posted > 0 && missed > 0, "subscribers heard %d events and receivers %d before they went away", missed, posted)
			s.healed(away)
			if err := s.hooks.come(ctx); err != nil {
				return err
			}
			return s.killWhileHearing(ctx, heard)
		},
		afterwards: func(ctx context.Context, s *scene) error {
			all, err := check.ReadEvents(ctx, s.admin)
			if err != nil {
				return err
			}
			s.heard["latecomer"] = newAudience()
			late := s.subscriber("latecomer", s.heard["latecomer"])
			late.listen(ctx)
			s.ends = append(s.ends, late.hush)
			s.heard["receiver"] = s.hooks.audience
			for name, a := range s.heard {
				err = errors.Join(err, a.hasAll(ctx, name, all))
			}
			return errors.Join(err, s.hooks.inOrder())
		},
	},
}

// killAfterPublish kills nsqd when the relay has given it events that nobody has heard.
func (s *scene) killAfterPublish(ctx context.Context) error {
	nsqd := s.parts["nsqd"]
	err := lab.Eventually(ctx, 10*time.Second, "nsqd has events that nobody has heard", func() error {
		n, err := s.depth(ctx, "events", "points")
		if err == nil && n == 0 {
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
	s.wait(ctx, 0, time.Second)
	return nsqd.start(ctx)
}

// killWhileHearing kills nsqd in the middle of what it delivers.
func (s *scene) killWhileHearing(ctx context.Context, heard *audience) error {
	nsqd, before := s.parts["nsqd"], heard.count()
	err := lab.Eventually(ctx, 20*time.Second, "the subscriber hears of something", func() error {
		if heard.count() == before {
			return errors.New("it hears nothing")
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := nsqd.kill(); err != nil {
		return err
	}
	s.wait(ctx, 0, time.Second)
	return nsqd.start(ctx)
}

func (s *scene) subscriber(channel string, heard *audience) *reader {
	return &reader{at: s.parts["nsqd"].address, topic: "events", channel: channel, hear: heard.hear}
}

// writeEndpoints writes the list of the one receiver that there is.
func (s *scene) writeEndpoints() (file string, err error) {
	file = filepath.Join(s.dir, "webhooks.json")
	text, err := json.Marshal([]map[string]any{{
		"name": "receiver", "url": "http://" + s.hooks.address + "/", "secret": "whsec_" + base64.StdEncoding.EncodeToString(s.hooks.secret),
	}})
	if err != nil {
		return "", err
	}
	return file, os.WriteFile(file, text, 0o600)
}

// audience is what somebody has heard: each event at least once, and whenever it comes again the same.
type audience struct {
	mu    sync.Mutex // guards what follows
	heard map[int64]check.Happening
	order []int64 // numbers, in the order in which they came first
	times int
	wrong error // the first
}

func newAudience() *audience { return &audience{heard: map[int64]check.Happening{}} }

// hear takes a message.
func (a *audience) hear(body []byte) error {
	var h check.Happening
	err := json.Unmarshal(body, &h)
	a.mu.Lock()
	defer a.mu.Unlock()
	before, again := a.heard[h.Seq]
	if err == nil && again && before != h {
		err = fmt.Errorf("event %d came as %+v and as %+v", h.Seq, before, h)
	}
	if err != nil && a.wrong == nil {
		a.wrong = fmt.Errorf("message %.200s: %w", body, err)
	}
	if !again {
		a.order = append(a.order, h.Seq)
	}
	a.heard[h.Seq] = h
	a.times++
	return nil // what is wrong is told in the end, and does not come again
}

func (a *audience) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.heard)
}

// hasAll waits until everything was heard, and says what was heard that there is not.
func (a *audience) hasAll(ctx context.Context, name string, all []check.Happening) error {
	err := lab.Eventually(ctx, settleTime, name+" has every event", func() error {
		if n := a.count(); n < len(all) {
			return fmt.Errorf("it has %d of %d", n, len(all))
		}
		return nil
	})
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, want := range all {
		if got, ok := a.heard[want.Seq]; !ok || got != want {
			err = errors.Join(err, fmt.Errorf("event %+v came as %+v", want, got))
			break
		}
	}
	if len(a.heard) > len(all) {
		err = errors.Join(err, fmt.Errorf("it heard %d events, and there are %d", len(a.heard), len(all)))
	}
	if err = errors.Join(err, a.wrong); err != nil {
		return fmt.Errorf("events: %s: %w", name, err)
	}
	return nil
}
