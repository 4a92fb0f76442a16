package ingress

import (
	"errors"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"sluice"
)

// tempo is how an event stream passes its time.
type tempo struct {
	positions time.Duration // between two looks at an order's place in the line
	heartbeat time.Duration // of silence, until a comment breaks it
	longest   time.Duration // until the stream ends, and the browser comes back
	write     time.Duration // that a client may take to take what it is sent
}

var defaultTempo = tempo{positions: 2 * time.Second, heartbeat: 15 * time.Second, longest: 10 * time.Minute, write: 10 * time.Second}

const (
	contentEvents = "text/event-stream"
	eventRetry    = "retry: 2000\n\n" // milliseconds after which a browser comes back
	eventBeat     = ":\n\n"
)

// events answers GET /v1/orders/{order}/events with the order's status now and each change of it, until it is final.
func (d *Door) events(ctx *fasthttp.RequestCtx, text []byte) {
	id, genuine := d.orderOf(ctx, text)
	if !genuine {
		return
	}
	if !ctx.Request.Header.IsHTTP11() {
		d.refuseError(ctx, sluice.Refuse(sluice.BadRequest, "events have no end that HTTP/1.0 could mark; ask with HTTP/1.1"))
		return
	}
	ticket := d.identify(ctx, d.limits.Load())
	if ticket == nil {
		return
	}
	if !d.waiting.sit() {
		d.unavailable(ctx, &id, "too many wait for news here already; ask for the order itself, or come back")
		return
	}
	first, ok := d.show(ctx, id, ticket, 0)
	if !ok {
		d.waiting.rise()
		return
	}
	h := &ctx.Response.Header
	h.SetContentType(contentEvents)
	h.Set(fasthttp.HeaderCacheControl, "no-store")
	h.Set("X-Accel-Buffering", "no")
	ctx.SetConnectionClose() // its end of the connection is listened to for the client's leaving, not for more requests
	ctx.Response.SetBodyStream(newStream(d, ctx.Conn(), ticket, first), -1)
}

// stream is the body of an answer that lasts. The connection's own goroutine reads it once the handler has returned, so
// it keeps nothing of the request but the connection; it has no goroutine of its own, and a place in the waiting room until
// it is closed.
type stream struct {
	d      *Door
	conn   net.Conn
	ticket *sluice.Ticket // whose stream it is
	told   view
	out    []byte // still to be read
	buf    []byte
	ends   time.Time
	beat   time.Time // when silence will have lasted too long
	closed bool
}

func newStream(d *Door, conn net.Conn, ticket *sluice.Ticket, first sight) *stream {
	now := time.Now()
	s := &stream{d: d, conn: conn, ticket: ticket, ends: now.Add(d.streams.longest)}
	if !ticket.Expires.IsZero() && ticket.Expires.Before(s.ends) {
		s.ends = ticket.Expires
	}
	s.buf = append(s.buf, eventRetry...)
	s.tell(first.view)
	return s
}

// Close gives the place back.
func (s *stream) Close() error {
	if !s.closed {
		s.closed = true
		s.d.waiting.rise()
	}
	return nil
}

// Read waits until there is something to tell. It answers io.EOF where the stream is over, as fasthttp wants it.
func (s *stream) Read(p []byte) (int, error) {
	if len(s.out) == 0 {
		if err := s.await(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.out)
	s.out = s.out[n:]
	s.beat = time.Now().Add(s.d.streams.heartbeat)
	return n, nil
}

// await returns once there is something to read, or the stream is over. What follows it is written in time or not at all.
func (s *stream) await() (err error) {
	for len(s.out) == 0 && err == nil {
		err = s.turn()
	}
	if deadline := s.conn.SetWriteDeadline(time.Now().Add(s.d.streams.write)); deadline != nil {
		return deadline
	}
	return err
}

// turn looks at the order, and waits for the next reason to look again.
func (s *stream) turn() error {
	now := time.Now()
	if s.told.State.Final() || !now.Before(s.ends) {
		return io.EOF
	}
	bell := s.d.waiting.listen(s.told.Order)
	defer s.d.waiting.unlisten(s.told.Order, bell)
	seen, err := s.d.see(s.told.Order, s.ticket)
	if err != nil && !errors.Is(err, errSlowDisk) { // what a slow disk may have can't be shown yet
		return io.EOF // whoever comes back is told why
	}
	if err == nil && (seen.Version > s.told.Version || seen.Version == s.told.Version && seen.position != s.told.position) {
		s.tell(seen.view)
		return nil
	}
	if !now.Before(s.beat) {
		return s.heartbeat(seen)
	}
	return s.rest(bell, s.until(now, seen))
}

// heartbeat breaks a silence, and is when a client that has left is noticed.
func (s *stream) heartbeat(seen sight) error {
	if s.gone() {
		return net.ErrClosed
	}
	if seen.waiting == nil {
		s.d.ask.add(s.told.Order, time.Now()) // the outcome may have gone past this door
	}
	s.say(append(s.buf, eventBeat...))
	return nil
}

// until is when to look again although nobody rings. A place in the line moves without a bell.
func (s *stream) until(now time.Time, seen sight) time.Duration {
	wait := min(s.beat.Sub(now), s.ends.Sub(now))
	if seen.waiting != nil {
		wait = min(wait, s.d.streams.positions)
	}
	return max(wait, 0)
}

func (s *stream) rest(bell *bell, wait time.Duration) error {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-bell.rung:
	case <-t.C:
	case <-s.d.stop:
		return io.EOF
	}
	return nil
}

// gone reports whether the client has closed its end. A write would not tell: the first one after that succeeds.
func (s *stream) gone() bool {
	const moment = 5 * time.Millisecond
	if err := s.conn.SetReadDeadline(time.Now().Add(moment)); err != nil {
		return true
	}
	var b [1]byte
	_, err := s.conn.Read(b[:])
	e, ok := errors.AsType[net.Error](err)
	return err != nil && (!ok || !e.Timeout())
}

// tell says a status. Its version is the event's id; a place in the line that moved comes with the same one.
func (s *stream) tell(v view) {
	s.told = v
	b := append(s.buf, "event: status\nid: "...)
	b = strconv.AppendInt(b, v.Version, 10)
	b = append(b, "\ndata: "...)
	b = s.d.appendOrder(b, v)
	s.say(append(b, "\n\n"...))
}

func (s *stream) say(b []byte) { s.out, s.buf = b, b[:0] }
