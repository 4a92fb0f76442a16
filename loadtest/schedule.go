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
	began   time.Time  // from which requests are due; zero until the attack begins, where nobody said when
	begun   bool
	next    int      // of the plan
	again   later    // requests because of answers
	issued  []issued // by number
	stopped bool
	ended   time.Duration // when the attack was ended early; negative: it was not
}

// issued is a request that went, and how it came to the wire.
type issued struct {
	request
	passage
}

func newSchedule(ctx context.Context, p *plan) *schedule {
	return &schedule{
		ctx: ctx, plan: p, begin: make(chan struct{}), wake: make(chan struct{}, 1),
		issued: make([]issued, 0, len(p.requests)+len(p.requests)/8), ended: -1,
	}
}

// beginAt has requests due from a moment on, however late the attack comes to them: sales open by the same clock. Before the attack.
func (s *schedule) beginAt(at time.Time) { s.began = at }

// Pace waits until a request is due and lets it go; it implements vegeta.Pacer. Waiting here and not in vegeta lets a request that comes
// up meanwhile go before those that were planned for later.
func (s *schedule) Pace(elapsed time.Duration, _ uint64) (wait time.Duration, stop bool) {
	s.mu.Lock()
	if !s.begun {
		s.begun = true
		if s.began.IsZero() {
			s.began = time.Now().Add(-elapsed)
		}
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
		s.endLocked()
		return 0, true
	}
	planned, again := s.next < len(s.plan.requests), len(s.again) > 0
	switch {
	case again && (!planned || s.again[0].due < s.plan.requests[s.next].due):
		if wait = s.again[0].due - now; wait <= 0 {
			s.issued = append(s.issued, issued{request: heap.Pop(&s.again).(request)}) //nolint:forcetypeassert // it holds nothing else
			return 0, false
		}
	case planned:
		if wait = s.plan.requests[s.next].due - now; wait <= 0 {
			s.issued = append(s.issued, issued{request: s.plan.requests[s.next]})
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

// issue is the n-th request that went.
func (s *schedule) issue(n uint64) issued {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.issued[n]
}

// passed notes how the n-th request came to the wire.
func (s *schedule) passed(n uint64, way passage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.issued[n].passage = way
}

// start is when the attack began.
func (s *schedule) start() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.began
}

// stop notes when the attack was ended early.
func (s *schedule) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endLocked()
}

// endLocked has the attack end where this is first noticed: what falls due afterwards was not held back.
func (s *schedule) endLocked() {
	if s.ended >= 0 {
		return
	}
	if s.ended = 0; !s.began.IsZero() {
		s.ended = max(0, time.Since(s.began))
	}
}

// played is the time until which requests were let go, of so much.
func (s *schedule) played(until time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended >= 0 {
		return min(until, s.ended)
	}
	return until
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
