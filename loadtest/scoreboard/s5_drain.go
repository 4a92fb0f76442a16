package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"syscall"
	"time"

	labs "sluice/loadtest/lab"
)

var draining = row{
	id: "S5", title: "orders drained into PostgreSQL", must: 0.5, then: 0.8, least: true, unit: "×",
	meaning: "One hot sale, one unit a buyer, PostgreSQL with every commit synced, and the service's own tables: how fast orders that wait " +
		"become `held` rows. The service is its nsqd, which has all the orders, and its worker, which takes, checks, decides, writes, finishes and tells them. " +
		"A rival (`loadtest/peers/drainer`) has the same orders in its memory, and nothing to do but to write them: the same buyer's limit, " +
		"stock, rows, indexes and outbox, through one hand-written statement a batch, of as many orders as the worker's; or one transaction an " +
		"order, in one round trip, over 16 connections. The time is from when the side is let go until the sale's counter says that all are held. " +
		"Every run has a fresh database, and its books are proven: rows, counters and events.",
	measure: measureDraining,
}

// workerBatch is how many orders the worker settles in one transaction.
const workerBatch = 256

// drain is one run of row S5.
type drain struct {
	lab    *lab
	orders int64
}

func measureDraining(ctx context.Context, l *lab) (figure, error) {
	rounds, batched, single := 7, drain{l, 100_000}, drain{l, 6000}
	if l.short {
		rounds, batched, single = 3, drain{l, 40_000}, drain{l, 2500}
	}
	if err := l.model(ctx); err != nil {
		return figure{}, err
	}
	return l.race(ctx, rounds,
		contender{name: "sluice", run: func() (speed, error) { return batched.sluice(ctx) }},
		contender{name: "one batch statement", run: func() (speed, error) { return batched.rival(ctx, workerBatch, 1) }},
		contender{name: "one transaction an order", run: func() (speed, error) { return single.rival(ctx, 1, 16) }, must: 20, then: 20},
	)
}

// sluice fills the queue of a worker that is stopped, and lets it go.
func (d drain) sluice(ctx context.Context) (speed, error) {
	preload, err := d.lab.peer(ctx, "preload")
	if err != nil {
		return speed{}, err
	}
	db, err := d.lab.fresh(ctx)
	if err != nil {
		return speed{}, err
	}
	defer db.conn.Close(ctx) //nolint:errcheck // what it could tell nobody needs
	s, err := d.lab.launch(ctx, int(d.orders), "", "--store", db.url, "--batch", fmt.Sprint(workerBatch))
	if err != nil {
		return speed{}, err
	}
	err = labs.Eventually(ctx, 20*time.Second, "the worker is ready", func() error { return get(ctx, "http://"+s.admin+"/readyz", nil) })
	if err != nil {
		return speed{}, err
	}
	if err := s.worker.Freeze(ctx); err != nil {
		return speed{}, err
	}
	if err := d.lab.do(ctx, preload, "--nsqd", s.queue, "--id-key", s.key, "--sale", saleID, "--orders", fmt.Sprint(d.orders)); err != nil {
		return speed{}, err
	}
	took, err := d.timed(ctx, db, func() error { return s.worker.Signal(syscall.SIGCONT) })
	if err != nil {
		return speed{}, fmt.Errorf("%w; the worker said:\n%s", err, s.worker.Said(10))
	}
	_, err = s.audit(ctx)
	return speed{orders: d.orders, took: took}, errors.Join(err, d.lab.End())
}

// rival writes orders from memory.
func (d drain) rival(ctx context.Context, batch, writers int) (speed, error) {
	program, err := d.lab.peer(ctx, "drainer")
	if err != nil {
		return speed{}, err
	}
	db, err := d.lab.fresh(ctx)
	if err != nil {
		return speed{}, err
	}
	defer db.conn.Close(ctx) //nolint:errcheck // what it could tell nobody needs
	address, err := d.lab.FreeAddress()
	if err != nil {
		return speed{}, err
	}
	p, err := d.lab.Start("drainer", program, "--listen", address, "--store", db.url, "--sale", saleID,
		"--orders", fmt.Sprint(d.orders), "--batch", fmt.Sprint(batch), "--writers", fmt.Sprint(writers))
	if err != nil {
		return speed{}, err
	}
	if err := accepts(ctx, address); err != nil {
		return speed{}, fmt.Errorf("%w; it said:\n%s", err, p.Said(10))
	}
	answered := make(chan error, 1)
	took, err := d.timed(ctx, db, func() error {
		go func() { answered <- call(ctx, http.MethodPost, "http://"+address+"/drain", nil, nil) }() // ends with the drainer
		return nil
	})
	if err == nil {
		err = <-answered
	}
	if err != nil {
		return speed{}, fmt.Errorf("%w; the drainer said:\n%s", err, p.Said(10))
	}
	return speed{orders: d.orders, took: took}, d.lab.End()
}

// timed lets a side go and waits until all orders are held; then it looks into the books.
func (d drain) timed(ctx context.Context, db *database, begin func() error) (time.Duration, error) {
	began := time.Now()
	if err := begin(); err != nil {
		return 0, err
	}
	ended, err := db.until(ctx, d.orders, time.Minute)
	if err != nil {
		return 0, err
	}
	return ended.Sub(began), db.audit(ctx, d.orders)
}
