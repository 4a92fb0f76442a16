package main

import (
	"context"
	"crypto/rand"
	"database/sql"

	"sluice/examples/internal/kit"
	"sluice/knsq"
)

// Event has those fields of sluice's events that this service needs.
type Event struct {
	Type  string `json:"type"`
	Order string `json:"order"`
	User  string `json:"user"`
}

// Coupon is good for a rebate.
type Coupon struct {
	Code  string `json:"code"`
	Order string `json:"order"`
	User  string `json:"user"`
}

// drawer keeps the coupons. An order has one: the code that was drawn first stays, also when its event comes again.
type drawer struct{ db *sql.DB }

func openDrawer(ctx context.Context, file string) (*drawer, error) {
	db, err := kit.Open(ctx, file, `CREATE TABLE IF NOT EXISTS coupons (
		order_id TEXT PRIMARY KEY,
		user     TEXT NOT NULL,
		code     TEXT NOT NULL UNIQUE
	)`)
	return &drawer{db}, err
}

func (d *drawer) close() { _ = d.db.Close() } // every coupon was committed

// issue handles a batch of events. It is finished when the transaction is committed; after an error all come again.
func (d *drawer) issue(ctx context.Context, batch []*knsq.Delivery[Event]) error {
	tx, err := d.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for _, delivery := range batch {
		e := delivery.Value
		if e.Type != "order.paid" {
			continue
		}
		_, err := tx.ExecContext(ctx,
			`INSERT INTO coupons (order_id, user, code) VALUES (?, ?, ?) ON CONFLICT (order_id) DO NOTHING`, e.Order, e.User, rand.Text())
		if err != nil {
			return err
		}
	}
	return tx.Commit()
}

func (d *drawer) list(ctx context.Context) ([]Coupon, error) {
	rows, err := d.db.QueryContext(ctx, `SELECT code, order_id, user FROM coupons ORDER BY order_id`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	coupons := []Coupon{}
	for rows.Next() {
		var c Coupon
		if err := rows.Scan(&c.Code, &c.Order, &c.User); err != nil {
			return nil, err
		}
		coupons = append(coupons, c)
	}
	return coupons, rows.Err()
}
