package loadtest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice"
	"sluice/internal/calm"
	"sluice/internal/pgcluster"
	"sluice/loadtest/lab"
)

// folder has the program; the tests' end removes it.
var folder string

// program is sluice, built by the first test that needs it.
var program = sync.OnceValues(func() (path string, err error) {
	if folder, err = os.MkdirTemp("", "sluice-built-"); err != nil {
		return "", err
	}
	path = filepath.Join(folder, "sluice")
	if out, err := exec.CommandContext(context.Background(), "go", "build", "-o", path, "../cmd/sluice").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return path, nil
})

// postgres is a server to make databases on.
func postgres(t *testing.T) string {
	t.Helper()
	if url := os.Getenv(pgcluster.Env); url != "" {
		return url
	}
	c, err := pgcluster.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	return c.URL("postgres")
}

func stores(t *testing.T) []Store {
	t.Helper()
	return []Store{{Kind: SQLite}, {Kind: Postgres, Database: pgcluster.Databases(postgres(t), "sluice_load")}}
}

// begin starts parts; commands of a shell may come before each.
func begin(t *testing.T, store Store, parts Parts, before ...string) (*Service, error) {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	if len(before) > 0 {
		script := strings.Join(append([]string{"#!/bin/sh"}, before...), "\n") + "\nexec " + path + ` "$@"` + "\n"
		path = filepath.Join(t.TempDir(), "sluice")
		if err := os.WriteFile(path, []byte(script), 0o700); err != nil { //nolint:gosec // a program
			t.Fatal(err)
		}
	}
	l, err := lab.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return StartParts(t.Context(), l, path, store, parts)
}

func post(t *testing.T, url, body string) map[string]any {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	return said(t, req)
}

func ask(t *testing.T, url string) map[string]any {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return said(t, req)
}

func said(t *testing.T, req *http.Request) map[string]any {
	t.Helper()
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var text bytes.Buffer
	var said map[string]any
	if _, err := text.ReadFrom(resp.Body); err != nil || resp.StatusCode >= 300 || json.Unmarshal(text.Bytes(), &said) != nil {
		t.Fatalf("%s %s: %s %s (%v)", req.Method, req.URL, resp.Status, text.String(), err)
	}
	return said
}

// buy orders one unit, and answers how long it took to be settled.
func buy(t *testing.T, s *Service, buyer string) time.Duration {
	t.Helper()
	began := time.Now()
	order := post(t, s.Doors[0]+"/v1/sales/rush/orders", `{"user":"`+buyer+`"}`)["order"].(string)
	for time.Since(began) < 20*time.Second {
		switch status := ask(t, s.Doors[0]+"/v1/orders/"+order+"?wait=5s")["status"]; status {
		case "queued":
		case "paid":
			return time.Since(began)
		default:
			t.Fatalf("the order is %v", status)
		}
	}
	t.Fatal("the order is not settled")
	return 0
}

func open(t *testing.T, s *Service) {
	t.Helper()
	post(t, s.Admin+"/v1/sales", `{"id":"rush","sku":"sku","stock":1000,"per_user_limit":100,"payment_window":"0s"}`)
	err := lab.Eventually(t.Context(), 10*time.Second, "the door knows the sale", func() error { return get(t.Context(), s.Doors[0]+"/v1/sales/rush") })
	if err != nil {
		t.Fatal(err)
	}
}

func TestStartParts_SellOnBothStoresAndLeaveNothing(t *testing.T) {
	for _, store := range stores(t) {
		t.Run(store.Kind, func(t *testing.T) {
			s, err := begin(t, store, Parts{Bound: 321, MaxWait: sluice.Duration(7 * time.Second), DrainRate: 500})
			if err != nil {
				t.Fatal(err)
			}
			if len(s.Processes) != 3 || len(s.Doors) != 1 || get(t.Context(), s.Metrics[0]) != nil || get(t.Context(), s.Admin+"/metrics") != nil {
				t.Errorf("got %+v", s)
			}
			open(t, s)
			buy(t, s, "ann")
			calm.Play(t, 50*time.Millisecond, func(complain calm.Complain) {
				slowed := slowly(t, s)
				if fast := buy(t, s, "bea"); slowed < 300*time.Millisecond || slowed < 2*fast {
					complain("an order takes %v while the database is slow, and %v after that", slowed, fast)
				}
			})
			if err := s.Stop(t.Context()); err != nil {
				t.Error(err)
			}
			for _, p := range s.Processes {
				if p.Signal(0) == nil {
					t.Errorf("%s runs on", p.Name())
				}
			}
			if left, err := filepath.Glob(filepath.Join(s.lab.Dir(), "data-*")); err != nil || len(left) > 0 {
				t.Errorf("it leaves %v (%v)", left, err)
			}
		})
	}
}

// slowly orders while the database is kept from the worker, and answers how long that took.
func slowly(t *testing.T, s *Service) (took time.Duration) {
	t.Helper()
	done := make(chan error)
	go func() {
		done <- s.slow(t.Context(), time.Now(), Slow{
			For: sluice.Duration(700 * time.Millisecond), Busy: sluice.Duration(600 * time.Millisecond), Of: sluice.Duration(600 * time.Millisecond),
		})
	}()
	time.Sleep(150 * time.Millisecond) // it has the table by then
	took = buy(t, s, "slow")
	if err := <-done; err != nil {
		t.Error(err)
	}
	return took
}

// All of a crowd comes from one address, over as many connections as the generator has, and one buyer may stand for many.
func TestStartParts_LetACrowdComeFromOneAddress(t *testing.T) {
	s, err := begin(t, Store{Kind: SQLite}, Parts{}, "ulimit -n 1000") // a door would give an address a quarter of what that leaves: 125
	if err != nil {
		t.Fatal(err)
	}
	open(t, s)
	var d net.Dialer
	for i := range 300 {
		conn, err := d.DialContext(t.Context(), "tcp", strings.TrimPrefix(s.Doors[0], "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close() //nolint:errcheck // a test's
		if _, err := fmt.Fprint(conn, "GET /livez HTTP/1.1\r\nHost: door\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, " 200 ") {
			t.Fatalf("connection %d: %q, %v", i, line, err)
		}
	}
	for range 50 {
		post(t, s.Doors[0]+"/v1/sales/rush/orders", `{"user":"ann"}`)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

// A part that can't start is told at once, with what it said.
func TestStartParts_SayWhichPartFailed(t *testing.T) {
	began := time.Now()
	_, err := begin(t, Store{Kind: SQLite}, Parts{DrainRate: 2.5})
	if err == nil || !strings.Contains(err.Error(), `worker`) || !strings.Contains(err.Error(), `drain-rate "2.5"`) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v to say so", took)
	}
	refused := errors.New("no more databases")
	_, err = begin(t, Store{Kind: Postgres, Database: func(context.Context) (string, func() error, error) { return "", nil, refused }}, Parts{})
	if !errors.Is(err, refused) {
		t.Errorf("got %v", err)
	}
}

// The user's own settings have no say in what is measured.
func TestStartParts_TakeNobodysSettings(t *testing.T) {
	home := t.TempDir()
	if err := os.MkdirAll(filepath.Join(home, "sluice"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, "sluice", "sluice.yaml"), []byte("max-wait: nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_CONFIG_HOME", home)
	s, err := begin(t, Store{Kind: SQLite}, Parts{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}
