package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
)

const (
	saleColumns = "id, sku, stock, topups, free, held, sold, per_user_limit, starts_at, ends_at, payment_window, " +
		"max_age, checkout_url, over_admission, paused, version, reserved_for, reserved_share, payment_grace"
	orderColumns  = "id, sale, buyer, state, reason, version, quantity, pay_by, settled_at, payment_ref, release_at"
	insertColumns = "id, sale, buyer, key, attempt, quantity, attributes, accepted_at, state, reason, version, pay_by, settled_at, " +
		"release_at"

	// movingColumns are for scanMoving, in a statement whose first parameter is a payment's reference.
	movingColumns = orderColumns + ", attributes, replay_of, EXISTS (SELECT 1 FROM refunds_due AS r WHERE r.order_id = orders.id AND r.payment_ref = ?)"

	selectOrders = "SELECT " + orderColumns + " FROM orders WHERE id IN (%s)"
	selectSales  = "SELECT " + saleColumns + " FROM sales"
)

// statements are prepared on the writer's one connection.
type statements struct {
	insertOrders *bulk // rows of insertColumns
	selectOrders *bulk // ids
	selectOwned  *bulk // sale, then buyers
	insertEvents *bulk // rows of eventFields

	selectSale  *sql.Stmt
	moveSale    *sql.Stmt
	updateOrder *sql.Stmt
	extendOrder *sql.Stmt
	selectDue   *sql.Stmt

	selectMoving *sql.Stmt
	moveHead     *sql.Stmt
}

func prepare(ctx context.Context, db *sql.DB) (*statements, error) {
	p := preparer{ctx: ctx, db: db}
	row := "(" + repeat("?", strings.Count(insertColumns, ",")+1) + ")"
	s := &statements{
		insertOrders: p.bulk("INSERT INTO orders ("+insertColumns+") VALUES %s", row, 128, 16, 1),
		selectOrders: p.bulk(selectOrders, "?", 256, 32, 4, 1),
		selectOwned: p.bulk("SELECT buyer, sum(quantity) FROM orders WHERE sale = ? AND buyer IN (%s) "+
			"AND state IN ('held', 'paid') GROUP BY buyer", "?", 256, 32, 4, 1),
		insertEvents: p.bulk(insertEvents, "("+repeat("?", eventFields)+")", 128, 16, 1),
		selectSale:   p.one("SELECT " + saleColumns + ", phase FROM sales WHERE id = ?"),
		selectMoving: p.one("SELECT " + movingColumns + " FROM orders WHERE id = ?"),
		moveHead:     p.one(moveHead),
		moveSale: p.one("UPDATE sales SET free = free + ?, held = held + ?, sold = sold + ?, version = version + 1 " +
			"WHERE id = ?"),
		updateOrder: p.one("UPDATE orders SET state = ?, version = ?, payment_ref = ? WHERE id = ?"),
		extendOrder: p.one("UPDATE orders SET pay_by = ?, release_at = ?, version = ? WHERE id = ?"),
		selectDue: p.one("SELECT " + movingColumns + " FROM orders WHERE id IN (SELECT o.id FROM sales CROSS JOIN orders AS o " +
			"WHERE sales.held > 0 AND o.sale = sales.id AND o.state = 'held' AND o.release_at <= ? LIMIT ?)"), // sale by sale, each by its index
	}
	if p.err != nil {
		return nil, errors.Join(fmt.Errorf("prepare the statements: %w", p.err), s.close())
	}
	return s, nil
}

func (s *statements) close() error {
	all := []*sql.Stmt{s.selectSale, s.moveSale, s.updateOrder, s.extendOrder, s.selectDue, s.selectMoving, s.moveHead}
	for _, b := range []*bulk{s.insertOrders, s.selectOrders, s.selectOwned, s.insertEvents} {
		all = append(all, b.stmts...)
	}
	var errs []error
	for _, stmt := range all {
		if stmt != nil {
			errs = append(errs, stmt.Close())
		}
	}
	return errors.Join(errs...)
}

// preparer keeps the first error, so that prepare reads as a list.
type preparer struct {
	ctx context.Context //nolint:containedctx // lives for one call of prepare
	db  *sql.DB
	err error
}

func (p *preparer) one(query string) *sql.Stmt {
	if p.err != nil {
		return nil
	}
	stmt, err := p.db.PrepareContext(p.ctx, query)
	p.err = err
	return stmt // closed by statements.close
}

func (p *preparer) bulk(query, item string, sizes ...int) *bulk {
	b := &bulk{sizes: sizes}
	for _, n := range sizes {
		b.stmts = append(b.stmts, p.one(fmt.Sprintf(query, repeat(item, n))))
	}
	return b
}

// bulk is one statement prepared for several numbers of items, largest first and 1 last: a call for each item costs
// far more in the driver than in the database.
type bulk struct {
	sizes []int
	stmts []*sql.Stmt
}

// exact picks the largest statement that n items fill.
func (b *bulk) exact(n int) (*sql.Stmt, int) {
	for i, size := range b.sizes {
		if size <= n {
			return b.stmts[i], size
		}
	}
	panic("sqlite: a statement for no items")
}

// padded picks the smallest statement that holds n items, or the largest; the rest of its parameters stay NULL, which
// equals nothing.
func (b *bulk) padded(n int) (*sql.Stmt, int) {
	i := 0
	for i+1 < len(b.sizes) && b.sizes[i+1] >= n {
		i++
	}
	return b.stmts[i], b.sizes[i]
}

func repeat(item string, n int) string {
	return strings.TrimSuffix(strings.Repeat(item+",", n), ",")
}
