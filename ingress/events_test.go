package ingress

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valyala/fasthttp"

	"sluice"
)

// listener is a browser's side of an event stream.
type listener struct {
	t      testing.TB
	res    *http.Response
	lines  *bufio.Reader
	cancel context.CancelFunc
}

func (s *stand) listen(address, order string) *listener {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/v1/orders/"+order+"/events", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	transport := &http.Transport{}
	res, err := transport.RoundTrip(req)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		cancel()
		_ = res.Body.Close()
		transport.CloseIdleConnections()
	})
	return &listener{s.t, res, bufio.NewReader(res.Body), cancel}
}

// event is one event's fields, or a comment.
type event struct {
	name, id, retry string
	comment         bool
	data            map[string]any
}

// next reads one event; false at the stream's end.
func (l *listener) next() (e event, more bool) {
	l.t.Helper()
	for {
		line, err := l.lines.ReadString('\n')
		if err == io.EOF {
			return e, false
		}
		if err != nil {
			l.t.Fatalf("the stream breaks off: %v", err)
		}
		field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "\n":
			return e, true
		case field == "":
			e.comment = true
		case field == "event":
			e.name = value
		case field == "id":
			e.id = value
		case field == "retry":
			e.retry = value
		case field == "data":
			if err := json.Unmarshal([]byte(value), &e.data); err != nil {
				l.t.Fatalf("data %s: %v", value, err)
			}
		}
	}
}

// status reads the next status, past comments.
func (l *listener) status() event {
	l.t.Helper()
	for {
		e, more := l.next()
		if !more {
			l.t.Fatal("the stream ends without another status")
		}
		if e.name != "" {
			return e
		}
	}
}

func (l *listener) end() {
	l.t.Helper()
	for {
		e, more := l.next()
		if !more {
			return
		}
		if e.name != "" {
			l.t.Fatalf("one more status: %+v", e)
		}
	}
}

func TestEvents_TellTheStatusNowAndEachChangeUntilItIsFinal(t *testing.T) {
	s := newStand(t, testConfig(), nil, sale("demo", func(s *sluice.Sale) { s.CheckoutURL = "https://shop.example/pay/{order}" }))
	address := s.serve(readTimeout)
	a := s.buy("u1")
	l := s.listen(address, a.Order)
	for name, want := range map[string]string{
		"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no", "Connection": "",
	} {
		if got := l.res.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if e, _ := l.next(); e.retry != "2000" {
		t.Errorf("first %+v; want retry: 2000", e)
	}
	e := l.status()
	if e.name != "status" || e.id != "1" || e.data["status"] != "queued" || e.data["position"] != 1.0 || e.data["href"] != "/v1/orders/"+a.Order {
		t.Errorf("at once: %+v", e)
	}
	held := s.outcome(a.Order, sluice.Held, 2)
	held.PayBy = time.Now().Add(time.Minute)
	s.hear(held)
	if e = l.status(); e.id != "2" || e.data["status"] != "held" || e.data["checkout_url"] != "https://shop.example/pay/"+a.Order {
		t.Errorf("then: %+v", e)
	}
	s.hear(s.outcome(a.Order, sluice.Paid, 3))
	if e = l.status(); e.id != "3" || e.data["status"] != "paid" {
		t.Errorf("at last: %+v", e)
	}
	l.end()
	s.eventually("nobody waits", func() bool { return s.waiting.count.Load() == 0 })
	l = s.listen(address, a.Order) // a browser comes back after each end: it hears the final status, and is let go again
	if e = l.status(); e.id != "3" {
		t.Errorf("after the end: %+v", e)
	}
	l.end()
}

func TestEvents_TellAPlaceInTheLineThatMovesWithTheSameVersion(t *testing.T) {
	s := newStand(t, testConfig(), nil, sale("demo", nil))
	s.streams.positions = 10 * time.Millisecond
	address := s.serve(readTimeout)
	first, second := s.buy("u1"), s.buy("u2")
	l := s.listen(address, second.Order)
	if e := l.status(); e.data["position"] != 2.0 {
		t.Errorf("at once: %+v", e)
	}
	s.hear(s.outcome(first.Order, sluice.Paid, 2))
	if e := l.status(); e.id != "1" || e.data["position"] != 1.0 {
		t.Errorf("one place further: %+v", e)
	}
}

// stream is an order's events without a server, so that its time can be simulated; mine is the browser's end of the connection.
func (s *stand) stream(order string) (events *stream, mine net.Conn) {
	s.t.Helper()
	id, err := sluice.ParseOrderID(order)
	if err != nil {
		s.t.Fatal(err)
	}
	first, err := s.see(id, &anybody)
	if err != nil || !s.waiting.sit() {
		s.t.Fatalf("no stream begins: %v", err)
	}
	mine, theirs := net.Pipe()
	events = newStream(s.Door, theirs, &anybody, first)
	s.t.Cleanup(func() {
		_, _, _ = events.Close(), mine.Close(), theirs.Close()
	})
	return events, mine
}

func TestEvents_EndAfterAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t, testConfig(), nil, sale("demo", nil))
		s.streams.longest = 200 * time.Millisecond
		began := time.Now()
		events, _ := s.stream(s.buy("u1").Order)
		l := &listener{t: t, lines: bufio.NewReader(events)}
		l.status()
		if e, more := l.next(); !more || !e.comment {
			t.Errorf("in the silence: %+v; want a comment", e)
		}
		l.end()
		if took := time.Since(began); took != s.streams.longest {
			t.Errorf("it ends after %v, want %v", took, s.streams.longest)
		}
	})
}

// P9: nothing but the heartbeat tells that a client has left whose order does not change.
func TestEvents_WhoHasLeftIsNoticedAtTheNextHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t, testConfig(), nil, sale("demo", nil))
		began := time.Now()
		events, mine := s.stream(s.buy("u1").Order)
		if _, err := events.Read(make([]byte, 1<<10)); err != nil { // the status
			t.Fatal(err)
		}
		time.Sleep(s.streams.heartbeat / 2)
		if err := mine.Close(); err != nil {
			t.Fatal(err)
		}
		n, err := events.Read(make([]byte, 1<<10))
		if took := time.Since(began); err == nil || took != s.streams.heartbeat {
			t.Errorf("%d bytes, %v after %v; want an error after %v", n, err, took, s.streams.heartbeat)
		}
	})
}

func TestEvents_EndWithTheDoor(t *testing.T) {
	s := newStand(t, testConfig(), nil, sale("demo", nil))
	s.streams.heartbeat = time.Hour
	l := s.listen(s.serve(readTimeout), s.buy("u1").Order)
	l.status()
	s.Close()
	l.end()
	s.eventually("nobody waits", func() bool { return s.waiting.count.Load() == 0 })
}

func TestEvents_AreRefusedBeforeTheyBegin(t *testing.T) {
	cfg := testConfig()
	cfg.MaxWaiting = 1
	s := newStand(t, cfg, nil, sale("demo", nil))
	address := s.serve(readTimeout)
	a := s.buy("u1")
	s.listen(address, a.Order).status()
	for _, c := range []struct {
		what, raw string
		status    int
		reason    sluice.Refusal
		retry     bool
	}{
		{"an invented order", "GET /v1/orders/5a46f2c0-0fce-814f-920e-caf5b0d6fdba/events HTTP/1.1\r\nHost: shop\r\n\r\n", 404, sluice.NoSuchOrder, false},
		{"a full waiting room", "GET /v1/orders/" + a.Order + "/events HTTP/1.1\r\nHost: shop\r\n\r\n", 503, sluice.Unavailable, true},
		{"HTTP/1.0", "GET /v1/orders/" + a.Order + "/events HTTP/1.0\r\nHost: shop\r\n\r\n", 400, sluice.BadRequest, false},
		{"the wrong method", "POST /v1/orders/" + a.Order + "/events HTTP/1.1\r\nHost: shop\r\nContent-Length: 0\r\n\r\n", 405, sluice.MethodNotAllowed, false},
	} {
		res, problem := speak(t, address, c.raw)
		if res.StatusCode != c.status || problem["reason"] != string(c.reason) || (res.Header.Get("Retry-After") != "") != c.retry {
			t.Errorf("%s: %d %v, Retry-After %q", c.what, res.StatusCode, problem, res.Header.Get("Retry-After"))
		}
	}
}

func TestEvents_DoNotBeginForAnOrderThatNobodyCouldBeAskedAbout(t *testing.T) {
	s := newStand(t, testConfig(), nil, sale("demo", nil))
	s.truth.down = true
	id := s.Keys.ID([]byte("demo"), []byte("elsewhere"), nil, 0)
	res, problem := speak(t, s.serve(readTimeout), "GET /v1/orders/"+id.String()+"/events HTTP/1.1\r\nHost: shop\r\n\r\n")
	if res.StatusCode != 503 || problem["reason"] != "unavailable" || s.waiting.count.Load() != 0 {
		t.Errorf("%d %v; %d wait", res.StatusCode, problem, s.waiting.count.Load())
	}
}

// written notes whether its client, once it has left, is told more than the one thing that may have been on its way by then.
type written struct {
	net.Conn
	left      *atomic.Bool  // all clients have
	told      int           // how often since then; owned by who serves it
	unnoticed *atomic.Int64 // clients that were told more
}

// NetConn is how the door finds its own connection below this one.
func (c *written) NetConn() net.Conn { return c.Conn }

func (c *written) Write(b []byte) (int, error) {
	if c.left.Load() {
		if c.told++; c.told == 2 {
			c.unnoticed.Add(1)
		}
	}
	return c.Conn.Write(b)
}

// P9: clients that leave without a word are noticed at the next heartbeat, although nothing else happens to their orders,
// and what they held is given back.
func TestEvents_AThousandStreamsThatAreCutLeaveNothingBehind(t *testing.T) {
	const clients = 1000
	cfg := testConfig()
	cfg.MaxWaiting = clients
	s := newStand(t, cfg, nil, sale("demo", nil))
	s.streams.heartbeat = 2 * time.Second
	var left atomic.Bool
	var unnoticed atomic.Int64
	address := s.serveOn(seen{s.Connections.Listen(loopback(t), false), func(c net.Conn) net.Conn {
		return &written{Conn: c, left: &left, unnoticed: &unnoticed}
	}}, func(*fasthttp.Server) {})
	a := s.buy("u1")
	held := s.outcome(a.Order, sluice.Held, 2)
	held.PayBy = time.Now().Add(time.Hour)
	s.hear(held)
	conns := make([]net.Conn, clients)
	var wg sync.WaitGroup
	for i := range conns {
		wg.Go(func() {
			c, err := net.Dial("tcp", address) //nolint:noctx // loopback
			if err != nil {
				t.Error(err)
				return
			}
			conns[i] = c
			fmt.Fprintf(c, "GET /v1/orders/%s/events HTTP/1.1\r\nHost: shop\r\n\r\n", a.Order)
			if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.Contains(line, "200") {
				t.Errorf("%q, %v", line, err)
			}
		})
		if i%100 == 99 { // a listener's backlog is finite
			wg.Wait()
		}
	}
	wg.Wait()
	if n := s.waiting.count.Load(); n != clients {
		t.Fatalf("%d listen, want %d", n, clients)
	}
	for _, c := range conns {
		_ = c.Close()
	}
	left.Store(true)
	s.eventually("all places are free", func() bool { return s.waiting.count.Load() == 0 })
	if n := unnoticed.Load(); n > 0 {
		t.Errorf("%d clients were not noticed at the first heartbeat after they had left", n)
	}
	s.waiting.mu.Lock()
	defer s.waiting.mu.Unlock()
	if len(s.waiting.bells) != 0 {
		t.Errorf("%d bells are left", len(s.waiting.bells))
	}
}

// A client that takes nothing must not keep its place for longer than a write may take.
func TestEvents_AClientThatTakesNothingIsCut(t *testing.T) {
	s := newStand(t, testConfig(), nil, sale("demo", nil))
	s.streams.heartbeat, s.streams.write = time.Millisecond, 50*time.Millisecond
	mine, theirs := net.Pipe() // has no buffer: a write waits for its reader
	defer func() { _ = mine.Close() }()
	server := s.Server()
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.ServeConn(theirs) }) // its error is the time-out
	a := s.buy("u1")
	fmt.Fprintf(mine, "GET /v1/orders/%s/events HTTP/1.1\r\nHost: shop\r\n\r\n", a.Order)
	for r := bufio.NewReaderSize(mine, 1<<16); ; { // up to the first status, and no further
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(line, "data:") {
			break
		}
	}
	s.eventually("it is let go", func() bool { return s.waiting.count.Load() == 0 })
	_ = theirs.Close()
	wg.Wait()
}
