package ingress

import (
	"context"
	"sync"
	"time"

	"sluice"
)

// inquiries collects orders that a buyer asked for and this door may know nothing new of. They are asked for in batches,
// at a bounded pace and each once in a while: a rush of status reads must not reach the database.
type inquiries struct {
	mu      sync.Mutex
	pending []sluice.OrderID
	asked   [2]map[sluice.OrderID]bool // this period's and the last one's; true once answered
	turned  time.Time
}

const (
	inquireEvery  = 100 * time.Millisecond
	inquiryPeriod = 5 * time.Second
	askAgain      = inquiryPeriod + inquireEvery // by who waits: each second time two periods are surely over, and it is a question
	maxRemembered = 20_000
)

// add notes an order to ask for, unless it was asked for lately or too many are noted.
func (q *inquiries) add(id sluice.OrderID, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if age := now.Sub(q.turned); age > inquiryPeriod {
		q.asked[1], q.asked[0] = q.asked[0], make(map[sluice.OrderID]bool)
		if age > 2*inquiryPeriod { // a quiet time: what was asked before it is old too
			q.asked[1] = nil
		}
		q.turned = now
	}
	for _, asked := range q.asked {
		if _, ok := asked[id]; ok {
			return
		}
	}
	if len(q.asked[0]) < maxRemembered && len(q.pending) < maxRemembered {
		q.asked[0][id] = false
		q.pending = append(q.pending, id)
	}
}

// addAgain notes an order once more for one who waits, unless that would keep those waiting who ask for the first time.
func (q *inquiries) addAgain(id sluice.OrderID, now time.Time) {
	q.mu.Lock()
	busy := len(q.pending) >= MaxInquiry
	q.mu.Unlock()
	if !busy {
		q.add(id, now)
	}
}

// answered reports whether the database was heard of an order lately.
func (q *inquiries) answered(id sluice.OrderID) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.asked[0][id] || q.asked[1][id]
}

// settle notes that questions were answered; those that were not may be asked again.
func (q *inquiries) settle(ids []sluice.OrderID, answered bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, id := range ids {
		for _, asked := range q.asked {
			if _, ok := asked[id]; ok && answered {
				asked[id] = true
			} else if ok {
				delete(asked, id)
			}
		}
	}
}

// take removes and returns the orders of one question.
func (q *inquiries) take() []sluice.OrderID {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(len(q.pending), MaxInquiry)
	ids := q.pending[:n:n]
	q.pending = q.pending[n:]
	return ids
}

// inquire asks what buyers want to know, a question every inquireEvery at most.
func (d *Door) inquire(ctx context.Context) {
	tick := time.NewTicker(inquireEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		d.Inquire(ctx)
	}
}

// Inquire asks one question, if there is any, and hears the answer, if one comes. Nothing depends on it: who waits is answered with
// what is known. Run does it every inquireEvery.
func (d *Door) Inquire(ctx context.Context) {
	ids := d.ask.take()
	if len(ids) == 0 {
		return
	}
	asked, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	changes, err := d.Truth.Statuses(asked, ids)
	if err == nil {
		err = d.Hear(ctx, changes)
	}
	if err != nil {
		d.metrics.inquiriesFailed.Inc()
	}
	d.ask.settle(ids, err == nil)
	for _, id := range ids {
		d.waiting.wake(id) // who waits to hear whether anybody knows the order
	}
}
