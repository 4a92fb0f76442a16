package sqlite_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pressly/goose/v3"
	"go.uber.org/goleak"

	"sluice/inventory"
	"sluice/inventory/inventorytest"
	"sluice/inventory/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func place(t testing.TB) inventorytest.Place {
	t.Helper()
	t.Helper()
	dir := t.TempDir()
	return inventorytest.Place{
		Open: func(ctx context.Context) (inventory.Store, error) { return sqlite.Open(ctx, dir) },
		SQL: func() (*sql.DB, error) {
			return sql.Open("sqlite", "file:"+filepath.Join(dir, sqlite.FileName)+"?_pragma=busy_timeout(5000)")
		},
		Old: func(ctx context.Context) error { return makeOld(ctx, filepath.Join(dir, sqlite.FileName)) },
	}
}

// makeOld makes a database as it was when only the first migration existed.
func makeOld(ctx context.Context, path string) error {
	db, err := sql.Open("sqlite", path)
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // a test's own connection
	data, err := os.ReadFile("testdata/version1.sql")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, os.DirFS("migrations"), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	if _, err := p.UpTo(ctx, 1); err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, string(data))
	return err
}

func TestStore(t *testing.T) { inventorytest.Run(t, place) }

// As many payments and cancellations may run or wait as on the four connections that PostgreSQL has at least.
func TestTransition_LetsFewWait(t *testing.T) {
	p := place(t)
	store, err := p.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close() //nolint:errcheck // a test's own
	db, err := p.SQL()
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close() //nolint:errcheck // a test's own connection
	inventorytest.LetsFewWait(t, store, db, "UPDATE sales SET sku = sku", 64)
}

func BenchmarkReserve(b *testing.B) { inventorytest.Benchmark(b, place) }

func TestOpen_ExplainsWhatItCannotOpen(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte(strings.Repeat("this is no database\n", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path, want string
		wait       bool // it may come right by itself
	}{
		{filepath.Join(dir, "no", "such", "directory"), "must exist and be writable", true},
		{text, "not a sound SQLite database", false},
	} {
		_, err := sqlite.Open(t.Context(), c.path)
		if errors.Is(err, inventory.ErrUnavailable) != c.wait || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.path) {
			t.Errorf("open %s: got %v, want %q, unavailable %t", c.path, err, c.want, c.wait)
		}
	}
}

// A worker waits for what is ErrUnavailable: a file that is broken when it starts is not, and one that breaks under it
// is, for that is not the orders' fault. Both name the file.
func TestStore_NamesTheFileThatIsBroken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "broken.db")
	store, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	breakPages := func() {
		size, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteAt(bytes.Repeat([]byte{0xa5}, int(size.Size())-4096), 4096) // all but the first page
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Close(); err != nil { // its log goes into the file
		t.Fatal(err)
	}
	if store, err = sqlite.Open(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	breakPages()
	_, running := store.Sales(t.Context())
	if err := store.Close(); err != nil {
		t.Log(err) // it may find the file broken, too
	}
	_, starting := sqlite.Open(t.Context(), path)
	for _, c := range []struct {
		when string
		err  error
		wait bool
	}{{"running", running, true}, {"starting", starting, false}} {
		if errors.Is(c.err, inventory.ErrUnavailable) != c.wait || c.err == nil ||
			!strings.Contains(c.err.Error(), path+": this is not a sound SQLite database") {
			t.Errorf("%s: got %v, want the file and what it is not, unavailable: %v", c.when, c.err, c.wait)
		}
	}
}

func TestOpen_ExplainsALockedDatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "locked.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close() //nolint:errcheck // a test's own connection
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(t.Context(), "BEGIN EXCLUSIVE"); err != nil {
		t.Fatal(err)
	}
	_, err = sqlite.Open(t.Context(), path)
	if !errors.Is(err, inventory.ErrUnavailable) || !strings.Contains(err.Error(), "another process holds it locked") {
		t.Errorf("got %v, want ErrUnavailable and why", err)
	}
}

func TestOpen_TakesAnyFileName(t *testing.T) {
	path := filepath.Join(t.TempDir(), "what? 100% #1 & more.db")
	store, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}
