package check

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

// Event is one line of the buyers' history. An ask is recorded before its request is sent and an answer after it
// came, so an ask without an answer is one whose effect is unknown.
type Event struct {
	At       int64  `json:"at"`              // nanoseconds since the history began, monotonic
	Asked    int64  `json:"asked,omitempty"` // in an answer: when its ask was recorded
	Event    string `json:"event"`           // Ask | Answer
	Call     string `json:"call"`            // Place | Follow | Pay | Cancel
	Door     string `json:"door,omitempty"`  // who was asked
	User     string `json:"user"`
	Key      string `json:"key"`
	Quantity int64  `json:"quantity,omitempty"`
	Status   int    `json:"status,omitempty"` // HTTP; 0 in an answer: the connection broke
	Reason   string `json:"reason,omitempty"`
	Order    string `json:"order,omitempty"`
	State    string `json:"state,omitempty"`
	Version  int64  `json:"version,omitempty"`
	Ref      string `json:"ref,omitempty"`   // of a payment
	Retry    int64  `json:"retry,omitempty"` // nanoseconds, as Retry-After says
	Error    string `json:"error,omitempty"`
}

// What an Event can be.
const (
	Ask    = "ask"
	Answer = "answer"
	Place  = "place"
	Follow = "follow"
	Pay    = "pay"
	Cancel = "cancel"
)

// Accepted reports whether the answer promises an order (P3), or grants what was asked of one.
func (e Event) Accepted() bool { return e.Event == Answer && (e.Status == 200 || e.Status == 202) }

// Doubtful reports whether the answer leaves open if anything was done: only asking again with the same key or payment
// reference tells.
func (e Event) Doubtful() bool {
	return e.Event == Answer && (e.Status == 0 || e.Status == 503 && e.Reason == "unavailable" ||
		e.Status >= 500 && e.Status != 503)
}

// turnsAway reports whether the answer says that there is no order, for load or for want of units.
func (e Event) turnsAway() bool {
	switch e.Reason {
	case "queue-full", "too-slow", "none-free", "sold-out", "rate-limited":
		return e.Event == Answer && e.Call == Place
	}
	return false
}

// History is an append-only log of events, safe for concurrent use.
type History struct {
	began time.Time

	mu     sync.Mutex // guards what follows
	events []Event
	light  bool                // events are lines only
	orders map[string]struct{} // that were promised
	lines  *json.Encoder       // nil: they are kept here only
	err    error               // the first that there was with lines
}

// NewHistory starts an empty history.
func NewHistory() *History { return &History{began: time.Now(), orders: map[string]struct{}{}} }

// Keep starts an empty history that writes each event as a line, before Add returns: who dies leaves what was asked.
func Keep(lines io.Writer) *History {
	h := NewHistory()
	h.lines = json.NewEncoder(lines)
	return h
}

// Stream is Keep for a long run: the lines are all that there is of its events.
func Stream(lines io.Writer) *History {
	h := Keep(lines)
	h.light = true
	return h
}

// Promised is how many orders were.
func (h *History) Promised() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return int64(len(h.orders))
}

// Began is the moment that all times count from.
func (h *History) Began() time.Time { return h.began }

// Now is the time as events have it.
func (h *History) Now() int64 { return time.Since(h.began).Nanoseconds() }

// Add appends an event, gives it its time and answers that.
func (h *History) Add(e Event) int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	e.At = h.Now()
	if !h.light {
		h.events = append(h.events, e)
	}
	if e.Call == Place && e.Accepted() {
		h.orders[e.Order] = struct{}{}
	}
	if h.lines != nil {
		if err := h.lines.Encode(e); err != nil && h.err == nil {
			h.err = err
		}
	}
	return e.At
}

// Err is what went wrong with writing lines, if anything did.
func (h *History) Err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}

// ReadHistory reads what Keep or Write wrote. A last line that was cut off, as by a crash of who wrote it, is left out.
func ReadHistory(r io.Reader) (events []Event, err error) {
	lines := bufio.NewReaderSize(r, 1<<20)
	known := oneCopy{}
	for n := 1; ; n++ {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return events, nil
		}
		if err != nil {
			return nil, err
		}
		var e Event
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		known.share(&e)
		events = append(events, e)
	}
}

// oneCopy keeps one copy of each text that events have: most of them have most texts in common, and a long run has millions.
type oneCopy map[string]string

func (t oneCopy) share(e *Event) {
	for _, field := range []*string{&e.Event, &e.Call, &e.Door, &e.User, &e.Key, &e.Reason, &e.Order, &e.State, &e.Ref, &e.Error} {
		if one, known := t[*field]; known {
			*field = one
		} else {
			t[*field] = *field
		}
	}
}

// Events is what has been recorded so far, nothing of a Stream; the caller must not change it.
func (h *History) Events() []Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clip(h.events)
}

// Write writes the history as JSON lines.
func (h *History) Write(w io.Writer) error {
	lines := json.NewEncoder(w)
	for _, e := range h.Events() {
		if err := lines.Encode(e); err != nil {
			return err
		}
	}
	return nil
}
