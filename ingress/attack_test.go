package ingress

import (
	"fmt"
	"io"
	"math"
	"net"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"sluice"
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
			worst := time.Duration(math.MaxInt64)
			for range 3 { // others may keep this machine busy for a second; a defect keeps the buyer waiting each time
				if worst = underAttack(t, c.source, c.let); worst <= bearableWait || t.Failed() {
					return
				}
			}
			t.Errorf("the buyer's slowest answer took %v, want at most %v", worst, bearableWait)
		})
	}
}

// underAttack says how long the slowest answer to a buyer took while 5,000 connections, of which so many are let in, send their
// headers byte by byte.
func underAttack(t *testing.T, source func(n int) string, let int) (worst time.Duration) {
	t.Helper()
	cfg := testConfig()
	cfg.Bound, cfg.MaxConnections, cfg.AddressConnections = 1<<40, attackers+100, attackersOfOne
	s := newStand(t, cfg, nil, sale("demo", func(s *sluice.Sale) { s.Stock, s.Free = 1<<40, 1<<40 }))
	s.run()
	address := s.serveOn(s.Connections.Listen(loopback(t), false), func(server *fasthttp.Server) { server.ReadTimeout = attackRead })
	before := memory()

	buyer := s.keepBuying(address)
	crowd := attack(t, address, source)
	reached := time.Now()
	s.eventually("whoever may is in", func() bool {
		_, refused := s.Connections.Refused()
		return int(refused) >= attackers-let && s.Connections.Open() >= let
	})
	most := memory()
	for s.Connections.Open() > 1 && time.Since(reached) < 5*attackRead { // one: the buyer
		for _, conn := range crowd {
			_, _ = conn.Write([]byte("x"))
		}
		time.Sleep(100 * time.Millisecond)
	}
	took := time.Since(reached)
	orders, worst := buyer()

	if took > attackRead+2*time.Second {
		t.Errorf("the last connection was cut off after %v, want %v", took, attackRead)
	}
	if _, refused := s.Connections.Refused(); int(refused) != attackers-let {
		t.Errorf("%d connections were refused, want %d", refused, attackers-let)
	}
	if orders < 20 {
		t.Errorf("the buyer had only %d answers", orders)
	}
	each := (int64(most) - int64(before)) / int64(let)
	if each > 64<<10 {
		t.Errorf("a connection costs %d bytes", each)
	}
	t.Logf("%d let in, cut off within %v; %d orders, the slowest %v; %d KiB of memory, then %d: %d bytes a connection",
		let, took.Round(time.Millisecond), orders, worst.Round(time.Millisecond), before>>10, most>>10, each)
	return worst
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
	return crowd
}

// keepBuying orders again and again until it is told to stop; then it says how often, and what the longest wait was.
func (s *stand) keepBuying(address string) (stop func() (orders int, worst time.Duration)) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	var orders int
	var worst time.Duration
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(10 * time.Millisecond):
			}
			began := time.Now()
			status, err := buyOnce(address, orders)
			if err != nil || status != 202 {
				s.t.Errorf("order %d during the attack: %d %v", orders, status, err)
			}
			orders++
			worst = max(worst, time.Since(began))
		}
	})
	return func() (int, time.Duration) {
		close(done)
		wg.Wait()
		return orders, worst
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
