package pgcluster

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
)

// Env names a server for tests: a URL of a user who may create databases. Without it each test process starts a
// cluster of its own.
const Env = "SLUICE_TEST_POSTGRES"

var (
	sharedMu  sync.Mutex
	shared    *Cluster // guarded by sharedMu; started by the first Database, stopped by Main
	databases atomic.Int64
)

// Main runs a package's tests, stops the cluster that they shared and looks for goroutines that they left. A package
// that calls Database has `func TestMain(m *testing.M) { os.Exit(pgcluster.Main(m)) }`. leaks may name goroutines that stay.
func Main(m *testing.M, leaks ...goleak.Option) int {
	code := m.Run()
	if err := stopShared(); err != nil {
		fmt.Fprintln(os.Stderr, "pgcluster:", err)
		code = max(code, 1)
	}
	if code != 0 {
		return code
	}
	if err := goleak.Find(leaks...); err != nil {
		fmt.Fprintln(os.Stderr, "pgcluster: goroutines were left behind:", err)
		return 1
	}
	return 0
}

func stopShared() error {
	sharedMu.Lock()
	defer sharedMu.Unlock()
	if shared == nil {
		return nil
	}
	err := shared.Stop()
	shared = nil
	return err
}

// Database makes an empty database and answers its URL. It is dropped when the test ends. Without PostgreSQL the test
// fails: what was not tested must not look tested.
func Database(t testing.TB) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 2*time.Minute)
	defer cancel()
	server, err := serverURL(ctx)
	if err != nil {
		t.Fatalf("a PostgreSQL for this test: %v", err)
	}
	name := fmt.Sprintf("sluice_%d_%d", os.Getpid(), databases.Add(1))
	if err := execute(ctx, server, "CREATE DATABASE "+name); err != nil {
		t.Fatalf("a database for this test: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := execute(ctx, server, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)"); err != nil {
			t.Errorf("remove this test's database: %v", err)
		}
	})
	u, err := url.Parse(server)
	if err != nil {
		t.Fatalf("%s: %v", Env, err)
	}
	u.Path = "/" + name
	return u.String()
}

func serverURL(ctx context.Context) (string, error) {
	if server := os.Getenv(Env); server != "" {
		return server, nil
	}
	sharedMu.Lock()
	defer sharedMu.Unlock()
	if shared == nil {
		c, err := Start(ctx)
		if err != nil {
			return "", err
		}
		shared = c
	}
	return shared.URL("postgres"), nil
}

func execute(ctx context.Context, server, statement string) error {
	conn, err := pgx.Connect(ctx, server)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close(ctx) //nolint:errcheck // the statement's own error says what matters
	if _, err := conn.Exec(ctx, statement); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}
