package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.uber.org/goleak"

	"sluice"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a store in memory, by the contracts of inventory.Outbox and inventory.Deliveries.
type memory struct {
	mu         sync.Mutex
	events     []sluice.Event
	position   map[string]int64
	owner      map[string]string
	leaseEnd   map[string]time.Time
	deliveries map[int64]sluice.Delivery
	hooks      map[string]*sluice.Webhook
	writes     int // rows written or forgotten
	unfinished bool
}

func newMemory() *memory {
	return &memory{
		position: map[string]int64{}, owner: map[string]string{}, leaseEnd: map[string]time.Time{},
		deliveries: map[int64]sluice.Delivery{}, hooks: map[string]*sluice.Webhook{},
	}
}

func orderID(n int) (id sluice.OrderID) {
	id[0], id[1], id[6], id[8] = byte(n>>8), byte(n), 0x80, 0x80
	id[15] = 1
	return id
}

// emit writes an event of order n, or of a sale where n is negative.
func (m *memory) emit(n int, typ sluice.EventType) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := sluice.Event{Seq: int64(len(m.events) + 1), Type: typ, At: time.Now(), Sale: "demo", Version: 2}
	if n >= 0 {
		e.Order, e.User = orderID(n), "alice"
	}
	m.events = append(m.events, e)
	return e.Seq
}

func (m *memory) Events(_ context.Context, after int64, limit int) (sluice.Events, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	from := min(int(after), len(m.events))
	return sluice.Events{Events: slices.Clone(m.events[from:min(from+limit, len(m.events))]), Oldest: 1, Newest: int64(len(m.events))}, nil
}

func (m *memory) Claim(_ context.Context, reader, owner string, ttl time.Duration) (int64, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.unfinished {
		return 0, false, errors.ErrUnsupported
	}
	if m.owner[reader] != owner && time.Now().Before(m.leaseEnd[reader]) {
		return 0, false, nil
	}
	m.owner[reader], m.leaseEnd[reader] = owner, time.Now().Add(ttl)
	return m.position[reader], true, nil
}

func (m *memory) Advance(_ context.Context, reader, owner string, position int64) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.owner[reader] != owner || !time.Now().Before(m.leaseEnd[reader]) {
		return false, nil
	}
	m.position[reader] = position
	return true, nil
}

func (m *memory) AddWebhook(_ context.Context, name, address string) (string, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.hooks[name] == nil {
		m.hooks[name] = &sluice.Webhook{Name: name}
	}
	m.hooks[name].Address = address
	return "c0ffee", m.hooks[name].Disabled, nil
}

func (m *memory) NoteWebhook(_ context.Context, name string, h sluice.WebhookHealth, disable bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hooks[name].WebhookHealth = h
	m.hooks[name].Disabled = m.hooks[name].Disabled || disable
	return nil
}

func (m *memory) SaveDeliveries(_ context.Context, _ string, put []sluice.Delivery, done []int64, _ int) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writes += len(put) + len(done)
	for _, d := range put {
		if d.Body == nil {
			d.Body = m.deliveries[d.Seq].Body
		}
		m.deliveries[d.Seq] = d
	}
	for _, seq := range done {
		delete(m.deliveries, seq)
	}
	return 0, nil
}

func (m *memory) ListDeliveries(_ context.Context, _ string, state sluice.DeliveryState, after int64, limit int) ([]sluice.Delivery, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var page []sluice.Delivery
	for seq, d := range m.deliveries {
		if d.State == state && seq > after {
			page = append(page, d)
		}
	}
	slices.SortFunc(page, func(a, b sluice.Delivery) int { return int(a.Seq - b.Seq) })
	return page[:min(limit, len(page))], nil
}

func (m *memory) Delivery(_ context.Context, _ string, seq int64) (sluice.Delivery, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, ok := m.deliveries[seq]
	if !ok {
		return d, sluice.Refuse(sluice.NotFound, "no delivery %d", seq)
	}
	return d, nil
}

func (m *memory) replay(seq int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.deliveries[seq]
	d.State, d.Attempts, d.FirstAt, d.NextAt = sluice.DeliveryAgain, 0, time.Time{}, time.Time{}
	m.deliveries[seq] = d
}

func (m *memory) rows(state sluice.DeliveryState) []sluice.Delivery {
	page, _ := m.ListDeliveries(context.Background(), "", state, 0, 1<<30)
	return page
}

func (m *memory) read(name string) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.position["webhook:"+name]
}

func (m *memory) hook(name string) sluice.Webhook {
	m.mu.Lock()
	defer m.mu.Unlock()
	return *m.hooks[name]
}

// cable is a process's way to the store, which can be cut.
type cable struct {
	*memory
	mu  sync.Mutex
	cut bool
}

var errCut = errors.New("connection refused")

func (c *cable) set(cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = cut
}

func (c *cable) err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut {
		return errCut
	}
	return nil
}

func (c *cable) Events(ctx context.Context, after int64, limit int) (sluice.Events, error) {
	if err := c.err(); err != nil {
		return sluice.Events{}, err
	}
	return c.memory.Events(ctx, after, limit)
}

func (c *cable) Claim(ctx context.Context, reader, owner string, ttl time.Duration) (int64, bool, error) {
	if err := c.err(); err != nil {
		return 0, false, err
	}
	return c.memory.Claim(ctx, reader, owner, ttl)
}

func (c *cable) Advance(ctx context.Context, reader, owner string, position int64) (bool, error) {
	if err := c.err(); err != nil {
		return false, err
	}
	return c.memory.Advance(ctx, reader, owner, position)
}

func (c *cable) SaveDeliveries(ctx context.Context, e string, put []sluice.Delivery, done []int64, keep int) (int, error) {
	if err := c.err(); err != nil {
		return 0, err
	}
	return c.memory.SaveDeliveries(ctx, e, put, done, keep)
}

func (c *cable) Delivery(ctx context.Context, e string, seq int64) (sluice.Delivery, error) {
	if err := c.err(); err != nil {
		return sluice.Delivery{}, err
	}
	return c.memory.Delivery(ctx, e, seq)
}

func (c *cable) NoteWebhook(ctx context.Context, name string, h sluice.WebhookHealth, disable bool) error {
	if err := c.err(); err != nil {
		return err
	}
	return c.memory.NoteWebhook(ctx, name, h, disable)
}

// receiver is a shop's service. It takes what answer lets it take, and keeps what it took.
type receiver struct {
	mu       sync.Mutex
	answer   func(e sluice.Event, try int) int // status; 0: the connection breaks
	delay    func() time.Duration
	tries    map[int64]int
	taken    []sluice.Event // the first time that it took each, in order
	known    map[string]bool
	requests int
	at       map[int64][]time.Time // of every request
	now, top int                   // requests at once
	header   http.Header           // of every answer
}

func newReceiver() *receiver {
	return &receiver{tries: map[int64]int{}, known: map[string]bool{}, at: map[int64][]time.Time{}, header: http.Header{}}
}

// RoundTrip is the receiver without a network, for tests whose time is not real.
func (r *receiver) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	var in struct {
		Type string       `json:"type"`
		Data sluice.Event `json:"data"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, err
	}
	e := in.Data
	r.mu.Lock()
	r.requests++
	r.tries[e.Seq]++
	try := r.tries[e.Seq]
	r.at[e.Seq] = append(r.at[e.Seq], time.Now())
	r.now++
	r.top = max(r.top, r.now)
	delay := time.Duration(0)
	if r.delay != nil {
		delay = r.delay()
	}
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.now--
		r.mu.Unlock()
	}()
	pause(req.Context(), delay)
	r.mu.Lock()
	defer r.mu.Unlock()
	status := 200
	if r.answer != nil {
		status = r.answer(e, try)
	}
	if status == 0 {
		return nil, errors.New("connection reset by peer")
	}
	if id := req.Header.Get("webhook-id"); status == 200 && !r.known[id] {
		r.known[id] = true
		r.taken = append(r.taken, e)
	}
	if req.Context().Err() != nil { // taken, but the answer is lost
		return nil, req.Context().Err()
	}
	return &http.Response{StatusCode: status, Header: r.header.Clone(), Body: io.NopCloser(strings.NewReader(""))}, nil
}

func (r *receiver) set(answer func(e sluice.Event, try int) int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

func (r *receiver) seqs() (seqs []int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.taken {
		seqs = append(seqs, e.Seq)
	}
	return seqs
}

func (r *receiver) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.requests
}

// inOrder checks that what came of each order came in its order.
func (r *receiver) inOrder(t *testing.T) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	last := map[string]int64{}
	for _, e := range r.taken {
		key := keyOf(&e)
		if last[key] > e.Seq {
			t.Errorf("of %s event %d came after %d", key, e.Seq, last[key])
		}
		last[key] = e.Seq
	}
}

const testSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

func testEndpoint(t *testing.T, change ...func(*Endpoint)) Endpoint {
	t.Helper()
	signer, err := parseSecret(testSecret)
	must(t, err)
	u, err := url.Parse("https://shop.example/hooks/s3cret?key=s3cret")
	must(t, err)
	e := Endpoint{Name: "points", MaxInFlight: 16, MaxAge: defaultMaxAge, url: u, signers: []*standardwebhooks.Webhook{signer}}
	for _, c := range change {
		c(&e)
	}
	return e
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// process is one worker's dispatcher of one endpoint.
type process struct {
	r     *runner
	store *cable
	log   *strings.Builder
	stop  func() // in order
	kill  func() // at once: nothing is written any more
}

func launch(t *testing.T, m *memory, e Endpoint, to http.RoundTripper) *process {
	t.Helper()
	p := &process{store: &cable{memory: m}, log: &strings.Builder{}}
	log := slog.New(slog.NewTextHandler(p.log, nil))
	p.r = newRunner(p.store, e, newSenderOver(e, to), newMetrics(prometheus.NewRegistry()), log)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { p.r.run(ctx) })
	p.stop = func() { cancel(); wg.Wait() }
	p.kill = func() { p.store.set(true); p.stop() }
	return p
}

func numbers(from, to int) (seqs []int64) {
	for n := from; n <= to; n++ {
		seqs = append(seqs, int64(n))
	}
	return seqs
}

func sorted(seqs []int64) []int64 {
	seqs = slices.Clone(seqs)
	slices.Sort(seqs)
	return seqs
}

func wantSeqs(t *testing.T, got, want []int64) {
	t.Helper()
	if !slices.Equal(sorted(got), want) {
		t.Errorf("got %v, want %v", brief(got), brief(want))
	}
}

func brief(seqs []int64) string {
	return fmt.Sprintf("%d events %v", len(seqs), seqs[:min(len(seqs), 40)])
}
