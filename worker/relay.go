package worker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice"
	"sluice/queue"
)

const (
	relayPage     = 500                    // events in one page
	relayLease    = 5 * time.Second        // after which another worker goes on where this one was
	relayPoll     = 250 * time.Millisecond // for what other workers write; also how often the position is stored
	relayGather   = 10 * time.Millisecond  // before a page that need not be full
	relayLook     = 500 * time.Millisecond // between two looks at nsqd's channels
	relayAsk      = time.Second            // between two times that the lease is asked for in vain, or the lag is measured
	relayRetry    = 200 * time.Millisecond // before nsqd or the store is tried again
	relayDeadline = 5 * time.Second        // for nsqd to take a page, and for one call of the store
	relayGrace    = 2 * time.Second        // at the end, for what was committed last
	relayNewborn  = 5 * time.Second        // nsqd tells its start in whole seconds: one so young may have started twice in one
	relaySure     = 30 * time.Second       // the age of an nsqd that has been heard of past relayNewborn: silence breaks a connection sooner

	// readerPrefix begins the names of the relay's readers: one for each life of an nsqd, so that a restarted one is a new
	// reader, which begins at the oldest event.
	readerPrefix = "nsq@"
	nameless     = readerPrefix + "unknown" // of an nsqd without HTTP
)

// outbox is what the relay needs of the store; inventory.Outbox is its contract.
type outbox interface {
	Events(ctx context.Context, after int64, limit int) (sluice.Events, error)
	Claim(ctx context.Context, reader, owner string, ttl time.Duration) (position int64, held bool, err error)
	Advance(ctx context.Context, reader, owner string, position int64) (held bool, err error)
	Readers(ctx context.Context) (map[string]int64, error)
}

// relay brings the store's events to nsqd, at least once and in order: of all workers the one that has the lease of the
// reader, which is nsqd in its present life. An nsqd that restarts has forgotten what it took, so it is sent everything
// again that the store keeps, a page of that for each page of what is new.
type relay struct {
	cfg   Config
	store outbox
	owner string
	grace time.Duration // relayGrace; a test may give it more
	log   *slog.Logger
	*relayMetrics

	nudged   chan struct{} // capacity 1: something was committed
	stopping chan struct{}
	stopOnce sync.Once
	cancel   context.CancelCauseFunc
	running  sync.WaitGroup

	confirmed atomic.Int64 // number of the last new event that nsqd took from this relay
	closed    atomic.Bool  // there is no channel to relay to

	// Owned by run.
	doubted string // the reader whose nsqd may have restarted unseen
	unsure  string // the reader whose nsqd was last known as a newborn: another one may have its name since
	tooDeep bool   // a channel is
	trouble string // that was logged last; empty: all is well
}

func newRelay(cfg Config, store outbox, log *slog.Logger, reg prometheus.Registerer) *relay {
	r := &relay{
		cfg: cfg, store: store, owner: rand.Text(), grace: relayGrace, log: log,
		nudged: make(chan struct{}, 1), stopping: make(chan struct{}),
	}
	r.closed.Store(len(cfg.EventChannels) == 0)
	r.relayMetrics = newRelayMetrics(reg)
	return r
}

// nudge says that there may be new events. It never waits.
func (r *relay) nudge() {
	select {
	case r.nudged <- struct{}{}:
	default:
	}
}

func (r *relay) start(ctx context.Context) {
	ctx, r.cancel = context.WithCancelCause(ctx)
	r.running.Go(func() { r.run(ctx) })
	r.running.Go(func() { r.measure(ctx) })
}

// stop ends the relay once it has brought what is committed to nsqd, or after relayGrace.
func (r *relay) stop(ctx context.Context) {
	if r.cancel == nil {
		return
	}
	ctx, release := context.WithTimeout(ctx, r.grace)
	defer release()
	defer context.AfterFunc(ctx, func() { r.cancel(errStopped) })()
	r.stopOnce.Do(func() { close(r.stopping) })
	r.running.Wait()
	r.cancel(errStopped)
}

func (r *relay) run(ctx context.Context) {
	if len(r.cfg.EventChannels) == 0 && r.cfg.NSQDHTTP == "" {
		return // there will never be a channel that is known of
	}
	for !r.ended(ctx) {
		err := r.connect(ctx)
		switch {
		case err == nil || r.ended(ctx):
			return
		case errors.Is(err, errors.ErrUnsupported):
			r.log.Warn("the store keeps no events; none are relayed")
			return
		}
		r.wait(ctx, relayRetry, nil)
	}
}

// ended reports whether the relay shall not try once more.
func (r *relay) ended(ctx context.Context) bool {
	select {
	case <-r.stopping:
		return true
	default:
		return ctx.Err() != nil
	}
}

// wait waits for d, less where wake comes before or the relay shall stop.
func (r *relay) wait(ctx context.Context, d time.Duration, wake <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-wake:
	case <-r.stopping:
	case <-ctx.Done():
	}
}

// troubled logs what is in the way, once for each kind of it; empty: nothing is.
func (r *relay) troubled(kind string, err error) {
	if kind == r.trouble {
		return
	}
	r.trouble = kind
	if kind == "" {
		r.log.Info("the relay of events works again")
		return
	}
	r.log.Warn("events can't be relayed; trying again", "trouble", kind, "nsqd", r.cfg.NSQD, "error", err)
}

// connect works over one connection to nsqd. It returns nil when it has been stopped.
func (r *relay) connect(ctx context.Context) error {
	conn, err := queue.DialBatches(ctx, r.cfg.NSQD, r.cfg.NSQDTLS, relayDeadline)
	if err != nil {
		r.troubled("nsqd does not answer", err)
		return err
	}
	defer conn.Close()
	s := &session{relay: r, conn: conn, kept: map[string]func(){}}
	defer s.close(ctx)
	// Who nsqd is, is asked after it was dialled: whatever it becomes, this connection does not outlive it.
	s.identify(ctx)
	if err := s.ensure(ctx, r.cfg.EventChannels); err != nil {
		r.troubled("a channel can't be made", err)
		return err
	}
	return s.serve(ctx)
}

// session is the relay over one connection: one life of nsqd.
type session struct {
	*relay
	conn   *queue.Batches
	http   bool              // nsqd tells of itself
	reader string            // its name in the store
	born   time.Time         // its start
	kept   map[string]func() // ends the hold of each ephemeral channel
	looked time.Time         // at the channels

	held  bool
	asked time.Time // for the lease
	saved time.Time // the position
	at    int64     // the position that was saved

	// What lies after back up to until is sent again, what lies after front is new.
	back, until, front int64
	bodies             [][]byte
}

// identify finds the reader's name, and whether its nsqd may have restarted without another name: then everything is
// doubted. An nsqd that tells nothing of itself is doubted with each connection.
func (s *session) identify(ctx context.Context) {
	const tries = 5 // it may just have started
	for try := range tries {
		if s.cfg.NSQDHTTP == "" || s.ended(ctx) {
			break
		}
		if try > 0 {
			s.wait(ctx, relayRetry, s.conn.Broken())
		}
		name, started, err := queue.Identify(ctx, s.cfg.NSQDHTTP, s.cfg.NSQDTLS)
		if err == nil {
			s.http, s.reader, s.born = true, readerPrefix+name, started
			newborn := time.Since(started) < relayNewborn
			if newborn || s.unsure == s.reader {
				s.doubted = s.reader
			}
			if s.unsure = ""; newborn {
				s.unsure = s.reader
			}
			return
		}
		if try == tries-1 {
			s.log.Warn("nsqd can't be asked about itself: every connection counts as a restart, and its channels are not bounded", "error", err)
		}
	}
	s.reader, s.doubted = nameless, nameless
	s.pause("", 0)
}

// ensure makes channels, so that they get every event from the first one on.
func (s *session) ensure(ctx context.Context, channels []string) error {
	for _, channel := range channels {
		if !strings.HasSuffix(channel, queue.Ephemeral) {
			if err := queue.EnsureChannel(ctx, s.cfg.NSQD, s.cfg.NSQDTLS, queue.TopicEvents, channel); err != nil {
				return fmt.Errorf("channel %s: %w", channel, err)
			}
			continue
		}
		if release := s.kept[channel]; release != nil {
			release()
			delete(s.kept, channel)
		}
		release, err := queue.HoldChannel(ctx, s.cfg.NSQD, s.cfg.NSQDTLS, queue.TopicEvents, channel)
		if err != nil {
			return fmt.Errorf("channel %s: %w", channel, err)
		}
		s.kept[channel] = release
	}
	return nil
}

// close stores the position and gives the lease back, so that the next one need not wait for its end.
func (s *session) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.grace)
	defer cancel()
	s.giveUp(ctx)
	for _, release := range s.kept {
		release()
	}
}

func (s *session) giveUp(ctx context.Context) {
	if s.held && s.at != s.position() {
		_ = s.advance(ctx)
	}
	if s.held {
		_, _, _ = s.store.Claim(ctx, s.reader, s.owner, 0) // if it fails, the lease ends by itself
	}
	s.hold(false)
}

// hold notes whether this worker is the one that relays.
func (s *session) hold(held bool) {
	s.held = held
	s.leased.Set(gauge(held))
	if !held {
		s.again.Set(0)
	}
}

// anew has the next turn ask for the lease and begin where the store says. What was not stored is sent again.
func (s *session) anew() {
	s.hold(false)
	s.asked = time.Time{}
}

// serve relays until the connection breaks or the relay is stopped. The store's troubles do not end a session: a new
// connection could count as nsqd's restart.
func (s *session) serve(ctx context.Context) error {
	for {
		last := s.ended(ctx)
		full, err := s.turn(ctx)
		if s.http && time.Since(s.born) > relaySure && !s.broken() { // in this order: it lives still
			s.unsure = ""
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case s.broken():
			s.troubled("the connection to nsqd is broken", err)
			return errors.Join(errBroken, err)
		case errors.Is(err, errors.ErrUnsupported):
			return err
		case err != nil:
			s.troubled("the store does not answer", err)
			s.anew()
		default:
			s.troubled("", nil)
		}
		switch {
		case last && (!full || !s.held):
			return nil
		case s.held && (full || s.back < s.until):
		default:
			s.rest(ctx, err)
		}
	}
}

var errBroken = errors.New("the connection to nsqd is broken")

func (s *session) broken() bool {
	select {
	case <-s.conn.Broken():
		return true
	default:
		return false
	}
}

// rest waits until there may be something to do.
func (s *session) rest(ctx context.Context, err error) {
	d := relayPoll
	if err != nil {
		d = relayRetry
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.nudged:
		s.wait(ctx, relayGather, s.conn.Broken())
	case <-s.conn.Broken():
	case <-s.stopping:
	case <-ctx.Done():
	}
}

// turn looks, keeps the lease and sends a page of each kind, and reports whether that of new events was full.
func (s *session) turn(ctx context.Context) (full bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*relayDeadline)
	defer cancel()
	s.look(ctx)
	if s.closed.Load() || s.tooDeep {
		s.giveUp(ctx) // so that the store does not wait for a reader that does not read
		return false, nil
	}
	if err := s.lease(ctx); err != nil || !s.held {
		return false, err
	}
	if full, err = s.forward(ctx); err != nil || !s.held {
		return false, err
	}
	if err := s.repeat(ctx); err != nil {
		return false, err
	}
	if s.position() != s.at && time.Since(s.saved) >= relayPoll {
		err = s.advance(ctx)
	}
	return full, err
}

// look asks nsqd which channels there are and how deep. Without one nothing is sent: it would pile up in the topic.
func (s *session) look(ctx context.Context) {
	if !s.http || time.Since(s.looked) < relayLook {
		return
	}
	s.looked = time.Now()
	topic, err := queue.ProbeTopic(ctx, s.cfg.NSQDHTTP, s.cfg.NSQDTLS, queue.TopicEvents)
	if err != nil { // what was seen last holds on; a dead nsqd shows in the connection
		return
	}
	var missing []string
	for _, channel := range s.cfg.EventChannels {
		if _, ok := topic.Channels[channel]; !ok {
			missing = append(missing, channel)
		}
	}
	if err := s.ensure(ctx, missing); err != nil { // somebody removed it; the next look tries again
		s.log.Warn("an event channel is gone and can't be made again", "error", err)
	}
	s.closed.Store(len(topic.Channels) == 0 && len(s.cfg.EventChannels) == 0)
	channel, messages := topic.Deepest()
	s.pause(channel, messages)
}

// pause stops the relay while a channel is too deep: whoever reads it is dead or too slow, and nsqd's disk has an end.
// What waits in the store is bounded by its retention. It goes on once a tenth is gone, so as not to stop at once again.
func (s *session) pause(channel string, messages int64) {
	most := int64(s.cfg.EventBacklog)
	deep := messages >= most || (s.tooDeep && messages > most-most/10)
	if deep == s.tooDeep {
		return
	}
	s.tooDeep = deep
	if deep {
		s.paused.Set(1)
		s.log.Warn("events are not relayed while a channel is too deep: is its subscriber alive?",
			"channel", channel, "messages", messages, "most", most)
		return
	}
	s.paused.Set(0)
	s.log.Info("the channels have room; events are relayed again", "messages", messages)
}

// lease asks for the reader's lease, or keeps it.
func (s *session) lease(ctx context.Context) error {
	every := relayAsk
	if s.held {
		every = relayLease / 3
	}
	if time.Since(s.asked) < every {
		return nil
	}
	position, held, err := s.store.Claim(ctx, s.reader, s.owner, relayLease)
	if err != nil {
		return err
	}
	s.asked = time.Now()
	switch {
	case held && !s.held:
		s.hold(true)
		if err := s.begin(ctx, position); err != nil {
			return err
		}
		s.log.Info("this worker relays the events", "reader", s.reader, "from", s.front+1, "again", s.until-s.back)
	case !held && s.held:
		s.log.Info("another worker relays the events", "reader", s.reader)
		s.hold(false)
	}
	return nil
}

// begin finds out what this nsqd is still to get. What an earlier life of it got was new then, and is sent again now.
func (s *session) begin(ctx context.Context, position int64) error {
	readers, err := s.store.Readers(ctx)
	if err != nil {
		return err
	}
	s.at, s.back, s.front, s.saved = position, position, furthest(readers, position), time.Now()
	s.until = s.front
	if s.doubted != s.reader {
		return nil
	}
	page, err := s.store.Events(ctx, 0, 1)
	if err != nil {
		return err
	}
	if page.Oldest > 0 {
		s.back = min(s.back, page.Oldest-1)
	}
	// Stored before anything is sent: after a crash nobody might know of the doubt.
	if err := s.advance(ctx); err == nil && s.held {
		s.doubted = ""
	}
	return err
}

// furthest is where new events begin: behind what any life of nsqd has got.
func furthest(readers map[string]int64, position int64) int64 {
	for reader, at := range readers {
		if strings.HasPrefix(reader, readerPrefix) {
			position = max(position, at)
		}
	}
	return position
}

// position is the last event that nsqd has, with all before it.
func (s *session) position() int64 {
	if s.back < s.until {
		return s.back
	}
	return s.front
}

// advance stores the position. Whoever has lost the lease meanwhile begins anew.
func (s *session) advance(ctx context.Context) error {
	to := s.position()
	held, err := s.store.Advance(ctx, s.reader, s.owner, to)
	if err != nil {
		return err
	}
	if s.at, s.saved = to, time.Now(); !held {
		s.hold(false)
	}
	return nil
}

// forward sends a page of new events, and reports whether it was full.
func (s *session) forward(ctx context.Context) (full bool, err error) {
	page, err := s.store.Events(ctx, s.front, relayPage)
	if err != nil {
		return false, err
	}
	if page.Newest < s.front { // a database that was put back: the numbers come again
		s.anew()
		return false, nil
	}
	if page.Oldest > s.front+1 {
		s.forgotten.Add(float64(page.Oldest - 1 - s.front))
		s.log.Error("events were forgotten before they were relayed", "from", s.front+1, "to", page.Oldest-1)
		s.front = page.Oldest - 1
	}
	if len(page.Events) == 0 {
		s.caughtUp()
		return false, nil
	}
	if err := s.send(ctx, page.Events); err != nil {
		return false, err
	}
	s.front = page.Events[len(page.Events)-1].Seq
	s.confirmed.Store(s.front)
	s.relayed.Add(float64(len(page.Events)))
	if len(page.Events) < relayPage {
		s.caughtUp()
	}
	return len(page.Events) == relayPage, nil
}

// repeat sends a page of what an earlier life of nsqd had got.
func (s *session) repeat(ctx context.Context) error {
	if s.back >= s.until {
		return nil
	}
	page, err := s.store.Events(ctx, s.back, int(min(relayPage, s.until-s.back)))
	if err != nil {
		return err
	}
	events := page.Events
	for len(events) > 0 && events[len(events)-1].Seq > s.until { // where some were forgotten the page reaches further
		events = events[:len(events)-1]
	}
	if len(events) == 0 {
		s.back = s.until
	} else {
		if err := s.send(ctx, events); err != nil {
			return err
		}
		s.back = events[len(events)-1].Seq
	}
	s.resent.Add(float64(len(events)))
	s.again.Set(float64(s.until - s.back))
	return nil
}

// send returns once nsqd has said that it has all of them. Otherwise they are sent again.
func (s *session) send(ctx context.Context, events []sluice.Event) error {
	if cap(s.bodies) < len(events) {
		s.bodies = make([][]byte, relayPage)
	}
	s.bodies = s.bodies[:len(events)]
	for i := range events {
		s.bodies[i] = queue.AppendEvent(s.bodies[i][:0], &events[i])
	}
	return s.conn.Publish(ctx, queue.TopicEvents, s.bodies)
}
