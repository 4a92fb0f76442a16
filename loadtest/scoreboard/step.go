package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// step is an open model: requests leave at their times, whatever became of those before, until one is refused.
type step struct {
	address string
	rate    float64 // requests a second

	mu      sync.Mutex
	idle    []*client // connections with nothing on their way
	open    int
	refused time.Time // when the first refusal was received
	broken  error     // the first
}

// maxStepConnections is below the usual limit of open files.
const maxStepConnections = 15_000

// run answers how long after the first request the first refusal came.
func (s *step) run(ctx context.Context, most time.Duration) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	began := time.Now()
	var all sync.WaitGroup
	var err error
	for n := int64(0); err == nil && ctx.Err() == nil && !s.over(); n++ {
		time.Sleep(time.Until(began.Add(time.Duration(float64(n) / s.rate * float64(time.Second)))))
		var c *client
		if c, err = s.take(ctx); err == nil {
			all.Go(func() { s.ask(c, n) })
		}
	}
	s.hangUp(cancel, &all)
	switch {
	case err != nil:
		return 0, err
	case s.refused.IsZero() && s.broken != nil:
		return 0, s.broken
	case s.refused.IsZero():
		return 0, fmt.Errorf("no refusal within %v", most)
	}
	return s.refused.Sub(began), nil
}

func (s *step) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.refused.IsZero() || s.broken != nil
}

// take answers a connection that nobody uses.
func (s *step) take(ctx context.Context) (*client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if last := len(s.idle) - 1; last >= 0 {
		c := s.idle[last]
		s.idle = s.idle[:last]
		return c, nil
	}
	if s.open == maxStepConnections {
		return nil, errors.New("too many requests wait for an answer")
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", s.address)
	if err != nil {
		return nil, err
	}
	s.open++
	c := &client{conn: conn, in: make([]byte, 4<<10), patience: 2 * rivalPatience}
	context.AfterFunc(ctx, func() { _ = conn.Close() }) // whoever waits for its answer is woken
	return c, nil
}

// ask sends one request. What comes after the first refusal is of no interest.
func (s *step) ask(c *client, n int64) {
	c.out = orderRequest(c.out[:0], s.address, saleID, n)
	a, err := c.ask()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !s.refused.IsZero() || s.broken != nil:
	case err != nil:
		s.broken = fmt.Errorf("request %d: %w", n, err)
	case a.status == http.StatusTooManyRequests || a.status == http.StatusServiceUnavailable:
		s.refused = a.came
	case a.status != http.StatusAccepted:
		s.broken = fmt.Errorf("request %d: %w", n, wrongAnswer(a, "202, or a refusal"))
	default:
		s.idle = append(s.idle, c)
	}
}

// hangUp closes all connections and waits for who used them.
func (s *step) hangUp(cancel context.CancelFunc, all *sync.WaitGroup) {
	s.mu.Lock()
	if s.refused.IsZero() && s.broken == nil {
		s.broken = errors.New("no refusal, and no more time")
	}
	s.mu.Unlock()
	cancel()
	all.Wait()
}
