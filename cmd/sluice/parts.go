package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// part is one of the things that sluice is made of. It runs until its context ends, finishes in order, and returns nil
// then; an error is why it could not go on.
type part struct {
	name string
	run  func(ctx context.Context) error
}

// stopWithin bounds how long one part may take to finish.
const stopWithin = 20 * time.Second

var errTold = errors.New("told to stop")

// runParts runs all parts until ctx ends or one of them fails, then stops them one after the other, the last one
// first: a door before the worker that settles its orders, that before the queue between them.
func runParts(ctx context.Context, parts ...part) error {
	running := make([]*runningPart, len(parts))
	over := make(chan struct{}, len(parts))
	for i, p := range parts {
		running[i] = start(p, over)
	}
	select {
	case <-ctx.Done():
	case <-over:
	}
	var err error
	for _, r := range slices.Backward(running) {
		err = errors.Join(err, r.stop())
	}
	return err
}

type runningPart struct {
	part
	cancel context.CancelCauseFunc
	err    chan error
}

// start gives a part a context of its own: they end in order, not at once with a signal.
func start(p part, over chan<- struct{}) *runningPart {
	ctx, cancel := context.WithCancelCause(context.Background())
	r := &runningPart{part: p, cancel: cancel, err: make(chan error, 1)}
	go func() {
		r.err <- p.run(ctx)
		over <- struct{}{}
	}()
	return r
}

func (r *runningPart) stop() error {
	r.cancel(errTold)
	select {
	case err := <-r.err:
		if err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		return nil
	case <-time.After(stopWithin):
		return fmt.Errorf("%s: it did not finish within %v", r.name, stopWithin)
	}
}
