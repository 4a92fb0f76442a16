package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// event is one line of the history. An ask is written before its request is sent and an answer after it came, so
// a request without an answer is one whose effect is unknown.
type event struct {
	At      int64  `json:"at"`    // nanoseconds since the run began, monotonic
	Event   string `json:"event"` // ask | answer
	Call    string `json:"call"`  // place | follow
	User    string `json:"user"`
	Key     string `json:"key"`
	Status  int    `json:"status,omitempty"` // HTTP; 0 in an answer: the connection broke
	Reason  string `json:"reason,omitempty"`
	Order   string `json:"order,omitempty"`
	State   string `json:"state,omitempty"`
	Version int64  `json:"version,omitempty"`
	Error   string `json:"error,omitempty"`
}

// history appends events to a file. The nil history forgets them.
type history struct {
	began time.Time

	mu   sync.Mutex // guards file and err
	file *os.File
	err  error // the first that went wrong
}

func openHistory(path string) (*history, error) {
	if path == "" {
		return nil, nil //nolint:nilnil // the nil history is a working one that forgets
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("open the history: %w", err)
	}
	return &history{began: time.Now(), file: f}, nil
}

// add writes without a buffer: an ask must be on its way to the file before the request is on its way to the door.
func (h *history) add(e event) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	e.At = time.Since(h.began).Nanoseconds()
	line, err := json.Marshal(e)
	if err == nil {
		_, err = h.file.Write(append(line, '\n'))
	}
	if h.err == nil && err != nil {
		h.err = fmt.Errorf("write the history: %w", err)
	}
}

func (h *history) close() error {
	if h == nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return errors.Join(h.err, h.file.Close())
}
