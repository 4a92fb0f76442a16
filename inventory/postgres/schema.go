package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"sluice/inventory"
)

//go:embed migrations/*.sql
var migrations embed.FS

const (
	ownSchema    = "sluice"         // where the tables are, unless the URL names a search_path
	versionTable = "schema_version" // goose's, beside them
	schemaLock   = 0x736c75696365   // advisory: whoever makes the schema or the views; "sluice"
)

// publishedViews are a contract with outside checkers, who find them on a plain connection.
var publishedViews = []string{"sluice_orders", "sluice_sales"}

// inOwnSchema reports whether the URL leaves it to us where the tables are, and has every connection look there.
func inOwnSchema(c *pgx.ConnConfig) bool {
	if c.RuntimeParams["search_path"] != "" || strings.Contains(c.RuntimeParams["options"], "search_path") {
		return false
	}
	c.RuntimeParams["search_path"] = ownSchema
	return true
}

// migrate brings the schema up to date. It uses a connection without the pool's time limits. A shop's own tables are
// never in the way: everything is in a schema of its own, and in public are two views.
func migrate(ctx context.Context, config pgx.ConnConfig, own bool) error {
	db := stdlib.OpenDB(config)
	defer db.Close() //nolint:errcheck // the migrations are committed or not by now
	if own {
		if err := makeSchema(ctx, db); err != nil {
			return hint(err, "the schema %q can't be made: GRANT CREATE ON DATABASE %s TO %s, or have it made: CREATE SCHEMA %s AUTHORIZATION %[3]s",
				ownSchema, config.Database, config.User, ownSchema)
		}
	}
	if err := up(ctx, db); err != nil {
		return err
	}
	if own {
		if err := makeViews(ctx, db); err != nil {
			return hint(err, "the views %s can't be made in the schema public: GRANT CREATE ON SCHEMA public TO %s, or do without them there "+
				"and name the schema in the URL, ?search_path=%s", strings.Join(publishedViews, " and "), config.User, ownSchema)
		}
	}
	return nil
}

// up holds an advisory lock of the server, so that of several processes one migrates and the others wait.
func up(ctx context.Context, db *sql.DB) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return fmt.Errorf("read the migrations: %w", err)
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 60), lock.WithUnlockTimeout(1, 5))
	if err != nil {
		return fmt.Errorf("make the migration lock: %w", err)
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithSessionLocker(locker), goose.WithTableName(versionTable),
		goose.WithLogger(goose.NopLogger()), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("read the migrations: %w", err)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// makeSchema makes the schema where it is missing. Where it is there already, the role need not be allowed to.
func makeSchema(ctx context.Context, db *sql.DB) error {
	return exclusively(ctx, db, func(tx *sql.Tx) error {
		var there bool
		if err := tx.QueryRowContext(ctx, "SELECT to_regnamespace($1) IS NOT NULL", ownSchema).Scan(&there); err != nil || there {
			return err //nolint:wrapcheck // exclusively says what was being done
		}
		_, err := tx.ExecContext(ctx, "CREATE SCHEMA "+ownSchema)
		return err //nolint:wrapcheck // exclusively says what was being done
	})
}

// makeViews makes the published views in public where they are missing.
func makeViews(ctx context.Context, db *sql.DB) error {
	const look = "SELECT c.oid IS NOT NULL, EXISTS (SELECT FROM pg_rewrite AS r JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass " +
		"AND d.objid = r.oid AND d.refobjid = to_regclass($2) WHERE r.ev_class = c.oid) FROM to_regclass($1) AS c (oid)"
	return exclusively(ctx, db, func(tx *sql.Tx) error {
		for _, view := range publishedViews {
			public, own := "public."+view, ownSchema+"."+view
			var there, ours bool
			if err := tx.QueryRowContext(ctx, look, public, own).Scan(&there, &ours); err != nil {
				return err //nolint:wrapcheck // exclusively says what was being done
			}
			if there && !ours {
				return fmt.Errorf("%s is there and is not sluice's", public)
			}
			if there {
				continue
			}
			if _, err := tx.ExecContext(ctx, "CREATE VIEW "+public+" AS SELECT * FROM "+own); err != nil {
				return err //nolint:wrapcheck // exclusively says what was being done
			}
		}
		return nil
	})
}

// exclusively runs fn in a transaction that no other process runs meanwhile.
func exclusively(ctx context.Context, db *sql.DB, fn func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback() // after Commit it has nothing to do
	if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock($1)", int64(schemaLock)); err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	if err := fn(tx); err != nil {
		return fmt.Errorf("make the schema: %w", err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// hint says what helps, where the database refused; where it could not be asked, nothing does but waiting, and where it
// let nobody in (class 28), its own words do.
func hint(err error, format string, args ...any) error {
	if e, ok := errors.AsType[*pgconn.PgError](err); passing(err) || ok && strings.HasPrefix(e.Code, "28") {
		return err
	}
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), err)
}

// opening says what an error of opening means: one that may pass is inventory.ErrUnavailable, to be waited for; a database
// that answers and refuses will go on refusing.
func opening(doing string, err error) error {
	if passing(err) {
		return fmt.Errorf("%s: %w: %w", doing, inventory.ErrUnavailable, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// passing knows what comes right by itself: a database that can't be reached, is starting, stopping, full, busy, or not yet
// the primary.
func passing(err error) bool {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch e.Code {
		case "25006", "55P03", "57014", "57P01", "57P02", "57P03", "57P05":
			return true
		}
		return strings.HasPrefix(e.Code, "08") || strings.HasPrefix(e.Code, "40") || strings.HasPrefix(e.Code, "53")
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return true
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || errors.Is(err, io.EOF) ||
		errors.Is(err, io.ErrUnexpectedEOF) || strings.Contains(err.Error(), "failed to acquire lock") // another process migrates, for long
}
