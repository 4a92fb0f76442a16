package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

var committing = row{
	id: "S4", title: "orders held in PostgreSQL, from HTTP", must: 0.5, then: 0.8, least: true, unit: "×",
	meaning: "One hot sale, one unit a buyer, PostgreSQL with every commit synced, and the service's own tables; all processes of a side, its " +
		"database and the load share the processors. Buyers in a closed loop order for a while, each once; the time is from the first request until the " +
		"sale's counter says that every order which was accepted is held. The service answers 202 when the order is journalled and settles " +
		"it behind its queue; it must let everybody in. The rivals (`loadtest/peers/counter`) answer when the order is committed: Kratos' HTTP " +
		"server with the rate limit of its documentation, the same buyer's limit, stock, rows, indexes and outbox; with a batcher " +
		"in the same process that writes whatever waits through one hand-written statement, or with one transaction an order, in one round trip, " +
		"over 16 connections. What the rate limit refuses is not counted, and asks again after a rest. Every run has a fresh database, " +
		"and its books are proven: rows, counters and events.",
	measure: measureCommitting,
}

// manyConnections are buyers for sides that batch. A batcher writes whatever waits: with 512 buyers it does a fourth more than with
// 128, and with one writer a fifth more than with two (seen on 2 cores). One transaction an order gains nothing from so many.
const manyConnections = 512

// commits is one run of row S4.
type commits struct {
	lab         *lab
	length      time.Duration
	connections int
}

func measureCommitting(ctx context.Context, l *lab) (figure, error) {
	rounds, length := 7, 10*time.Second
	if l.short {
		rounds, length = 3, 3*time.Second
	}
	batched, single := commits{l, length, manyConnections}, commits{l, length, connections}
	if err := l.model(ctx); err != nil {
		return figure{}, err
	}
	f, err := l.race(ctx, rounds,
		contender{name: "sluice", run: func() (speed, error) { return batched.sluice(ctx) }},
		contender{name: "Kratos with a batcher", run: func() (speed, error) { return batched.rival(ctx, manyConnections, 1) }},
		contender{name: "Kratos, one transaction an order", run: func() (speed, error) { return single.rival(ctx, 1, 16) }, must: 8, then: 20},
	)
	f.note = fmt.Sprintf("%v of orders a run, over %d connections; %d for one transaction an order.", length, manyConnections, connections)
	return f, err
}

// sluice is all of the service: a door, nsqd and a worker.
func (c commits) sluice(ctx context.Context) (speed, error) {
	db, err := c.lab.fresh(ctx)
	if err != nil {
		return speed{}, err
	}
	defer db.conn.Close(ctx) //nolint:errcheck // what it could tell nobody needs
	s, err := c.lab.launch(ctx, acceptBound, "", "--store", db.url, "--batch", fmt.Sprint(workerBatch))
	if err != nil {
		return speed{}, err
	}
	d, err := s.open("ingress", acceptBound, "--max-wait", "0s")
	if err != nil {
		return speed{}, err
	}
	if err := s.known(ctx); err != nil {
		return speed{}, err
	}
	v, err := c.timed(ctx, db, d.address, func(_ int64, a answer) (string, error) {
		if a.status != http.StatusAccepted || !bytes.Contains(a.body, []byte(`"status":"queued"`)) {
			return "", wrongAnswer(a, "202 queued")
		}
		return "202", nil
	})
	if err != nil {
		return v, err
	}
	_, err = s.audit(ctx)
	return v, errors.Join(err, c.lab.End())
}

func (c commits) rival(ctx context.Context, batch, connections int) (speed, error) {
	program, err := c.lab.peer(ctx, "counter")
	if err != nil {
		return speed{}, err
	}
	db, err := c.lab.fresh(ctx)
	if err != nil {
		return speed{}, err
	}
	defer db.conn.Close(ctx) //nolint:errcheck // what it could tell nobody needs
	address, err := c.lab.FreeAddress()
	if err != nil {
		return speed{}, err
	}
	p, err := c.lab.Start("counter", program, "--listen", address, "--store", db.url, "--sale", saleID,
		"--batch", fmt.Sprint(batch), "--connections", fmt.Sprint(connections))
	if err != nil {
		return speed{}, err
	}
	if err := accepts(ctx, address); err != nil {
		return speed{}, fmt.Errorf("%w; it said:\n%s", err, p.Said(10))
	}
	v, err := c.timed(ctx, db, address, func(_ int64, a answer) (string, error) {
		switch {
		case a.status == http.StatusAccepted && bytes.Contains(a.body, []byte(`"status":"held"`)):
			return "202", nil
		case a.status == http.StatusTooManyRequests:
			time.Sleep(restAfterRefusal)
			return "429", nil
		}
		return "", wrongAnswer(a, "202 held, or 429")
	})
	if err != nil {
		return v, err
	}
	return v, c.lab.End()
}

// restAfterRefusal is less than any buyer would wait, and enough to keep refusals from taking the processors.
const restAfterRefusal = 50 * time.Millisecond

// timed has buyers order for a while, waits until every accepted order is held, and looks into the books.
func (c commits) timed(ctx context.Context, db *database, address string, judge func(int64, answer) (string, error)) (speed, error) {
	crowd := &load{
		addresses: []string{address}, connections: c.connections, judge: judge,
		request: func(b []byte, n int64) []byte { return orderRequest(b, address, saleID, n) },
	}
	defer crowd.close()
	if err := crowd.dial(ctx); err != nil {
		return speed{}, err
	}
	began := time.Now()
	t, err := crowd.run(ctx, c.length, 0)
	if err != nil {
		return speed{}, err
	}
	v := speed{orders: t.answers["202"], answers: t.answers}
	ended, err := db.until(ctx, v.orders, time.Minute)
	if err != nil {
		return v, err
	}
	v.took = ended.Sub(began)
	return v, db.audit(ctx, v.orders)
}
