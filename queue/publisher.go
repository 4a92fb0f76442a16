package queue

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nsqio/go-nsq"

	"sluice"
)

// Result is what became of a message that was put on the wire. It says nothing about durability: nsqd forgets.
type Result int

// The results.
const (
	Sent      Result = iota + 1 // nsqd said OK
	Ambiguous                   // it may or may not have landed: look it up before sending it again
)

// String is the result's name.
func (r Result) String() string {
	switch r {
	case Sent:
		return "sent"
	case Ambiguous:
		return "ambiguous"
	}
	return "Result(" + strconv.Itoa(int(r)) + ")"
}

// PublisherConfig says where and how much to publish. Zero fields take the default that is named with them.
type PublisherConfig struct {
	Addr  string      // nsqd's TCP address
	TLS   *tls.Config // nil: plain text
	Topic string

	MaxPending      int           // most messages that wait or are on the wire; 10,000
	MaxPendingBytes int           // most bytes of them, 4 each for the frame included; 64 MiB
	MaxBatch        int           // most messages in one MPUB; 1,000
	MaxBatchBytes   int           // most bytes in one MPUB; 2 MiB, as a stock nsqd takes 5 MiB
	Deadline        time.Duration // for a batch to be written and acknowledged, and for a dial and handshake; 5 s
	BackoffMin      time.Duration // between dials; 50 ms
	BackoffMax      time.Duration // 1 s

	// Report hears, from one goroutine, what became of messages, in the order in which they were published. refs is
	// valid during the call only. While it runs nothing is sent, so it must be quick and must not wait for the
	// Publisher. Nil: nobody wants to know.
	Report func(refs []sluice.OrderID, result Result)
	Logger *slog.Logger
}

func (c PublisherConfig) withDefaults() PublisherConfig {
	setDefault(&c.MaxPending, 10_000)
	setDefault(&c.MaxPendingBytes, 64<<20)
	setDefault(&c.MaxBatch, 1000)
	setDefault(&c.MaxBatchBytes, 2<<20)
	setDefault(&c.Deadline, 5*time.Second)
	setDefault(&c.BackoffMin, 50*time.Millisecond)
	setDefault(&c.BackoffMax, time.Second)
	c.Logger = loggerOr(c.Logger).With(slog.String("nsqd", c.Addr), slog.String("topic", c.Topic))
	return c
}

func setDefault[T int | time.Duration](v *T, otherwise T) {
	if *v <= 0 {
		*v = otherwise
	}
}

// Publisher sends messages to one topic in batches that grow with the load: whatever was published while the last
// batch was on its way makes the next one. Publish never blocks, whatever nsqd does.
type Publisher struct {
	cfg      PublisherConfig
	stopping chan struct{}
	stopOnce sync.Once
	kill     context.CancelFunc // ends dials and the connection at once
	done     chan struct{}      // run has returned
	wake     chan struct{}      // capacity 1: filling is no longer empty

	epoch     atomic.Uint64
	connected atomic.Bool

	mu           sync.Mutex
	filling      outbox
	pending      int // messages in filling and in sending that are not settled
	pendingBytes int
	stopped      bool

	// Owned by run.
	sending outbox
	settled int // of sending
	link    linkLog
	backoff backoff
}

// outbox holds messages as MPUB wants them: each body behind its length, one after another.
type outbox struct {
	refs   []sluice.OrderID
	ends   []int // of each frame, in frames
	frames []byte
}

// keptBytes is how large an empty outbox may stay after a burst.
const keptBytes = 8 << 20

func (o *outbox) add(ref sluice.OrderID, body []byte) {
	o.frames = binary.BigEndian.AppendUint32(o.frames, uint32(len(body)))
	o.frames = append(o.frames, body...)
	o.refs = append(o.refs, ref)
	o.ends = append(o.ends, len(o.frames))
}

func (o *outbox) reset() {
	if cap(o.frames) > keptBytes {
		o.frames = nil
	}
	o.refs, o.ends, o.frames = o.refs[:0], o.ends[:0], o.frames[:0]
}

// start is where frame i begins.
func (o *outbox) start(i int) int {
	if i == 0 {
		return 0
	}
	return o.ends[i-1]
}

// batch is the end of the batch that begins with message from: at most most messages and, beyond the first, at most
// mostBytes.
func (o *outbox) batch(from, most, mostBytes int) int {
	to := from + 1
	for to < len(o.refs) && to-from < most && o.ends[to]-o.start(from) <= mostBytes {
		to++
	}
	return to
}

// NewPublisher starts a publisher, which connects by itself and keeps trying. Stop ends it.
func NewPublisher(cfg PublisherConfig) (*Publisher, error) {
	if err := validTopic(cfg.Topic); err != nil {
		return nil, fmt.Errorf("publisher: %w", err)
	}
	cfg = cfg.withDefaults()
	ctx, kill := context.WithCancel(context.Background())
	p := &Publisher{
		cfg: cfg, kill: kill,
		stopping: make(chan struct{}), done: make(chan struct{}), wake: make(chan struct{}, 1),
		link:    linkLog{log: cfg.Logger},
		backoff: backoff{least: cfg.BackoffMin, most: cfg.BackoffMax},
	}
	go p.run(ctx)
	return p, nil
}

// Publish takes a copy of body to send it, and reports whether it did: not when MaxPending is reached, after Stop, or
// where body is empty or longer than MaxMessageBytes. It never blocks. The ref comes back through Report.
func (p *Publisher) Publish(ref sluice.OrderID, body []byte) bool {
	if len(body) == 0 || len(body) > MaxMessageBytes {
		return false
	}
	size := len(body) + 4
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped || p.pending >= p.cfg.MaxPending || p.pendingBytes+size > p.cfg.MaxPendingBytes {
		return false
	}
	p.filling.add(ref, body)
	p.pending++
	p.pendingBytes += size
	if len(p.filling.refs) == 1 {
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
	return true
}

// Pending is how many messages wait or are on the wire, at most MaxPending.
func (p *Publisher) Pending() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pending
}

// Connected reports whether there is a connection that looks alive. A frozen nsqd looks alive until it has missed its
// heartbeats or a batch its deadline.
func (p *Publisher) Connected() bool { return p.connected.Load() }

// Epoch counts the connections made. When it has grown, nsqd may have restarted, and what it was carrying is doubtful.
func (p *Publisher) Epoch() uint64 { return p.epoch.Load() }

// Stop takes no more messages and sends what it has until ctx ends. What is left then is reported nowhere: the
// journal has it.
func (p *Publisher) Stop(ctx context.Context) error {
	p.mu.Lock()
	p.stopped = true
	idle := p.pending == 0
	p.mu.Unlock()
	p.stopOnce.Do(func() { close(p.stopping) })
	defer p.kill()
	if idle { // not to wait for a dial that nobody needs
		p.kill()
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		p.kill()
		<-p.done // soon: every wait of run ends with the kill
	}
	if left := p.Pending(); left > 0 {
		return fmt.Errorf("publisher of %s: %d messages were not sent: %w", p.cfg.Topic, left, context.Cause(ctx))
	}
	return nil
}

// run keeps a connection and sends over it until Stop.
func (p *Publisher) run(ctx context.Context) {
	defer close(p.done)
	for !p.finished() {
		began := time.Now()
		err := p.connectAndServe(ctx)
		if ctx.Err() != nil || err == nil {
			return
		}
		p.link.lost(err)
		if time.Since(began) > p.cfg.Deadline+p.cfg.BackoffMax { // it had worked for a while
			p.backoff.reset()
		}
		if !sleep(ctx, p.backoff.wait()) {
			return
		}
	}
}

// finished reports whether Stop was called and nothing is left to send.
func (p *Publisher) finished() bool {
	select {
	case <-p.stopping:
		return p.Pending() == 0
	default:
		return false
	}
}

// connectAndServe returns nil when the publisher is finished. Whatever its error, messages that were not written stay
// pending: a dial that failed sent nothing.
func (p *Publisher) connectAndServe(ctx context.Context) error {
	w, err := dialWire(ctx, dialConfig{
		addr: p.cfg.Addr, tls: p.cfg.TLS, timeout: p.cfg.Deadline, heartbeat: defaultHeartbeat,
	})
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, w.close)()
	l := newLink(w)
	defer l.close()

	p.epoch.Add(1)
	p.connected.Store(true)
	defer p.connected.Store(false)
	p.link.restored()
	return p.serve(ctx, l)
}

// serve sends batch after batch until the connection breaks, ctx ends or the publisher is finished.
func (p *Publisher) serve(ctx context.Context, l *link) error {
	for {
		select {
		case <-l.dead: // seen before a batch is written, so that batch is not ambiguous
			return l.err
		default:
		}
		if p.settled < len(p.sending.refs) || p.swap() {
			if err := p.sendBatch(l); err != nil {
				return err
			}
			continue
		}
		select {
		case <-p.wake:
		case <-p.stopping:
			if p.finished() {
				return nil
			}
		case <-l.dead:
			return l.err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// swap takes what was published since the last time, and reports whether there was anything.
func (p *Publisher) swap() bool {
	p.sending.reset()
	p.settled = 0
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sending, p.filling = p.filling, p.sending
	return len(p.sending.refs) > 0
}

// sendBatch sends one batch and settles it, whichever way it went: from the first byte on it may have landed.
func (p *Publisher) sendBatch(l *link) error {
	from := p.settled
	to := p.sending.batch(from, p.cfg.MaxBatch, p.cfg.MaxBatchBytes)
	frames := p.sending.frames[p.sending.start(from):p.sending.ends[to-1]]

	err := l.multiPublish(p.cfg.Topic, to-from, frames, p.cfg.Deadline)
	result := Sent
	if err != nil {
		result = Ambiguous
		err = fmt.Errorf("publish %d messages: %w", to-from, err)
	} else {
		p.backoff.reset()
	}
	p.settle(from, to, len(frames), result)
	return err
}

func (p *Publisher) settle(from, to, bytes int, result Result) {
	p.settled = to
	p.mu.Lock()
	p.pending -= to - from
	p.pendingBytes -= bytes
	p.mu.Unlock()
	if p.cfg.Report != nil {
		p.cfg.Report(p.sending.refs[from:to], result)
	}
}

// link is a publisher's connection: one goroutine writes commands and waits for their answers, another reads.
type link struct {
	wire    *wire
	answers chan answer
	dead    chan struct{} // closed when reading has failed, after err was set
	err     error
}

type answer struct {
	kind int32
	data []byte
}

func newLink(w *wire) *link {
	l := &link{wire: w, answers: make(chan answer, 1), dead: make(chan struct{})}
	go l.read()
	return l
}

// close ends the connection and waits for its reader.
func (l *link) close() {
	l.wire.close()
	<-l.dead
}

func (l *link) read() {
	defer close(l.dead)
	for {
		kind, data, err := l.wire.readFrame()
		if err != nil {
			l.err = fmt.Errorf("read from nsqd: %w", err)
			return
		}
		select {
		case l.answers <- answer{kind, data}:
		default:
			l.err = fmt.Errorf("nsqd sent an answer that nobody asked for: %.80q", data)
			return
		}
	}
}

// multiPublish sends count frames to topic and waits for the OK, both within deadline. After an error the connection
// is of no more use: an answer could still come, and would be taken for the next one's.
func (l *link) multiPublish(topic string, count int, frames []byte, deadline time.Duration) error {
	timer := time.NewTimer(deadline)
	defer timer.Stop()
	head := append(make([]byte, 0, 96), "MPUB "...)
	head = append(head, topic...)
	head = append(head, '\n')
	head = binary.BigEndian.AppendUint32(head, uint32(len(frames)+4))
	head = binary.BigEndian.AppendUint32(head, uint32(count))
	if err := l.wire.write(deadline, head, frames); err != nil {
		return err
	}
	select {
	case a := <-l.answers:
		return a.check()
	case <-timer.C:
		return fmt.Errorf("no answer from nsqd within %v", deadline)
	case <-l.dead:
	}
	select { // the OK may have been the last thing that came
	case a := <-l.answers:
		return a.check()
	default:
		return l.err
	}
}

func (a answer) check() error {
	switch {
	case a.kind == nsq.FrameTypeError:
		return protocolError(a.data)
	case a.kind != nsq.FrameTypeResponse || string(a.data) != "OK":
		return errors.New("nsqd sent something else than OK")
	}
	return nil
}

// sleep waits for d, and reports whether ctx lasted that long.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
