package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	_ "modernc.org/sqlite" // database/sql driver "sqlite"

	labs "sluice/loadtest/lab"
)

var bounding = row{
	id: "S9", title: "orders outstanding over the bound, largest ever", must: 1, then: 1, unit: "×",
	meaning: "The bound as a stranger sees it: (202s received before t − rows settled by t) ÷ bound, largest over the run, with one door and with " +
		"four on one nsqd, each with a fourth of the bound. Rows are read from the published view, by `settled_at`, on the clock that the " +
		"answers are timed with. First the queue drains at a set rate while buyers ask as fast as they can; then the worker is stopped " +
		"(SIGSTOP), and exactly as many orders must come in as the bound says: 1.000, not less and not more. Beside it the gate that " +
		"everybody writes first, on the same nsqd and worker: it refuses while the depth that it last polled from `/stats`, 50 ms apart, is at the bound.",
	measure: measureBound,
}

const (
	outsideBound = 5000
	outsideDrain = 4000 // orders a second
)

func measureBound(ctx context.Context, l *lab) (figure, error) {
	runs, length := 5, 10*time.Second
	if l.short {
		runs, length = 1, 4*time.Second
	}
	var ratios []float64
	f := figure{sides: map[string]side{}}
	for run := range runs {
		for _, doors := range []int{1, 4} {
			o := outside{lab: l, doors: doors, length: length}
			name := fmt.Sprintf("sluice, doors: %d", doors)
			draining, stopped, err := o.sluice(ctx)
			if err != nil {
				return f, fmt.Errorf("%s, run %d: %w", name, run+1, err)
			}
			ratios = append(ratios, draining, stopped)
			f.note = "" // of the last run only
			f.sides[name] = o.seen(f.sides[name], map[string]float64{"largest, draining": draining, "worker stopped": stopped})
			l.say("  %s: largest %.4f, worker stopped %.4f", name, draining, stopped)

			name = fmt.Sprintf("gate on /stats, doors: %d", doors)
			o = outside{lab: l, doors: doors, length: length}
			gate, err := o.gate(ctx)
			if err != nil {
				return f, fmt.Errorf("%s, run %d: %w", name, run+1, err)
			}
			f.sides[name] = o.seen(f.sides[name], map[string]float64{"largest, draining": gate})
			l.say("  %s: largest %.4f", name, gate)
		}
	}
	f.ratio, f.runs = slices.Max(ratios), len(ratios)
	f.spread = [2]float64{slices.Min(ratios), f.ratio}
	f.note = fmt.Sprintf("Bound %d, drain rate %d orders a second, %d connections, SQLite. The figure is the largest of all runs, not their median.",
		outsideBound, outsideDrain, connections)
	return f, nil
}

// outside is one run as seen from outside.
type outside struct {
	lab    *lab
	doors  int
	length time.Duration
	tally  tally

	mu       sync.Mutex
	accepted []int64 // when each 202 came, microseconds since 1970
}

// seen keeps the largest of each figure over the runs.
func (o *outside) seen(before side, figures map[string]float64) side {
	s := side{Answers: o.tally.answers, Figures: figures, PerSecond: float64(o.tally.total) / o.tally.took.Seconds()}
	for name, v := range before.Figures {
		s.Figures[name] = max(s.Figures[name], v)
	}
	return s
}

// sluice measures the service: while it drains, and with the worker stopped.
func (o *outside) sluice(ctx context.Context) (draining, stopped float64, err error) {
	s, err := o.lab.launch(ctx, outsideBound, "", "--drain-rate", fmt.Sprint(outsideDrain))
	if err != nil {
		return 0, 0, err
	}
	var addresses []string
	for i := range o.doors {
		d, err := s.open(fmt.Sprintf("door-%d", i+1), outsideBound/o.doors)
		if err != nil {
			return 0, 0, err
		}
		addresses = append(addresses, d.address)
	}
	if err := s.sell(ctx, 10_000_000); err != nil {
		return 0, 0, err
	}
	crowd := o.crowd(addresses)
	defer crowd.close()
	if o.tally, err = crowd.run(ctx, o.length, 0); err != nil {
		return 0, 0, err
	}
	if draining, err = o.settled(ctx, s); err != nil {
		return 0, 0, err
	}
	stopped, err = o.stopped(ctx, s, crowd)
	return draining, stopped, errors.Join(err, o.lab.End())
}

// stopped asks with the worker stopped: exactly the bound comes in.
func (o *outside) stopped(ctx context.Context, s *service, crowd *load) (float64, error) {
	if err := s.worker.Freeze(ctx); err != nil {
		return 0, err
	}
	before := len(o.accepted)
	t, err := crowd.run(ctx, 30*time.Second, crowd.next.Load()+3*outsideBound)
	if err != nil {
		return 0, err
	}
	came := len(o.accepted) - before
	if came != outsideBound {
		return 0, fmt.Errorf("%d orders came in with the worker stopped; want %d exactly: %v", came, outsideBound, t.answers)
	}
	if err := s.worker.Signal(syscall.SIGCONT); err != nil {
		return 0, err
	}
	largest, err := o.settled(ctx, s)
	return max(largest, float64(came)/outsideBound), err
}

// settled waits until every accepted order is a row, proves the books, and answers the largest number of outstanding orders
// over the bound.
func (o *outside) settled(ctx context.Context, s *service) (float64, error) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(s.store(), "inventory.db")+"?mode=ro&_pragma=busy_timeout(5000)")
	if err != nil {
		return 0, err
	}
	defer db.Close() //nolint:errcheck // it was only read
	err = labs.Eventually(ctx, time.Minute, "every accepted order is settled", func() error {
		var rows int
		if err := db.QueryRowContext(ctx, `SELECT count(*) FROM sluice_orders`).Scan(&rows); err != nil {
			return err
		}
		if rows < len(o.accepted) {
			return fmt.Errorf("%d rows of %d orders", rows, len(o.accepted))
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	rows, err := settledAt(ctx, db)
	if err != nil {
		return 0, err
	}
	if len(rows) != len(o.accepted) {
		return 0, fmt.Errorf("%d orders were accepted, and there are %d rows", len(o.accepted), len(rows))
	}
	sold, err := s.audit(ctx)
	if err == nil && sold != int64(len(o.accepted)) {
		err = fmt.Errorf("%d orders were accepted, and %d units are sold", len(o.accepted), sold)
	}
	for _, d := range s.doors {
		err = errors.Join(err, d.idle(ctx)) // the doors have heard it too
	}
	return float64(mostOutstanding(o.accepted, rows)) / outsideBound, err
}

func settledAt(ctx context.Context, db *sql.DB) (at []int64, err error) {
	rows, err := db.QueryContext(ctx, `SELECT settled_at FROM sluice_orders`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return nil, err
		}
		t, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return nil, err
		}
		at = append(at, t.UnixMicro())
	}
	return at, rows.Err()
}

// mostOutstanding is the largest, over all t, of those accepted before t less those settled by t.
func mostOutstanding(accepted, settled []int64) (most int) {
	accepted, settled = slices.Sorted(slices.Values(accepted)), slices.Sorted(slices.Values(settled))
	gone := 0
	for i, at := range accepted {
		for gone < len(settled) && settled[gone] <= at { // in the same microsecond: in favour of the door
			gone++
		}
		most = max(most, i+1-gone)
	}
	return most
}

// gate measures the rival on an nsqd and a worker of its own.
func (o *outside) gate(ctx context.Context) (largest float64, err error) {
	program, err := o.lab.peer(ctx, "statsgate")
	if err != nil {
		return 0, err
	}
	s, err := o.lab.launch(ctx, outsideBound, "", "--drain-rate", fmt.Sprint(outsideDrain))
	if err != nil {
		return 0, err
	}
	if err := labs.Eventually(ctx, 20*time.Second, "make the sale", func() error { return s.sell(ctx, 10_000_000) }); err != nil {
		return 0, err
	}
	var addresses []string
	for i := range o.doors {
		address, err := o.lab.FreeAddress()
		if err != nil {
			return 0, err
		}
		_, err = o.lab.Start(fmt.Sprintf("gate-%d", i+1), program, "--listen", address, "--nsqd", s.queue, "--nsqd-http", s.queueHTTP(),
			"--bound", fmt.Sprint(outsideBound), "--poll", "50ms", "--sale", saleID, "--id-key", s.key)
		if err != nil {
			return 0, err
		}
		if err := accepts(ctx, address); err != nil {
			return 0, err
		}
		addresses = append(addresses, address)
	}
	crowd := o.crowd(addresses)
	defer crowd.close()
	if o.tally, err = crowd.run(ctx, o.length, 0); err != nil {
		return 0, err
	}
	largest, err = o.settled(ctx, s)
	return largest, errors.Join(err, o.lab.End())
}

// crowd are buyers at several doors, each connection at one of them.
func (o *outside) crowd(addresses []string) *load {
	return &load{
		addresses: addresses, connections: connections,
		request: func(b []byte, n int64) []byte { return orderRequest(b, addresses[0], saleID, n) },
		judge: func(_ int64, a answer) (string, error) {
			if a.status != http.StatusAccepted {
				return refusedFor(a, "queue-full")
			}
			if !bytes.Contains(a.body, []byte(`"status":"queued"`)) {
				return "", wrongAnswer(a, "202 queued")
			}
			o.mu.Lock()
			defer o.mu.Unlock()
			o.accepted = append(o.accepted, a.came.UnixMicro())
			return "202", nil
		},
	}
}
