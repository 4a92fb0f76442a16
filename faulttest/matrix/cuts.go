package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"
)

// cuts are stories of connections that carry nothing for a while: both ways, one way, or up and down again.
var cuts = slices.Concat(
	cable{"door-nsqd", "what a door promised is carried and told of once it is whole again", nil, []link{{"door-1", "nsqd"}, {"door-1", "nsqd-http"}}}.cuts(),
	cable{"worker-nsqd", "what the worker had in hand is delivered again, and settled once", nil, []link{{"worker", "nsqd"}, {"worker", "nsqd-http"}}}.cuts(),
	cable{"door-worker", "the door goes on without the sale's facts, and without asking what became of its orders", nil, []link{{"door-1", "worker"}}}.cuts(),
	cable{"worker-postgres", "a transaction whose end nobody heard of was, or was not, and its orders are settled once", []string{"postgres"}, []link{{"worker", "postgres"}}}.cuts(),
)

// cable is a way between two parts, which may be more than one connection.
type cable struct {
	name, holds string
	stores      []string
	links       []link
}

func (c cable) cuts() []story {
	return []story{
		c.story("cut-"+c.name, "Nothing passes: the bound holds, and ", func(ctx context.Context, s *scene) error {
			s.wait(ctx, 2*time.Second, 3*time.Second)
			return s.without(ctx, c.links, 4*time.Second, 6*time.Second, upstream, downstream)
		}),
		c.story("cut-"+c.name+"-one-way", "Nothing passes one way, then nothing the other way: the bound holds, and ", func(ctx context.Context, s *scene) error {
			ways := []string{upstream, downstream}
			s.random.Shuffle(len(ways), func(i, j int) { ways[i], ways[j] = ways[j], ways[i] })
			for _, way := range ways {
				s.wait(ctx, time.Second, 2*time.Second)
				if err := s.without(ctx, c.links, 3*time.Second, 4*time.Second, way); err != nil {
					return err
				}
			}
			return nil
		}),
		c.story("cut-"+c.name+"-flapping", "It breaks and comes back every half a second: the bound holds, and ", func(ctx context.Context, s *scene) error {
			s.wait(ctx, 2*time.Second, 3*time.Second)
			return s.flap(ctx, c.links, 8)
		}),
	}
}

func (c cable) story(name, holds string, inject func(context.Context, *scene) error) story {
	return story{name: name, holds: holds + c.holds + ".", stores: c.stores, between: proxied(c.links...), inject: inject}
}

// The directions of a connection, as the proxy calls them: upstream goes away from who made it.
const (
	upstream   = "upstream"
	downstream = "downstream"
)

// without lets nothing pass in these directions for a time that the seed chooses. Something has to be lost by it.
func (s *scene) without(ctx context.Context, links []link, least, most time.Duration, ways ...string) error {
	var heals []func() error
	heal := func() (err error) {
		for _, h := range heals {
			err = errors.Join(err, h())
		}
		return err
	}
	var lost []func() int64
	fault := s.suffers(0, links[0].from+" to "+links[0].to, "nothing passes "+strings.Join(ways, " and "))
	for _, l := range links {
		for _, way := range ways {
			h, n, err := s.swallow(l, way) //nolint:contextcheck // what heals it does so also when the run is over
			if err != nil {
				return errors.Join(err, heal())
			}
			heals, lost = append(heals, h), append(lost, n)
		}
	}
	s.wait(ctx, least, most)
	bytes := int64(0)
	for i := range ways {
		bytes += lost[i]() // of the first connection: the others only look after it
	}
	s.must(bytes > 0, "nothing was to pass from %s to %s while nothing passed", links[0].from, links[0].to)
	s.healed(fault)
	return heal()
}

// flap breaks connections, and lets nobody make new ones, and lets them again, each time for 200 to 700 ms.
func (s *scene) flap(ctx context.Context, links []link, times int) error {
	var counted []func() int64
	for _, l := range links {
		n, err := s.countConnections(l)
		if err != nil {
			return err
		}
		counted = append(counted, n)
	}
	before, came := counted[0](), 0
	for range times {
		fault := s.suffers(0, links[0].from+" to "+links[0].to, "it is broken")
		for _, l := range links {
			s.proxies[l].Stop()
		}
		s.wait(ctx, 200*time.Millisecond, 700*time.Millisecond)
		for _, l := range links {
			if err := s.proxies[l].Start(); err != nil {
				return err
			}
		}
		s.healed(fault)
		s.wait(ctx, 200*time.Millisecond, 700*time.Millisecond)
		if now := counted[0](); now > before {
			came, before = came+1, now
		}
	}
	s.must(came >= times/4, "%s came back to %s %d times, and it was broken %d times", links[0].from, links[0].to, came, times)
	return nil
}
