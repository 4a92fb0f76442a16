package queue

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nsqio/go-nsq"
)

// What a Sender's errors are, by errors.Is.
var (
	ErrInvalid   = errors.New("nsqd takes no such message")                    // nothing was sent, and never will be
	ErrNotSent   = errors.New("the message was not sent")                      // it may be sent again
	ErrAmbiguous = errors.New("it is not known whether nsqd took the message") // sent again, it may come twice
)

// MaxDefer is the longest deferral: what a stock nsqd takes (its max-req-timeout).
const MaxDefer = time.Hour

// SenderConfig says where to send. Zero fields take the default that is named with them.
type SenderConfig struct {
	Addr       string        // nsqd's TCP address
	TLS        *tls.Config   // nil: plain text
	MaxPending int           // most messages that are on the wire without an answer; 1,000
	Deadline   time.Duration // of a call whose context has none or a later one, and of a dial and handshake; 5 s
	Logger     *slog.Logger
}

// Sender publishes to any topic, message by message, for callers who wait for nsqd's word. A Publisher is for those who
// do not. Calls that come at the same time share one connection and its packets.
type Sender struct {
	cfg      SenderConfig
	requests chan *sending // from callers to run, unbuffered: what was handed over is written, what was not is not sent
	stopping chan struct{}
	stopOnce sync.Once
	kill     context.CancelFunc
	done     chan struct{} // run has returned

	connected atomic.Bool

	// Owned by run.
	link    linkLog
	backoff backoff
}

// sending is one message on its way.
type sending struct {
	command []byte
	done    chan error // capacity 1: its one result
}

// NewSender starts a sender, which connects by itself and keeps trying. Stop ends it.
func NewSender(cfg SenderConfig) *Sender {
	setDefault(&cfg.MaxPending, 1000)
	setDefault(&cfg.Deadline, 5*time.Second)
	cfg.Logger = loggerOr(cfg.Logger).With(slog.String("nsqd", cfg.Addr))
	ctx, kill := context.WithCancel(context.Background())
	s := &Sender{
		cfg: cfg, kill: kill,
		requests: make(chan *sending), stopping: make(chan struct{}), done: make(chan struct{}),
		link:    linkLog{log: cfg.Logger},
		backoff: backoff{least: consumerReconnect, most: consumerBackoff},
	}
	go s.run(ctx)
	return s
}

// Connected reports whether there is a connection that looks alive.
func (s *Sender) Connected() bool { return s.connected.Load() }

// Send publishes body and waits for nsqd's OK, until ctx ends or the Deadline has passed; without a connection it waits
// for one. A delay defers the delivery, by MaxDefer at most. Its errors are ErrInvalid, ErrNotSent or ErrAmbiguous. The
// OK is not durable: nsqd keeps messages in memory.
func (s *Sender) Send(ctx context.Context, topic string, body []byte, delay time.Duration) error {
	if err := checkSending(topic, body, delay); err != nil {
		return fmt.Errorf("publish to %.80q: %w: %w", topic, ErrInvalid, err)
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Deadline)
	defer cancel()
	r := &sending{command: publication(topic, body, delay), done: make(chan error, 1)}
	if err := s.handOver(ctx, r); err != nil {
		return fmt.Errorf("publish to %s: %w: %w", topic, ErrNotSent, err)
	}
	select {
	case err := <-r.done:
		if err != nil {
			return fmt.Errorf("publish to %s: %w", topic, err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("publish to %s: %w: no answer: %w", topic, ErrAmbiguous, context.Cause(ctx))
	}
}

func (s *Sender) handOver(ctx context.Context, r *sending) error {
	if err := ctx.Err(); err != nil { // a select would toss a coin
		return context.Cause(ctx)
	}
	select {
	case s.requests <- r:
		return nil
	case <-s.stopping:
		return errSenderStopped
	case <-ctx.Done():
	}
	if !s.Connected() {
		return fmt.Errorf("no connection to nsqd at %s: %w", s.cfg.Addr, context.Cause(ctx))
	}
	return fmt.Errorf("%d messages wait for nsqd's answer: %w", s.cfg.MaxPending, context.Cause(ctx))
}

var errSenderStopped = errors.New("the sender is stopped")

func checkSending(topic string, body []byte, delay time.Duration) error {
	if err := validTopic(topic); err != nil {
		return err
	}
	switch {
	case len(body) == 0:
		return errors.New("the body is empty")
	case len(body) > MaxMessageBytes:
		return fmt.Errorf("the body has %d bytes; at most %d are taken", len(body), MaxMessageBytes)
	case delay < 0 || delay > MaxDefer:
		return fmt.Errorf("deferred by %v: want 0 to %v", delay, MaxDefer)
	}
	return nil
}

// Stop takes no more messages, waits until ctx ends for the answers to those on the wire, and closes.
func (s *Sender) Stop(ctx context.Context) error {
	s.stopOnce.Do(func() { close(s.stopping) })
	if !s.Connected() { // not to wait for a dial that nobody needs
		s.kill()
	}
	defer s.kill()
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		s.kill()
		<-s.done // soon: every wait of run ends with the kill
		return fmt.Errorf("sender to %s: stopped before nsqd had answered: %w", s.cfg.Addr, context.Cause(ctx))
	}
}

// run keeps a connection until Stop.
func (s *Sender) run(ctx context.Context) {
	defer close(s.done)
	for ctx.Err() == nil {
		began := time.Now()
		err := s.connectAndServe(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		s.link.lost(err)
		if time.Since(began) > s.cfg.Deadline+consumerBackoff { // it had worked for a while
			s.backoff.reset()
		}
		timer := time.NewTimer(s.backoff.wait())
		select {
		case <-timer.C:
		case <-s.stopping:
			timer.Stop()
			return
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// connectAndServe returns nil after Stop.
func (s *Sender) connectAndServe(ctx context.Context) error {
	w, err := dialWire(ctx, dialConfig{addr: s.cfg.Addr, tls: s.cfg.TLS, timeout: s.cfg.Deadline, heartbeat: defaultHeartbeat})
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, w.close)()
	l := &line{
		wire: w, dead: make(chan struct{}),
		room: make(chan struct{}, s.cfg.MaxPending), unanswered: make(chan *sending, s.cfg.MaxPending),
	}
	go l.read()
	defer l.close()

	s.connected.Store(true)
	defer s.connected.Store(false)
	s.link.restored()
	return s.serve(l)
}

// serve writes what callers hand over until the connection breaks or Stop is called. Then it waits for the answers.
func (s *Sender) serve(l *line) error {
	for {
		select {
		case <-l.dead: // seen before anything is taken, so that nothing is ambiguous that need not be
			return l.err
		default:
		}
		select {
		case l.room <- struct{}{}:
		case <-l.dead:
			return l.err
		}
		select {
		case r := <-s.requests:
			if err := s.write(l, r); err != nil {
				return err
			}
		case <-s.stopping:
			return l.drain()
		case <-l.dead:
			return l.err
		}
	}
}

const (
	sendTogether = 64 << 10 // bytes after which a packet is full enough
	sendAtOnce   = 256      // messages, likewise
)

// write sends r, which has room, and whatever else is being handed over right now.
func (s *Sender) write(l *line, r *sending) error {
	var packet [][]byte
	for bytes := 0; r != nil; r = s.another(l) {
		l.unanswered <- r // never blocks: it is as large as the room
		packet = append(packet, r.command)
		if bytes += len(r.command); bytes >= sendTogether || len(packet) == sendAtOnce {
			break
		}
	}
	return l.wire.write(s.cfg.Deadline, packet...)
}

// another takes a message and the room for it, where both are there at once.
func (s *Sender) another(l *line) *sending {
	select {
	case l.room <- struct{}{}:
	default:
		return nil
	}
	select {
	case r := <-s.requests:
		return r
	default:
		<-l.room
		return nil
	}
}

// publication is the command that publishes body, as nsqd wants it.
func publication(topic string, body []byte, delay time.Duration) []byte {
	dst := make([]byte, 0, len("DPUB ")+len(topic)+len(" 3600000\n")+4+len(body))
	if delay > 0 {
		dst = append(dst, 'D')
	}
	dst = append(dst, "PUB "...)
	dst = append(dst, topic...)
	if delay > 0 {
		dst = append(dst, ' ')
		dst = strconv.AppendInt(dst, max(1, delay.Milliseconds()), 10)
	}
	dst = append(dst, '\n')
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(body)))
	return append(dst, body...)
}

// line is a sender's connection: run writes, another goroutine reads, and nsqd answers in the order of the questions.
type line struct {
	wire       *wire
	room       chan struct{} // holds one token for each message that is unanswered, and one that run keeps ready
	unanswered chan *sending
	dead       chan struct{} // closed when reading has failed, after err was set
	err        error
}

func (l *line) read() {
	defer close(l.dead)
	for {
		kind, data, err := l.wire.readFrame()
		if err != nil {
			l.err = fmt.Errorf("read from nsqd: %w", err)
			return
		}
		select {
		case r := <-l.unanswered:
			r.done <- meaning(kind, data)
			<-l.room
		default:
			l.err = fmt.Errorf("nsqd sent an answer that nobody asked for: %.80q", data)
			return
		}
	}
}

// meaning is what an answer says about its message. After an error nsqd closes the connection, so the messages behind
// it were not read; but only it knows that.
func meaning(kind int32, data []byte) error {
	err := answer{kind, data}.check()
	switch {
	case err == nil:
		return nil
	case kind != nsq.FrameTypeError:
		return fmt.Errorf("%w: %w", ErrAmbiguous, err)
	case strings.HasPrefix(string(data), "E_PUB_FAILED"), strings.HasPrefix(string(data), "E_DPUB_FAILED"),
		strings.Contains(string(data), tlsRequired):
		return fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	return fmt.Errorf("%w: %w", ErrInvalid, err)
}

// drain waits until nothing is unanswered: then all of the room can be had.
func (l *line) drain() error {
	for range cap(l.room) - 1 {
		select {
		case l.room <- struct{}{}:
		case <-l.dead:
			return l.err
		}
	}
	return nil
}

// close ends the connection, waits for its reader, and tells those who got no answer.
func (l *line) close() {
	l.wire.close()
	<-l.dead
	for {
		select {
		case r := <-l.unanswered:
			r.done <- fmt.Errorf("%w: the connection broke: %w", ErrAmbiguous, l.err)
		default:
			return
		}
	}
}
