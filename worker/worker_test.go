package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-kratos/kratos/v2"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"sluice"
	"sluice/api"
	"sluice/internal/pgcluster"
	"sluice/inventory"
	"sluice/inventory/sqlite"
	"sluice/queue"
)

func TestMain(m *testing.M) {
	// The first signal.Notify of a process, Kratos' here, starts a goroutine that stays.
	os.Exit(pgcluster.Main(m, goleak.IgnoreTopFunction("os/signal.signal_recv"), goleak.IgnoreTopFunction("os/signal.loop")))
}

// troubled is a store that can be made to fail.
type troubled struct {
	inventory.Store
	mu       sync.Mutex
	down     bool
	poisoned string // a user whose orders the store chokes on
	panics   string // a user at whose orders it panics
	reserves [][]sluice.Order
	slow     chan struct{} // Reserve waits for it, where it is not nil
	noLimits bool          // the limits can't be read
	ill      error         // what Sales and Ping answer, where it is not nil
	pause    time.Duration // before Reserve
	hollow   bool          // Reserve says paid, and the pause is all that it takes
	pings    atomic.Int64
}

func (s *troubled) Limits(ctx context.Context) (sluice.Limits, error) {
	s.mu.Lock()
	noLimits := s.noLimits
	s.mu.Unlock()
	if noLimits {
		return sluice.Limits{}, errNoLimits
	}
	return s.Store.Limits(ctx)
}

func (s *troubled) Reserve(ctx context.Context, batch []sluice.Order) (sluice.Changes, error) {
	s.mu.Lock()
	down, poisoned, panics := s.down, s.poisoned, s.panics
	s.reserves = append(s.reserves, batch)
	slow, pause, hollow := s.slow, s.pause, s.hollow
	s.mu.Unlock()
	time.Sleep(pause)
	if slow != nil {
		select {
		case <-slow:
		case <-ctx.Done():
			return sluice.Changes{}, context.Cause(ctx)
		}
	}
	if down {
		return sluice.Changes{}, fmt.Errorf("connect: %w", inventory.ErrUnavailable)
	}
	for _, o := range batch {
		switch o.User {
		case poisoned:
			return sluice.Changes{}, errors.New("invalid byte sequence")
		case panics:
			panic("index out of range")
		}
	}
	if hollow {
		return paidNow(batch), nil
	}
	return s.Store.Reserve(ctx, batch)
}

func paidNow(batch []sluice.Order) sluice.Changes {
	c := sluice.Changes{Now: inventory.Micros(time.Now())}
	for _, o := range batch {
		c.Statuses = append(c.Statuses, sluice.Status{
			Order: o.ID, Sale: o.Sale, User: o.User, State: sluice.Paid, Version: 2, Units: o.Quantity, SettledAt: c.Now,
		})
	}
	return c
}

// asked is how often Reserve was asked for an order of the user's.
func (s *troubled) asked(user string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, batch := range s.reserves {
		for i := range batch {
			if batch[i].User == user {
				n++
			}
		}
	}
	return n
}

func (s *troubled) set(change func(*troubled)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

// shop is a worker on a real nsqd and a real database.
type shop struct {
	t         *testing.T
	stop      context.CancelFunc // tells Kratos to stop the worker
	done      chan struct{}      // closed once it has
	store     *troubled
	nsqd      string // its TCP address
	url       string
	keys      *sluice.IDKey
	registry  *prometheus.Registry
	log       lines // what the worker logs
	registrar registrar
	orders    *queue.Publisher
	mu        sync.Mutex
	outcomes  map[sluice.OrderID]sluice.Status // as a door hears them
	facts     []sluice.Sale
}

const testToken = "a token for tests only"

// newShop opens a shop.
func newShop(t *testing.T, change func(*Config), with ...func(*Parts)) *shop {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	nsqd, err := queue.StartServer(queue.ServerConfig{Listen: "127.0.0.1:0", DataDir: t.TempDir(), Logger: log})
	must(t, err)
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "inventory.db"))
	must(t, err)
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	keys, err := sluice.NewIDKey(bytes.Repeat([]byte("k"), sluice.MinIDKeyBytes))
	must(t, err)
	s := &shop{
		t: t, store: &troubled{Store: store}, nsqd: nsqd.Addr(), url: "http://" + l.Addr().String(), keys: keys,
		outcomes: make(map[sluice.OrderID]sluice.Status), registry: prometheus.NewRegistry(),
	}
	cfg := DefaultConfig()
	cfg.NSQD, cfg.Operators, cfg.MaxAttempts = nsqd.Addr(), []Operator{{"tests", testToken}}, 2
	if change != nil {
		change(&cfg)
	}
	parts := Parts{Store: s.store, Keys: keys, Listener: l, Logger: slog.New(slog.NewJSONHandler(&s.log, nil)), Registry: s.registry}
	for _, put := range with {
		put(&parts)
	}
	w, err := New(cfg, parts)
	must(t, err)
	s.orders, err = queue.NewPublisher(queue.PublisherConfig{Addr: nsqd.Addr(), Topic: queue.TopicOrders})
	must(t, err)
	ears := s.listen(nsqd.Addr())
	var wg sync.WaitGroup
	ctx, stop := context.WithCancel(context.Background())
	s.stop, s.done = stop, make(chan struct{})
	wg.Go(func() { // as the command runs it
		defer close(s.done)
		if err := Run(ctx, w, kratos.StopTimeout(10*time.Second), kratos.Registrar(&s.registrar)); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		stop()
		wg.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := errors.Join(ears.Stop(ctx), s.orders.Stop(ctx), store.Close(), nsqd.Stop(ctx)); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	s.eventually("the API answers", func() bool { return s.get("/livez") == 200 })
	for _, p := range w.pools { // an nsqd that is told to stop while somebody subscribes leaves that topic behind
		s.eventually("every pool is connected", p.subscription.Connected)
	}
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// listen hears outcomes as a door does.
func (s *shop) listen(nsqd string) *queue.Consumer {
	channel, err := queue.DoorChannel("test")
	must(s.t, err)
	c, err := queue.NewConsumer(queue.ConsumerConfig{
		Addr: nsqd, Topic: queue.TopicOutcomes, Channel: channel,
		Handle: func(_ context.Context, batch []*queue.Message) {
			for _, m := range batch {
				s.hear(m.Body)
				m.Finish()
			}
		},
	})
	must(s.t, err)
	c.Start(context.Background())
	return c
}

func (s *shop) hear(body []byte) {
	c, err := queue.DecodeChanges(body)
	if err != nil {
		s.t.Errorf("an outcome can't be read: %v: %s", err, body)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range c.Statuses {
		s.outcomes[st.Order] = st
	}
	s.facts = append(s.facts, c.Sales...)
}

func (s *shop) outcome(id sluice.OrderID) sluice.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.outcomes[id]
}

func (s *shop) eventually(what string, ok func() bool) {
	s.t.Helper()
	eventually(s.t, what, ok)
}

// eventually waits for what no channel announces.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func (s *shop) order(user string) sluice.Order {
	return sluice.Order{ID: s.keys.ID([]byte("demo"), []byte(user), nil, 0), Sale: "demo", User: user, Quantity: 1}
}

// place sends an order as a door does.
func (s *shop) place(users ...string) {
	s.t.Helper()
	for _, user := range users {
		o := s.order(user)
		if !s.orders.Publish(o.ID, queue.AppendOrder(nil, o)) {
			s.t.Fatal("the publisher is full")
		}
	}
}

func (s *shop) settled(user string, state sluice.State) {
	s.t.Helper()
	s.eventually(user+" is "+string(state), func() bool { return s.outcome(s.order(user).ID).State == state })
}

func (s *shop) get(path string) int {
	status, _ := s.call(http.MethodGet, path, "", testToken)
	return status
}

func (s *shop) call(method, path, body, token string) (int, map[string]any) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(body))
	must(s.t, err)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	must(s.t, err)
	documented(s.t, req, body, res, b)
	out := map[string]any{}
	if strings.Contains(res.Header.Get("Content-Type"), "json") {
		must(s.t, json.Unmarshal(b, &out))
	}
	return res.StatusCode, out
}

// open creates the sale demo.
func (s *shop) open(body string) {
	s.t.Helper()
	if status, out := s.call("POST", "/v1/sales", body, testToken); status != 201 {
		s.t.Fatalf("create the sale: %d %v", status, out)
	}
}

func TestWorker_SettlesOrdersAndTellsTheDoors(t *testing.T) {
	s := newShop(t, nil)
	s.open(`{"id":"demo","stock":2,"payment_window":"10m"}`)
	s.place("a", "b")
	s.settled("a", sluice.Held)
	s.settled("b", sluice.Held)
	s.place("c") // two workers settle in no order of their own
	s.settled("c", sluice.Rejected)
	if o := s.outcome(s.order("c").ID); o.Reason != sluice.SoldOut || o.Version != 2 {
		t.Errorf("c: %+v", o)
	}
	s.place("a", "c", "a") // P3: every copy yields the same outcome and changes nothing
	s.eventually("repeats are told too", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.facts) > 0 && s.facts[len(s.facts)-1].Free == 0
	})
	audit, err := s.store.Audit(t.Context())
	if err != nil || !audit.Balanced || audit.Sales[0].Held != 2 {
		t.Errorf("audit %+v, %v", audit, err)
	}
}

func TestWorker_WaitsForAStoreThatIsDownAndLosesNothing(t *testing.T) {
	s := newShop(t, nil)
	s.open(`{"id":"demo","stock":1000,"payment_window":"0s"}`)
	s.store.set(func(s *troubled) { s.down = true })
	var users []string
	for n := range 300 {
		users = append(users, fmt.Sprintf("u%d", n))
	}
	s.place(users...)
	s.eventually("the store was asked in vain", func() bool { return s.store.pings.Load() >= 3 })
	s.store.set(func(s *troubled) { s.down = false })
	for _, u := range users {
		s.settled(u, sluice.Paid)
	}
	if audit, err := s.store.Audit(t.Context()); err != nil || audit.Sales[0].Orders[sluice.Failed] != 0 || audit.Sales[0].Sold != 300 {
		t.Errorf("an outage made failures of orders: %+v, %v", audit, err)
	}
}

func TestWorker_OneBadOrderNeitherStopsNorSpoilsTheOthers(t *testing.T) {
	s := newShop(t, nil)
	s.open(`{"id":"demo","stock":100,"payment_window":"0s"}`)
	s.store.set(func(s *troubled) { s.poisoned = "poison" })
	s.place("a", "b", "poison", "c", "d")
	if !s.orders.Publish(sluice.OrderID{}, []byte("this is no order")) {
		t.Fatal("not published")
	}
	for _, u := range []string{"a", "b", "c", "d"} {
		s.settled(u, sluice.Paid)
	}
	s.settled("poison", sluice.Failed) // dead-lettered after two attempts of its own
}

// Whoever reaches the queue can't order in another's name, nor make another's order fail.
func TestWorker_SettlesOnlyWhatADoorHasIssued(t *testing.T) {
	s := newShop(t, nil)
	s.open(`{"id":"demo","stock":100,"payment_window":"0s"}`)
	stolen, again, invented, foreign := s.order("victim"), s.order("victim"), s.order("a"), s.order("b")
	stolen.User = "thief"
	again.Attempt = 1
	invented.ID = sluice.OrderID{1, 6: 0x80, 8: 0x80}
	keys, err := sluice.NewIDKey(bytes.Repeat([]byte("l"), sluice.MinIDKeyBytes))
	must(t, err)
	foreign.ID = keys.ID([]byte("demo"), []byte("b"), nil, 0)
	forged := []sluice.Order{stolen, again, invented, foreign}
	for _, o := range forged {
		if !s.orders.Publish(o.ID, queue.AppendOrder(nil, o)) {
			t.Fatal("not published")
		}
	}
	var letters []inventory.Buried
	s.eventually("each is a dead letter", func() bool {
		letters, err = s.store.Letters(t.Context(), 0, 10, true)
		return err == nil && len(letters) == len(forged)
	})
	c := api.NewClient(s.url, testToken)
	defer c.Close()
	for _, l := range letters {
		if l.Order != (sluice.OrderID{}) || l.Attempts != 1 || !strings.Contains(l.Error, "no door issued the id") {
			t.Errorf("%+v", l)
		}
		if _, err := c.ReplayDeadLetter(t.Context(), l.Message); sluice.RefusalOf(err) != sluice.BadRequest {
			t.Errorf("replayed: %v", err)
		}
	}
	if orders, err := s.store.Orders(t.Context(), inventory.OrderQuery{Limit: 10}); err != nil || len(orders) != 0 {
		t.Errorf("orders %+v, %v: want none", orders, err)
	}
	s.place("victim")
	s.settled("victim", sluice.Paid)
}

// Keyless orders, orders with a key and later attempts all have the id that their door gave them.
func TestWorker_SettlesEveryKindOfOrderThatADoorIssues(t *testing.T) {
	s := newShop(t, nil)
	s.open(`{"id":"demo","stock":100,"payment_window":"0s","per_user_limit":10}`)
	var ids []sluice.OrderID
	for _, o := range []sluice.Order{
		{User: "Zoë \\\" \u2028 <b>"},
		{User: "a", Key: "k"},
		{User: "a", Key: "6b1f7c1e54f24b6f9a3e000000000001"},
		{User: "a", Attempt: 7},
		{User: "a", Attributes: []byte(`{"size":42}`)},
	} {
		o.Sale, o.Quantity = "demo", 1
		o.ID = s.keys.ID([]byte(o.Sale), []byte(o.User), []byte(o.Key), o.Attempt)
		if ids = append(ids, o.ID); !s.orders.Publish(o.ID, queue.AppendOrder(nil, o)) {
			t.Fatal("not published")
		}
	}
	for _, id := range ids {
		s.eventually("order "+id.String()+" is paid", func() bool { return s.outcome(id).State == sluice.Paid })
	}
}

// Copies of one order are tried in turns: what counts is how often the order was, not this copy of it.
func TestWorker_ADeadLetterSaysHowOftenItsOrderWasTried(t *testing.T) {
	s := newShop(t, nil)
	s.open(`{"id":"demo","stock":100,"payment_window":"0s"}`)
	s.store.set(func(s *troubled) { s.poisoned = "poison" })
	s.place("poison", "poison")
	s.settled("poison", sluice.Failed) // after two attempts, one of each
	letters, err := s.store.Letters(t.Context(), 0, 10, true)
	if err != nil || len(letters) != 1 || letters[0].Attempts != 2 {
		t.Errorf("%+v, %v: want one letter after 2 attempts", letters, err)
	}
}

// A clean stop settles and tells what is in flight; it does not cut a transaction at a point that nobody knows.
func TestWorker_StopSettlesWhatIsInFlight(t *testing.T) {
	s := newShop(t, nil)
	s.open(`{"id":"demo","stock":10,"payment_window":"0s"}`)
	slow := make(chan struct{})
	s.store.set(func(s *troubled) { s.slow = slow })
	s.place("a")
	s.eventually("the order is in flight", func() bool {
		s.store.mu.Lock()
		defer s.store.mu.Unlock()
		return len(s.store.reserves) == 1
	})
	s.stop()
	time.Sleep(50 * time.Millisecond) // nothing to wait for: a stop that cuts would do so at once
	close(slow)
	s.settled("a", sluice.Paid)
}

// An outage is no failure of an order, however often it was delivered meanwhile.
func TestWorker_AnOutageIsNoAttempt(t *testing.T) {
	s := newShop(t, func(c *Config) { c.MaxAttempts = 3 })
	s.open(`{"id":"demo","stock":10,"payment_window":"0s"}`)
	for range 5 { // deliveries that say nothing of the order
		s.place("a")
	}
	s.settled("a", sluice.Paid)
	s.eventually("every copy was tried, so that none shares a batch with p", func() bool { return s.store.asked("a") >= 5 })
	s.store.set(func(s *troubled) { s.poisoned = "p" })
	s.place("p")
	s.settled("p", sluice.Failed)
	if n := s.store.asked("p"); n != 3 {
		t.Errorf("the order was given up after %d attempts, want 3", n)
	}
}

func TestWorker_PaceHoldsTheDrainRate(t *testing.T) {
	s := newShop(t, func(c *Config) { c.Pools[0].Rate = 200 })
	s.open(`{"id":"demo","stock":1000,"payment_window":"0s"}`)
	began := time.Now()
	for n := range 200 {
		s.place(fmt.Sprintf("u%d", n))
	}
	s.settled("u199", sluice.Paid)
	s.eventually("all are settled", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.outcomes) == 200
	})
	// 200 orders at 200/s take a second, less the slack of ten that the limiter grants; slower is no failure of the pace.
	if d := time.Since(began); d < 900*time.Millisecond {
		t.Errorf("200 orders at 200/s took %v", d)
	}
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	for _, b := range s.store.reserves {
		if len(b) > 20 {
			t.Errorf("a batch of %d makes orders wait %v for their pace", len(b), time.Duration(len(b))*time.Second/200)
		}
	}
}

func TestWorker_TheSweepGivesOverdueHoldsBackAndTellsTheDoors(t *testing.T) {
	s := newShop(t, nil)
	s.open(`{"id":"demo","stock":1,"payment_window":"50ms"}`)
	s.place("slow")
	s.settled("slow", sluice.Expired)
	s.place("next")
	s.eventually("the unit is sold again", func() bool { return s.outcome(s.order("next").ID).State != "" })
}

func TestOperations(t *testing.T) {
	s := newShop(t, nil)
	s.open(`{"id":"demo","stock":10,"payment_window":"10m","checkout_url":"https://shop.example/{order}"}`)
	s.place("a", "b")
	s.settled("a", sluice.Held)
	s.settled("b", sluice.Held)
	a, b := s.order("a").ID.String(), s.order("b").ID.String()
	unknown := s.order("nobody").ID.String()
	for _, c := range []struct {
		method, path, body string
		status             int
		key                string // of the answer
		want               any
	}{
		{"POST", "/v1/sales", `{"id":"demo","stock":1}`, 409, "reason", "sale-exists"},
		{"POST", "/v1/sales", `{"id":"Not A Sale","stock":1}`, 400, "reason", "bad-request"},
		{"POST", "/v1/sales", `{"id":"x","stock":-1}`, 400, "detail", "stock -1: want 0 to 1000000000"},
		{"POST", "/v1/sales", `{"id":"x","stok":1}`, 400, "reason", "bad-request"},
		{"POST", "/v1/sales", `{"id":"x"} {}`, 400, "reason", "bad-request"},
		{"POST", "/v1/sales", `{"id":"x"}}`, 400, "reason", "bad-request"},
		{"POST", "/v1/sales", `{"id":"` + strings.Repeat("x", maxBodyBytes) + `"}`, 413, "reason", "too-large"},
		{"GET", "/v1/sales/demo", "", 200, "free", 8.0},
		{"GET", "/v1/sales/demo", "", 200, "payment_window", "10m0s"},
		{"GET", "/v1/sales/nope", "", 404, "reason", "unknown-sale"},
		{"POST", "/v1/sales/demo/topup", `{"units":5}`, 200, "free", 13.0},
		{"POST", "/v1/sales/demo/topup", `{"units":-3}`, 200, "topups", 2.0},
		{"POST", "/v1/sales/demo/topup", `{"units":-100}`, 409, "reason", "not-free"},
		{"POST", "/v1/sales/demo/topup", `{}`, 400, "reason", "bad-request"},
		{"POST", "/v1/sales/nope/topup", `{"units":1}`, 404, "reason", "unknown-sale"},
		{"GET", "/v1/orders/" + a, "", 200, "status", "held"},
		{"GET", "/v1/orders/" + unknown, "", 200, "status", "queued"},
		{"GET", "/v1/orders/5a46f2c0-0fce-814f-920e-caf5b0d6fdba", "", 404, "reason", "unknown-order"},
		{"POST", "/v1/orders/" + a + "/pay", `{"payment_ref":"p1"}`, 200, "status", "paid"},
		{"POST", "/v1/orders/" + a + "/pay", `{"payment_ref":"p1"}`, 200, "version", 3.0},
		{"POST", "/v1/orders/" + a + "/pay", `{"payment_ref":"p2"}`, 409, "reason", "already-paid"},
		{"POST", "/v1/orders/" + a + "/pay", `{}`, 400, "reason", "bad-request"},
		{"POST", "/v1/orders/" + unknown + "/pay", `{"payment_ref":"p1"}`, 404, "reason", "unknown-order"},
		{"POST", "/v1/orders/" + a + "/cancel", "", 409, "reason", "not-held"},
		{"POST", "/v1/orders/" + b + "/cancel", "", 200, "status", "cancelled"},
		{"POST", "/v1/orders/" + b + "/cancel", "", 200, "status", "cancelled"},
		{"POST", "/v1/orders/" + b + "/pay", `{"payment_ref":"p1"}`, 409, "reason", "too-late"},
		{"GET", "/v1/audit", "", 200, "balanced", true},
		{"POST", "/v1/sales/demo/end", "", 200, "free", 11.0},
		{"POST", "/v1/doors/statuses", `{"orders":["` + a + `","` + unknown + `"]}`, 200, "now", nil},
		{"POST", "/v1/doors/statuses", `{"orders":["x"]}`, 400, "reason", "bad-request"},
		{"DELETE", "/v1/sales/demo", "", 405, "reason", "method-not-allowed"},
		{"GET", "/debug/pprof/", "", 404, "reason", "not-found"},
		{"GET", "/metrics", "", 200, "", nil},
		{"GET", "/readyz", "", 200, "", nil},
	} {
		t.Run(c.method+" "+c.path+" "+c.body[:min(len(c.body), 40)], func(t *testing.T) {
			status, out := s.call(c.method, c.path, c.body, testToken)
			if status != c.status || (c.want != nil && out[c.key] != c.want) {
				t.Errorf("%d %v; want %d with %s = %v", status, out, c.status, c.key, c.want)
			}
		})
	}
	s.settled("a", sluice.Paid) // the doors hear of payments and cancellations too
	s.settled("b", sluice.Cancelled)
}

func TestOperations_AskForTheTokenExceptForHealth(t *testing.T) {
	s := newShop(t, nil)
	for path, want := range map[string]int{"/v1/audit": 401, "/metrics": 401, "/livez": 200, "/readyz": 200} {
		for _, token := range []string{"", "a wrong token for tests"} {
			if status, out := s.call("GET", path, "", token); status != want {
				t.Errorf("GET %s with token %q = %d %v, want %d", path, token, status, out, want)
			}
		}
	}
}

// The client speaks the same contract.
func TestClient(t *testing.T) {
	s := newShop(t, nil)
	c := api.NewClient(s.url, testToken)
	defer c.Close()
	if _, err := c.CreateSale(t.Context(), api.NewSale{ID: "demo", Stock: 5}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Sale(t.Context(), "nope"); sluice.RefusalOf(err) != sluice.NoSuchSale {
		t.Errorf("an unknown sale = %v", err)
	}
	if sale, err := c.TopUp(t.Context(), "demo", 2); err != nil || sale.Free != 7 {
		t.Errorf("TopUp = %+v, %v", sale, err)
	}
	facts, err := c.Facts(t.Context(), api.Door{Door: "north", Bound: 300})
	if err != nil || len(facts.Sales) != 1 || facts.Now.IsZero() || facts.Pace != (sluice.Pace{Batch: 256, Bounds: 300}) || facts.Limits != nil {
		t.Errorf("Facts = %+v, %v", facts, err)
	}
	if sale, err := c.EndSale(t.Context(), "demo"); err != nil || sale.EndsAt.IsZero() {
		t.Errorf("EndSale = %+v, %v", sale, err)
	}
	if a, err := c.Audit(t.Context()); err != nil || !a.Balanced {
		t.Errorf("Audit = %+v, %v", a, err)
	}
	if _, err := c.Statuses(t.Context(), make([]sluice.OrderID, api.MaxStatuses+1)); sluice.RefusalOf(err) != sluice.BadRequest {
		t.Errorf("too many orders = %v", err)
	}
}
