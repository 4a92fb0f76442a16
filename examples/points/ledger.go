package main

import (
	"context"
	"database/sql"

	"sluice/examples/internal/kit"
)

// Event has those fields of sluice's events that this service needs.
type Event struct {
	Type  string `json:"type"`
	Order string `json:"order"`
	User  string `json:"user"`
	Units int64  `json:"units"`
}

// Credit is what a buyer got for an order.
type Credit struct {
	Order  string `json:"order"`
	User   string `json:"user"`
	Points int64  `json:"points"`
}

// ledger keeps the credits. An order is paid once, so the order is their key: an event that comes again changes nothing.
type ledger struct{ db *sql.DB }

func openLedger(ctx context.Context, file string) (*ledger, error) {
	db, err := kit.Open(ctx, file, `CREATE TABLE IF NOT EXISTS credits (
		order_id TEXT    PRIMARY KEY,
		user     TEXT    NOT NULL,
		points   INTEGER NOT NULL
	)`)
	return &ledger{db}, err
}

func (l *ledger) close() { _ = l.db.Close() } // every credit was committed

// credit handles one event. After an error it comes again.
func (l *ledger) credit(ctx context.Context, e *Event) error {
	if e.Type != "order.paid" {
		return nil
	}
	_, err := l.db.ExecContext(ctx,
		`INSERT INTO credits (order_id, user, points) VALUES (?, ?, ?) ON CONFLICT DO NOTHING`, e.Order, e.User, 10*e.Units)
	return err
}

func (l *ledger) list(ctx context.Context) ([]Credit, error) {
	rows, err := l.db.QueryContext(ctx, `SELECT order_id, user, points FROM credits ORDER BY order_id`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	credits := []Credit{}
	for rows.Next() {
		var c Credit
		if err := rows.Scan(&c.Order, &c.User, &c.Points); err != nil {
			return nil, err
		}
		credits = append(credits, c)
	}
	return credits, rows.Err()
}
