package knsq

import (
	"context"
	"fmt"
	"time"

	"sluice/queue"
)

// SubscribeOption is an option of one subscription.
type SubscribeOption func(*settings)

// settings are the options of one subscription.
type settings struct {
	workers     int
	maxInFlight int
	msgTimeout  time.Duration
	timeout     time.Duration
	batch       int
	flush       time.Duration

	version      int
	maxAttempts  int
	leastBackoff time.Duration
	mostBackoff  time.Duration
	deadTopic    string
	deadLetter   func(context.Context, Letter) error
}

// Workers is how many handlers run at a time; 1 by default. Several nsqds share them.
func Workers(n int) SubscribeOption { return func(s *settings) { s.workers = n } }

// MaxInFlight is how many messages may be taken and not answered: by default two for each worker, and two batches for
// each where batches are handled. Several nsqds share them, at least one each.
func MaxInFlight(n int) SubscribeOption { return func(s *settings) { s.maxInFlight = n } }

// MsgTimeout is after how long nsqd gives an unanswered message to somebody else: by default a minute, or a third more
// than the Timeout. nsqd takes 1 s to 15 min (its max-msg-timeout).
func MsgTimeout(d time.Duration) SubscribeOption { return func(s *settings) { s.msgTimeout = d } }

// NoTimeout is for HandlerTimeout.
const NoTimeout time.Duration = -1

// HandlerTimeout is the server's Timeout for this subscription alone. With NoTimeout the handler's context lasts until
// it returns; it should call Touch then.
func HandlerTimeout(d time.Duration) SubscribeOption { return func(s *settings) { s.timeout = d } }

// Batch is how many messages a batch has at the most; 256 by default.
func Batch(n int) SubscribeOption { return func(s *settings) { s.batch = n } }

// Flush is how long a batch waits to become full; 0, the default: it is what there is.
func Flush(d time.Duration) SubscribeOption { return func(s *settings) { s.flush = d } }

// Version refuses messages whose member "v" is another one: they are dead letters. By default nobody looks.
func Version(n int) SubscribeOption { return func(s *settings) { s.version = n } }

// MaxAttempts is after how many deliveries a message whose handler fails is a dead letter; 10 by default, which is
// some eight minutes with the default Backoff. 0: never.
func MaxAttempts(n int) SubscribeOption { return func(s *settings) { s.maxAttempts = n } }

// Backoff is how long a message whose handler failed waits before it comes again: least at first, twice as long after
// each failure, and most at the longest; 1 s and 5 min by default. nsqd takes an hour (its max-req-timeout), and forgets
// what is left of the wait when it restarts.
func Backoff(least, most time.Duration) SubscribeOption {
	return func(s *settings) { s.leastBackoff, s.mostBackoff = least, most }
}

// DeadTopic is where dead letters go, on the nsqd that they came from: by default TOPIC.CHANNEL.dead. They are published
// as they came. nsqd keeps them, on disk if they are many, until somebody subscribes.
func DeadTopic(topic string) SubscribeOption { return func(s *settings) { s.deadTopic = topic } }

// DeadLetter is called with dead letters instead of publishing them to the DeadTopic. After an error the message is not
// finished: it comes again.
func DeadLetter(f func(ctx context.Context, l Letter) error) SubscribeOption {
	return func(s *settings) { s.deadLetter = f }
}

const (
	defaultMsgTimeout = time.Minute
	mostMsgTimeout    = 15 * time.Minute // nsqd's own default
	defaultBatch      = 256
	mostWorkers       = 10_000
)

func newSettings(s *Server, opts []SubscribeOption, batch int) settings {
	set := settings{
		workers: 1, timeout: s.timeout, batch: batch,
		maxAttempts: 10, leastBackoff: time.Second, mostBackoff: 5 * time.Minute,
	}
	for _, o := range opts {
		o(&set)
	}
	if set.maxInFlight == 0 {
		set.maxInFlight = 2 * set.workers * set.batch
	}
	if set.msgTimeout == 0 {
		set.msgTimeout = max(defaultMsgTimeout, set.timeout+set.timeout/3)
	}
	if set.timeout == 0 {
		set.timeout = set.msgTimeout * 3 / 4
	}
	return set
}

func (s settings) check() error {
	switch {
	case s.workers < 1 || s.workers > mostWorkers:
		return fmt.Errorf("%d workers: want 1 to %d", s.workers, mostWorkers)
	case s.batch < 1:
		return fmt.Errorf("a batch of %d: want 1 or more", s.batch)
	case s.maxInFlight < 1:
		return fmt.Errorf("%d messages in flight: want 1 or more", s.maxInFlight)
	case s.msgTimeout < time.Second || s.msgTimeout > mostMsgTimeout:
		return fmt.Errorf("message timeout %v: want 1s to %v, and four thirds of the handler's timeout", s.msgTimeout, mostMsgTimeout)
	case s.timeout >= s.msgTimeout:
		return fmt.Errorf("handler's timeout %v: want less than the message timeout of %v", s.timeout, s.msgTimeout)
	case s.flush < 0 || s.flush >= s.msgTimeout:
		return fmt.Errorf("flush %v: want 0s or more, and less than the message timeout of %v", s.flush, s.msgTimeout)
	case s.maxAttempts < 0:
		return fmt.Errorf("%d attempts: want 1 or more, or 0 for no end", s.maxAttempts)
	case s.leastBackoff <= 0 || s.mostBackoff < s.leastBackoff || s.mostBackoff > queue.MaxDefer:
		return fmt.Errorf("backoff %v to %v: want more than 0s, the shorter one first, and at most %v",
			s.leastBackoff, s.mostBackoff, queue.MaxDefer)
	}
	return nil
}

// Subscription is what the handler of one topic and channel has taken. It may be used before Start and after Stop.
type Subscription struct {
	operation string
	consumers []*queue.Consumer // one for each nsqd; none where err is set
	err       error
}

// handleFunc handles messages from one nsqd and answers all of them.
type handleFunc func(ctx context.Context, from *nsqd, batch []*Message)

// subscribe makes the consumers.
func subscribe(s *Server, r *route, handle handleFunc) *Subscription {
	sub := &Subscription{operation: r.operation}
	defer s.add(sub)
	if sub.err = r.check(); sub.err != nil {
		sub.err = fmt.Errorf("subscribe to %s: %w", r.operation, sub.err)
		return sub
	}
	for i, n := range s.nsqds {
		c, err := queue.NewConsumer(queue.ConsumerConfig{
			Addr: n.addr, TLS: n.secure, Topic: r.topic, Channel: r.channel,
			MaxInFlight: share(r.set.maxInFlight, i, len(s.nsqds)), Workers: share(r.set.workers, i, len(s.nsqds)),
			MaxBatch: r.set.batch, Flush: r.set.flush, MsgTimeout: r.set.msgTimeout, Logger: s.log,
			Handle: func(ctx context.Context, batch []*Message) { handle(ctx, n, batch) },
		})
		if err != nil {
			sub.err = fmt.Errorf("subscribe to %s: %w", r.operation, err)
			return sub
		}
		sub.consumers = append(sub.consumers, c)
	}
	return sub
}

// share is what the i-th of n gets of all: all shares together make all of it, save that none is 0 unless all is.
func share(all, i, n int) int {
	part := all / n
	if i < all%n {
		part++
	}
	return max(part, min(all, 1))
}

func (s *Subscription) start(ctx context.Context) {
	for _, c := range s.consumers {
		c.Start(ctx)
	}
}

func (s *Subscription) stop(ctx context.Context) error {
	return together(s.consumers, func(c *queue.Consumer) error { return c.Stop(ctx) })
}

// SetMaxInFlight changes how many messages may be taken and not answered, while the server runs. 0 pauses until it is
// raised again. nsqd caps it too (its max-rdy-count, 2,500 by default). Lowering it takes nothing back from handlers.
func (s *Subscription) SetMaxInFlight(n int) {
	for i, c := range s.consumers {
		c.SetMaxInFlight(share(max(0, n), i, len(s.consumers)))
	}
}

// MaxInFlight is how many messages may be taken and not answered.
func (s *Subscription) MaxInFlight() (n int) {
	for _, c := range s.consumers {
		n += c.MaxInFlight()
	}
	return n
}

// InFlight is how many messages are taken and not answered: handlers have them, or they wait for one.
func (s *Subscription) InFlight() (n int) {
	for _, c := range s.consumers {
		n += c.InFlight()
	}
	return n
}

// Connected reports whether there is a connection to every nsqd. A frozen one looks alive until it has missed its
// heartbeats, after 15 s.
func (s *Subscription) Connected() bool {
	for _, c := range s.consumers {
		if !c.Connected() {
			return false
		}
	}
	return len(s.consumers) > 0
}

// Err is why the subscription can't be made. Start says so too.
func (s *Subscription) Err() error { return s.err }
