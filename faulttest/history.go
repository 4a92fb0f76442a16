package faulttest

import (
	"encoding/json"
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
	Ref      string `json:"ref,omitempty"` // of a payment
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

// History is an append-only log of events, safe for concurrent use.
type History struct {
	began time.Time

	mu     sync.Mutex // guards events
	events []Event
}

// NewHistory starts an empty history.
func NewHistory() *History { return &History{began: time.Now()} }

// Add appends an event, gives it its time and answers that.
func (h *History) Add(e Event) int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	e.At = time.Since(h.began).Nanoseconds()
	h.events = append(h.events, e)
	return e.At
}

// Events is what has been recorded so far; the caller must not change it.
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
