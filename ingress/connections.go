package ingress

import (
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

	"sluice"
	"sluice/limiter"
)

// Connections bounds the open connections, in all and of each address. It never waits: a connection over a limit is closed
// at once. An address is an IPv4 address or the first 64 bits of an IPv6 one, which is what one subscriber has.
type Connections struct {
	trusted func(netip.Addr) bool // its connections are those of many; nil: nobody's

	mu             sync.Mutex
	all            int // the limit
	perAddress     int // the limit; 0: none
	open           int
	of             map[netip.Addr]int // open ones of each address that has any
	refusedAll     uint64
	refusedAddress uint64
}

// NewConnections makes Connections with both limits. A trusted address, a proxy's say, is bounded by the first alone.
func NewConnections(all, perAddress int, trusted func(netip.Addr) bool) *Connections {
	return &Connections{all: all, perAddress: perAddress, trusted: trusted, of: make(map[netip.Addr]int)}
}

// SetLimits changes the limits for connections to come; open ones stay. perAddress 0 means any number.
func (c *Connections) SetLimits(all, perAddress int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all, c.perAddress = all, perAddress
}

// Open is how many connections are open.
func (c *Connections) Open() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open
}

// Refused is how many connections were closed at once because all were taken, and because their address had too many.
func (c *Connections) Refused() (all, address uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refusedAll, c.refusedAddress
}

// take counts a connection of the address, or says why not. Each that it admits (an empty reason) must be released.
func (c *Connections) take(key netip.Addr) (full string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.open >= c.all:
		c.refusedAll++
		return "all connections are taken"
	case key.IsValid() && c.perAddress > 0 && c.of[key] >= c.perAddress:
		c.refusedAddress++
		return "this address has as many connections as it may have at once"
	}
	c.open++
	if key.IsValid() {
		c.of[key]++
	}
	return ""
}

func (c *Connections) release(key netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open--
	if !key.IsValid() {
		return
	}
	if c.of[key]--; c.of[key] == 0 {
		delete(c.of, key)
	}
}

// key is what an address is counted by; the zero Addr where it is not.
func (c *Connections) key(remote net.Addr) netip.Addr {
	tcp, ok := remote.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	a := tcp.AddrPort().Addr().Unmap()
	if c.trusted != nil && c.trusted(a) {
		return netip.Addr{}
	}
	return limiter.Caller(a)
}

// Listen puts the limits in front of a listener. Where secret, its clients speak TLS: one that is refused hears nothing.
func (c *Connections) Listen(l net.Listener, secret bool) net.Listener {
	return &limitedListener{Listener: l, connections: c, secret: secret}
}

// limitedListener accepts what its Connections admit.
type limitedListener struct {
	net.Listener
	connections *Connections
	secret      bool
}

// Accept waits for a connection within the limits and refuses all others that come.
func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		key := l.connections.key(c.RemoteAddr())
		full := l.connections.take(key)
		if full == "" {
			return newConnection(c, l.connections, key), nil
		}
		if !l.secret {
			turnAway(c, full)
		}
		_ = c.Close() // nothing was promised
	}
}

// connection gives its place back once, however often and by whomever it is closed.
type connection struct {
	net.Conn
	connections *Connections
	key         netip.Addr
	closed      atomic.Bool

	raw   syscall.RawConn // nil where there is no socket
	spoke bool            // a byte of a request has come; owned by who serves it
}

// unread is how many bytes of answers the kernel keeps of a client that does not read them, half of what it sets aside for them. Its own
// limit is 4 MiB, which thousands of such clients would take of the machine.
const unread = 64 << 10

func newConnection(c net.Conn, connections *Connections, key netip.Addr) *connection {
	mine := &connection{Conn: c, connections: connections, key: key}
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetWriteBuffer(unread) // where it fails, the kernel's own limit holds
	}
	if socket, ok := c.(syscall.Conn); ok {
		mine.raw, _ = socket.SyscallConn() // where it fails, nobody can tell who has left
	}
	return mine
}

// gone reports whether the other end has closed the connection or its sending half, whatever it sent before that and is not read yet.
// It never waits.
func (c *connection) gone() (gone bool) {
	if c.raw == nil {
		return false
	}
	err := c.raw.Control(func(fd uintptr) { gone = hungUp(int(fd)) })
	return gone && err == nil
}

// connectionOf finds the connection below what is served; nil where it came through no Connections.
func connectionOf(c net.Conn) *connection {
	if secret, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = secret.NetConn()
	}
	mine, _ := c.(*connection)
	return mine
}

// Close closes the connection.
func (c *connection) Close() error {
	err := c.Conn.Close()
	if c.closed.CompareAndSwap(false, true) {
		c.connections.release(c.key)
	}
	return err
}

// turnAway says why a connection is closed, if that takes no wait. Nobody has looked at what it asks, and an earlier ask with the same key
// may be in, so that this is the one answer which leaves in doubt: unavailable.
func turnAway(c net.Conn, full string) {
	socket, ok := c.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return
	}
	verdict := sluice.Verdict{Refusal: sluice.Unavailable, RetryAfter: limiter.Jitter(time.Second, mathrand.Float64())}
	answer := appendTurnedAway(make([]byte, 0, 512), verdict, full)
	var request [1 << 10]byte
	_ = raw.Write(func(fd uintptr) bool {
		_, _ = syscall.Write(int(fd), answer)
		// What has come in already and stays unread would make the kernel reset the connection and the answer be lost.
		_, _ = syscall.Read(int(fd), request[:])
		return true // done, whatever came of it: the socket never blocks
	})
}

// appendTurnedAway appends the whole answer of a connection that is refused.
func appendTurnedAway(b []byte, verdict sluice.Verdict, detail string) []byte {
	problem := newRefusalForm(verdict.Refusal, nil).append(make([]byte, 0, 256), &refusal{Verdict: verdict, detail: detail})
	b = append(b, "HTTP/1.1 "...)
	b = fmt.Appendf(b, "%d %s", verdict.Refusal.Status(), fasthttp.StatusMessage(verdict.Refusal.Status()))
	b = append(b, "\r\nConnection: close\r\nCache-Control: no-store\r\nContent-Type: "+contentProblem...)
	b = fmt.Appendf(b, "\r\nRetry-After: %d\r\nContent-Length: %d\r\n\r\n", wholeSeconds(verdict.RetryAfter), len(problem))
	return append(b, problem...)
}

// register adds the figures to the door's metrics.
func (c *Connections) register(reg prometheus.Registerer) {
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "sluice", Subsystem: "door", Name: "connections", Help: "Open connections of buyers.",
	}, func() float64 { return float64(c.Open()) }))
	refused := func(limit string, value func() uint64) {
		reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Namespace: "sluice", Subsystem: "door", Name: "connections_refused_total",
			Help: "Connections closed at once, by the limit that they met.", ConstLabels: prometheus.Labels{"limit": limit},
		}, func() float64 { return float64(value()) }))
	}
	refused("all", func() uint64 { all, _ := c.Refused(); return all })
	refused("address", func() uint64 { _, address := c.Refused(); return address })
}
