package ingress

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"
	"go.uber.org/goleak"

	"sluice"
	"sluice/api"
	"sluice/journal"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// fasthttp keeps one goroutine for the Date header for as long as the process lives.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"))
}

// fakeCarrier keeps what it is given.
type fakeCarrier struct {
	mu          sync.Mutex
	orders      []sluice.Order
	full        bool
	incarnation uint64
	depth       int64
	sent        func(ids []sluice.OrderID, incarnation uint64)
}

func (c *fakeCarrier) Carry(o *sluice.Order) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.full {
		return false
	}
	c.orders = append(c.orders, *o)
	if c.sent != nil {
		go c.sent([]sluice.OrderID{o.ID}, c.incarnation)
	}
	return true
}

func (c *fakeCarrier) Incarnation() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.incarnation
}

func (c *fakeCarrier) Depth() (int64, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.depth, c.depth >= 0
}

func (c *fakeCarrier) restart() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.incarnation++
	c.orders = nil
}

func (c *fakeCarrier) carried() []sluice.Order {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]sluice.Order(nil), c.orders...)
}

// fakeTruth is the database as a door sees it.
type fakeTruth struct {
	mu       sync.Mutex
	down     bool
	refuses  *sluice.Error // to talk to the door
	doors    []api.Door    // how it was asked
	sales    []sluice.Sale
	limits   sluice.Limits
	statuses map[sluice.OrderID]sluice.Status
	asked    int
	slow     time.Duration // from the clock's reading to the answer's arrival
}

func (f *fakeTruth) Facts(_ context.Context, door api.Door) (facts api.Facts, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return facts, errors.New("down")
	}
	f.doors = append(f.doors, door)
	if f.refuses != nil {
		return facts, f.refuses
	}
	defer time.Sleep(f.slow)
	facts.Changes = sluice.Changes{Now: time.Now(), Sales: append([]sluice.Sale(nil), f.sales...)}
	facts.Pace = sluice.Pace{DrainRate: 1000, Batch: 5}
	if f.limits.Version != door.LimitsVersion {
		facts.Limits = &f.limits
	}
	return facts, nil
}

func (f *fakeTruth) Statuses(_ context.Context, ids []sluice.OrderID) (c sluice.Changes, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return c, errors.New("down")
	}
	if len(ids) > MaxInquiry {
		return c, fmt.Errorf("%d orders asked for at once", len(ids))
	}
	f.asked += len(ids)
	for _, id := range ids {
		if s, ok := f.statuses[id]; ok {
			c.Statuses = append(c.Statuses, s)
		}
	}
	return c, nil
}

// stamps are tickets without a signature: "buyer/class/sale".
type stamps struct{}

func (stamps) Verify(ticket []byte, now time.Time) (t sluice.Ticket, err error) {
	parts := strings.Split(string(ticket), "/")
	if len(parts) != 3 {
		return t, errors.New("there is no stamp on it")
	}
	return sluice.Ticket{Buyer: parts[0], Class: parts[1], Sale: parts[2], Expires: now.Add(time.Hour)}, nil
}

// settle makes the database know orders' outcomes, as if a worker had committed them and its message was lost.
func (f *fakeTruth) settle(statuses ...sluice.Status) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range statuses {
		f.statuses[s.Order] = s
	}
}

// stand is a door with everything around it.
type stand struct {
	*Door
	t       testing.TB
	carrier *fakeCarrier
	truth   *fakeTruth
	disk    vfs.FS
}

func sale(id string, change func(*sluice.Sale)) sluice.Sale {
	s := sluice.Sale{ID: id, Stock: 1000, Free: 1000, PerUserLimit: 1, OverAdmission: 1.5, Version: 1}
	if change != nil {
		change(&s)
	}
	return s
}

// testConfig is patient: only tests of a slow disk may hear of one, however slow the machine is.
func testConfig() Config {
	c := DefaultConfig()
	c.Name, c.Bound, c.Callers, c.Answer = "door", 100, 1000, time.Minute
	return c
}

// newStand makes a door on a disk (nil: a new one) that has heard of the sales but does not run.
func newStand(t testing.TB, cfg Config, disk vfs.FS, sales ...sluice.Sale) *stand {
	t.Helper()
	if disk == nil {
		disk = vfs.NewMem()
	}
	keys, err := sluice.NewIDKey(bytes.Repeat([]byte("k"), sluice.MinIDKeyBytes))
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	j, err := journal.Open(journal.Options{
		Dir: "journal", FS: disk, Logger: log, StallAfter: time.Minute,
		Fatal: func(err error) { t.Errorf("the journal wants to end the process: %v", err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	s := &stand{
		t: t, disk: disk, carrier: &fakeCarrier{},
		truth: &fakeTruth{sales: sales, statuses: make(map[sluice.OrderID]sluice.Status)},
	}
	s.Door, err = New(cfg, Parts{
		Keys: keys, Journal: j, Carrier: s.carrier, Truth: s.truth, Tickets: stamps{}, Logger: log, Metrics: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	s.streams.heartbeat = 50 * time.Millisecond // no test should have to wait for a stream's end
	t.Cleanup(func() {
		if err := j.Close(); err != nil && !errors.Is(err, journal.ErrClosed) {
			t.Error(err)
		}
	})
	if err := s.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// keepFresh has the facts count for as long as the test lasts: a door that does not run hears no others, and those that are older than a
// second no longer say what is sold.
func (s *stand) keepFresh() {
	s.board.update(s.truth.sales, time.Now().Add(time.Hour))
}

// run gives the door time until the test ends.
func (s *stand) run() {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { s.Run(ctx) })
	s.t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
}

// answer is what a buyer hears.
type answer struct {
	status int
	header *fasthttp.ResponseHeader
	Order  string `json:"order"`
	Status string `json:"-"`
	body   map[string]any
}

func (a answer) reason() string { r, _ := a.body["reason"].(string); return r }
func (a answer) state() string  { r, _ := a.body["status"].(string); return r }
func (a answer) number(key string) float64 {
	n, _ := a.body[key].(float64)
	return n
}

// from stands in a list of headers before the address that the request comes from.
const from = "\x00from"

func (s *stand) call(method, path, body string, headers ...string) answer {
	s.t.Helper()
	return s.callOver(nil, method, path, body, headers...)
}

// callOver is a call over a connection; nil: none.
func (s *stand) callOver(c net.Conn, method, path, body string, headers ...string) answer {
	s.t.Helper()
	var ctx fasthttp.RequestCtx
	if c != nil {
		ctx.Init2(c, nil, false)
	}
	ctx.Request.Header.SetMethod(method)
	ctx.Request.SetRequestURI(path)
	if body != "" {
		ctx.Request.Header.SetContentType("application/json") // unless headers say otherwise
		ctx.Request.SetBodyString(body)
	}
	ctx.SetRemoteAddr(&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 4711})
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i] == from {
			ctx.SetRemoteAddr(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(headers[i+1])))
			continue
		}
		ctx.Request.Header.Add(headers[i], headers[i+1])
	}
	s.Handle(&ctx)
	documented(s.t, &ctx, s.cfg.BasePath)
	a := answer{status: ctx.Response.StatusCode(), header: &ctx.Response.Header}
	if bytes.Contains(ctx.Response.Header.ContentType(), []byte("json")) {
		if err := json.Unmarshal(ctx.Response.Body(), &a.body); err != nil {
			s.t.Fatalf("%s %s answers no JSON: %v: %s", method, path, err, ctx.Response.Body())
		}
		a.Order, _ = a.body["order"].(string)
	}
	return a
}

// buy places an order of one unit; headers follow in pairs.
func (s *stand) buy(user string, headers ...string) answer {
	s.t.Helper()
	return s.call("POST", "/v1/sales/demo/orders", fmt.Sprintf(`{"user":%q,"quantity":1}`, user), headers...)
}

func (s *stand) get(order string) answer {
	s.t.Helper()
	return s.call("GET", "/v1/orders/"+order, "")
}

// outcome makes the status that a worker would announce for an answered order.
func (s *stand) outcome(order string, state sluice.State, version int64) sluice.Status {
	s.t.Helper()
	id, err := sluice.ParseOrderID(order)
	if err != nil {
		s.t.Fatal(err)
	}
	st := sluice.Status{Order: id, Sale: "demo", State: state, Version: version, Units: 1, SettledAt: time.Now()}
	if state == sluice.Rejected {
		st.Reason = sluice.SoldOut
	}
	return st
}

func (s *stand) hear(statuses ...sluice.Status) {
	s.t.Helper()
	if err := s.Hear(s.t.Context(), sluice.Changes{Now: time.Now(), Statuses: statuses}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stand) want(a answer, status int, reasonOrState string) {
	s.t.Helper()
	got := a.reason()
	if a.status < 300 {
		got = a.state()
	}
	if a.status != status || got != reasonOrState {
		s.t.Errorf("answer %d %v; want %d %s", a.status, a.body, status, reasonOrState)
	}
}

// eventually waits for something that goroutines of the door bring about.
func (s *stand) eventually(what string, ok func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("never: %s", what)
		}
	}
}
