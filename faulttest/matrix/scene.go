package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"

	"sluice/faulttest/check"
	"sluice/internal/pgcluster"
	"sluice/loadtest/lab"
)

// programs are what is started, by path.
type programs struct {
	sluice, checker string
	shifted         string // sluice, with a wall clock that can be wrong; empty: no run needs it
}

// scene is what one run happens in.
type scene struct {
	run
	programs programs
	dir      string     // logs, history, and a folder for each part
	random   *rand.Rand // for the story; the buyers have their own
	lab      *lab.Lab
	key      string
	parts    map[string]*part
	order    []*part   // as they are started
	postgres *database // nil: the store is SQLite
	proxies  map[link]*toxiproxy.Proxy
	mounted  map[string]*disk // by part
	doorList []check.Door
	admin    string // address that buyers pay at
	history  *check.History
	file     *os.File // of the history
	buyers   *buyers
	ends     []func() // what a story started in the driver, and how it ends; after the parts
	clock    *os.File // how far the wall clock of some part is off; nil: no one's is
	commits  *losingProxy
	hooks    *receiver
	points   *reader
	heard    map[string]*audience // by who heard it
	clocks   []check.Clock
	say      func(format string, args ...any)
	over     func(phase string)
	phases   []phase
	witness  *witness
	stalls   []check.Span

	mu        sync.Mutex // guards what follows
	faults    []check.Fault
	bounds    []check.Bound
	tooLittle []string
	tardy     []string // what came, and later than it should
	uses      uses
}

// must says what has to be true for the story to test what it says.
func (s *scene) must(ok bool, format string, args ...any) {
	if ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tooLittle = append(s.tooLittle, fmt.Sprintf(format, args...))
}

// wait waits for a time that the seed chooses.
func (s *scene) wait(ctx context.Context, least, most time.Duration) {
	pause(ctx, least+time.Duration(s.random.Int64N(int64(most-least)+1)))
}

// number is one that the seed chooses.
func (s *scene) number(least, most int64) int64 { return least + s.random.Int64N(most-least+1) }

// open makes a scene in a folder: what the parts need, and the parts, which run and sell when it returns.
func (s *scene) open(ctx context.Context) (err error) {
	if err := os.MkdirAll(s.dir, 0o750); err != nil {
		return err
	}
	if s.lab, err = lab.New(s.dir); err != nil {
		return err
	}
	s.lab.At(hostOf())
	if s.file, err = os.Create(filepath.Join(s.dir, check.HistoryFile)); err != nil {
		return err
	}
	s.history = check.Keep(s.file)
	if s.streams {
		s.history = check.Stream(s.file)
	}
	if s.witness, err = watch(ctx, s.dir, s.history); err != nil {
		return err
	}
	s.random = rand.New(rand.NewPCG(s.seed, 1))
	s.parts, s.proxies = map[string]*part{}, map[link]*toxiproxy.Proxy{}
	secret := sha256.Sum256(fmt.Appendf(nil, "%s %d", s.name(), s.seed))
	s.key = filepath.Join(s.dir, "id.key")
	if err := os.WriteFile(s.key, []byte(hex.EncodeToString(secret[:])+"\n"), 0o600); err != nil {
		return err
	}
	if err := s.mount(); err != nil {
		return err
	}
	if s.store == "postgres" {
		cluster, err := pgcluster.StartIn(ctx, s.diskOf("postgres"))
		if err != nil {
			return err
		}
		s.postgres = &database{scene: s, cluster: cluster}
	}
	if s.shifts != "" {
		if err := s.shiftClocks(); err != nil {
			return err
		}
	}
	if s.prepare != nil {
		if err := s.prepare(ctx, s); err != nil {
			return err
		}
	}
	if err := s.newParts(ctx); err != nil {
		return err
	}
	for _, p := range s.order {
		if err := p.start(ctx); err != nil {
			return err
		}
	}
	s.admin = s.parts["worker"].address
	return s.sell(ctx)
}

// hostOf is an address of this machine that nobody else uses, most likely.
func hostOf() string {
	return fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(254), rand.IntN(255), 1+rand.IntN(254)) //nolint:gosec // not a secret
}

// sell makes the sale, and waits until the doors know it.
func (s *scene) sell(ctx context.Context) error {
	sale := map[string]any{"id": saleID, "sku": "sku", "stock": s.stock(), "per_user_limit": payLimit, "payment_window": s.window().String()}
	err := lab.Eventually(ctx, startTime, "make the sale", func() error {
		code, err := post(ctx, "http://"+s.admin+"/v1/sales", sale)
		if code == http.StatusConflict {
			return nil // an earlier try whose answer was lost
		}
		return err
	})
	if err != nil {
		return err
	}
	return s.ready(ctx)
}

// ready waits until every door takes orders.
func (s *scene) ready(ctx context.Context) error {
	for _, d := range s.doorList {
		err := lab.Eventually(ctx, startTime, d.Name+" is ready", func() error {
			return errors.Join(status(ctx, http.MethodGet, "http://"+d.Address+"/readyz"),
				status(ctx, http.MethodGet, "http://"+d.Address+"/v1/sales/"+saleID))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// window is how long units are held.
func (s *scene) window() time.Duration {
	if s.plenty {
		return 0
	}
	if s.story.window > 0 {
		return s.story.window
	}
	return payWindow
}

// lasts is how long buyers come.
func (s *scene) lasts() time.Duration {
	if s.length > 0 {
		return s.length
	}
	return usualLength
}

func (s *scene) rate() float64 { return capacity * s.load.share }

// stock is so many units that the last of them goes when the buyers' time is almost over, if nothing happens.
func (s *scene) stock() int64 {
	if s.plenty {
		return 1_000_000
	}
	return int64(0.75 * min(s.rate(), capacity) * s.lasts().Seconds())
}

// db opens the database past the service.
func (s *scene) db() (*sql.DB, error) { return check.Open(s.database()) }

func (s *scene) database() string {
	if s.postgres != nil {
		return s.postgres.cluster.URL("postgres")
	}
	return filepath.Join(s.parts["worker"].data, "inventory.db")
}

// readClock reads the database's clock a few times, and keeps the reading that leaves the least open. SQLite's is the machine's.
func (s *scene) readClock(ctx context.Context) error {
	db, err := s.db()
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // it was only read
	var best check.Clock
	for i := range 5 {
		c := check.Clock{Before: s.history.Now()}
		if s.postgres == nil {
			c.Database = time.Now()
		} else if err := db.QueryRowContext(ctx, "SELECT clock_timestamp()").Scan(&c.Database); err != nil {
			return fmt.Errorf("the database's clock: %w", err)
		}
		if c.After = s.history.Now(); i == 0 || c.After-c.Before < best.After-best.Before {
			best = c
		}
	}
	s.clocks = append(s.clocks, best)
	return nil
}

// close ends everything that the scene started.
func (s *scene) close() (err error) {
	s.testify()
	if s.lab != nil {
		err = s.lab.End()
	}
	s.closeProxies()
	for _, end := range s.ends {
		end()
	}
	if s.postgres != nil {
		_ = s.postgres.cluster.Thaw() // a frozen one would not hear
		err = errors.Join(err, s.postgres.cluster.Stop())
	}
	if s.file != nil {
		err = errors.Join(err, s.file.Close())
	}
	return errors.Join(err, s.unmount())
}

// testify has the witness say what it saw.
func (s *scene) testify() {
	if s.witness != nil {
		s.stalls, s.witness = s.witness.end(), nil
	}
}

// describe is the run for the checker.
func (s *scene) describe() check.Run {
	s.mu.Lock()
	defer s.mu.Unlock()
	return check.Run{
		Case: s.name(), Seed: s.seed, Again: fmt.Sprintf("make faults ONLY=%s SEED=%d", s.name(), s.seed), Capacity: capacity, Rate: s.rate(),
		Doors: s.doorList, Admin: s.admin, Database: s.database(), Sale: saleID, Window: s.window(), SoldOut: !s.plenty, Ended: true, Poison: s.poison,
		Bounds: slices.Clone(s.bounds), Clocks: s.clocks, Faults: slices.Clone(s.faults), Stalls: s.stalls, Budget: budget, Settle: settleTime,
		Rest: s.uses.rest, Samples: slices.Clone(s.uses.samples), Rooms: slices.Clone(s.uses.rooms),
	}
}

const (
	budget     = 2 * time.Second // of a door for an answer: a second that its disk may take until it refuses, and what a crowd costs
	settleTime = 40 * time.Second
)

func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// status asks, and fails where the answer is not a 200.
func status(ctx context.Context, method, url string) error {
	_, err := send(ctx, method, url, nil)
	return err
}

func post(ctx context.Context, url string, body any) (code int, err error) {
	return send(ctx, http.MethodPost, url, body)
}

func send(ctx context.Context, method, url string, body any) (code int, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
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
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: HTTP %d: %.300s", method, url, resp.StatusCode, text)
	}
	return resp.StatusCode, err
}
