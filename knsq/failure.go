package knsq

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"time"
)

// ErrPermanent marks the errors that Permanent makes.
var ErrPermanent = errors.New("another attempt would fail too")

// Permanent makes of a handler's error one after which the message is a dead letter at once.
func Permanent(err error) error { return fmt.Errorf("%w: %w", ErrPermanent, err) }

// Letter is a message that can't be handled.
type Letter struct {
	Topic, Channel string
	ID             string // nsqd's
	Body           []byte
	Attempts       int   // deliveries, as far as nsqd remembers
	Err            error // of the last attempt, or what is wrong with the body
}

// settle answers m with what became of it, unless the handler has answered it.
func (r *route) settle(ctx context.Context, from *nsqd, m *Message, err error) {
	switch {
	case err == nil:
		m.Finish()
	case m.Answered():
	case ctx.Err() != nil: // Stop has run out of time: no fault of the message
		m.Requeue(0)
	case errors.Is(err, ErrPermanent), r.set.maxAttempts > 0 && m.Attempts >= r.set.maxAttempts:
		r.bury(ctx, from, m, err)
	default:
		delay := r.backoff(m.Attempts)
		r.complain.Do(func() {
			r.log.Warn("a message could not be handled; it comes again", slog.String("message", string(m.ID[:])),
				slog.Int("attempts", m.Attempts), slog.Duration("delay", delay), slog.Any("error", err))
		})
		m.Requeue(delay)
	}
}

// backoff is how long a message waits after so many attempts: drawn from the upper half, so that messages that failed
// together do not come again together.
func (r *route) backoff(attempts int) time.Duration {
	wait := r.set.leastBackoff
	for n := 1; n < attempts && wait < r.set.mostBackoff; n++ {
		wait *= 2
	}
	wait = min(wait, r.set.mostBackoff)
	return wait/2 + rand.N(wait/2+1)
}

// bury makes a dead letter of m, and finishes m when that is safe.
func (r *route) bury(ctx context.Context, from *nsqd, m *Message, cause error) {
	m.Touch()
	letter := Letter{
		Topic: r.topic, Channel: r.channel, ID: string(m.ID[:]), Body: m.Body, Attempts: m.Attempts, Err: cause,
	}
	within, cancel := context.WithTimeout(ctx, r.set.msgTimeout*3/4)
	defer cancel()
	keep := r.set.deadLetter
	if keep == nil {
		keep = func(ctx context.Context, l Letter) error { return from.publish(ctx, r.set.deadTopic, l.Body) }
	}
	err := guard(func() error { return keep(within, letter) })
	log := r.log.With(slog.String("message", letter.ID), slog.Int("attempts", m.Attempts), slog.Any("cause", cause))
	if err != nil {
		m.Requeue(r.set.mostBackoff)
		r.complain.Do(func() { log.Error("a dead letter could not be kept; it comes again", slog.Any("error", err)) })
		return
	}
	m.Finish()
	r.complain.Do(func() { log.Error("dead letter") })
}

// guard makes a panic an error, where no middleware has done so: it must not end the process, and with it the work on
// all other messages, again and again.
func guard(do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return do()
}
