package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	labs "sluice/loadtest/lab"
)

var shedding = row{
	id: "S1", title: "processor time of a refusal, queue full", must: 1.25, then: 1.1, unit: "×",
	meaning: "A door whose bound is reached against a bare fasthttp handler that answers a constant 429 to the same requests. Every request is a " +
		"whole order of a new buyer with a key of its own, but each 64th, which repeats an accepted one. All processes of the service are " +
		"counted: ingress, nsqd and worker.\n\n" +
		"The worker runs at `--drain-rate 1` with `--max-wait 0s`: so the queue stays full, and the sale's facts stay fresh. With the worker " +
		"stopped they would be older than a second, and the door would leave out the check of the stock. One order a second leaves the queue, and " +
		"one comes in; everybody else must hear 503 `queue-full`, and every repeat 200 with its order.",
	measure: measureShedding,
}

const (
	shedBound = 10_000 // a door's default
	repeats   = 64     // one request in so many
)

func measureShedding(ctx context.Context, l *lab) (figure, error) {
	bare, err := l.bare(ctx)
	if err != nil {
		return figure{}, err
	}
	defer bare.load.close()
	full, err := l.fullDoor(ctx)
	if err != nil {
		return figure{}, err
	}
	defer full.load.close()
	f, err := l.compare(ctx, full.target, bare)
	if err != nil {
		return figure{}, err
	}
	if len(f.sides[full.name].Answers) < 2 {
		return figure{}, errors.New("no repeat was recognised")
	}
	f.note = fmt.Sprintf("Bound %d, %d connections, one repeat in %d requests.", shedBound, connections, repeats)
	_, err = full.audit(ctx)
	return f, err
}

// fullDoor is a service whose one door is full.
type fullDoor struct {
	*service
	*target
	accepted []int64      // requests that filled it
	begun    time.Time    // since when orders may leave
	admitted atomic.Int64 // orders that took the place of those
}

func (l *lab) fullDoor(ctx context.Context) (*fullDoor, error) {
	s, err := l.launch(ctx, shedBound, "", "--drain-rate", "1")
	if err != nil {
		return nil, err
	}
	d, err := s.open("ingress", shedBound, "--max-wait", "0s")
	if err != nil {
		return nil, err
	}
	if err := s.sell(ctx, 100*shedBound); err != nil {
		return nil, err
	}
	f := &fullDoor{service: s, begun: time.Now()}
	if err := f.fill(ctx, d); err != nil {
		return nil, err
	}
	f.target = &target{name: "sluice", processes: []*labs.Process{d.Process, s.nsqd, s.worker}, load: &load{
		addresses: []string{d.address}, connections: connections,
		request: func(b []byte, n int64) []byte { return orderRequest(b, d.address, saleID, f.buyer(n)) },
		judge:   f.judge,
	}}
	return f, nil
}

// fill sends orders until the door has refused some.
func (f *fullDoor) fill(ctx context.Context, d door) error {
	most := int64(shedBound + 10*connections)
	accepted := make([]atomic.Bool, most)
	fill := &load{
		addresses: []string{d.address}, connections: connections,
		request: func(b []byte, n int64) []byte { return orderRequest(b, d.address, saleID, n) },
		judge: func(n int64, a answer) (string, error) {
			if a.status == http.StatusAccepted {
				accepted[n].Store(true)
				return "202", nil
			}
			return refusedFor(a, "queue-full")
		},
	}
	defer fill.close()
	t, err := fill.run(ctx, time.Minute, most)
	if err != nil {
		return fmt.Errorf("fill the queue: %w", err)
	}
	for n := range accepted {
		if accepted[n].Load() {
			f.accepted = append(f.accepted, int64(n))
		}
	}
	if t.answers["503 queue-full"] == 0 || len(f.accepted) < shedBound {
		return fmt.Errorf("the queue is not full: %v", t.answers)
	}
	return nil
}

// buyer is who sends request n: somebody new, or one of those who filled the queue.
func (f *fullDoor) buyer(n int64) int64 {
	if n%repeats == 0 {
		return f.accepted[n/repeats%int64(len(f.accepted))]
	}
	return 1_000_000 + n
}

func (f *fullDoor) judge(n int64, a answer) (string, error) {
	switch {
	case n%repeats == 0 && a.status == http.StatusOK && bytes.Contains(a.body, []byte(`"order":"`)):
		return "200 the same order", nil
	case n%repeats == 0:
		return "", wrongAnswer(a, "200 with the order")
	case a.status == http.StatusAccepted:
		const slack = 20 // the worker's limiter lets that many through at once after a pause
		if most := int64(time.Since(f.begun).Seconds()) + slack; f.admitted.Add(1) > most {
			return "", fmt.Errorf("more than %d orders came in, and one a second leaves", most)
		}
		return "202", nil
	}
	return refusedFor(a, "queue-full")
}

// refusedFor is the kind of a refusal with that reason; anything else is an error.
func refusedFor(a answer, reason string) (string, error) {
	if a.status != http.StatusServiceUnavailable || !bytes.Contains(a.body, []byte(`"reason":"`+reason+`"`)) {
		return "", wrongAnswer(a, "503 "+reason)
	}
	return "503 " + reason, nil
}
