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
	cut     int       // requests whose connection the other end closed: a rival that is overrun does so, which is no refusal
}

// maxStepConnections is below the usual limit of open files.
const maxStepConnections = 15_000

// errNoRefusal says that nothing was refused for as long as the step lasted, or until maxStepConnections waited.
var errNoRefusal = errors.New("nothing was refused")

// run answers how long after the first request the first refusal came; errNoRefusal where none did in time.
func (s *step) run(ctx context.Context, most time.Duration) (time.Duration, error) {
	hung, hangUp := context.WithCancel(ctx)
	defer hangUp()
	began := time.Now()
	var all sync.WaitGroup
	for n := int64(0); hung.Err() == nil && time.Since(began) < most && !s.over(); n++ {
		time.Sleep(time.Until(began.Add(time.Duration(float64(n) / s.rate * float64(time.Second)))))
		all.Go(func() { s.ask(hung, n) })
	}
	took, broken := time.Since(began), s.end()
	hangUp()
	all.Wait()
	switch {
	case !s.refused.IsZero():
		return s.refused.Sub(began), nil
	case broken != nil && !errors.Is(broken, errNoRefusal):
		return 0, broken
	case ctx.Err() != nil:
		return 0, ctx.Err()
	}
	return took, errNoRefusal
}

func (s *step) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.refused.IsZero() || s.broken != nil
}

// take answers a connection that nobody uses; it is closed with ctx, so that whoever waits for an answer is woken.
func (s *step) take(ctx context.Context) (*client, error) {
	if c, err := s.idler(); c != nil || err != nil {
		return c, err
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", s.address)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	return &client{conn: conn, in: make([]byte, 4<<10), patience: time.Hour}, nil
}

// idler answers a connection that is idle, or nil where a new one is needed.
func (s *step) idler() (*client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if last := len(s.idle) - 1; last >= 0 {
		c := s.idle[last]
		s.idle = s.idle[:last]
		return c, nil
	}
	if s.open == maxStepConnections {
		return nil, errNoRefusal // so many were let in
	}
	s.open++
	return nil, nil
}

// ask sends one request. What comes after the first refusal is of no interest.
func (s *step) ask(ctx context.Context, n int64) {
	var a answer
	var cut error
	c, err := s.take(ctx)
	if err == nil {
		c.out = orderRequest(c.out[:0], s.address, saleID, n)
		a, cut = c.ask()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !s.refused.IsZero() || s.broken != nil:
	case err != nil:
		s.broken = fmt.Errorf("request %d: %w", n, err)
	case cut != nil:
		s.cut++
	case a.status == http.StatusTooManyRequests || a.status == http.StatusServiceUnavailable:
		s.refused = a.came
	case a.status != http.StatusAccepted:
		s.broken = fmt.Errorf("request %d: %w", n, wrongAnswer(a, "202, or a refusal"))
	default:
		s.idle = append(s.idle, c)
	}
}

// end makes whatever still comes of no interest, and answers what broke before.
func (s *step) end() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	broken := s.broken
	s.broken = errors.Join(broken, errNoRefusal)
	return broken
}
