package loadtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // PostgreSQL for database/sql
	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"
)

// slow keeps the orders' table from everybody else for a part of each moment while it lasts, over a connection of its own, and lets
// go of it at the end.
func (s *Service) slow(ctx context.Context, began time.Time, how Slow) (err error) {
	db, lock, err := s.store.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if sleep(ctx, time.Until(began.Add(time.Duration(how.From)))) != nil {
		return nil
	}
	end := time.Now().Add(time.Duration(how.For))
	for time.Now().Before(end) && ctx.Err() == nil {
		next := time.Now().Add(time.Duration(how.Of))
		if err := keep(ctx, db, lock, time.Duration(how.Busy)); err != nil && ctx.Err() == nil {
			return fmt.Errorf("slowing the database: %w", err)
		}
		_ = sleep(ctx, time.Until(next)) // the loop sees the end
	}
	return nil
}

// open answers a connection, and the statement that takes the lock in a transaction.
func (s *Store) open() (db *sql.DB, lock string, err error) {
	if s.Kind == SQLite {
		db, err = sql.Open("sqlite", "file:"+s.file+"?_txlock=immediate&_pragma=busy_timeout(0)") // see take
		return db, "SELECT 1", err                                                                // the transaction itself takes it
	}
	db, err = sql.Open("pgx", s.url)
	return db, "LOCK TABLE sluice.orders IN SHARE MODE", err
}

func keep(ctx context.Context, db *sql.DB, lock string, d time.Duration) error {
	tx, err := take(ctx, db)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, lock); err != nil {
		return err
	}
	_ = sleep(ctx, d) // cut short with everything else
	return nil
}

// take begins a transaction. SQLite lets whoever waits look again after longer and longer times, and between the transactions of a
// busy worker there is hardly one: so this looks all the time, or it would seldom get the database just when it is to be slow.
func take(ctx context.Context, db *sql.DB) (*sql.Tx, error) {
	for {
		tx, err := db.BeginTx(ctx, nil)
		if e, ok := errors.AsType[*sqlite.Error](err); !ok || e.Code()&0xff != lib.SQLITE_BUSY {
			return tx, err
		}
		if err := sleep(ctx, 200*time.Microsecond); err != nil {
			return nil, err
		}
	}
}
