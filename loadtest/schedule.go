package loadtest

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// schedule gives vegeta the next request when it is due, whether it was planned or comes because of an answer; it never waits for one.
// It is a vegeta.Pacer: request number n of the attack is the n-th that Pace let go.
type schedule struct {
	ctx   context.Context // ends the attack early
	plan  *plan
	begin chan struct{} // closed when the attack has begun
	wake  chan struct{} // something came that may be due before what is waited for

	mu      sync.Mutex // guards what follows
	began   time.Time
	next    int       // of the plan
	again   later     // requests because of answers
	issued  []request // by number
	stopped bool
}

func newSchedule(ctx context.Context, p *plan) *schedule {
	return &schedule{
		ctx: ctx, plan: p, begin: make(chan struct{}), wake: make(chan struct{}, 1),
		issued: make([]request, 0, len(p.requests)+len(p.requests)/8),
	}
}

// Pace waits until a request is due and lets it go; it implements vegeta.Pacer. Waiting here and not in vegeta lets a request that comes
// up meanwhile go before those that were planned for later.
func (s *schedule) Pace(elapsed time.Duration, _ uint64) (wait time.Duration, stop bool) {
	s.mu.Lock()
	if s.began.IsZero() {
		s.began = time.Now().Add(-elapsed)
		close(s.begin)
	}
	s.mu.Unlock()
	for {
		due, over := s.pop()
		if over {
			return 0, true
		}
		if due == 0 {
			return 0, false
		}
		timer := time.NewTimer(due)
		select {
		case <-timer.C:
		case <-s.wake:
		case <-s.ctx.Done():
		}
		timer.Stop()
	}
}

// Rate is for vegeta's own reports, which are not used.
func (s *schedule) Rate(time.Duration) float64 { return 0 }

// pop lets the first request go that is due, and answers 0; otherwise how long to wait.
func (s *schedule) pop() (wait time.Duration, over bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Since(s.began)
	if s.ctx.Err() != nil {
		s.stopped = true
		return 0, true
	}
	planned, again := s.next < len(s.plan.requests), len(s.again) > 0
	switch {
	case again && (!planned || s.again[0].due < s.plan.requests[s.next].due):
		if wait = s.again[0].due - now; wait <= 0 {
			s.issued = append(s.issued, heap.Pop(&s.again).(request)) //nolint:forcetypeassert // it holds nothing else
			return 0, false
		}
	case planned:
		if wait = s.plan.requests[s.next].due - now; wait <= 0 {
			s.issued = append(s.issued, s.plan.requests[s.next])
			s.next++
			return 0, false
		}
	default: // an answer may still send somebody back
		if wait = s.plan.end - now; wait <= 0 {
			s.stopped = true
			return 0, true
		}
	}
	return wait, false
}

// come has a buyer come again. After the end of the last phase nobody comes.
func (s *schedule) come(r request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped || r.due >= s.plan.end {
		return
	}
	heap.Push(&s.again, r)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// request is the n-th request that went.
func (s *schedule) request(n uint64) request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.issued[n]
}

// unsent are requests that were due and did not go, because the attack was ended.
func (s *schedule) unsent(until time.Duration) (list []request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.plan.requests[s.next:] {
		if r.due < until {
			list = append(list, r)
		}
	}
	for _, r := range s.again {
		if r.due < until {
			list = append(list, r)
		}
	}
	return list
}

// later is a heap of requests by when they are due.
type later []request

func (l later) Len() int           { return len(l) }
func (l later) Less(i, j int) bool { return l[i].due < l[j].due }
func (l later) Swap(i, j int)      { l[i], l[j] = l[j], l[i] }
func (l *later) Push(x any)        { *l = append(*l, x.(request)) } //nolint:forcetypeassert // it holds nothing else

// Pop implements heap.Interface.
func (l *later) Pop() any {
	old := *l
	x := old[len(old)-1]
	*l = old[:len(old)-1]
	return x
}
