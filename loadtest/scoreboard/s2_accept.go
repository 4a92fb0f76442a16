package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	labs "sluice/loadtest/lab"
)

var accepting = row{
	id: "S2", title: "processor time of a durable 202", must: 3, then: 2, unit: "×",
	meaning: "A door that accepts every order against a bare fasthttp handler that answers a constant 429 to the same requests. An order goes the " +
		"whole way: parsed, journalled and synced, answered 202, carried over TCP to an nsqd process, settled by the worker, and its outcome heard " +
		"and journalled by the door. The worker is the service's own over a store that keeps nothing (`loadtest/nullworker`), so that no database is " +
		"measured. A window ends when its last order's credit is back: no work is left to the next one.",
	measure: measureAccepting,
}

// acceptBound is large enough for every order to come in, however far the worker falls behind within a window.
const acceptBound = 100_000

func measureAccepting(ctx context.Context, l *lab) (figure, error) {
	bare, err := l.bare(ctx)
	if err != nil {
		return figure{}, err
	}
	defer bare.load.close()
	s, ours, accepted, err := l.openDoor(ctx)
	if err != nil {
		return figure{}, err
	}
	defer ours.load.close()
	f, err := l.compare(ctx, ours, bare)
	if err != nil {
		return figure{}, err
	}
	sold, err := s.audit(ctx)
	if err == nil && sold < accepted.Load() {
		err = fmt.Errorf("%d orders were accepted, and only %d reached the store", accepted.Load(), sold)
	}
	f.note = fmt.Sprintf("%d connections; %d orders accepted in all, warm-up included, and %d settled (an order that was carried twice counts twice).",
		connections, accepted.Load(), sold)
	return f, err
}

// openDoor is a service that takes every order.
func (l *lab) openDoor(ctx context.Context) (*service, *target, *atomic.Int64, error) {
	null, err := l.build(ctx, ".", "./loadtest/nullworker")
	if err != nil {
		return nil, nil, nil, err
	}
	s, err := l.launch(ctx, acceptBound, null)
	if err != nil {
		return nil, nil, nil, err
	}
	d, err := s.open("ingress", acceptBound, "--max-wait", "0s")
	if err != nil {
		return nil, nil, nil, err
	}
	if err := s.sell(ctx, 1_000_000_000); err != nil {
		return nil, nil, nil, err
	}
	accepted := new(atomic.Int64)
	t := &target{name: "sluice", processes: []*labs.Process{d.Process, s.nsqd, s.worker}, settled: d.idle, load: &load{
		addresses: []string{d.address}, connections: connections,
		request: func(b []byte, n int64) []byte { return orderRequest(b, d.address, saleID, n) },
		judge: func(_ int64, a answer) (string, error) {
			if a.status != http.StatusAccepted || !bytes.Contains(a.body, []byte(`"status":"queued"`)) {
				return "", wrongAnswer(a, "202 queued")
			}
			accepted.Add(1)
			return "202", nil
		},
	}}
	if _, err := t.load.run(ctx, time.Second, 0); err != nil { // the first orders of a journal are slower
		return nil, nil, nil, fmt.Errorf("first orders: %w", err)
	}
	return s, t, accepted, d.idle(ctx)
}
