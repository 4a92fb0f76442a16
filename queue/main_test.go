package queue

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sluice"
)

func TestMain(m *testing.M) {
	if addr := os.Getenv(childAddr); addr != "" {
		serveAsChild(addr, os.Getenv(childDir))
	}
	goleak.VerifyTestMain(m)
}

// This test binary runs an nsqd instead of tests where these are set.
const (
	childAddr = "QUEUE_TEST_NSQD_ADDR"
	childDir  = "QUEUE_TEST_NSQD_DIR"
)

// serveAsChild runs until it is killed, or until its parent has gone and with it the other end of stdin.
func serveAsChild(addr, dir string) {
	if _, err := StartServer(ServerConfig{Listen: addr, DataDir: dir, Channels: settle}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	_, _ = os.Stdout.WriteString("ready\n")
	_, _ = bufio.NewReader(os.Stdin).ReadByte()
	os.Exit(0)
}

// noLeaks fails the test when a goroutine outlives everything that the test cleans up. Call it first.
func noLeaks(t *testing.T) {
	t.Helper()
	t.Cleanup(func() { goleak.VerifyNone(t) })
}

const patience = 10 * time.Second // of a test, for what should take milliseconds

// eventually waits for what no channel announces.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("after %v still not: %s", patience, what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// within fails the test where a channel stays silent.
func within[T any](t *testing.T, what string, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatalf("after %v still not: %s", patience, what)
		panic("unreachable")
	}
}

func startServer(t *testing.T, cfg ServerConfig) *Server {
	t.Helper()
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	if cfg.DataDir == "" {
		cfg.DataDir = t.TempDir()
	}
	s, err := StartServer(cfg)
	if err != nil {
		t.Fatalf("StartServer(%+v): %v", cfg, err)
	}
	t.Cleanup(func() { stopServer(t, s) })
	return s
}

func stopServer(t *testing.T, s *Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Errorf("Stop: %v", err)
	}
}

var settle = []Channel{{TopicOrders, ChannelSettle}}

// totals is what the orders topic holds, as Probe sees it.
func totals(t *testing.T, s *Server) int64 {
	t.Helper()
	h, err := Probe(t.Context(), s.HTTPAddr(), nil)
	if err != nil {
		t.Fatalf("Probe: %v", err)
	}
	return h.Total
}

func ref(n int) (id sluice.OrderID) {
	id[0], id[1], id[2] = byte(n>>16), byte(n>>8), byte(n)
	return id
}

// reports gathers what a Publisher reports.
type reports struct {
	mu      sync.Mutex
	results map[sluice.OrderID][]Result
	batches []int
}

func (r *reports) report(refs []sluice.OrderID, result Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.results == nil {
		r.results = map[sluice.OrderID][]Result{}
	}
	for _, ref := range refs {
		r.results[ref] = append(r.results[ref], result)
	}
	r.batches = append(r.batches, len(refs))
}

func (r *reports) count(want Result) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, results := range r.results {
		if slices.Contains(results, want) {
			n++
		}
	}
	return n
}

func startPublisher(t *testing.T, cfg PublisherConfig) *Publisher {
	t.Helper()
	if cfg.Topic == "" {
		cfg.Topic = TopicOrders
	}
	p, err := NewPublisher(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = p.Stop(ctx)
	})
	return p
}

func publish(t *testing.T, p *Publisher, from, to int) {
	t.Helper()
	for n := from; n < to; n++ {
		if !p.Publish(ref(n), []byte(ref(n).String())) {
			t.Fatalf("Publish of message %d = false with %d pending", n, p.Pending())
		}
	}
}

// inbox gathers what a Consumer hands over.
type inbox struct {
	mu      sync.Mutex
	seen    map[string]int
	batches []int
	all     []*Message
}

func (b *inbox) keep(batch []*Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.seen == nil {
		b.seen = map[string]int{}
	}
	for _, m := range batch {
		b.seen[string(m.Body)]++
	}
	b.batches = append(b.batches, len(batch))
	b.all = append(b.all, batch...)
}

func (b *inbox) finish(_ context.Context, batch []*Message) {
	b.keep(batch)
	for _, m := range batch {
		m.Finish()
	}
}

func (b *inbox) distinct() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.seen)
}

func startConsumer(t *testing.T, cfg ConsumerConfig) *Consumer {
	t.Helper()
	if cfg.Topic == "" {
		cfg.Topic, cfg.Channel = TopicOrders, ChannelSettle
	}
	c, err := NewConsumer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.Start(context.Background())
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		_ = c.Stop(ctx)
	})
	return c
}

// proxy stands between a client and nsqd. It can be cut, as by kill -9 of either end, and frozen, as by SIGSTOP:
// connections are then still accepted, and what comes in stays here.
type proxy struct {
	listener net.Listener
	target   string
	wg       sync.WaitGroup

	mu     sync.Mutex
	thawed *sync.Cond
	frozen bool
	closed bool
	conns  map[net.Conn]bool
	asked  []byte // what clients have said, whether or not nsqd has heard it
}

func startProxy(t *testing.T, target string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // closed by the test
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: listener, target: target, conns: map[net.Conn]bool{}}
	p.thawed = sync.NewCond(&p.mu)
	p.wg.Go(p.accept)
	t.Cleanup(p.stop)
	return p
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.target) //nolint:noctx // closed by the test
		if err != nil {
			_ = client.Close()
			continue
		}
		p.mu.Lock()
		if p.closed {
			_, _ = client.Close(), server.Close()
		}
		p.conns[client], p.conns[server] = true, true
		p.mu.Unlock()
		p.wg.Go(func() { p.pipe(client, server, func([]byte) {}) })
		p.wg.Go(func() { p.pipe(server, client, p.note) })
	}
}

// pipe listens on while the proxy is frozen, so that heard tells what a client has put on the wire by then.
func (p *proxy) pipe(to, from net.Conn, note func([]byte)) {
	pieces := make(chan []byte, 1000)
	var end error // set before pieces is closed
	p.wg.Go(func() {
		defer close(pieces)
		buf := make([]byte, 64<<10)
		for end == nil {
			var n int
			if n, end = from.Read(buf); n > 0 {
				note(buf[:n])
				pieces <- bytes.Clone(buf[:n])
			}
		}
	})
	for piece := range pieces {
		if p.passable() {
			_, _ = to.Write(piece)
		}
	}
	p.passable() // a frozen end does not hang up either
	if tcp, ok := to.(*net.TCPConn); ok && errors.Is(end, io.EOF) {
		_ = tcp.CloseWrite()
	} else {
		_ = to.Close()
	}
}

func (p *proxy) note(said []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, said...)
}

// heard reports whether a client has said what.
func (p *proxy) heard(what string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return bytes.Contains(p.asked, []byte(what))
}

// passable waits while the proxy is frozen, and reports whether there is still something to do.
func (p *proxy) passable() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.frozen && !p.closed {
		p.thawed.Wait()
	}
	return !p.closed
}

func (p *proxy) freeze(frozen bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frozen = frozen
	p.thawed.Broadcast()
}

func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.conns {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = conn.Close()
	}
	clear(p.conns)
}

func (p *proxy) stop() {
	_ = p.listener.Close()
	p.mu.Lock()
	p.closed = true
	p.thawed.Broadcast()
	p.mu.Unlock()
	p.cut()
	p.wg.Wait()
}

// freeAddr is an address where nobody listens, and where nobody begins to: on Linux it is on a host of this process alone.
func freeAddr(t *testing.T) string {
	t.Helper()
	host := "127.0.0.1"
	if pid := os.Getpid(); runtime.GOOS == "linux" { // where all of 127.0.0.0/8 is this machine, and a pid has 22 bits
		host = net.IPv4(127, byte(64+pid>>16), byte(pid>>8), byte(pid)).String()
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(host, "0")) //nolint:noctx // closed at once
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}
