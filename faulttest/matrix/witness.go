package main

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"time"

	"sluice/faulttest/check"
)

// witness is a bystander that does nothing but write a block durably, again and again, where the parts write too. What it has to wait
// for, everybody on this machine had to wait for, however well the service is made: an answer's time is judged without it.
type witness struct {
	history *check.History
	file    *os.File
	stop    context.CancelFunc
	done    sync.WaitGroup
	stalls  []check.Span // of the goroutine, until done
}

const (
	witnessEvery = 20 * time.Millisecond
	stalledAfter = 100 * time.Millisecond // a write takes a few milliseconds
	mostStalls   = 10_000
)

// watch starts a witness in a folder.
func watch(ctx context.Context, dir string, history *check.History) (*witness, error) {
	file, err := os.Create(filepath.Join(dir, "witness"))
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	w := &witness{history: history, file: file, stop: stop}
	w.done.Go(func() { w.look(ctx) })
	return w, nil
}

func (w *witness) look(ctx context.Context) {
	block := make([]byte, 4<<10)
	for due := w.history.Now(); ctx.Err() == nil && len(w.stalls) < mostStalls; {
		_, err := w.file.WriteAt(block, 0)
		if err == nil {
			err = w.file.Sync()
		}
		now := w.history.Now()
		if err == nil && time.Duration(now-due) > stalledAfter {
			w.stalls = append(w.stalls, check.Span{From: due, To: now})
		}
		due = now + witnessEvery.Nanoseconds()
		pause(ctx, witnessEvery)
	}
}

// end stops it, and answers when it was kept waiting.
func (w *witness) end() []check.Span {
	w.stop()
	w.done.Wait()
	_ = w.file.Close() // nobody reads it
	return w.stalls
}
