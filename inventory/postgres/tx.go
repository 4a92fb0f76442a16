package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"sluice/inventory"
)

// transact runs one transaction in two round trips: read queues statements that lock and then read, decide looks at
// what they brought and queues the writes, and COMMIT goes out behind those. Both are called again where PostgreSQL asks
// to repeat, so they must begin afresh. If decide queues nothing, nothing is written.
//
// READ COMMITTED gives each statement a snapshot of its own: what a statement reads after the lock is as it stands
// under the lock. A single statement that locked and counted would count from before.
func (s *Store) transact(ctx context.Context, doing string, read func(*pipeline), decide func(*pipeline) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var err error
	for range maxTries {
		if err = s.try(ctx, read, decide); err == nil || !repeatable(err) {
			return classify(doing, err)
		}
	}
	return fmt.Errorf("postgres: %s: %d tries: %w: %w", doing, maxTries, inventory.ErrUnavailable, err)
}

func (s *Store) try(ctx context.Context, read func(*pipeline), decide func(*pipeline) error) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("acquire a connection: %w", err)
	}
	ctx, cancel := outlasting(ctx)
	defer cancel()
	defer release(ctx, conn)

	b := &pipeline{Batch: &pgx.Batch{}}
	b.Queue("begin")
	read(b)
	if err := conn.SendBatch(ctx, b.Batch).Close(); err != nil {
		return fmt.Errorf("lock and read: %w", err)
	}
	b.Batch = &pgx.Batch{}
	if err := decide(b); err != nil {
		return err
	}
	if err := b.queueEvents(); err != nil {
		return err
	}
	b.Queue("commit").Exec(func(tag pgconn.CommandTag) error {
		if tag.String() != "COMMIT" { // PostgreSQL answers a failed transaction's COMMIT with ROLLBACK, not with an error
			return errors.New("the commit was rolled back")
		}
		return nil
	})
	if err := conn.SendBatch(ctx, b.Batch).Close(); err != nil {
		return fmt.Errorf("write and commit: %w", err)
	}
	return nil
}

// grace is what a call that has a connection may still take once its caller has gone: longer than a statement may wait for a lock.
const grace = 3 * time.Second

// outlasting is the context of a call that has its connection. To end it with its caller would waste what it did and, as pgx closes a
// connection that is cancelled within a statement, the connection too: callers who wait in line for a few connections, give up and
// come again would have all of them opened and closed for ever, and nothing done. What is done is there when they ask again.
func outlasting(ctx context.Context) (context.Context, context.CancelFunc) {
	lasting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	timer := time.AfterFunc(callTimeout+grace, cancel)
	stop := context.AfterFunc(ctx, func() { timer.Reset(grace) })
	return lasting, func() {
		stop()
		timer.Stop()
		cancel()
	}
}

// release ends a transaction that was left open, even where ctx has ended: its locks must go.
func release(ctx context.Context, conn *pgxpool.Conn) {
	defer conn.Release() // closes the connection unless it is idle
	if pg := conn.Conn().PgConn(); pg.IsClosed() || pg.IsBusy() || pg.TxStatus() == 'I' {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUp)
	defer cancel()
	_, _ = conn.Exec(ctx, "rollback") // where this fails, Release closes the connection, and the server rolls back
}

// readNow queues the reading of the database's clock. Queued behind the locks it tells a time at which they were held.
func readNow(b *pipeline, now *time.Time) {
	b.Queue("SELECT clock_timestamp()").QueryRow(func(row pgx.Row) error {
		err := row.Scan(now)
		*now = inventory.Micros(*now)
		b.now = *now
		return err //nolint:wrapcheck // transact says what was being done
	})
}

// each queues a query and calls scan for each of its rows.
func each(b *pipeline, scan func(pgx.Rows) error, query string, args ...any) {
	b.Queue(query, args...).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			if err := scan(rows); err != nil {
				return err
			}
		}
		return rows.Err() //nolint:wrapcheck // transact says what was being done
	})
}
