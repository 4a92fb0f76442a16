package worker

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"sluice"
	"sluice/queue"
)

// This test binary runs an nsqd instead of tests where this is set: its TCP address, HTTP address and folder.
const childNSQD = "WORKER_TEST_NSQD"

func init() {
	args := strings.Split(os.Getenv(childNSQD), " ")
	if len(args) != 3 {
		return
	}
	if _, err := queue.StartServer(queue.ServerConfig{Listen: args[0], HTTP: args[1], DataDir: args[2]}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	_, _ = os.Stdout.WriteString("ready\n")
	_, _ = bufio.NewReader(os.Stdin).ReadByte() // until it is killed, or its parent has gone
	os.Exit(0)
}

// nsqdProcess is an nsqd that can be killed and started again at the same addresses.
type nsqdProcess struct {
	t                *testing.T
	addr, http, data string
	cmd              *exec.Cmd
}

func startNSQD(t *testing.T) *nsqdProcess {
	t.Helper()
	p := &nsqdProcess{t: t, data: t.TempDir()}
	p.addr, p.http = freeAddrs(t)
	t.Cleanup(p.kill)
	p.start()
	return p
}

func (p *nsqdProcess) start() {
	p.t.Helper()
	p.cmd = exec.CommandContext(p.t.Context(), os.Args[0])
	p.cmd.Env = append(os.Environ(), childNSQD+"="+p.addr+" "+p.http+" "+p.data)
	p.cmd.Stderr = os.Stderr
	stdout, err := p.cmd.StdoutPipe()
	must(p.t, err)
	_, err = p.cmd.StdinPipe()
	must(p.t, err)
	must(p.t, p.cmd.Start())
	if line, err := bufio.NewReader(stdout).ReadString('\n'); strings.TrimSpace(line) != "ready" {
		p.t.Fatalf("the nsqd said %q, %v", line, err)
	}
}

func (p *nsqdProcess) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// forget kills it and takes its data away.
func (p *nsqdProcess) forget() {
	p.kill()
	p.data = p.t.TempDir()
}

// freeAddrs are two addresses where nobody listens, and where nobody begins to: on Linux they are on a host of this process alone.
func freeAddrs(t *testing.T) (one, other string) {
	t.Helper()
	host := "127.0.0.1"
	if pid := os.Getpid(); runtime.GOOS == "linux" { // where all of 127.0.0.0/8 is this machine, and a pid has 22 bits
		host = net.IPv4(127, byte(64+pid>>16), byte(pid>>8), byte(pid)).String()
	}
	var addrs [2]string
	for i := range addrs {
		var lc net.ListenConfig
		l, err := lc.Listen(t.Context(), "tcp", net.JoinHostPort(host, "0"))
		must(t, err)
		defer func() { must(t, l.Close()) }() // not before the other one is chosen: it could be the same
		addrs[i] = l.Addr().String()
	}
	return addrs[0], addrs[1]
}

// leak stands before nsqd. Told to, it loses what a client sends next, and the connection with it.
type leak struct {
	addr string
	lose atomic.Bool
	lost atomic.Int64
}

func startLeak(t *testing.T, nsqd string) *leak {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	p := &leak{addr: l.Addr().String()}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.pass(client, nsqd) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	return p
}

func (p *leak) pass(client net.Conn, nsqd string) {
	defer func() { _ = client.Close() }()
	var dialer net.Dialer
	server, err := dialer.DialContext(context.Background(), "tcp", nsqd)
	if err != nil {
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = io.Copy(client, server)
		_ = client.Close()
	})
	buf := make([]byte, 256<<10)
	for {
		n, err := client.Read(buf)
		if err != nil {
			break
		}
		if n > len("NOP\n") && p.lose.Swap(false) {
			p.lost.Add(1)
			break
		}
		_, _ = server.Write(buf[:n])
	}
	_ = server.Close()
	wg.Wait()
}

// shelf is an outbox in memory that keeps the contract of inventory.Outbox, and can be troubled.
type shelf struct {
	mu        sync.Mutex
	events    []sluice.Event
	forgotten int64
	readers   map[string]*reader
	ahead     time.Duration // of the store's clock: lets leases end
	down      bool
	reads     int
	pruned    []time.Duration
}

type reader struct {
	owner    string
	until    time.Time
	position int64
}

var errDown = errors.New("connection refused")

func (s *shelf) enter(ctx context.Context) (leave func(), err error) {
	s.mu.Lock()
	if s.down {
		err = errDown
	}
	return s.mu.Unlock, errors.Join(err, ctx.Err())
}

// add writes n events of an order each.
func (s *shelf) add(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range n {
		seq := s.newest() + 1
		s.events = append(s.events, sluice.Event{
			Seq: seq, Type: sluice.EventHeld, At: time.Now(), Sale: "demo", Version: 2, User: "u", Units: 1,
			Order: sluice.OrderID{byte(seq >> 16), byte(seq >> 8), byte(seq), 1},
		})
	}
}

func (s *shelf) newest() int64 { return s.forgotten + int64(len(s.events)) }

func (s *shelf) set(change func(*shelf)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

func (s *shelf) Events(ctx context.Context, after int64, limit int) (sluice.Events, error) {
	leave, err := s.enter(ctx)
	defer leave()
	if err != nil {
		return sluice.Events{}, err
	}
	s.reads++
	page := sluice.Events{Newest: s.newest()}
	if len(s.events) > 0 {
		page.Oldest = s.forgotten + 1
	}
	from := min(max(after-s.forgotten, 0), int64(len(s.events)))
	page.Events = slices.Clone(s.events[from:min(from+int64(limit), int64(len(s.events)))])
	return page, nil
}

func (s *shelf) Claim(ctx context.Context, name, owner string, ttl time.Duration) (int64, bool, error) {
	leave, err := s.enter(ctx)
	defer leave()
	if err != nil {
		return 0, false, err
	}
	now := time.Now().Add(s.ahead)
	if s.readers == nil {
		s.readers = map[string]*reader{}
	}
	r := s.readers[name]
	if r == nil {
		r = &reader{position: s.forgotten}
		s.readers[name] = r
	}
	if r.owner != owner && r.until.After(now) {
		return 0, false, nil
	}
	r.owner, r.until = owner, now.Add(ttl)
	return r.position, true, nil
}

func (s *shelf) Advance(ctx context.Context, name, owner string, position int64) (bool, error) {
	leave, err := s.enter(ctx)
	defer leave()
	if err != nil {
		return false, err
	}
	r := s.readers[name]
	if r == nil || r.owner != owner || !r.until.After(time.Now().Add(s.ahead)) {
		return false, nil
	}
	r.position = min(position, s.newest())
	return true, nil
}

func (s *shelf) Readers(ctx context.Context) (map[string]int64, error) {
	leave, err := s.enter(ctx)
	defer leave()
	if err != nil {
		return nil, err
	}
	positions := map[string]int64{}
	for name, r := range s.readers {
		positions[name] = r.position
	}
	return positions, nil
}

// holders are those who have a lease now.
func (s *shelf) holders() (owners []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.readers {
		if r.until.After(time.Now().Add(s.ahead)) {
			owners = append(owners, r.owner)
		}
	}
	return owners
}

// said is what is logged.
type said struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// relaying is a relay under test, with what it logs and counts.
type relaying struct {
	*relay
	logged   *said
	registry *prometheus.Registry
	stopped  sync.Once
}

func startRelay(t *testing.T, store outbox, cfg Config, with ...func(*relay)) *relaying {
	t.Helper()
	log := &said{}
	registry := prometheus.NewRegistry()
	r := &relaying{relay: newRelay(cfg, store, slog.New(slog.NewJSONHandler(log, nil)), registry), logged: log, registry: registry}
	for _, change := range with {
		change(r.relay)
	}
	r.start(context.Background())
	t.Cleanup(r.end)
	return r
}

func (r *relaying) end() { r.stopped.Do(func() { r.stop(context.Background()) }) }

func (r *relaying) metric(t *testing.T, name string) float64 {
	t.Helper()
	families, err := r.registry.Gather()
	must(t, err)
	for _, f := range families {
		if f.GetName() != "sluice_events_"+name {
			continue
		}
		m := f.GetMetric()[0]
		return m.GetCounter().GetValue() + m.GetGauge().GetValue()
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

func (r *relaying) says(text string) int { return strings.Count(r.logged.String(), text) }

func relayConfig(nsqd *nsqdProcess, channels ...string) Config {
	cfg := DefaultConfig()
	cfg.NSQD, cfg.NSQDHTTP, cfg.EventChannels = nsqd.addr, nsqd.http, channels
	return cfg
}

// subscriber is a service of the shop that listens for events.
type subscriber struct {
	t    *testing.T
	mu   sync.Mutex
	came []int64
	seen map[int64]bool
}

func subscribe(t *testing.T, nsqd *nsqdProcess, channel string) *subscriber {
	t.Helper()
	s := &subscriber{t: t, seen: map[int64]bool{}}
	c, err := queue.NewConsumer(queue.ConsumerConfig{
		Addr: nsqd.addr, Topic: queue.TopicEvents, Channel: channel, Workers: 1, MaxInFlight: 1000, Handle: s.take,
	})
	must(t, err)
	c.Start(context.Background())
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = c.Stop(ctx)
	})
	return s
}

func (s *subscriber) take(_ context.Context, batch []*queue.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range batch {
		e, err := queue.DecodeEvent(m.Body)
		if err != nil {
			s.t.Errorf("an event can't be read: %v", err)
		}
		s.came, s.seen[e.Seq] = append(s.came, e.Seq), true
		m.Finish()
	}
}

// has reports whether every event from 1 to n has come.
func (s *subscriber) has(n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.seen) == n && s.seen[1] && s.seen[int64(n)]
}

func (s *subscriber) order() []int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.came)
}

func soon(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// noLeaks fails the test when a goroutine outlives it. Call it first.
func noLeaks(t *testing.T) {
	t.Helper()
	before := goleak.IgnoreCurrent() // other tests' PostgreSQL, for one
	t.Cleanup(func() {
		goleak.VerifyNone(t, before, goleak.IgnoreTopFunction("os/signal.signal_recv"), goleak.IgnoreTopFunction("os/signal.loop"))
	})
}
