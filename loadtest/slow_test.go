package loadtest

import (
	"database/sql"
	"path/filepath"
	"testing"
	"time"

	"sluice"
	"sluice/internal/calm"
)

func TestSlow_KeepsTheDatabaseFromOthersForAPartOfEachMoment(t *testing.T) {
	calm.Play(t, 50*time.Millisecond, func(complain calm.Complain) { writeMeanwhile(t, complain) })
}

func writeMeanwhile(t *testing.T, complain calm.Complain) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "inventory.db")
	db, err := sql.Open("sqlite", "file:"+file+"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close() //nolint:errcheck // a test's
	if _, err := db.ExecContext(t.Context(), "CREATE TABLE orders (id INTEGER)"); err != nil {
		t.Fatal(err)
	}
	s := &Service{store: Store{Kind: SQLite, file: file}}
	done := make(chan error)
	began := time.Now()
	go func() {
		done <- s.slow(t.Context(), began, Slow{
			From: sluice.Duration(200 * time.Millisecond), For: sluice.Duration(time.Second),
			Busy: sluice.Duration(200 * time.Millisecond), Of: sluice.Duration(250 * time.Millisecond),
		})
	}()
	slowest := map[bool]time.Duration{}
	for time.Since(began) < 1700*time.Millisecond {
		at := time.Now()
		if _, err := db.ExecContext(t.Context(), "INSERT INTO orders VALUES (1)"); err != nil {
			t.Fatal(err)
		}
		during := time.Since(began) > 200*time.Millisecond && at.Sub(began) < 1300*time.Millisecond
		slowest[during] = max(slowest[during], time.Since(at))
		time.Sleep(5 * time.Millisecond)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if slowest[true] < 100*time.Millisecond || slowest[false] > slowest[true] {
		complain("the slowest write takes %v meanwhile, and %v otherwise", slowest[true], slowest[false])
	}
}

// A worker that writes without a break must not keep the database to itself.
func TestSlow_HasItsTurnsBesideABusyWriter(t *testing.T) {
	file := filepath.Join(t.TempDir(), "inventory.db")
	db, err := sql.Open("sqlite", "file:"+file+"?_txlock=immediate&_pragma=journal_mode(WAL)&_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close() //nolint:errcheck // a test's
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(t.Context(), "CREATE TABLE orders (id INTEGER)"); err != nil {
		t.Fatal(err)
	}
	s := &Service{store: Store{Kind: SQLite, file: file}}
	const turns, busy = 5, 150 * time.Millisecond
	done := make(chan error)
	go func() {
		done <- s.slow(t.Context(), time.Now(), Slow{
			For: sluice.Duration(turns * 400 * time.Millisecond), Busy: sluice.Duration(busy), Of: sluice.Duration(400 * time.Millisecond),
		})
	}()
	had := 0
	for {
		began := time.Now()
		batch(t, db)
		if time.Since(began) >= busy {
			had++
		}
		select {
		case err := <-done:
			if had < turns-1 || err != nil {
				t.Errorf("of %d turns it had %d (%v)", turns, had, err)
			}
			return
		default:
		}
	}
}

// batch writes as a worker does.
func batch(t *testing.T, db *sql.DB) {
	t.Helper()
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		if _, err := tx.ExecContext(t.Context(), "INSERT INTO orders VALUES (1)"); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
}
