package ingress

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"sluice"
	"sluice/internal/race"
)

const (
	attackers      = 5000
	attackersOfOne = 200             // the limit of one address
	attackRead     = 3 * time.Second // the server's time-out here
	bearableWait   = time.Second     // of a buyer, at any time
)

// P7, P9: thousands of connections that send their headers byte by byte are cut off in time and cost a bounded amount of
// memory, and meanwhile a buyer, with a new connection for each order, is answered as ever.
func TestAttack_SlowHeadersDoNotStopABuyer(t *testing.T) {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil || files.Cur < 2*attackers+500 { // Go has raised it as far as it may
		t.Skipf("both ends of %d connections need %d open files; the limit is %d (%v)", attackers, 2*attackers+500, files.Cur, err)
	}
	for _, c := range []struct {
		what   string
		source func(n int) string
		let    int // so many are let in
	}{
		{"from one address", func(int) string { return "127.0.0.2" }, attackersOfOne},
		{"from many addresses", func(n int) string { return fmt.Sprintf("127.1.%d.%d", n/250, n%250+1) }, attackers},
	} {
		t.Run(c.what, func(t *testing.T) {
			var late string
			for range 5 { // others may keep this machine busy for a while; a defect is there each time
				if late = underAttack(t, c.source, c.let); late == "" || t.Failed() {
					return
				}
				t.Log(late)
			}
			t.Error(late)
		})
	}
}

// underAttack has 5,000 connections, of which so many are let in, send their headers byte by byte, while a buyer orders. It says
// what took too long or too much, or came too late.
func underAttack(t *testing.T, source func(n int) string, let int) (late string) {
	t.Helper()
	timeout := attackRead
	if race.Enabled {
		timeout *= 3
	}
	cfg := testConfig()
	cfg.Bound, cfg.MaxConnections, cfg.AddressConnections = 1<<40, attackers+100, attackersOfOne
	s := newStand(t, cfg, nil, sale("demo", func(s *sluice.Sale) { s.Stock, s.Free = 1<<40, 1<<40 }))
	s.run()
	address := s.serveOn(s.Connections.Listen(loopback(t), false), func(server *fasthttp.Server) { server.ReadTimeout = timeout })
	before := memory()

	buyer := s.keepBuying(address)
	began := time.Now()
	crowd := attack(t, address, source)
	accepted := func() bool {
		_, refused := s.Connections.Refused()
		return s.Connections.Open() >= let && int(refused) >= attackers-let
	}
	for !accepted() && time.Since(began) < timeout {
		time.Sleep(time.Millisecond) // some still wait to be
	}
	dialled, allIn := time.Now(), accepted()
	open, most := s.Connections.Open(), memory()
	for len(crowd) > 0 && time.Since(dialled) < 5*timeout {
		crowd = slices.DeleteFunc(crowd, func(c net.Conn) bool {
			_, err := c.Write([]byte("x"))
			return err != nil // cut off
		})
		time.Sleep(100 * time.Millisecond)
	}
	took := time.Since(dialled)
	orders, worst, failed := buyer()

	each := (int64(most) - int64(before)) / int64(let)
	_, refused := s.Connections.Refused()
	if allIn && int(refused) != attackers-let {
		t.Errorf("%d connections were refused, want %d", refused, attackers-let)
	}
	if each > 64<<10 {
		t.Errorf("a connection costs %d bytes", each)
	}
	t.Logf("%d open, the last cut off after %v; %d orders, the slowest %v; %d KiB of memory, then %d: %d bytes a connection",
		open, took.Round(time.Millisecond), orders, worst.Round(time.Millisecond), before>>10, most>>10, each)
	switch {
	case failed != "":
		return failed
	case open < let || !allIn:
		return fmt.Sprintf("%d connections were open at once and %d refused, want %d and %d", open, refused, let, attackers-let)
	case len(crowd) > 0 || took > timeout+time.Second:
		return fmt.Sprintf("%d connections were still open after %v, want none after %v", len(crowd), took, timeout)
	case orders < 20 || worst > bearableWait:
		return fmt.Sprintf("the buyer had %d answers, the slowest after %v; want at most %v", orders, worst, bearableWait)
	}
	return ""
}

// memory is what the heap and the stacks take, both ends of all connections.
func memory() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// attack opens all connections, as fast as it can, and begins a request on each.
func attack(t *testing.T, address string, source func(n int) string) []net.Conn {
	t.Helper()
	crowd := make([]net.Conn, attackers)
	var wg sync.WaitGroup
	for worker := range 16 {
		wg.Go(func() {
			for n := worker; n < attackers; n += 16 {
				dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source(n))}, Timeout: 10 * time.Second}
				conn, err := dialer.DialContext(t.Context(), "tcp", address)
				if err != nil {
					t.Error(err)
					return
				}
				crowd[n] = conn
				_, _ = io.WriteString(conn, getting+"X: ") // fails where it is refused already
			}
		})
	}
	wg.Wait()
	t.Cleanup(func() {
		for _, conn := range crowd {
			if conn != nil {
				_ = conn.Close()
			}
		}
	})
	if t.Failed() {
		t.FailNow()
	}
	return slices.Clone(crowd) // the cleanup has its own
}

// keepBuying orders again and again until it is told to stop; then it says how often, what the longest wait was, and which order failed
// first.
func (s *stand) keepBuying(address string) (stop func() (orders int, worst time.Duration, failed string)) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	var orders int
	var worst time.Duration
	var failed string
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(10 * time.Millisecond):
			}
			began := time.Now()
			status, err := buyOnce(address, orders)
			if err == nil && status != 202 {
				s.t.Errorf("order %d during the attack: %d", orders, status)
			}
			if err != nil && failed == "" {
				failed = fmt.Sprintf("order %d during the attack: %v", orders, err)
			}
			orders++
			worst = max(worst, time.Since(began))
		}
	})
	end := sync.OnceFunc(func() {
		close(done)
		wg.Wait()
	})
	s.t.Cleanup(end)
	return func() (int, time.Duration, string) {
		end()
		return orders, worst, failed
	}
}

// buyOnce places an order over a connection of its own.
func buyOnce(address string, n int) (status int, err error) {
	c, err := net.DialTimeout("tcp", address, 5*time.Second) //nolint:noctx // it has a limit
	if err != nil {
		return 0, err
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return 0, err
	}
	if _, err := io.WriteString(c, post("demo", typeJSON, fmt.Sprintf(`{"user":"buyer-%d"}`, n))); err != nil {
		return 0, err
	}
	var proto string
	_, err = fmt.Fscan(c, &proto, &status)
	return status, err
}
