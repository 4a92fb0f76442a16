package loadtest

import (
	"context"
	"crypto/tls"
	"net"
	"net/http/httptrace"
	"sync/atomic"
	"time"
)

// passage is how a request came to the wire. Times are since the attack began.
type passage struct {
	got     time.Duration // it had a connection
	written time.Duration // its first byte left
	sent    bool          // one did
	dialled time.Duration // a connection began to be opened for it; 0: it waited for one that others had
}

// trip is the context of one request on its way, which finds out how it came to the wire. net/http calls it from its own goroutines.
type trip struct {
	context.Context
	began   time.Time // the attack
	got     atomic.Int64
	written atomic.Int64 // 0: nothing
	dialled atomic.Int64 // 0: not
}

type tripKey struct{}

// Value implements context.Context.
func (t *trip) Value(key any) any {
	if key == (tripKey{}) {
		return t
	}
	return t.Context.Value(key)
}

// traced is the context for net/http.
func (t *trip) traced() context.Context {
	return httptrace.WithClientTrace(t, &httptrace.ClientTrace{GotConn: t.board})
}

// board has the connection tell when the request's first byte leaves: until its answer has come it carries no other.
func (t *trip) board(info httptrace.GotConnInfo) {
	t.got.Store(int64(time.Since(t.began)))
	conn := info.Conn
	if secure, is := conn.(*tls.Conn); is {
		conn = secure.NetConn()
	}
	if w, is := conn.(*wire); is {
		w.next.Store(t)
	}
}

func (t *trip) passage() passage {
	written := t.written.Load()
	return passage{got: time.Duration(t.got.Load()), written: time.Duration(written), sent: written > 0, dialled: time.Duration(t.dialled.Load())}
}

// wire is a connection that tells a request when its first byte leaves.
type wire struct {
	net.Conn
	next atomic.Pointer[trip] // whose bytes come next; nil: they have begun
}

// Write implements net.Conn.
func (w *wire) Write(b []byte) (int, error) {
	at := time.Now()
	n, err := w.Conn.Write(b)
	if n > 0 {
		if t := w.next.Swap(nil); t != nil {
			t.written.Store(max(1, int64(at.Sub(t.began))))
		}
	}
	return n, err
}

// dialWires dials for requests.
func dialWires(dialer *net.Dialer) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if t, is := ctx.Value(tripKey{}).(*trip); is {
			t.dialled.Store(max(1, int64(time.Since(t.began))))
		}
		conn, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &wire{Conn: conn}, nil
	}
}
