package pgcluster

import (
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

func TestCluster_IsDurableLoopbackOnlyAndLeavesNothing(t *testing.T) {
	c, err := Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), c.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"fsync": "on", "listen_addresses": "127.0.0.1", "synchronous_commit": "on"} {
		var got string
		if err := conn.QueryRow(t.Context(), "SELECT current_setting($1)", name).Scan(&got); err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, want)
		}
	}
	// Stop must not wait for this connection.
	if err := c.Stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	_ = conn.Close(t.Context()) // the server has closed it
	if _, err := os.Stat(c.dir); !os.IsNotExist(err) {
		t.Errorf("the cluster's directory %s is still there: %v", c.dir, err)
	}
	if _, err := pgx.Connect(t.Context(), c.URL("postgres")); err == nil {
		t.Error("the server still answers")
	}
}

func TestDatabase_IsFreshForEachTest(t *testing.T) {
	a, b := Database(t), Database(t)
	if a == b {
		t.Fatalf("the same database twice: %s", a)
	}
	if err := execute(t.Context(), a, "CREATE TABLE x ()"); err != nil {
		t.Fatal(err)
	}
	if err := execute(t.Context(), b, "CREATE TABLE x ()"); err != nil {
		t.Errorf("the second database is not empty: %v", err)
	}
}
