package check

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // database/sql driver "pgx"
	_ "modernc.org/sqlite"             // database/sql driver "sqlite"
)

const (
	callTime  = 10 * time.Second
	agreeTime = 15 * time.Second // within which every door knows an outcome that one door knows
	askers    = 16               // questions to the doors at a time
	sampled   = 200              // orders that are asked for at every door
)

// Gather waits until all is settled and reads everything that is known of a run that is over: the views, the operations API, and
// what every door says. It changes nothing.
func Gather(ctx context.Context, r Run, history []Event) (f Facts, settled time.Duration, err error) {
	f = Facts{Run: r, History: history}
	db, err := Open(r.Database)
	if err != nil {
		return f, 0, err
	}
	defer db.Close() //nolint:errcheck // it was only read
	began := time.Now()
	promised := promises(history)
	if err := f.settled(ctx, db, promised); err != nil {
		return f, 0, err
	}
	settled = time.Since(began)
	f.ask(ctx, promised)
	f.idle(ctx)
	return f, settled, f.read(ctx, db)
}

// Open opens the database itself, past the service, to be read.
func Open(database string) (*sql.DB, error) {
	if strings.HasPrefix(database, "postgres://") || strings.HasPrefix(database, "postgresql://") {
		return sql.Open("pgx", database)
	}
	return sql.Open("sqlite", "file:"+database+"?mode=ro&_pragma=busy_timeout(5000)")
}

// promises are the answers that promised an order, the first for each.
func promises(history []Event) (list []Event) {
	seen := map[string]bool{}
	for _, e := range history {
		if e.Accepted() && e.Call == Place && !seen[e.Order] {
			seen[e.Order] = true
			list = append(list, e)
		}
	}
	return list
}

// settled waits until every order that was promised has its outcome. One that has none in time is for the check to find.
func (f *Facts) settled(ctx context.Context, db *sql.DB, promised []Event) error {
	for end := time.Now().Add(f.Settle); ; {
		rows, err := ReadOrders(ctx, db, f.Sale)
		if err == nil {
			states := make(map[string]string, len(rows))
			open := 0
			for _, r := range rows {
				states[r.ID] = r.State
				if !final(r.State) {
					open++
				}
			}
			for _, e := range promised {
				if states[e.Order] == "" {
					open++
				}
			}
			if open == 0 {
				return nil
			}
		}
		if time.Now().After(end) {
			return err
		}
		if err := pause(ctx, 300*time.Millisecond); err != nil {
			return err
		}
	}
}

// ask asks for every promised order at one of the doors in turn, and for some of them at every door.
func (f *Facts) ask(ctx context.Context, promised []Event) {
	ctx, cancel := context.WithTimeout(ctx, min(agreeTime, f.Settle)+time.Duration(len(promised))*time.Millisecond)
	defer cancel()
	f.Outcomes = map[string]map[string]Status{}
	type question struct {
		door Door
		id   string
	}
	var list []question
	every := max(1, len(promised)/sampled)
	for i, e := range promised {
		for j, d := range f.Doors {
			if j == i%len(f.Doors) || i%every == 0 {
				list = append(list, question{d, e.Order})
			}
		}
	}
	for _, d := range f.Doors {
		f.Outcomes[d.Name] = map[string]Status{}
	}
	var mu sync.Mutex // guards Outcomes
	next := make(chan question)
	var asking sync.WaitGroup
	for range askers {
		asking.Go(func() {
			for q := range next {
				s := outcome(ctx, q.door, q.id)
				mu.Lock()
				f.Outcomes[q.door.Name][q.id] = s
				mu.Unlock()
			}
		})
	}
	for _, q := range list {
		next <- q
	}
	close(next)
	asking.Wait()
}

// outcome asks a door until it says something final, or ctx ends.
func outcome(ctx context.Context, d Door, id string) (s Status) {
	for {
		var now Status
		if err := Get(ctx, "http://"+d.Address+"/v1/orders/"+id, &now); err == nil {
			if s = now; s.Final() {
				return s
			}
		}
		if pause(ctx, 100*time.Millisecond) != nil {
			return s
		}
	}
}

// idle waits until no door has anything outstanding, and keeps what they say then.
func (f *Facts) idle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, min(agreeTime, f.Settle))
	defer cancel()
	f.Idle = map[string]int64{}
	for _, d := range f.Doors {
		for d.Metrics != "" {
			n, err := Metric(ctx, d.Metrics, "sluice_door_outstanding_orders")
			if err == nil {
				f.Idle[d.Name] = n
			}
			if err == nil && n == 0 || pause(ctx, 200*time.Millisecond) != nil {
				break
			}
		}
	}
}

// Metric reads one figure of those at an address.
func Metric(ctx context.Context, address, name string) (int64, error) {
	text, err := fetch(ctx, "http://"+address+"/metrics")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			var v float64
			_, err := fmt.Sscan(rest, &v)
			return int64(v), err
		}
	}
	return 0, fmt.Errorf("%s has no metric %s", address, name)
}

// read reads the views and the operations API.
func (f *Facts) read(ctx context.Context, db *sql.DB) (err error) {
	var sale struct {
		PerUserLimit int64 `json:"per_user_limit"`
	}
	errs := []error{
		Get(ctx, "http://"+f.Admin+"/v1/sales/"+f.Sale, &sale),
		Get(ctx, "http://"+f.Admin+"/v1/audit", &f.Audit),
	}
	f.Limit = sale.PerUserLimit
	if f.Orders, err = ReadOrders(ctx, db, f.Sale); err != nil {
		errs = append(errs, err)
	}
	if f.Sales, err = ReadSales(ctx, db); err != nil {
		errs = append(errs, err)
	}
	if f.Ended {
		if f.Happenings, err = ReadEvents(ctx, f.Admin); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// ReadOrders reads a sale's orders from the published view.
func ReadOrders(ctx context.Context, db *sql.DB, sale string) ([]OrderRow, error) {
	var settled any
	return readAll(ctx, db, `SELECT CAST(id AS TEXT), sale, buyer, COALESCE(key, ''), quantity, state, COALESCE(reason, ''), version, settled_at FROM sluice_orders WHERE sale = $1`,
		func(r *OrderRow) []any {
			return []any{&r.ID, &r.Sale, &r.Buyer, &r.Key, &r.Quantity, &r.State, &r.Reason, &r.Version, &settled}
		}, func(r *OrderRow) (err error) {
			r.SettledAt, err = moment(settled)
			return err
		}, sale)
}

// moment reads a time of the database: SQLite has text for it.
func moment(v any) (time.Time, error) {
	switch t := v.(type) {
	case time.Time:
		return t, nil
	case string:
		return time.Parse(time.RFC3339Nano, t)
	}
	return time.Time{}, fmt.Errorf("%v is no time", v)
}

// ReadSales reads all sales from the published view.
func ReadSales(ctx context.Context, db *sql.DB) ([]SaleRow, error) {
	return readAll(ctx, db, `SELECT id, stock, topups, free, held, sold FROM sluice_sales`, func(r *SaleRow) []any {
		return []any{&r.ID, &r.Stock, &r.TopUps, &r.Free, &r.Held, &r.Sold}
	}, func(*SaleRow) error { return nil })
}

func readAll[T any](ctx context.Context, db *sql.DB, query string, into func(*T) []any, then func(*T) error, args ...any) (list []T, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", query, err)
	}
	defer rows.Close()
	for rows.Next() {
		var r T
		if err := rows.Scan(into(&r)...); err != nil {
			return nil, fmt.Errorf("%s: %w", query, err)
		}
		if err := then(&r); err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, rows.Err()
}

// ReadEvents reads all events from the operations API, page by page.
func ReadEvents(ctx context.Context, admin string) (all []Happening, err error) {
	for after := int64(0); ; {
		var page struct {
			Events         []Happening
			Oldest, Newest int64
		}
		if err := Get(ctx, fmt.Sprintf("http://%s/v1/events?after=%d&limit=1000", admin, after), &page); err != nil {
			return nil, err
		}
		if len(page.Events) == 0 {
			if after != page.Newest {
				return nil, fmt.Errorf("there is nothing after event %d, and the newest is %d", after, page.Newest)
			}
			return all, nil
		}
		all = append(all, page.Events...)
		after = all[len(all)-1].Seq
	}
}

// Get reads a JSON answer.
func Get(ctx context.Context, url string, into any) error {
	text, err := fetch(ctx, url)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

func fetch(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: HTTP %d: %.300s", url, resp.StatusCode, text)
	}
	return text, err
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
