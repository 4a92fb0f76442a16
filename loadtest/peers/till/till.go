// Package till is how a good programmer without a queue sells on the service's own tables: the same checks, the same rows, the same
// outbox, the same durability. All SQL of the rivals is here. It knows one sale, whose orders are held for payment.
package till

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Order is what a buyer wants.
type Order struct {
	ID         [16]byte
	Buyer, Key string
	Quantity   int64
	Accepted   time.Time
}

// New is an order that comes in now. Its id is the same for a repeat of it, and otherwise as random as the service's.
func New(sale, buyer, key string, quantity int64) Order {
	o := Order{Buyer: buyer, Key: key, Quantity: quantity, Accepted: time.Now()}
	sum := sha256.Sum256([]byte(sale + "\x00" + buyer + "\x00" + key))
	copy(o.ID[:], sum[:])
	o.ID[6], o.ID[8] = o.ID[6]&0x0f|0x80, o.ID[8]&0x3f|0x80
	return o
}

// Numbered is order n of a crowd in which every buyer orders once.
func Numbered(sale string, n int) Order {
	return New(sale, fmt.Sprintf("buyer-%012d", n), fmt.Sprintf("6b1f7c1e-54f2-4b6f-9a3e-%012d", n), 1)
}

// parameters are the service's own: where its tables are, and what keeps the plans on the indexes while the tables grow from nothing.
var parameters = map[string]string{
	"search_path": "sluice,public", "timezone": "UTC", "plan_cache_mode": "force_generic_plan", "enable_seqscan": "off",
	"enable_hashjoin": "off", "enable_mergejoin": "off", "jit": "off",
}

// Till sells one sale. Safe for concurrent use.
type Till struct {
	pool *pgxpool.Pool
	sale string
}

// Open connects so many times, before anybody has to wait for it, and answers only where the sale is there.
func Open(ctx context.Context, url, sale string, connections int) (*Till, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	maps.Copy(config.ConnConfig.RuntimeParams, parameters)
	config.MaxConns = int32(connections)
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	t := &Till{pool: pool, sale: sale}
	return t, t.warm(ctx, connections)
}

// warm opens every connection and has it know the statements.
func (t *Till) warm(ctx context.Context, connections int) error {
	for range connections {
		conn, err := t.pool.Acquire(ctx)
		if err != nil {
			return err
		}
		defer conn.Release()
		var free int64
		if err := conn.QueryRow(ctx, "SELECT free FROM sales WHERE id = $1", t.sale).Scan(&free); err != nil {
			return fmt.Errorf("sale %s: %w", t.sale, err)
		}
		for _, statement := range []string{sellBatch, lockSale, sellOne} {
			if _, err := conn.Conn().Prepare(ctx, statement, statement); err != nil {
				return err
			}
		}
	}
	return nil
}

// Refusals are the reasons of the orders that got nothing, by their place in the batch.
type Refusals map[int]string

// Settle settles a batch, or one order, the way that suits it.
func (t *Till) Settle(ctx context.Context, orders []Order) (Refusals, error) {
	if len(orders) != 1 {
		return t.Batch(ctx, orders)
	}
	return t.One(ctx, orders[0])
}

// Batch settles a batch in one statement, which is its transaction. Orders of one buyer must not be in two batches at a time:
// the statement counts what a buyer has from a snapshot that may be older than its lock.
func (t *Till) Batch(ctx context.Context, orders []Order) (Refusals, error) {
	n := len(orders)
	ids, buyers, keys := make([][16]byte, n), make([]string, n), make([]string, n)
	quantities, accepted := make([]int64, n), make([]time.Time, n)
	for i, o := range orders {
		ids[i], buyers[i], keys[i], quantities[i], accepted[i] = o.ID, o.Buyer, o.Key, o.Quantity, o.Accepted
	}
	rows, err := t.pool.Query(ctx, sellBatch, t.sale, ids, buyers, keys, quantities, accepted)
	if err != nil {
		return nil, err
	}
	return refusals(rows)
}

// One settles one order in a transaction of its own, in one round trip: the lock first, so that the statement behind it counts
// under the lock.
func (t *Till) One(ctx context.Context, o Order) (refused Refusals, err error) {
	b := &pgx.Batch{}
	b.Queue("begin")
	b.Queue(lockSale, t.sale)
	b.Queue(sellOne, t.sale, o.ID, o.Buyer, o.Key, o.Quantity, o.Accepted).Query(func(rows pgx.Rows) error {
		var err error
		refused, err = refusals(rows)
		return err
	})
	b.Queue("commit")
	if err := t.pool.SendBatch(ctx, b).Close(); err != nil {
		return nil, err
	}
	return refused, nil
}

var errReason = errors.New("an order was not decided")

func refusals(rows pgx.Rows) (Refusals, error) {
	defer rows.Close()
	var refused Refusals
	for rows.Next() {
		var n int
		var reason string
		if err := rows.Scan(&n, &reason); err != nil {
			return nil, err
		}
		if reason == "" {
			return nil, errReason
		}
		if refused == nil {
			refused = Refusals{}
		}
		refused[n-1] = reason
	}
	return refused, rows.Err()
}
