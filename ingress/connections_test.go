package ingress

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"sluice"
	"sluice/limiter"
)

// serveOn serves on a listener until the test ends, as change has it.
func (s *stand) serveOn(l net.Listener, change func(*fasthttp.Server)) string {
	s.t.Helper()
	server := s.Server()
	change(server)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := server.Serve(l); err != nil {
			s.t.Error(err)
		}
	})
	s.t.Cleanup(func() {
		if err := server.Shutdown(); err != nil {
			s.t.Error(err)
		}
		wg.Wait()
		// fasthttp says that it is done a moment before it closes the last connections.
		s.eventually("after the server no connection is counted", func() bool { return s.Connections.Open() == 0 })
		s.Connections.mu.Lock()
		defer s.Connections.mu.Unlock()
		if len(s.Connections.of) != 0 {
			s.t.Errorf("after the server addresses are remembered: %v", s.Connections.of)
		}
	})
	return l.Addr().String()
}

// seen is a listener whose connections a test sees as they are let in, before anybody serves them.
type seen struct {
	net.Listener
	see func(net.Conn) net.Conn
}

func (l seen) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.see(c), nil
}

func loopback(tb testing.TB) net.Listener {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a listener on loopback does not wait
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

// dialFrom connects from an address of this machine.
func dialFrom(tb testing.TB, source, address string) net.Conn {
	tb.Helper()
	c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}, Timeout: 10 * time.Second}).DialContext(tb.Context(), "tcp", address)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		tb.Fatal(err)
	}
	return c
}

// ask sends one request over an open connection and reads its answer.
func ask(tb testing.TB, c net.Conn, raw string) (status int, problem map[string]any, header http.Header) {
	tb.Helper()
	if _, err := io.WriteString(c, raw); err != nil {
		tb.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		tb.Fatal(err)
	}
	_ = json.Unmarshal(body, &problem) // not every answer is JSON
	return res.StatusCode, problem, res.Header
}

func TestConnections_CountByAddress(t *testing.T) {
	c := NewConnections(1, 1, func(a netip.Addr) bool { return a == netip.MustParseAddr("10.0.0.1") })
	for remote, want := range map[string]string{
		"192.0.2.1:80":               "192.0.2.1",
		"[::ffff:192.0.2.1]:80":      "192.0.2.1",
		"[2001:db8:1:2:3:4:5:6]:80":  "2001:db8:1:2::",
		"[2001:db8:1:2:ffff::1]:443": "2001:db8:1:2::",
		"[fe80::1%eth0]:80":          "fe80::",
		"10.0.0.1:80":                "invalid IP",
		"[::ffff:10.0.0.1]:80":       "invalid IP",
	} {
		if got := c.key(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(remote))).String(); got != want {
			t.Errorf("%s is counted as %s, want %s", remote, got, want)
		}
	}
	if got := c.key(&net.UnixAddr{Name: "socket"}); got.IsValid() {
		t.Errorf("a Unix socket is counted as %v", got)
	}
}

// fakeListener hands out connections that nobody dialled, from eight addresses in turn, until its bell rings.
type fakeListener struct {
	mu   sync.Mutex
	left int
}

type fakeConn struct {
	net.Conn
	from net.Addr
}

func (c fakeConn) RemoteAddr() net.Addr { return c.from }
func (c fakeConn) Close() error         { return nil }

func (l *fakeListener) Accept() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.left == 0 {
		return nil, net.ErrClosed
	}
	l.left--
	return fakeConn{from: &net.TCPAddr{IP: net.IPv4(192, 0, 2, byte(l.left%8))}}, nil
}

func (l *fakeListener) Close() error   { return nil }
func (l *fakeListener) Addr() net.Addr { return nil }

// P9: many listeners, many closings, limits that change: never over the limits, and nothing stays counted.
func TestConnections_NeverExceedTheirLimitsUnderRace(t *testing.T) {
	const all, perAddress, attempts = 20, 4, 20_000
	c := NewConnections(all, perAddress, nil)
	l := c.Listen(&fakeListener{left: attempts}, false)
	var accepting, closing, watching sync.WaitGroup
	open := make(chan net.Conn, all)
	accepted, most := make([]int, 4), 0
	for i := range accepted {
		accepting.Go(func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				accepted[i]++
				open <- conn
			}
		})
		closing.Go(func() {
			for conn := range open {
				var both sync.WaitGroup // fasthttp closes from two sides when it shuts down
				both.Go(func() { _ = conn.Close() })
				_ = conn.Close()
				both.Wait()
			}
		})
	}
	done := make(chan struct{})
	watching.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			c.mu.Lock()
			most = max(most, c.open)
			sum := 0
			for key, n := range c.of {
				sum += n
				if n < 1 || n > perAddress {
					t.Errorf("%v has %d connections", key, n)
				}
			}
			if sum != c.open {
				t.Errorf("%d connections of all, %d of addresses", c.open, sum)
			}
			c.mu.Unlock()
		}
	})
	accepting.Wait()
	close(open)
	closing.Wait()
	close(done)
	watching.Wait()
	served := 0
	for _, n := range accepted {
		served += n
	}
	refusedAll, refusedAddress := c.Refused()
	if got := served + int(refusedAll+refusedAddress); got != attempts || most > all {
		t.Errorf("%d served and refused, want %d; at most %d open, want %d", got, attempts, most, all)
	}
	if c.Open() != 0 || len(c.of) != 0 {
		t.Errorf("%d stay counted, of %v", c.Open(), c.of)
	}
}

// P7: who is over a limit hears so at once, also with a request on its way, and comes in when there is room.
func TestConnections_OverALimitHearWhy(t *testing.T) {
	cfg := testConfig()
	cfg.MaxConnections, cfg.AddressConnections = 3, 2
	cfg.Proxies = limiter.Proxies{netip.MustParsePrefix("127.0.0.9/32")}
	s := newStand(t, cfg, nil, sale("demo", nil))
	address := s.serveOn(s.Connections.Listen(loopback(t), false), func(*fasthttp.Server) {})
	first := dialFrom(t, "127.0.0.2", address)
	dialFrom(t, "127.0.0.2", address)
	s.eventually("two are open", func() bool { return s.Connections.Open() == 2 })
	refused := func(source string, status int, reason sluice.Refusal) {
		t.Helper()
		c := dialFrom(t, source, address)
		got, problem, header := ask(t, c, "GET /livez HTTP/1.1\r\nHost: shop\r\n\r\n")
		if got != status || problem["reason"] != string(reason) || problem["status"] != float64(status) || header.Get("Retry-After") != "2" ||
			header.Get("Content-Type") != contentProblem || problem["detail"] == "" {
			t.Errorf("from %s: %d %v %v; want %d %s", source, got, problem, header, status, reason)
		}
		if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("from %s: the connection is still open", source)
		}
	}
	served := func(c net.Conn) {
		t.Helper()
		if status, problem, _ := ask(t, c, "GET /livez HTTP/1.1\r\nHost: shop\r\n\r\n"); status != 200 {
			t.Errorf("from %v: %d %v", c.LocalAddr(), status, problem)
		}
	}
	refused("127.0.0.2", 503, sluice.Unavailable)
	served(dialFrom(t, "127.0.0.3", address))
	refused("127.0.0.4", 503, sluice.Unavailable)

	s.Connections.SetLimits(5, 1)
	refused("127.0.0.3", 503, sluice.Unavailable)
	served(first)
	served(dialFrom(t, "127.0.0.9", address))
	served(dialFrom(t, "127.0.0.9", address)) // a proxy brings many
	refused("127.0.0.9", 503, sluice.Unavailable)

	s.Connections.SetLimits(100, 0)
	served(dialFrom(t, "127.0.0.2", address))
	_ = first.Close()
	s.eventually("its place is free", func() bool { return s.Connections.Open() == 5 })
	if all, address := s.Connections.Refused(); all != 2 || address != 2 {
		t.Errorf("refused %d and %d, want 2 and 2", all, address)
	}
}

// No way out of a connection leaves it counted: see serveOn.
func TestConnections_AreReleasedHoweverTheyEnd(t *testing.T) {
	certificate := httptest.NewUnstartedServer(nil)
	certificate.StartTLS()
	certificate.Close()
	for what, c := range map[string]struct {
		secret bool
		change func(*stand, *fasthttp.Server)
		speak  func(t *testing.T, c net.Conn)
	}{
		"closed by the client in the middle of a request": {speak: func(t *testing.T, c net.Conn) {
			t.Helper()
			_, _ = io.WriteString(c, "POST /v1/sales")
		}},
		"reset by the client": {speak: func(t *testing.T, c net.Conn) {
			t.Helper()
			_, _ = io.WriteString(c, "GET /livez HTTP/1.1\r\nHost: shop\r\n\r\n")
			_ = c.(*net.TCPConn).SetLinger(0)
		}},
		"a handler that panics": {
			change: func(s *stand, server *fasthttp.Server) {
				server.Handler = func(ctx *fasthttp.RequestCtx) {
					defer s.survive(ctx)
					panic("a defect")
				}
			},
			speak: func(t *testing.T, c net.Conn) {
				t.Helper()
				if status, problem, _ := ask(t, c, "GET / HTTP/1.1\r\nHost: shop\r\n\r\n"); status != 500 || problem["reason"] != "internal" {
					t.Errorf("got %d %v", status, problem)
				}
			},
		},
		"a handler that takes the connection over": {
			change: func(_ *stand, server *fasthttp.Server) {
				server.Handler = func(ctx *fasthttp.RequestCtx) { ctx.Hijack(func(c net.Conn) { _, _ = c.Write([]byte("x")) }) }
			},
			speak: func(t *testing.T, c net.Conn) {
				t.Helper()
				_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: shop\r\n\r\n")
				if all, err := io.ReadAll(c); err != nil || !strings.HasSuffix(string(all), "x") {
					t.Errorf("read %q, %v", all, err)
				}
			},
		},
		"a handshake that is none": {secret: true, speak: func(t *testing.T, c net.Conn) {
			t.Helper()
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: shop\r\n\r\n")
			_, _ = io.ReadAll(c)
		}},
		"a handshake that does not end": {
			secret: true,
			change: func(_ *stand, server *fasthttp.Server) { server.ReadTimeout = time.Second },
			speak: func(t *testing.T, c net.Conn) {
				t.Helper()
				_, _ = io.WriteString(c, "\x16\x03\x01")
				_, _ = io.ReadAll(c)
			},
		},
		"TLS": {secret: true, speak: func(t *testing.T, c net.Conn) {
			t.Helper()
			secret := tls.Client(c, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}) //nolint:gosec // its own server
			if status, _, _ := ask(t, secret, "GET /livez HTTP/1.1\r\nHost: shop\r\n\r\n"); status != 200 {
				t.Errorf("status %d", status)
			}
		}},
	} {
		t.Run(what, func(t *testing.T) {
			cfg := testConfig()
			cfg.MaxConnections = 1
			s := newStand(t, cfg, nil, sale("demo", nil))
			var in atomic.Int64 // those that had the only place; a later look may find it free again
			l := net.Listener(seen{s.Connections.Listen(loopback(t), c.secret), func(conn net.Conn) net.Conn {
				if s.Connections.Open() == 1 {
					in.Add(1)
				}
				return conn
			}})
			if c.secret {
				l = tls.NewListener(l, certificate.TLS)
			}
			address := s.serveOn(l, func(server *fasthttp.Server) {
				if c.change != nil {
					c.change(s, server)
				}
			})
			for n := range int64(3) { // each needs the only place
				conn := dialFrom(t, "127.0.0.1", address)
				s.eventually("it is in", func() bool { return in.Load() == n+1 })
				c.speak(t, conn)
				_ = conn.Close()
				s.eventually("its place is free", func() bool { return s.Connections.Open() == 0 })
			}
			if all, address := s.Connections.Refused(); all+address != 0 {
				t.Errorf("%d and %d were refused", all, address)
			}
		})
	}
}

// A client of TLS that is refused hears nothing: what is in clear text would be no TLS to it.
func TestConnections_OverALimitHearNothingOverTLS(t *testing.T) {
	c := NewConnections(0, 0, nil)
	l := c.Listen(loopback(t), true)
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = l.Accept() })
	conn := dialFrom(t, "127.0.0.1", l.Addr().String())
	if all, err := io.ReadAll(conn); len(all) > 0 || err != nil {
		t.Errorf("read %q, %v", all, err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
}
