package pgcluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
)

// ownerEnv makes this test binary a process that owns a cluster until it is killed.
const ownerEnv = "SLUICE_TEST_CLUSTER_OWNER"

func TestMain(m *testing.M) {
	if os.Getenv(ownerEnv) == "" {
		os.Exit(Main(m))
	}
	if err := ownOne(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// ownOne tells its cluster's directory, and waits to be killed or for whoever should kill it to be gone.
func ownOne() error {
	c, err := Start(context.Background())
	if err != nil {
		return err
	}
	fmt.Println(c.dir)
	_, err = io.Copy(io.Discard, os.Stdin)
	return errors.Join(err, c.Stop())
}

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
