package pgcluster

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Kill leaves no process of the server behind, what was committed is there after Restart, and what was not is not.
func TestCluster_KillLeavesNobodyAndKeepsWhatWasCommitted(t *testing.T) {
	c, err := Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	conn, err := pgx.Connect(t.Context(), c.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context())) //nolint:errcheck // the server is dead by then
	for _, statement := range []string{"CREATE TABLE x (n int)", "INSERT INTO x VALUES (1)", "BEGIN", "INSERT INTO x VALUES (2)"} {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	children, err := childrenOf(c.process.Pid)
	if err != nil || len(children) == 0 {
		t.Fatalf("the server's processes: %v (%v)", children, err)
	}
	if err := c.Kill(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		left := 0
		for _, pid := range children {
			if running(pid) {
				left++
			}
		}
		if left == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d of the server's processes %v outlive kill -9", left, children)
		}
	}
	if _, err := pgx.Connect(t.Context(), c.URL("postgres")); err == nil {
		t.Error("the dead server answers")
	}
	if err := c.Kill(); err == nil {
		t.Error("who is dead was killed again")
	}
	if err := c.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	after, err := pgx.Connect(t.Context(), c.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer after.Close(context.WithoutCancel(t.Context())) //nolint:errcheck // it was only read
	var n, sum int
	if err := after.QueryRow(t.Context(), "SELECT count(*), sum(n) FROM x").Scan(&n, &sum); err != nil || n != 1 || sum != 1 {
		t.Errorf("%d rows, sum %d (%v), want what was committed", n, sum, err)
	}
}
