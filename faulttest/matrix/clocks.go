package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"sluice/loadtest/lab"
)

// clocks are stories of wall clocks that are an hour off, and jump. The database's is right: it alone decides when holds are over.
var clocks = []story{
	clock("door", "door-1", "it opens and closes no sale by it, and sends nobody away for an hour"),
	clock("worker", "worker", "no hold expires early, or never"),
	clock("nsqd", "nsqd", "set back, it ends by itself rather than take nothing for that long, and what it had is carried again"),
}

const hour = int64(time.Hour / time.Second)

func clock(kind, name, holds string) story {
	return story{
		name:   "clock-" + kind,
		holds:  "Its wall clock is an hour off, and jumps by two while it runs: " + holds + ".",
		stores: []string{"postgres"}, // SQLite has no clock but its worker's
		length: 15 * time.Second,
		shifts: name,
		inject: func(ctx context.Context, s *scene) error {
			off := hour // as it was started
			if s.seed%2 == 0 {
				off = -hour
			}
			s.mustBeOff(ctx, name, off)
			for _, next := range []int64{-off, off, 0} {
				s.wait(ctx, 3*time.Second, 4*time.Second)
				fault := s.suffers(0, "clock of "+name, fmt.Sprintf("it jumps by %v", time.Duration(next-off)*time.Second))
				if err := s.setClock(next); err != nil {
					return err
				}
				s.healed(fault)
				if p := s.parts[name]; p.verb == "nsqd" && next < off {
					if err := p.endsAndStarts(ctx); err != nil {
						return err
					}
				}
				pause(ctx, 1500*time.Millisecond) // what it says is a second old at most
				s.mustBeOff(ctx, name, next)
				off = next
			}
			return nil
		},
	}
}

// promptEnd is how soon it ends: it looks, writes down what it has, and waits for its clients for two seconds.
const promptEnd = 8 * time.Second

// endsAndStarts waits for a part to end by itself, as nsqd does rather than take no message for an hour, and starts it again, as whoever
// looks after it does.
func (p *part) endsAndStarts(ctx context.Context) error {
	p.suffers("it ends by itself")
	err := lab.Eventually(ctx, promptEnd, p.name+" ends", func() error {
		if !p.process.Ended() {
			return errors.New("it has not")
		}
		return nil
	})
	if err := errors.Join(err, p.scene.lab.Gone(p.process)); err != nil {
		return err
	}
	return p.start(ctx)
}

// shiftClocks has the story's part be the program whose wall clock can be wrong, and be wrong from its start.
func (s *scene) shiftClocks() (err error) {
	path := filepath.Join(s.dir, "clock")
	if s.clock, err = os.Create(path); err != nil {
		return err
	}
	s.ends = append(s.ends, func() { _ = s.clock.Close() })
	off := hour
	if s.seed%2 == 0 {
		off = -hour
	}
	s.setup = maps.Clone(s.setup)
	if s.setup == nil {
		s.setup = map[string]setup{}
	}
	its := s.setup[s.shifts]
	its.program, its.env = s.programs.shifted, append(its.env, clockFile+"="+path)
	s.setup[s.shifts] = its
	return s.setClock(off)
}

// mustBeOff: the part itself dates its answers so.
func (s *scene) mustBeOff(ctx context.Context, name string, seconds int64) {
	p := s.parts[name]
	url := "http://" + p.address + "/livez"
	if p.verb == "nsqd" {
		host, port, _ := net.SplitHostPort(p.address)
		n, _ := strconv.Atoi(port) // HTTP is one port above
		url = fmt.Sprintf("http://%s:%d/ping", host, n+1)
	}
	err := lab.Eventually(ctx, 5*time.Second, name+" says what its clock shows", func() error {
		header, _, err := fetch(ctx, url)
		if err != nil {
			return err
		}
		date, err := http.ParseTime(header.Get("Date"))
		if err != nil {
			return err
		}
		if off := time.Until(date) - time.Duration(seconds)*time.Second; off.Abs() > time.Minute {
			return fmt.Errorf("it is %v, %v from where it was put", date, off)
		}
		return nil
	})
	s.must(err == nil, "the clock of %s is not off by %d s: %v", name, seconds, err)
}
