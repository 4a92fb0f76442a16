package queue

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nsqio/go-nsq"
)

// ConsumerConfig says what to take and how. Zero fields take the default that is named with them.
type ConsumerConfig struct {
	Addr    string      // nsqd's TCP address
	TLS     *tls.Config // nil: plain text
	Topic   string
	Channel string

	MaxInFlight int           // most messages taken and not answered; 1,000. nsqd's own max-rdy-count caps it further
	MaxBatch    int           // most messages in one call of Handle; 500
	Flush       time.Duration // longest wait for a batch to fill; 0: whatever is there
	Workers     int           // most calls of Handle at a time; 1
	MsgTimeout  time.Duration // after which nsqd gives an unanswered message to somebody else; 0: as nsqd is configured

	// Handle answers every message of the batch before it returns; one that it leaves unanswered is requeued. Its ctx
	// ends with the one given to Start and with the one given to Stop. The slice is Handle's to keep.
	Handle func(ctx context.Context, batch []*Message)
	Logger *slog.Logger
}

func (c ConsumerConfig) check() error {
	if err := validTopic(c.Topic); err != nil {
		return err
	}
	if err := validChannel(c.Channel); err != nil {
		return err
	}
	if c.Handle == nil {
		return errors.New("it has nobody to handle messages")
	}
	return nil
}

func (c ConsumerConfig) withDefaults() ConsumerConfig {
	setDefault(&c.MaxInFlight, 1000)
	setDefault(&c.MaxBatch, 500)
	setDefault(&c.Workers, 1)
	c.Logger = loggerOr(c.Logger).With(
		slog.String("nsqd", c.Addr), slog.String("topic", c.Topic), slog.String("channel", c.Channel))
	return c
}

const (
	consumerTimeout   = 5 * time.Second // for a dial and handshake, and for a write
	consumerReconnect = 50 * time.Millisecond
	consumerBackoff   = time.Second

	// aside is for how long a message is put back that cannot be kept, or that Handle left unanswered. It keeps nsqd
	// from sending it again in a loop.
	aside = time.Second

	// maxAnswerBytes bounds the answers that nsqd has not read yet: some 50,000. A peer that far behind is dead.
	maxAnswerBytes = 1 << 20
)

// Message is one delivery. It must be answered once, by Finish or Requeue; further answers do nothing, and neither
// blocks. An answer to a connection that has died is lost: nsqd delivers the message again after its timeout.
type Message struct {
	ID       [16]byte // nsqd's, in hexadecimal; the same for each delivery
	Body     []byte
	Attempts int       // deliveries, this one included, as far as nsqd remembers
	Received time.Time // when it came in here

	consumer *Consumer
	session  *session
	answered bool // guarded by consumer.mu
}

// Finish says that the message is done with.
func (m *Message) Finish() { m.consumer.answer(m, finish) }

// Requeue asks for the message again after delay, at most an hour. nsqd forgets the delay when it restarts.
func (m *Message) Requeue(delay time.Duration) {
	m.consumer.answer(m, func(dst []byte, m *Message) []byte { return requeue(dst, m, delay) })
}

// Touch gives Handle the message's whole timeout once more, from now on: nsqd grants that until its max-msg-timeout (15
// minutes by default) has passed since the delivery. It does nothing to a message that is answered.
func (m *Message) Touch() {
	m.consumer.mu.Lock()
	defer m.consumer.mu.Unlock()
	if !m.answered {
		m.consumer.sayLocked(m, touch)
	}
}

// Answered reports whether Finish or Requeue was called.
func (m *Message) Answered() bool {
	m.consumer.mu.Lock()
	defer m.consumer.mu.Unlock()
	return m.answered
}

func finish(dst []byte, m *Message) []byte {
	dst = append(dst, "FIN "...)
	dst = append(dst, m.ID[:]...)
	return append(dst, '\n')
}

func touch(dst []byte, m *Message) []byte {
	dst = append(dst, "TOUCH "...)
	dst = append(dst, m.ID[:]...)
	return append(dst, '\n')
}

func requeue(dst []byte, m *Message, delay time.Duration) []byte {
	dst = append(dst, "REQ "...)
	dst = append(dst, m.ID[:]...)
	dst = append(dst, ' ')
	dst = strconv.AppendInt(dst, max(0, min(delay, time.Hour)).Milliseconds(), 10)
	return append(dst, '\n')
}

// Consumer takes messages of one channel in batches. It keeps connecting by itself until it is stopped.
type Consumer struct {
	cfg       ConsumerConfig
	epoch     atomic.Uint64
	connected atomic.Bool

	collecting chan struct{} // capacity 1: held by the worker that is filling its batch
	ready      chan struct{} // capacity 1: the queue is no longer empty, or it has reached a batch

	stopping chan struct{}  // closed: take no more, do not connect again
	answered chan struct{}  // closed: stopping, and the workers have given their last answers
	workers  sync.WaitGroup // calls of Handle
	ended    chan struct{}  // closed: no goroutine is left
	cancel   context.CancelCauseFunc

	mu      sync.Mutex
	started bool
	stopped bool
	window  int        // MaxInFlight as it stands
	most    int        // the largest window so far: more than these are never held
	held    int        // messages taken and not answered, of dead connections too
	queue   []*Message // those that no worker has taken
	session *session   // nil without a connection

	// Owned by run.
	link    linkLog
	backoff backoff
}

// session is one connection of a consumer. Its lower fields are guarded by Consumer.mu.
type session struct {
	wire  *wire
	flush chan struct{} // capacity 1: there is something to write
	quiet chan struct{} // closed when nsqd has promised to send no more
	over  chan struct{} // closed when reading has ended

	out      []byte // answers that are not written yet
	inFlight int    // messages of this connection that are not answered
	rdy      int    // as nsqd last heard it
	closing  bool   // CLS was sent
}

// NewConsumer checks cfg. Start begins to consume.
func NewConsumer(cfg ConsumerConfig) (*Consumer, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("consumer: %w", err)
	}
	cfg = cfg.withDefaults()
	return &Consumer{
		cfg:        cfg,
		collecting: make(chan struct{}, 1), ready: make(chan struct{}, 1),
		stopping: make(chan struct{}), answered: make(chan struct{}), ended: make(chan struct{}),
		window: cfg.MaxInFlight, most: cfg.MaxInFlight,
		link:    linkLog{log: cfg.Logger},
		backoff: backoff{least: consumerReconnect, most: consumerBackoff},
	}, nil
}

// Start begins to connect and to consume, once; nsqd need not be there yet. The end of ctx ends everything at once,
// unanswered messages included; Stop ends it in order.
func (c *Consumer) Start(ctx context.Context) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.started || c.stopped {
		return
	}
	c.started = true
	ctx, c.cancel = context.WithCancelCause(ctx)
	for range c.cfg.Workers {
		c.workers.Go(func() { c.work(ctx) })
	}
	var wg sync.WaitGroup
	wg.Go(func() { c.run(ctx) })
	go func() {
		c.workers.Wait()
		close(c.answered)
		wg.Wait()
		c.cancel(nil)
		close(c.ended)
	}()
}

// Connected reports whether there is a connection that looks alive. A frozen nsqd looks alive until it has missed its
// heartbeats.
func (c *Consumer) Connected() bool { return c.connected.Load() }

// Epoch counts the connections made. When it has grown, an ephemeral channel may have missed messages in between.
func (c *Consumer) Epoch() uint64 { return c.epoch.Load() }

// SetMaxInFlight changes how many messages may be taken and not answered. 0 takes no more until it is raised again.
// Lowering it takes nothing back from Handle.
func (c *Consumer) SetMaxInFlight(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.window = max(0, n)
	c.most = max(c.most, c.window)
	c.pokeLocked()
}

// MaxInFlight is the window as it stands.
func (c *Consumer) MaxInFlight() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.window
}

// InFlight is how many messages are taken and not answered.
func (c *Consumer) InFlight() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.held
}

// errStopped is why Handle's context ends when Stop runs out of time.
var errStopped = errors.New("the consumer was stopped before its messages were handled")

// Stop takes no more messages, puts back what no worker has begun, lets Handle finish the rest and closes. When ctx
// ends first, Handle's context ends too and Stop returns; only a Handle that does not heed its context outlives it.
func (c *Consumer) Stop(ctx context.Context) error {
	if !c.stopTaking() {
		return nil
	}
	select {
	case <-c.ended:
		return nil
	case <-ctx.Done():
	}
	c.cancel(errStopped)
	select {
	case <-c.ended: // a moment for those who do heed it
	case <-time.After(100 * time.Millisecond):
	}
	return fmt.Errorf("consumer of %s/%s: %w: %w", c.cfg.Topic, c.cfg.Channel, errStopped, context.Cause(ctx))
}

// stopTaking reports whether there is anything to wait for.
func (c *Consumer) stopTaking() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.stopped {
		c.stopped = true
		close(c.stopping)
		for _, m := range c.queue {
			c.answerLocked(m, func(dst []byte, m *Message) []byte { return requeue(dst, m, 0) })
		}
		c.queue = nil
		c.pokeLocked()
	}
	return c.started
}

// run keeps a connection until Stop or until ctx ends.
func (c *Consumer) run(ctx context.Context) {
	for !c.isStopping() && ctx.Err() == nil {
		began := time.Now()
		err := c.connectAndServe(ctx)
		if c.isStopping() || ctx.Err() != nil {
			return
		}
		c.link.lost(err)
		if time.Since(began) > consumerTimeout+consumerBackoff { // it had worked for a while
			c.backoff.reset()
		}
		timer := time.NewTimer(c.backoff.wait())
		select {
		case <-timer.C:
		case <-c.stopping:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

func (c *Consumer) isStopping() bool {
	select {
	case <-c.stopping:
		return true
	default:
		return false
	}
}

// connectAndServe runs one connection from dial to end.
func (c *Consumer) connectAndServe(ctx context.Context) error {
	s, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, s.wire.close)()
	c.epoch.Add(1)
	c.connected.Store(true)
	c.link.restored()

	var flusher sync.WaitGroup
	flusher.Go(func() { c.flushAnswers(s) })
	c.mu.Lock()
	c.session = s
	c.pokeLocked()
	c.mu.Unlock()

	err = c.receive(s)

	c.connected.Store(false)
	c.mu.Lock()
	c.session = nil
	c.mu.Unlock()
	s.wire.close()
	close(s.over)
	flusher.Wait()
	return err
}

// connect dials and subscribes; Stop interrupts it.
func (c *Consumer) connect(ctx context.Context) (*session, error) {
	ctx, cancel := context.WithCancel(ctx)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer cancel()
	watch.Go(func() {
		select {
		case <-c.stopping:
			cancel()
		case <-ctx.Done():
		}
	})
	w, err := dialWire(ctx, dialConfig{
		addr: c.cfg.Addr, tls: c.cfg.TLS, timeout: consumerTimeout, heartbeat: defaultHeartbeat, msgTimeout: c.cfg.MsgTimeout,
	})
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, w.close)()
	if err := w.subscribe(c.cfg.Topic, c.cfg.Channel, consumerTimeout); err != nil {
		w.close()
		return nil, err
	}
	return &session{
		wire: w, flush: make(chan struct{}, 1), quiet: make(chan struct{}), over: make(chan struct{}),
	}, nil
}

// receive reads messages until the connection ends.
func (c *Consumer) receive(s *session) error {
	for {
		kind, data, err := s.wire.readFrame()
		if err != nil {
			return fmt.Errorf("read from nsqd: %w", err)
		}
		switch kind {
		case nsq.FrameTypeMessage:
			m, err := nsq.DecodeMessage(data)
			if err != nil {
				return fmt.Errorf("read from nsqd: %w", err)
			}
			c.take(&Message{
				ID: m.ID, Body: m.Body, Attempts: int(m.Attempts), Received: time.Now(),
				consumer: c, session: s,
			})
		case nsq.FrameTypeResponse:
			if string(data) == "CLOSE_WAIT" {
				s.hush()
			}
		case nsq.FrameTypeError:
			// A late FIN or REQ: the message timed out and belongs to somebody else. nsqd closes after graver errors.
			c.cfg.Logger.Debug("nsqd refused a command", slog.String("error", string(data)))
		}
	}
}

// hush notes that nsqd sends no more. Only the reader calls it.
func (s *session) hush() {
	select {
	case <-s.quiet:
	default:
		close(s.quiet)
	}
}

// take queues a message for the workers, or puts it back. More than the window comes in when nsqd timed out messages
// that Handle still has, and sends them again: keeping those too would grow without a bound (P9).
func (c *Consumer) take(m *Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held++
	m.session.inFlight++
	switch {
	case c.stopped:
		c.answerLocked(m, func(dst []byte, m *Message) []byte { return requeue(dst, m, 0) })
	case c.held > c.most:
		c.answerLocked(m, func(dst []byte, m *Message) []byte { return requeue(dst, m, aside) })
	default:
		c.queue = append(c.queue, m)
		if n := len(c.queue); n == 1 || n == c.cfg.MaxBatch {
			wake(c.ready)
		}
	}
}

func (c *Consumer) answer(m *Message, command func([]byte, *Message) []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answerLocked(m, command)
}

func (c *Consumer) answerLocked(m *Message, command func([]byte, *Message) []byte) {
	if m.answered {
		return
	}
	m.answered = true
	c.held--
	m.session.inFlight--
	c.sayLocked(m, command)
}

// sayLocked tells nsqd something about m, where the connection that m came over still lives.
func (c *Consumer) sayLocked(m *Message, command func([]byte, *Message) []byte) {
	if s := m.session; s == c.session {
		s.out = command(s.out, m)
		if len(s.out) > maxAnswerBytes {
			s.wire.close()
		}
	}
	c.pokeLocked() // where the connection is dead, the room it held goes to the living
}

// pokeLocked has the session's answers and window written.
func (c *Consumer) pokeLocked() {
	if c.session != nil {
		wake(c.session.flush)
	}
}

func wake(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// flushAnswers writes what answers have gathered, all in one piece, so that a batch's hundreds of FINs cost one packet.
func (c *Consumer) flushAnswers(s *session) {
	var spare []byte
	answered, quiet := c.answered, s.quiet
	for answered != nil || quiet != nil {
		select {
		case <-s.flush:
		case <-answered:
			answered = nil
		case <-quiet:
			quiet = nil
		case <-s.over:
			return
		}
		buf := c.outgoing(s, spare[:0])
		if len(buf) > 0 {
			if err := s.wire.write(consumerTimeout, buf); err != nil {
				s.wire.close() // the reader finds out and says so
				return
			}
		}
		spare = buf
	}
	s.wire.closeWrite() // nsqd reads every answer, hangs up, and so ends the reader
}

// outgoing takes the commands that are due and leaves spare in their place. The window goes first: when it shrinks, the
// answers behind it must not make nsqd send more.
func (c *Consumer) outgoing(s *session, spare []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	var head []byte
	switch rdy := c.rdyLocked(s); {
	case s.closing:
	case c.stopped:
		s.closing = true
		head = []byte("CLS\n")
	case rdy != s.rdy:
		s.rdy = rdy
		head = append(strconv.AppendInt([]byte("RDY "), int64(rdy), 10), '\n')
	}
	out := s.out
	if len(head) > 0 {
		out = slices.Concat(head, out)
	}
	s.out = spare
	return out
}

// rdyLocked is how many messages nsqd may have in flight to s: the window less what dead connections left with
// Handle, so that a reconnect does not double what is held.
func (c *Consumer) rdyLocked(s *session) int {
	stale := c.held - s.inFlight
	return max(0, min(c.window-stale, s.wire.maxRDY))
}

// work handles batch after batch until Stop or until ctx ends.
func (c *Consumer) work(ctx context.Context) {
	for {
		batch := c.nextBatch(ctx)
		if batch == nil {
			return
		}
		c.cfg.Handle(ctx, slices.Clone(batch))
		c.putBackUnanswered(batch)
	}
}

func (c *Consumer) putBackUnanswered(batch []*Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range batch {
		c.answerLocked(m, func(dst []byte, m *Message) []byte { return requeue(dst, m, aside) })
	}
}

// nextBatch waits for a batch; nil when there will be no more. One worker fills a batch at a time: two at once would
// share out what should have been one.
func (c *Consumer) nextBatch(ctx context.Context) []*Message {
	if ctx.Err() != nil {
		return nil
	}
	select {
	case c.collecting <- struct{}{}:
		defer func() { <-c.collecting }()
	case <-c.stopping:
		return nil
	case <-ctx.Done():
		return nil
	}
	for c.queued() == 0 {
		select {
		case <-c.ready:
		case <-c.stopping:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
	c.waitForMore(ctx)
	return c.takeBatch()
}

// waitForMore waits at most Flush for the batch to become full.
func (c *Consumer) waitForMore(ctx context.Context) {
	if c.cfg.Flush <= 0 {
		return
	}
	timer := time.NewTimer(c.cfg.Flush)
	defer timer.Stop()
	for c.queued() < c.cfg.MaxBatch {
		select {
		case <-c.ready:
		case <-timer.C:
			return
		case <-c.stopping:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (c *Consumer) queued() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.queue)
}

// takeBatch returns nil where Stop has emptied the queue.
func (c *Consumer) takeBatch() []*Message {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := min(len(c.queue), c.cfg.MaxBatch)
	if n == 0 {
		return nil
	}
	batch := slices.Clone(c.queue[:n])
	c.queue = slices.Delete(c.queue, 0, n)
	return batch
}
