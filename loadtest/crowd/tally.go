package main

import (
	"fmt"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const mostProblems = 20 // that are kept in words; the rest is counted

// tally is what the crowd saw with its own eyes.
type tally struct {
	mu         sync.Mutex // guards everything below
	requests   int64      // purchases that were sent
	broken     int64      // of these, without an answer
	accepted   int        // buyers who have an order
	repeats    int        // of these, learned from a 200
	refused    map[string]int
	retried    map[string]int
	outcomes   map[string]int // by state and reason
	states     map[string]int
	unresolved int               // buyers who never learned whether they have an order
	done       int               // buyers with an outcome or a final refusal
	owners     map[string]string // order id -> buyer
	problems   []string
	more       int // problems beyond mostProblems
	firstYes   *hdrhistogram.Histogram
	firstNo    *hdrhistogram.Histogram
}

func newTally() tally {
	us := func() *hdrhistogram.Histogram { return hdrhistogram.New(1, time.Hour.Microseconds(), 3) }
	return tally{
		refused: map[string]int{}, retried: map[string]int{}, outcomes: map[string]int{}, states: map[string]int{},
		owners: map[string]string{}, firstYes: us(), firstNo: us(),
	}
}

// problem keeps what went wrong; t.mu is held.
func (t *tally) problem(format string, args ...any) {
	if len(t.problems) == mostProblems {
		t.more++
		return
	}
	t.problems = append(t.problems, fmt.Sprintf(format, args...))
}

// answered counts a purchase and measures it if it is the buyer's first answer.
func (t *tally) answered(b *buyer, a answer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.requests++
	if a.status == 0 {
		t.broken++
		return
	}
	if b.heard {
		return
	}
	b.heard = true
	h := t.firstNo
	if a.accepted() {
		h = t.firstYes
	}
	if err := h.RecordValue(max(1, a.took.Microseconds())); err != nil {
		t.problem("%s waited %v for an answer, longer than can be measured", b.user, a.took)
	}
}

// acceptedOrder checks that the order is the buyer's own (P5). Only a buyer who lost an answer can meet a repeat.
func (t *tally) acceptedOrder(b *buyer, a answer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.accepted++
	if a.status == 200 {
		t.repeats++
		if !b.doubted {
			t.problem("%s was answered 200 though no answer of its was lost: it never asked before", b.user)
		}
	}
	if owner, taken := t.owners[a.order]; taken {
		t.problem("order %s belongs to %s and to %s", a.order, owner, b.user)
		return
	}
	t.owners[a.order] = b.user
}

// sameOrder checks that a status is of the order that was asked for and not older than what was seen (P10).
func (t *tally) sameOrder(b *buyer, a answer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if a.order != b.order {
		t.problem("%s asked for order %s and was told of %s", b.user, b.order, a.order)
	}
	if a.version < b.version {
		t.problem("order %s went back from version %d to %d", b.order, b.version, a.version)
	}
	b.version = max(b.version, a.version)
}

// settled counts the outcome and reports whether there is one.
func (t *tally) settled(a answer) bool {
	if a.state == "queued" {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	name := a.state
	if a.reason != "" {
		name += " " + a.reason
	}
	t.outcomes[name]++
	t.states[a.state]++
	t.done++
	return true
}

func (t *tally) sentAway(a answer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.retried[why(a)]++
}

func (t *tally) wentHome(b *buyer, a answer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refused[why(a)]++
	t.done++
	if b.unsure {
		t.unresolved++
	}
}

func (t *tally) lost(b *buyer, what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.outcomes["none"]++
	t.done++
	t.problem("order %s of %s %s", b.order, b.user, what)
}

func why(a answer) string {
	if a.status == 0 && a.reason == "" {
		return "broken-connection"
	}
	return a.reason
}
