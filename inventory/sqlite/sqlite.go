// Package sqlite is the inventory of a shop that runs on one machine: a single SQLite file, durable at every commit
// (WAL, synchronous=FULL). It never lets two transactions write at once, and its clock
// is the host's as it was at the start, which no later jump of that one moves.
package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"

	"sluice/inventory"
)

//go:embed migrations/*.sql
var migrations embed.FS

// FileName is the database's name in a data directory.
const FileName = "inventory.db"

const (
	busyTimeout = 5 * time.Second // another process (a backup, an audit) may hold the file so long
	readers     = 4
	// commandsLike is how many of PostgreSQL's connections the one that writes here counts for, as to how many payments may wait: as many
	// as that has at least. There as here they commit one by one, so no more connections would be faster.
	commandsLike = 4
)

// Store implements inventory.Store. Open makes it; it is safe for concurrent use.
type Store struct {
	path      string
	write     *sql.DB // one connection, every transaction BEGIN IMMEDIATE: what it reads stays true until it commits
	read      *sql.DB // snapshots that neither wait for the writer nor hold it up
	stmts     *statements
	clock     *clock
	documents documents
	commands  inventory.Commands
	closed    atomic.Bool
}

var _ inventory.Store = (*Store)(nil)

// Open opens the database at path, a file or a directory in which it is called FileName, and brings its schema up to
// date. It creates what does not exist, but not the directory above.
func Open(ctx context.Context, path string) (*Store, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, FileName)
	}
	// fdatasync is as durable as fsync and saves the journal write for a timestamp; where there is none, fsync it is.
	_, _ = sqlite.Fdatasync(true)

	s := &Store{path: path}
	s.commands.Limit(commandsLike)
	s.documents.init()
	if err := s.open(ctx, path); err != nil {
		return nil, errors.Join(fmt.Errorf("open the SQLite database %s: %w", path, explain(err)), s.Close())
	}
	return s, nil
}

func (s *Store) open(ctx context.Context, path string) (err error) {
	if s.write, err = sql.Open("sqlite", dsn(path, "_txlock=immediate", "_pragma=foreign_keys(1)",
		"_pragma=cache_size(-65536)", "_pragma=wal_autocheckpoint(8192)")); err != nil {
		return fmt.Errorf("open for writing: %w", err)
	}
	s.write.SetMaxOpenConns(1)
	if err := migrate(ctx, s.write); err != nil {
		return err
	}
	if err := s.startClock(ctx); err != nil {
		return err
	}
	if s.read, err = sql.Open("sqlite", dsn(path, "_pragma=query_only(1)")); err != nil {
		return fmt.Errorf("open for reading: %w", err)
	}
	s.read.SetMaxOpenConns(readers)
	s.read.SetMaxIdleConns(readers)
	s.stmts, err = prepare(ctx, s.write)
	return err
}

// dsn names the database and what every connection is set to. The writer also gets a cache of 64 MiB and checkpoints
// after 32 MiB of log, not 4: order ids are spread evenly, so a batch touches as many pages of their index as it has
// orders, and each page that several batches share is then read once and written back once.
func dsn(path string, params ...string) string {
	u := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath()}
	u.RawQuery = fmt.Sprintf("_pragma=busy_timeout(%d)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=temp_store(MEMORY)",
		busyTimeout.Milliseconds())
	for _, p := range params {
		u.RawQuery += "&" + p
	}
	return u.String()
}

// migrate tries again where two processes create the same database at once: one of them finds the tables there.
func migrate(ctx context.Context, db *sql.DB) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return fmt.Errorf("read the migrations: %w", err)
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, files,
		goose.WithLogger(goose.NopLogger()), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("read the migrations: %w", err)
	}
	for start := time.Now(); ; {
		_, err = p.Up(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil || !retryable(err) || time.Since(start) > busyTimeout {
			return fmt.Errorf("migrate: %w", err)
		}
	}
}

// Ping says whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	var n int
	return s.classify("ping", s.read.QueryRowContext(ctx, "SELECT count(*) FROM (SELECT 1 FROM sales LIMIT 1)").Scan(&n))
}

// Close waits for running calls and closes the file.
func (s *Store) Close() error {
	s.closed.Store(true)
	var errs []error
	if s.stmts != nil {
		errs = append(errs, s.stmts.close())
	}
	for _, db := range []*sql.DB{s.read, s.write} { // the writer last: it checkpoints the WAL into the file
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close the SQLite database: %w", err)
	}
	return nil
}

// transact runs fn in one write transaction.
func (s *Store) transact(ctx context.Context, doing string, fn func(*tx) error) error {
	return s.classify(doing, s.try(ctx, fn))
}

func (s *Store) try(ctx context.Context, fn func(*tx) error) error {
	t, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer t.Rollback()                                  // after Commit it has nothing to do
	x := &tx{Tx: t, stmts: s.stmts, now: s.clock.now()} // read while it holds the write lock
	if err := fn(x); err != nil {
		return err
	}
	if err := x.writeEvents(ctx); err != nil {
		return err
	}
	if err := s.clock.note(ctx, x); err != nil {
		return err
	}
	if err := t.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}
