package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"syscall"
	"time"
)

var refusing = row{
	id: "S8", title: "from a full queue to the first refusal", must: 50, then: 5, unit: "ms",
	meaning: "How long buyers are let in after there is no more room. For the service: with the worker stopped, buyers ask as fast as they can until " +
		"one is refused; the time is from when the last order that came in was sent (the credit was taken later, so this is never too short) to " +
		"when the first refusal was received. For the rivals: a step from nothing to three times what they can do, in an open model, and the time from " +
		"its beginning to when the first refusal was received, which waits for a processor like every request. Rivals decide by a smoothed reading of the processors; each runs with the defaults that its " +
		"documentation advises: Kratos' HTTP server with its rate limit (aegis BBR), and go-zero's adaptive shedder.",
	measure: measureRefusing,
}

const refuseBound = 5000

func measureRefusing(ctx context.Context, l *lab) (figure, error) {
	runs, rivalRuns, patience := 15, 3, time.Minute
	if l.short {
		runs, rivalRuns, patience = 5, 1, 20*time.Second
	}
	took, err := l.firstRefusals(ctx, runs)
	if err != nil {
		return figure{}, err
	}
	f := over(took)
	f.sides = map[string]side{"sluice": {Figures: map[string]float64{"first refusal, ms": f.ratio}}}
	f.note = fmt.Sprintf("Bound %d, %d connections. A rival's time is the median of %d.", refuseBound, connections, rivalRuns)
	for _, name := range []string{"aegis", "gozero"} {
		if f.sides[name], err = l.rivals(ctx, name, rivalRuns, patience); err != nil {
			return f, fmt.Errorf("%s: %w", name, err)
		}
	}
	return f, nil
}

// rivals measures one rival several times.
func (l *lab) rivals(ctx context.Context, name string, runs int, patience time.Duration) (side, error) {
	what := "first refusal, ms"
	var times, rates []float64
	for range runs {
		first, capacity, err := l.rivalRefuses(ctx, name, patience)
		if errors.Is(err, errNoRefusal) {
			what, err = "first refusal, ms, at least", nil
		}
		if err != nil {
			return side{}, err
		}
		l.say("  %s: capacity %.0f a second; %s: %.0f", name, capacity, what, milliseconds(first))
		times, rates = append(times, milliseconds(first)), append(rates, capacity)
	}
	return side{Figures: map[string]float64{what: median(times), "capacity, a second": median(rates)}}, nil
}

// firstRefusals fills the queue again and again, and answers how long each time the first refusal took, in milliseconds.
func (l *lab) firstRefusals(ctx context.Context, runs int) (took []float64, err error) {
	s, err := l.launch(ctx, refuseBound, "")
	if err != nil {
		return nil, err
	}
	d, err := s.open("ingress", refuseBound, "--max-wait", "0s")
	if err != nil {
		return nil, err
	}
	if err := s.sell(ctx, 10_000_000); err != nil {
		return nil, err
	}
	accepted, next := int64(0), int64(0)
	for range runs {
		if err := s.worker.Freeze(ctx); err != nil {
			return nil, err
		}
		r := rush{connections: connections, address: d.address}
		crowd := r.load()
		crowd.next.Store(next)
		t, err := crowd.run(ctx, 30*time.Second, next+refuseBound+20*connections)
		crowd.close()
		next = crowd.next.Load()
		if err != nil {
			return nil, err
		}
		if t.answers["202"] != refuseBound || r.refused.IsZero() {
			return nil, fmt.Errorf("want %d orders and then refusals, got %v", refuseBound, t.answers)
		}
		took = append(took, milliseconds(r.refused.Sub(r.lastIn)))
		l.say("  sluice: first refusal after %.2f ms", took[len(took)-1])
		accepted += t.answers["202"]
		if err := s.worker.Signal(syscall.SIGCONT); err != nil {
			return nil, err
		}
		if err := d.idle(ctx); err != nil {
			return nil, err
		}
	}
	sold, err := s.audit(ctx)
	if err == nil && sold != accepted {
		err = fmt.Errorf("%d orders were accepted, and %d units are sold", accepted, sold)
	}
	return took, errors.Join(err, l.End())
}

// rush is a crowd that notes when the last order that came in was sent, and when the first refusal was received.
type rush struct {
	address     string
	connections int

	mu              sync.Mutex
	lastIn, refused time.Time
}

func (r *rush) load() *load {
	return &load{
		addresses: []string{r.address}, connections: r.connections,
		request: func(b []byte, n int64) []byte { return orderRequest(b, r.address, saleID, n) },
		judge: func(_ int64, a answer) (string, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			if a.status == http.StatusAccepted {
				if a.sent.After(r.lastIn) {
					r.lastIn = a.sent
				}
				return "202", nil
			}
			if r.refused.IsZero() || a.came.Before(r.refused) {
				r.refused = a.came
			}
			return refusedFor(a, "queue-full")
		},
	}
}

// rivalWork makes a rival's request cost some milliseconds of a processor: three times its capacity is then an open model that
// can be kept up for as long as a rival needs.
const rivalWork = 20_000

// rivalRefuses finds out what a rival can do, and how long it takes a fresh one to refuse when three times that comes at once.
func (l *lab) rivalRefuses(ctx context.Context, name string, patience time.Duration) (first time.Duration, capacity float64, err error) {
	address, err := l.rival(ctx, name)
	if err != nil {
		return 0, 0, err
	}
	closed := &load{
		addresses: []string{address}, connections: 8,
		request: func(b []byte, n int64) []byte { return orderRequest(b, address, saleID, n) },
		judge: func(_ int64, a answer) (string, error) {
			if a.status != http.StatusAccepted {
				return "", wrongAnswer(a, "202")
			}
			return "202", nil
		},
	}
	t, err := closed.run(ctx, 2*time.Second, 0)
	closed.close()
	if err = errors.Join(err, l.End()); err != nil {
		return 0, 0, err
	}
	capacity = float64(t.total) / t.took.Seconds()
	if address, err = l.rival(ctx, name); err != nil { // a fresh one: it has seen no load
		return 0, 0, err
	}
	s := step{address: address, rate: 3 * capacity}
	first, err = s.run(ctx, patience)
	if s.cut > 0 {
		l.say("  %s: cut %d connections off, which is no refusal", name, s.cut)
	}
	return first, capacity, errors.Join(err, l.End())
}

func (l *lab) rival(ctx context.Context, name string) (address string, err error) {
	program, err := l.peer(ctx, name)
	if err != nil {
		return "", err
	}
	if address, err = l.FreeAddress(); err != nil {
		return "", err
	}
	if _, err = l.Start(name, program, "--listen", address, "--work", fmt.Sprint(rivalWork)); err != nil {
		return "", err
	}
	return address, accepts(ctx, address)
}
