package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const longestWait = 5 * time.Second // that a door is asked to wait for an outcome

// buyer is one of the crowd. It belongs to one worker from its first request to its outcome.
type buyer struct {
	user, key string
	tries     int
	due       time.Time
	heard     bool // an answer, whatever it said
	doubted   bool // an answer was lost at some time: an order may be known when asked for again
	unsure    bool // the last answer was lost: an order may exist

	order    string
	version  int64
	accepted time.Time
}

// step is what a buyer does next.
type step int

const (
	followOrder step = iota
	comeBack         // at buyer.due
	goHome
)

// hear decides what follows from the answer to a purchase. It only computes.
func (b *buyer) hear(a answer, now, end time.Time, mostTries int) step {
	if a.accepted() {
		b.order, b.version, b.accepted, b.unsure = a.order, a.version, now, false
		return followOrder
	}
	// A definite refusal ends an earlier doubt: a door that knows the order answers with it.
	b.unsure = a.doubtful()
	pause := a.retry
	if b.unsure {
		b.doubted = true
		pause = max(pause, backoff(b.tries))
	}
	b.due = now.Add(pause)
	if pause == 0 || b.tries >= mostTries || b.due.After(end) {
		return goHome
	}
	return comeBack
}

// backoff doubles from 100 ms to 2 s, jittered so that buyers whose door died do not return as one wave.
func backoff(tries int) time.Duration {
	most := min(2*time.Second, 50*time.Millisecond<<min(tries, 10))
	return most/2 + rand.N(most/2)
}

// crowd is one run: workers that share a counter of buyers and a tally, and nothing else.
type crowd struct {
	options
	shop  *shop
	id    string // in every key, so that no two runs share one
	taken atomic.Int64
	tally tally
}

func newCrowd(o options, s *shop) *crowd {
	return &crowd{options: o, shop: s, id: fmt.Sprintf("%08x", rand.Uint32()), tally: newTally()}
}

// run lets everybody buy and answers how long it took.
func (c *crowd) run(ctx context.Context, stderr io.Writer) time.Duration {
	began := time.Now()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := c.showProgress(stderr)
	defer stop()
	var workers sync.WaitGroup
	for range min(c.concurrency, c.buyers) {
		workers.Go(func() { c.work(ctx) })
	}
	workers.Wait()
	return time.Since(began)
}

// next hands out every buyer once.
func (c *crowd) next() *buyer {
	n := c.taken.Add(1)
	if n > int64(c.buyers) {
		return nil
	}
	user := fmt.Sprintf("%s-%06d", c.prefix, n)
	return &buyer{user: user, key: c.id + "-" + user}
}

// agenda is what one worker still has to do; the worker owns it.
type agenda struct {
	retries []*buyer // the earliest first
	orders  []*buyer // the oldest first
}

func (g *agenda) retryAt(b *buyer) {
	at, _ := slices.BinarySearchFunc(g.retries, b, func(x, y *buyer) int { return x.due.Compare(y.due) })
	g.retries = slices.Insert(g.retries, at, b)
}

// untilRetry is how long the worker has for something else; ok is false where nobody waits to come back.
func (g *agenda) untilRetry(now time.Time) (left time.Duration, ok bool) {
	if len(g.retries) == 0 {
		return 0, false
	}
	return max(0, g.retries[0].due.Sub(now)), true
}

func pop(list *[]*buyer) *buyer {
	b := (*list)[0]
	*list = slices.Delete(*list, 0, 1)
	return b
}

// work is one worker's day: whoever is due comes back first, then somebody new comes, and only then are orders
// followed. Nobody sleeps while there is somebody to let in, or a full queue would slow the crowd down.
func (c *crowd) work(ctx context.Context) {
	var mine agenda
	defer c.close(&mine)
	for ctx.Err() == nil {
		left, retrying := mine.untilRetry(time.Now())
		if retrying && left == 0 {
			c.buy(ctx, pop(&mine.retries), &mine)
			continue
		}
		if b := c.next(); b != nil {
			c.buy(ctx, b, &mine)
			continue
		}
		switch {
		case len(mine.orders) > 0:
			wait := longestWait
			if retrying {
				wait = min(wait, left)
			}
			c.follow(ctx, pop(&mine.orders), wait, &mine)
		case retrying:
			sleep(ctx, left)
		default:
			return
		}
	}
}

// close counts those who were still waiting when the run's time was over.
func (c *crowd) close(mine *agenda) {
	for _, b := range mine.retries {
		c.tally.wentHome(b, answer{reason: "run-over"})
	}
	for _, b := range mine.orders {
		c.tally.lost(b, "was still queued when the run was over")
	}
}

func (c *crowd) buy(ctx context.Context, b *buyer, mine *agenda) {
	b.tries++
	a := c.shop.place(ctx, b.user, b.key)
	end, _ := ctx.Deadline()
	next := b.hear(a, time.Now(), end, c.tries)
	c.tally.answered(b, a)
	switch next {
	case followOrder:
		c.tally.acceptedOrder(b, a)
		if c.tally.settled(a) {
			return
		}
		mine.orders = append(mine.orders, b)
	case comeBack:
		c.tally.sentAway(a)
		mine.retryAt(b)
	case goHome:
		c.tally.wentHome(b, a)
	}
}

// follow asks for one order once. An order that is unknown or stays queued too long was lost (P3).
func (c *crowd) follow(ctx context.Context, b *buyer, wait time.Duration, mine *agenda) {
	a := c.shop.follow(ctx, b.user, b.key, b.order, wait)
	if ctx.Err() != nil {
		mine.orders = append(mine.orders, b)
		return
	}
	age := time.Since(b.accepted)
	switch {
	case a.accepted():
		c.tally.sameOrder(b, a)
		if c.tally.settled(a) {
			return
		}
		if a.took < wait/2 {
			sleep(ctx, 50*time.Millisecond) // the door did not wait: do not hammer it
		}
	case a.doubtful() || a.status == http.StatusServiceUnavailable || a.status == http.StatusTooManyRequests:
		sleep(ctx, max(a.retry, backoff(1)))
	default:
		c.tally.lost(b, fmt.Sprintf("is answered HTTP %d %s", a.status, a.reason))
		return
	}
	if age > c.settle {
		c.tally.lost(b, fmt.Sprintf("has no outcome %v after its 202", age.Round(time.Second)))
		return
	}
	mine.orders = append(mine.orders, b)
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
