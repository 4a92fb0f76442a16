package faulttest

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // database/sql driver "pgx"
	_ "modernc.org/sqlite"             // database/sql driver "sqlite"

	"sluice/faulttest/check"
)

// call sends one request to the operations API or the door and reads a JSON answer.
func call(ctx context.Context, method, url string, body, into any) (code int, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	var sent io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return 0, err
		}
		sent = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, sent)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return resp.StatusCode, err
	}
	if resp.StatusCode >= 300 {
		return resp.StatusCode, fmt.Errorf("%s %s: HTTP %d: %.300s", method, url, resp.StatusCode, b)
	}
	if into == nil {
		return resp.StatusCode, nil
	}
	return resp.StatusCode, json.Unmarshal(b, into)
}

func get(ctx context.Context, url string, into any) error {
	_, err := call(ctx, http.MethodGet, url, nil, into)
	return err
}

// openSale waits for the parts, makes a sale of one unit a buyer that are paid at once, and waits until the door knows it.
func openSale(t *testing.T, door, admin, sale string, stock int) {
	t.Helper()
	openSaleWith(t, admin, sale, stock, 1, 0, door)
}

// openSaleWith is openSale with a limit, a payment window and several doors.
func openSaleWith(t *testing.T, admin, sale string, stock, limit int, window time.Duration, doors ...string) {
	t.Helper()
	for _, door := range doors {
		ready(t, door)
	}
	eventually(t, 20*time.Second, "make the sale", func() error {
		code, err := call(t.Context(), http.MethodPost, "http://"+admin+"/v1/sales", map[string]any{
			"id": sale, "sku": "sku-" + sale, "stock": stock, "per_user_limit": limit, "payment_window": window.String(),
		}, nil)
		if code == http.StatusConflict {
			return nil // an earlier try whose answer was lost
		}
		return err
	})
	for _, door := range doors {
		eventually(t, 20*time.Second, "the door knows the sale", func() error {
			return get(t.Context(), "http://"+door+"/v1/sales/"+sale, nil)
		})
	}
}

func ready(t *testing.T, door string) {
	t.Helper()
	eventually(t, 30*time.Second, "the door is ready", func() error {
		code, err := call(t.Context(), http.MethodGet, "http://"+door+"/readyz", nil, nil)
		if code == http.StatusOK {
			return nil
		}
		return errors.Join(err, fmt.Errorf("/readyz: HTTP %d", code))
	})
}

// store is one database to test with.
type store struct {
	name string
	flag string // what --store gets
	dir  string // where SQLite keeps its file
}

// open opens the database itself, past the service. It is only read.
func (s store) open(t *testing.T) *sql.DB {
	t.Helper()
	driver, source := "pgx", s.flag
	if s.name == "sqlite" {
		files, err := filepath.Glob(filepath.Join(s.dir, "*.db"))
		if err != nil || len(files) != 1 {
			t.Fatalf("want one *.db in %s, got %v (%v)", s.dir, files, err)
		}
		driver, source = "sqlite", "file:"+files[0]+"?mode=ro&_pragma=busy_timeout(5000)"
	}
	db, err := sql.Open(driver, source)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// views reads the published views.
func (s store) views(t *testing.T) (orders []OrderRow, sales []SaleRow) {
	t.Helper()
	db := s.open(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	orders, err := check.ReadOrders(ctx, db, saleID)
	if err != nil {
		t.Fatal(err)
	}
	sales, err = check.ReadSales(ctx, db)
	if err != nil {
		t.Fatal(err)
	}
	return orders, sales
}

// judge gathers all facts after a rush and fails the test for every promise that was broken.
func judge(t *testing.T, b *buyers, admin string, s store) []OrderRow {
	t.Helper()
	return judgeFacts(t, b, admin, s, Facts{Run: check.Run{Buyers: int64(b.count)}})
}

// judgeFacts is judge for who knows more of the sale than how many wanted to buy.
func judgeFacts(t *testing.T, b *buyers, admin string, s store, f Facts) []OrderRow {
	t.Helper()
	defer http.DefaultClient.CloseIdleConnections()
	defer b.client.CloseIdleConnections()
	if n := b.gaveUp.Load(); n > 0 {
		t.Errorf("%d of %d buyers got no final answer in time", n, b.count)
	}
	began := time.Now()
	f.Sale, f.Outcomes = b.sale, b.settle(t)
	settled := time.Since(began)
	f.History = b.history.Events()
	f.Orders, f.Sales = s.views(t)
	var sale struct {
		PerUserLimit int64 `json:"per_user_limit"`
	}
	if err := get(t.Context(), "http://"+admin+"/v1/sales/"+b.sale, &sale); err != nil {
		t.Errorf("read the sale: %v", err)
	}
	f.Limit = sale.PerUserLimit
	if err := get(t.Context(), "http://"+admin+"/v1/audit", &f.Audit); err != nil {
		t.Errorf("read the audit: %v", err)
	}
	violations := Check(f)
	for _, v := range violations[:min(len(violations), 20)] {
		t.Error(v)
	}
	if len(violations) > 20 {
		t.Errorf("… and %d more like these", len(violations)-20)
	}
	auditCommand(t, admin)
	t.Logf("%d buyers, %d of them in doubt at some time, %d orders accepted and settled after %v more, %d in the database",
		b.count, doubtful(f.History), len(b.orders), settled.Round(time.Millisecond), len(f.Orders))
	return f.Orders
}

// auditCommand: P8 is proven by `sluice audit` at any time.
func auditCommand(t *testing.T, admin string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "audit", "--admin", admin)
	cmd.Env = cleanEnv()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("sluice audit: %v\n%s", err, strings.TrimSpace(string(out)))
	}
}
