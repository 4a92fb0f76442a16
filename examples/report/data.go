package main

import (
	"context"
	"database/sql"

	"github.com/go-kratos/kratos/v2/log"

	"sluice/examples/internal/kit"
	"sluice/knsq"
)

const topic = "reports"

// data is the data layer: it writes to NSQ, and the saver writes what comes from there into the database.
type data struct {
	broker *knsq.Broker
	db     *sql.DB
}

func newData(nsqd, file string, logger log.Logger) (d *data, cleanup func(), err error) {
	broker, err := knsq.NewBroker(knsq.WithEndpoint(nsqd), knsq.WithVersion(1), knsq.WithLogger(logger))
	if err != nil {
		return nil, nil, err
	}
	db, err := kit.Open(context.Background(), file, `CREATE TABLE IF NOT EXISTS reports (
		id      TEXT    PRIMARY KEY,
		user    TEXT    NOT NULL,
		outcome TEXT    NOT NULL,
		took_ms INTEGER NOT NULL
	)`)
	if err != nil {
		_ = broker.Close(context.Background())
		return nil, nil, err
	}
	return &data{broker, db}, func() {
		_ = broker.Close(context.Background())
		_ = db.Close()
	}, nil
}

// Publish returns when nsqd has taken the report. nsqd forgets with kill -9 what it holds in memory: good enough for
// reports, while what must never be lost is written to a database first. Its errors are Kratos' own, so whoever asked is told 503
// (not sent) or 504 (nobody knows).
func (d *data) Publish(ctx context.Context, r *Report) error { return d.broker.Publish(ctx, topic, r) }

// save stores a batch. Reports come more than once: after a lost answer, and whenever a saver dies before it has answered.
func (d *data) save(ctx context.Context, batch []*knsq.Delivery[Report]) error {
	tx, err := d.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for _, delivery := range batch {
		r := delivery.Value
		_, err := tx.ExecContext(ctx,
			`INSERT INTO reports (id, user, outcome, took_ms) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`, r.ID, r.User, r.Outcome, r.TookMS)
		if err != nil {
			return err
		}
	}
	return tx.Commit()
}

// List answers what is stored.
func (d *data) List(ctx context.Context) ([]Report, error) {
	rows, err := d.db.QueryContext(ctx, `SELECT id, user, outcome, took_ms FROM reports ORDER BY id`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	reports := []Report{}
	for rows.Next() {
		var r Report
		if err := rows.Scan(&r.ID, &r.User, &r.Outcome, &r.TookMS); err != nil {
			return nil, err
		}
		reports = append(reports, r)
	}
	return reports, rows.Err()
}
