package main

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"sluice/examples/internal/kit"
)

// Event has those fields of sluice's events that this service needs.
type Event struct {
	Type    string    `json:"type"`
	Order   string    `json:"order"`
	Version int64     `json:"version"` // of the order: one more with each of its steps
	User    string    `json:"user"`
	PayBy   time.Time `json:"pay_by"`
}

// Note is what a buyer was told.
type Note struct {
	Order   string `json:"order"`
	Version int64  `json:"version"`
	User    string `json:"user"`
	Text    string `json:"text"`
	Worker  string `json:"worker"` // who told it
}

// text is what to tell; empty: nothing.
func (e *Event) text() string {
	switch e.Type {
	case "order.held":
		return fmt.Sprintf("It is yours. Please pay by %s.", e.PayBy.Format(time.TimeOnly))
	case "order.paid":
		return "Thank you! It is on its way."
	case "order.expired":
		return "The time to pay is over."
	case "order.cancelled":
		return "Your order is cancelled."
	case "order.rejected":
		return "We are sorry: you came too late."
	}
	return ""
}

// post keeps the notes. One that is written here is sent; a mail provider would be given order and version as the
// key of its own.
type post struct {
	db     *sql.DB
	worker string
}

func openPost(ctx context.Context, file, worker string) (*post, error) {
	db, err := kit.Open(ctx, file, `CREATE TABLE IF NOT EXISTS notes (
		order_id TEXT    NOT NULL,
		version  INTEGER NOT NULL,
		user     TEXT    NOT NULL,
		text     TEXT    NOT NULL,
		worker   TEXT    NOT NULL,
		PRIMARY KEY (order_id, version)
	)`)
	return &post{db, worker}, err
}

func (p *post) close() { _ = p.db.Close() } // every note was committed

// notify handles one event. Events come more than once, and out of order: nothing is told that is not newer than all
// that was told of the order before.
func (p *post) notify(ctx context.Context, e *Event) error {
	text := e.text()
	if text == "" {
		return nil
	}
	_, err := p.db.ExecContext(ctx,
		`INSERT INTO notes (order_id, version, user, text, worker) SELECT ?1, ?2, ?3, ?4, ?5
		WHERE NOT EXISTS (SELECT 1 FROM notes WHERE order_id = ?1 AND version >= ?2)`,
		e.Order, e.Version, e.User, text, p.worker)
	return err
}

func (p *post) list(ctx context.Context) ([]Note, error) {
	rows, err := p.db.QueryContext(ctx, `SELECT order_id, version, user, text, worker FROM notes ORDER BY order_id, version`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	notes := []Note{}
	for rows.Next() {
		var n Note
		if err := rows.Scan(&n.Order, &n.Version, &n.User, &n.Text, &n.Worker); err != nil {
			return nil, err
		}
		notes = append(notes, n)
	}
	return notes, rows.Err()
}
