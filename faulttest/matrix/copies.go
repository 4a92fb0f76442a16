package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"sluice/loadtest/lab"
)

// copies is the story of a queue that brings everything three times and in another order.
var copies = []story{
	{
		name:   "copies",
		holds:  "Every order is brought three times, some of them seconds later and after younger ones: it changes nothing.",
		inject: func(ctx context.Context, s *scene) error { return s.triple(ctx) },
	},
}

// copiers is how many hear orders side by side, so that they keep up.
const copiers = 4

// triple hears all orders and publishes each twice more, until no more buyers come and all copies have been brought.
func (s *scene) triple(ctx context.Context) error {
	c := &copier{seed: s.seed, seen: map[[sha256.Size]byte]bool{}}
	fault := s.suffers(0, "nsqd", "it brings everything three times, and in another order")
	var readers []*reader
	for range copiers {
		p, err := s.publisher(ctx, "orders")
		if err != nil {
			return err
		}
		r := &reader{at: s.parts["nsqd"].address, topic: "orders", channel: "copies", hear: func(body []byte) error { return c.hear(p, body) }}
		r.listen(ctx) // to the end: nsqd would keep what nobody hears, and count it
		s.ends = append(s.ends, r.hush, p.close)
		readers = append(readers, r)
	}
	pause(ctx, s.lasts())
	orders := c.enough()
	rows, counted := s.rows(ctx)
	err := lab.Eventually(ctx, startTime, "every copy has been brought", c.allCame)
	s.healed(fault)
	for _, r := range readers {
		err = errors.Join(err, r.trouble())
	}
	s.must(counted == nil && int64(orders) > rows*9/10, "%d orders were brought again, and %d are settled: %v", orders, rows, counted)
	return err
}

// copier publishes each message that it has not heard before twice more.
type copier struct {
	seed uint64

	mu      sync.Mutex // guards what follows
	seen    map[[sha256.Size]byte]bool
	repeats int
	over    bool // what comes now is left alone
}

func (c *copier) hear(p *publisher, body []byte) error {
	id := sha256.Sum256(body)
	if !c.fresh(id) {
		return nil
	}
	for i := range 2 { // half of them come later, by up to three seconds
		at := binary.BigEndian.Uint32(id[8*i:]) ^ uint32(c.seed) //nolint:gosec // any bits will do
		delay := time.Duration(0)
		if at%2 == 0 {
			delay = time.Duration(1+at/2%3000) * time.Millisecond
		}
		if err := p.publish(body, delay); err != nil {
			return err
		}
	}
	return nil
}

// fresh says whether a message is to be copied.
func (c *copier) fresh(id [sha256.Size]byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen[id] {
		c.repeats++
		return false
	}
	if c.over {
		return false
	}
	c.seen[id] = true
	return true
}

// enough ends the copying, and answers how many orders were copied.
func (c *copier) enough() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	return len(c.seen)
}

func (c *copier) allCame() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.repeats < 2*len(c.seen) {
		return fmt.Errorf("%d came, of %d orders", c.repeats, len(c.seen))
	}
	return nil
}
