package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"sluice"
	"sluice/queue"
)

// Events is the part of the store that the relay needs; see inventory.Outbox.
type Events interface {
	Events(ctx context.Context, after int64, limit int) (sluice.Events, error)
	Claim(ctx context.Context, reader, owner string, ttl time.Duration) (position int64, held bool, err error)
	Advance(ctx context.Context, reader, owner string, position int64) (held bool, err error)
}

const (
	relayPage    = 500
	relayAhead   = 10_000 // most events that are sent between two looks at nsqd
	relayLease   = 5 * time.Second
	relayRenew   = time.Second            // how often the lease is renewed and nsqd is looked at
	relayIdle    = 250 * time.Millisecond // between two looks into the store that nobody asked for
	relayBackoff = 2 * time.Second
	relayFinish  = time.Second // how long a stop waits for the last events
)

// relay brings events from the store to NSQ, each at least once, in the order of their numbers (P3's counterpart for
// events). Of all workers one has the lease and does it; the others stand by.
//
// nsqd forgets, so each of its lives, told apart by its start time, is a reader of its own that begins at the oldest event
// that is kept: after a restart everything within the retention time is sent again, whoever restarted meanwhile. The reader
// of an older life ends with its lease.
type relay struct {
	cfg     relayConfig
	events  Events
	owner   string // new with each start
	metrics *relayMetrics
	log     *slog.Logger

	nudged   chan struct{} // capacity 1: there may be news
	stopping chan struct{}
	stopOnce sync.Once
	running  sync.WaitGroup
	cancel   context.CancelCauseFunc

	// Owned by run.
	failing bool // as the log was told
	paused  string
}

// relayConfig says where events go.
type relayConfig struct {
	nsqd     string   // TCP address
	nsqdHTTP string   // HTTP address; empty: not known
	channels []string // made before the first event
	backlog  int64    // most messages in a channel; beyond, the rest waits in the store
}

func newRelay(cfg relayConfig, events Events, metrics *relayMetrics, log *slog.Logger) *relay {
	return &relay{
		cfg: cfg, events: events, metrics: metrics, log: log,
		owner:  fmt.Sprintf("relay-%016x", rand.Uint64()),
		nudged: make(chan struct{}, 1), stopping: make(chan struct{}),
	}
}

// nudge says that there may be new events. It never blocks.
func (r *relay) nudge() {
	select {
	case r.nudged <- struct{}{}:
	default:
	}
}

// start begins to relay, until stop or the end of ctx.
func (r *relay) start(ctx context.Context) {
	ctx, r.cancel = context.WithCancelCause(ctx)
	r.running.Go(func() { r.run(ctx) })
}

// stop gives the relay a moment for the events that are there, and ends it.
func (r *relay) stop() {
	if r.cancel == nil {
		return
	}
	r.stopOnce.Do(func() { close(r.stopping) })
	timer := time.AfterFunc(relayFinish, func() { r.cancel(errStopped) })
	defer timer.Stop()
	r.running.Wait()
	r.cancel(errStopped)
}

func (r *relay) run(ctx context.Context) {
	for {
		err := r.session(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		if !r.failing {
			r.failing = true
			r.log.Warn("events are not relayed; retrying", "error", err)
		}
		r.metrics.held.Set(0)
		r.metrics.failures.Inc()
		timer := time.NewTimer(relayBackoff/2 + rand.N(relayBackoff/2))
		select {
		case <-timer.C:
		case <-r.stopping:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil || r.isStopping() {
			return
		}
	}
}

// session relays over one connection. It returns nil when it was told to stop.
func (r *relay) session(ctx context.Context) error {
	conn, err := queue.DialBatches(ctx, r.cfg.nsqd)
	if err != nil {
		return err
	}
	defer conn.Close()
	s := &relaySession{relay: r, conn: conn}
	defer s.release(ctx)
	if err := s.identify(ctx); err != nil {
		return err
	}
	for {
		if err := s.renew(ctx); err != nil {
			return err
		}
		more, err := s.page(ctx)
		if err != nil {
			return err
		}
		if !more && !s.wait(ctx) {
			return context.Cause(ctx)
		}
	}
}

// relaySession is one connection's work.
type relaySession struct {
	*relay
	conn     *queue.Batches
	reader   string
	position int64
	held     bool
	made     bool      // nsqd has the channels
	room     int       // events that nsqd may get before it is looked at again
	renewed  time.Time // when renew last asked the store and nsqd
}

// identify finds out which life of which nsqd this is. nsqd tells its start in whole seconds: within the first one that it is
// seen, it could end and come back unnoticed, so nothing is published to it before.
func (s *relaySession) identify(ctx context.Context) error {
	s.reader = "nsq"
	if s.cfg.nsqdHTTP == "" {
		return s.startOver(ctx)
	}
	before, err := queue.ProbeTopic(ctx, s.cfg.nsqdHTTP, queue.TopicEvents)
	if err != nil {
		return err
	}
	s.reader = "nsq@" + strconv.FormatInt(before.StartTime.Unix(), 10)
	timer := time.NewTimer(1100 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.conn.Broken():
		return s.conn.Err()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	after, err := queue.ProbeTopic(ctx, s.cfg.nsqdHTTP, queue.TopicEvents)
	if err != nil {
		return err
	}
	if !after.StartTime.Equal(before.StartTime) {
		return errors.New("nsqd has just restarted")
	}
	return nil
}

// startOver has everything sent again that is kept: without nsqd's HTTP port every new connection may be to a new life.
func (s *relaySession) startOver(ctx context.Context) error {
	if err := s.claim(ctx); err != nil || !s.held {
		return err
	}
	kept, err := s.events.Events(ctx, 0, 1)
	if err != nil {
		return err
	}
	s.position = max(0, kept.Oldest-1)
	s.held, err = s.events.Advance(ctx, s.reader, s.owner, s.position)
	return err
}

func (s *relaySession) claim(ctx context.Context) (err error) {
	s.position, s.held, err = s.events.Claim(ctx, s.reader, s.owner, relayLease)
	if err != nil {
		return fmt.Errorf("the relay's lease: %w", err)
	}
	s.metrics.held.Set(b2f(s.held))
	return nil
}

// renew keeps the lease, and looks whether nsqd can take events, once in a while.
func (s *relaySession) renew(ctx context.Context) error {
	if err := s.conn.Err(); err != nil {
		return err
	}
	if since := time.Since(s.renewed); since < relayRenew && (s.room > 0 || since < relayIdle) {
		return nil
	}
	had := s.held
	if err := s.claim(ctx); err != nil {
		return err
	}
	if s.held && !had {
		s.log.Info("this worker relays events", "reader", s.reader, "position", s.position)
	}
	s.renewed = time.Now()
	if !s.held {
		return nil
	}
	return s.look(ctx)
}

// look makes the channels and finds out how many more events nsqd may get. A topic without a channel would keep what it gets
// for nobody, and a channel that nobody reads would grow on nsqd's disk: both wait in the store instead (P9). Without nsqd's
// HTTP port nobody knows how much it holds.
func (s *relaySession) look(ctx context.Context) error {
	if s.cfg.nsqdHTTP == "" {
		if s.room = relayAhead; len(s.cfg.channels) == 0 {
			s.room = 0
			s.pause("no channel is named, and nsqd's HTTP address is not known", "")
		}
		return s.makeChannels(ctx, nil)
	}
	there, err := queue.ProbeTopic(ctx, s.cfg.nsqdHTTP, queue.TopicEvents)
	if err != nil {
		return err
	}
	if err := s.makeChannels(ctx, there.Channels); err != nil {
		return err
	}
	deepest, depth := "", there.Waiting // on its way into every channel
	for name, n := range there.Channels {
		if n += there.Waiting; n > depth || deepest == "" {
			deepest, depth = name, n
		}
	}
	s.metrics.backlog.Set(float64(depth))
	s.room = int(min(max(s.cfg.backlog-depth, 0), relayAhead))
	switch {
	case len(there.Channels) == 0 && len(s.cfg.channels) == 0:
		s.room = 0
		s.pause("nobody has a channel of the events", "")
	case s.room == 0:
		s.pause("a channel holds as many events as it may", deepest)
	default:
		s.pause("", "")
	}
	return nil
}

// makeChannels makes those that are not there. Without knowing which are, it makes all, once a connection.
func (s *relaySession) makeChannels(ctx context.Context, there map[string]int64) error {
	for _, name := range s.cfg.channels {
		if _, known := there[name]; known || there == nil && s.made {
			continue
		}
		if err := queue.EnsureChannel(ctx, s.cfg.nsqd, queue.TopicEvents, name); err != nil {
			return fmt.Errorf("make channel %s of topic %s: %w", name, queue.TopicEvents, err)
		}
	}
	s.made = true
	return nil
}

// pause notes why events wait in the store; empty: they do not.
func (s *relaySession) pause(why, channel string) {
	s.metrics.paused.Set(b2f(why != ""))
	if why == s.paused {
		return
	}
	if s.paused = why; why != "" {
		s.log.Warn("events wait in the store", "reason", why, "channel", channel, "backlog", s.cfg.backlog)
	} else {
		s.log.Info("events are relayed again")
	}
}

// page publishes the next events, and reports whether there may be more at once.
func (s *relaySession) page(ctx context.Context) (more bool, err error) {
	if !s.held {
		return false, nil
	}
	page, err := s.events.Events(ctx, s.position, min(relayPage, max(s.room, 1)))
	if err != nil {
		return false, fmt.Errorf("read events: %w", err)
	}
	s.metrics.behind(page, s.position)
	if len(page.Events) == 0 || s.room == 0 {
		s.works()
		return false, nil
	}
	if err := s.publish(ctx, page.Events); err != nil {
		return false, err
	}
	last := page.Events[len(page.Events)-1].Seq
	if s.held, err = s.events.Advance(ctx, s.reader, s.owner, last); err != nil {
		return false, fmt.Errorf("note what was relayed: %w", err)
	}
	s.works()
	s.metrics.relayed.Add(float64(len(page.Events)))
	s.position = last
	s.room -= len(page.Events)
	return page.Newest > last, nil
}

// publish sends events in pieces that nsqd takes at once.
func (s *relaySession) publish(ctx context.Context, events []sluice.Event) error {
	const piece = 1 << 20
	var bodies [][]byte
	size := 0
	for i := range events {
		body, err := queue.AppendEvent(nil, &events[i])
		if err != nil {
			return err
		}
		bodies, size = append(bodies, body), size+len(body)
		if size < piece && i < len(events)-1 {
			continue
		}
		if err := s.conn.Send(ctx, queue.TopicEvents, bodies); err != nil {
			return err
		}
		bodies, size = bodies[:0], 0
	}
	return nil
}

// works says so where the log was told otherwise.
func (r *relay) works() {
	if r.failing {
		r.failing = false
		r.log.Info("events are relayed again")
	}
}

// wait waits for news; false when the relay was told to stop, or ctx has ended.
func (s *relaySession) wait(ctx context.Context) bool {
	if s.isStopping() {
		return false
	}
	timer := time.NewTimer(relayIdle)
	defer timer.Stop()
	select {
	case <-s.nudged:
	case <-timer.C:
	case <-s.conn.Broken(): // renew says so
	case <-s.stopping: // one more look: something may have been settled since the last
	case <-ctx.Done():
		return false
	}
	return true
}

func (r *relay) isStopping() bool {
	select {
	case <-r.stopping:
		return true
	default:
		return false
	}
}

// release gives the lease back, so that another worker need not wait for its end.
func (s *relaySession) release(ctx context.Context) {
	s.metrics.held.Set(0)
	if !s.held {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_, _, _ = s.events.Claim(ctx, s.reader, s.owner, 0) // else it ends by itself
}

func b2f(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
