package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"sluice"
)

const (
	leaseTTL    = 30 * time.Second
	leaseMargin = 5 * time.Second // before its end nothing of ours is under way any more
	renewEvery  = leaseTTL / 3
	pollEvery   = 500 * time.Millisecond // for new events, where there were none
	flushEvery  = 500 * time.Millisecond // what the store shall know is written so often
	noteEvery   = 15 * time.Second       // how the endpoint does
	storePause  = time.Second            // where the store does not answer
	stopWithin  = 5 * time.Second        // what is under way when it shall end

	pageSize   = 200
	maxUnsaved = 500     // events in memory with their bodies
	maxWindow  = 10_000  // events that the position has not passed
	maxStored  = 100_000 // waiting deliveries of an endpoint; beyond, nothing more is read
	maxDead    = 100_000 // of an endpoint; beyond, the oldest are forgotten
)

// runner serves one endpoint, while it has the lease of its reader. Only the goroutine of run touches what is not told otherwise.
type runner struct {
	store   Store
	sender  *sender
	e       Endpoint
	owner   string
	reader  string
	log     *slog.Logger
	metrics *metrics
	dead    rate.Sometimes // a line of the log for each would be many

	source   string
	board    *board
	buried   map[int64]bool // dead ones after the position that the lease began with: it was not moved any more
	advanced int64          // the position as the store has it
	more     bool           // the store had more events than were read
	results  chan result
	attempts sync.WaitGroup
	lease    *time.Timer // ends what is under way before the lease ends
	duties   []*duty
	poll     *duty
	noted    bool // as a failing endpoint
	troubled bool // as was logged last
}

// duty is something that is done again and again; after an error sooner.
type duty struct {
	at    time.Time
	every time.Duration
	do    func(ctx context.Context, now time.Time) error
}

// result is what an attempt's goroutine answers.
type result struct {
	it *item
	v  verdict
}

func newRunner(store Store, e Endpoint, s *sender, m *metrics, log *slog.Logger) *runner {
	return &runner{
		store: store, sender: s, e: e, owner: randomName(), reader: "webhook:" + e.Name, log: log, metrics: m,
		dead: rate.Sometimes{First: 10, Interval: time.Second},
	}
}

// run serves the endpoint whenever nobody else does, until ctx ends.
func (r *runner) run(ctx context.Context) {
	defer r.sender.close()
	for pause(ctx, 0) {
		position, held, err := r.claim(ctx)
		switch {
		case errors.Is(err, errors.ErrUnsupported):
			r.log.Warn("webhooks wait: this store writes no events")
			return
		case err != nil || !held:
			r.trouble(ctx, err)
			pause(ctx, renewEvery)
		default:
			r.trouble(ctx, r.lead(ctx, position))
			pause(ctx, storePause)
		}
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
	return ctx.Err() == nil
}

// trouble logs when the store stops answering, and when it answers again.
func (r *runner) trouble(ctx context.Context, err error) {
	if (err != nil) != r.troubled && ctx.Err() == nil {
		r.troubled = err != nil
		r.log.Warn("webhook's store", "working", err == nil, "error", err)
	}
}

// claim takes the lease, unless the endpoint wants nothing: then events are not kept for it longer than for others.
func (r *runner) claim(ctx context.Context) (position int64, held bool, err error) {
	var disabled bool
	if r.source, disabled, err = r.store.AddWebhook(ctx, r.e.Name, r.e.address()); err != nil || disabled {
		return 0, false, err
	}
	return r.store.Claim(ctx, r.reader, r.owner, leaseTTL)
}

var (
	errLeaseOver = errors.New("the lease is over")
	errLeft      = errors.New("the endpoint is no longer served here")
)

// lead serves the endpoint from position on, until the lease is lost, the endpoint wants no more, or ctx ends.
func (r *runner) lead(ctx context.Context, position int64) error {
	held, leave := context.WithCancelCause(context.WithoutCancel(ctx)) // what is under way outlives ctx for a little
	r.lease = time.AfterFunc(leaseTTL-leaseMargin, func() { leave(errLeaseOver) })
	defer func() {
		r.lease.Stop()
		leave(errLeft)
		r.attempts.Wait()
		r.metrics.underWay.WithLabelValues(r.e.Name).Set(0)
	}()
	r.board, r.advanced, r.more = newBoard(position, r.e.MaxInFlight, r.e.MaxAge), position, false
	r.results = make(chan result, r.e.MaxInFlight)
	now := time.Now()
	r.poll = &duty{now, pollEvery, r.pull}
	r.duties = []*duty{{now.Add(renewEvery), renewEvery, r.renew}, r.poll, {now, flushEvery, r.flush}, {now, noteEvery, r.note}}
	if err := r.load(held, position); err != nil {
		return err
	}
	for ctx.Err() == nil && held.Err() == nil && !r.board.gone {
		if lost := r.step(held, time.Now()); lost != nil {
			r.log.Info("another worker serves the webhook")
			return nil
		}
		r.wait(ctx, held)
	}
	return r.finish(held, leave)
}

// step does what is due, and sends what may be sent. An error says that the lease is lost.
func (r *runner) step(held context.Context, now time.Time) error {
	var errs []error
	due := 0
	for _, d := range r.duties {
		if now.Before(d.at) {
			continue
		}
		due++
		d.at = now.Add(d.every)
		if err := d.do(held, now); err != nil {
			d.at = now.Add(storePause)
			errs = append(errs, err)
		}
	}
	err := errors.Join(errs...)
	if errors.Is(err, errLeaseOver) {
		return err
	}
	if due > 0 {
		r.trouble(held, err)
	}
	for it := r.board.next(now); it != nil; it = r.board.next(now) {
		r.send(held, it)
	}
	r.metrics.underWay.WithLabelValues(r.e.Name).Set(float64(r.board.underWay))
	return nil
}

// wait returns when there is something to do.
func (r *runner) wait(ctx, held context.Context) {
	wake, some := r.board.nextAt()
	for _, d := range r.duties {
		if !some || d.at.Before(wake) {
			wake, some = d.at, true
		}
	}
	t := time.NewTimer(time.Until(wake))
	defer t.Stop()
	select {
	case res := <-r.results:
		r.take(res)
		for len(r.results) > 0 {
			r.take(<-r.results)
		}
	case <-t.C:
	case <-ctx.Done():
	case <-held.Done():
	}
}

// load reads what the store kept for the endpoint, and which events after position are dead already.
func (r *runner) load(ctx context.Context, position int64) error {
	for _, state := range []sluice.DeliveryState{sluice.DeliveryWaiting, sluice.DeliveryAgain} {
		if err := r.each(ctx, state, 0, r.board.restore); err != nil {
			return err
		}
	}
	r.buried = map[int64]bool{}
	return r.each(ctx, sluice.DeliveryDead, position, func(d sluice.Delivery) { r.buried[d.Seq] = true })
}

// each calls do with every delivery of a state after the one numbered after.
func (r *runner) each(ctx context.Context, state sluice.DeliveryState, after int64, do func(sluice.Delivery)) error {
	const page = 1000
	for {
		deliveries, err := r.store.ListDeliveries(ctx, r.e.Name, state, after, page)
		if err != nil {
			return fmt.Errorf("read %s deliveries: %w", state, err)
		}
		for _, d := range deliveries {
			do(d)
			after = d.Seq
		}
		if len(deliveries) < page {
			return nil
		}
	}
}

// renew keeps the lease, and takes what operators want to be tried again.
func (r *runner) renew(ctx context.Context, now time.Time) error {
	_, held, err := r.store.Claim(ctx, r.reader, r.owner, leaseTTL)
	if err != nil {
		return fmt.Errorf("keep the lease: %w", err)
	}
	if !held {
		return errLeaseOver
	}
	r.lease.Reset(leaseTTL - leaseMargin - time.Since(now))
	return r.each(ctx, sluice.DeliveryAgain, 0, r.board.restore)
}

// pull reads new events while there is room for them.
func (r *runner) pull(ctx context.Context, now time.Time) error {
	b := r.board
	for r.more = true; r.more && r.room(); {
		page, err := r.store.Events(ctx, b.read, pageSize)
		if err != nil {
			return fmt.Errorf("read events: %w", err)
		}
		r.more = len(page.Events) == pageSize
		for i := range page.Events {
			if err := r.add(&page.Events[i], now); err != nil {
				return err
			}
		}
	}
	return nil
}

// room reports whether a page of events can be taken: what is not taken stays in the store.
func (r *runner) room() bool {
	b := r.board
	return b.unsaved < maxUnsaved && len(b.window) < maxWindow && len(b.stored) < maxStored
}

func (r *runner) add(e *sluice.Event, now time.Time) error {
	if missed := e.Seq - r.board.read - 1; missed > 0 {
		r.metrics.missed.WithLabelValues(r.e.Name).Add(float64(missed))
		r.log.Warn("events were forgotten before the webhook could be told of them", "events", missed, "before", e.Seq)
	}
	if !r.e.wants(e.Type) || r.buried[e.Seq] {
		r.board.skip(e.Seq)
		return nil
	}
	body, err := json.Marshal(envelope{e.Type, e.At.UTC(), e})
	if err != nil {
		return fmt.Errorf("write event %d: %w", e.Seq, err)
	}
	r.board.add(e, body, now)
	return nil
}

// send makes an attempt in a goroutine of its own. There is room for its result: lead waits for it.
func (r *runner) send(held context.Context, it *item) {
	seq, body := it.seq, it.body
	r.attempts.Go(func() { r.results <- result{it, r.attempt(held, seq, body)} })
}

func (r *runner) attempt(held context.Context, seq int64, body []byte) verdict {
	if body == nil {
		d, err := r.store.Delivery(held, r.e.Name, seq)
		if err != nil {
			return verdict{outcome: undone}
		}
		body = d.Body
	}
	return r.sender.post(held, fmt.Sprintf("evt_%s_%d", r.source, seq), body)
}

// take notes how an attempt went.
func (r *runner) take(res result) {
	now := time.Now()
	r.metrics.deliveries.WithLabelValues(r.e.Name, string(res.v.outcome)).Inc()
	if res.v.took > 0 {
		r.metrics.took.WithLabelValues(r.e.Name).Observe(res.v.took.Seconds())
	}
	r.board.done(res.it, res.v, now)
	if r.more && r.board.unsaved < maxUnsaved/2 {
		r.poll.at = now
	}
	if r.board.open != r.noted {
		r.duties[len(r.duties)-1].at = now // note it
	}
}

// flush has the store keep and forget what has changed, then moves the position past it.
func (r *runner) flush(ctx context.Context, _ time.Time) error {
	b := r.board
	if put, done := b.rows(); len(put)+len(done) > 0 {
		forgotten, err := r.store.SaveDeliveries(ctx, r.e.Name, put, done, maxDead)
		if err != nil {
			return fmt.Errorf("save deliveries: %w", err)
		}
		b.kept()
		r.tellDead(put, forgotten)
	}
	position := b.position()
	if position == r.advanced {
		return nil
	}
	held, err := r.store.Advance(ctx, r.reader, r.owner, position)
	if err != nil {
		return fmt.Errorf("move the position: %w", err)
	}
	if !held {
		return errLeaseOver
	}
	r.advanced = position
	return nil
}

func (r *runner) tellDead(put []sluice.Delivery, forgotten int) {
	r.metrics.missed.WithLabelValues(r.e.Name).Add(float64(forgotten))
	for i := range put {
		if d := &put[i]; d.State == sluice.DeliveryDead {
			r.metrics.dead.WithLabelValues(r.e.Name).Inc()
			r.dead.Do(func() {
				r.log.Warn("webhook gave an event up", "event", d.Seq, "key", d.Key, "type", d.Type, "error", d.LastError)
			})
		}
	}
}

// note tells operators how the endpoint does, and gives up what has waited too long for it.
func (r *runner) note(ctx context.Context, now time.Time) error {
	b := r.board
	b.expire(now)
	r.metrics.waiting.WithLabelValues(r.e.Name).Set(float64(len(b.stored)))
	r.metrics.failing.WithLabelValues(r.e.Name).Set(boolean(b.open || b.gone))
	lag := 0.0
	if len(b.window) > 0 {
		lag = max(0, now.Sub(b.window[0].at).Seconds())
	}
	r.metrics.lag.WithLabelValues(r.e.Name).Set(lag)
	if b.open != r.noted {
		r.noted = b.open
		r.log.Warn("webhook", "working", !b.open, "error", b.lastErr)
	}
	if err := r.store.NoteWebhook(ctx, r.e.Name, sluice.WebhookHealth{FailingSince: b.since, LastError: b.lastErr}, b.gone); err != nil {
		return fmt.Errorf("note the webhook's health: %w", err)
	}
	return nil
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// finish waits a little for what is under way, ends the rest, keeps how it went, and lets the lease go.
func (r *runner) finish(held context.Context, leave context.CancelCauseFunc) error {
	end := time.NewTimer(stopWithin)
	defer end.Stop()
	for over := false; !over && r.board.underWay > 0; {
		select {
		case res := <-r.results:
			r.take(res)
		case <-end.C:
			over = true
		case <-held.Done():
			over = true
		}
	}
	if held.Err() != nil {
		return nil // somebody else's by now
	}
	leave(errLeft)
	r.attempts.Wait() // before another worker may send
	ctx, cancel := context.WithTimeout(context.WithoutCancel(held), stopWithin)
	defer cancel()
	now := time.Now()
	if r.board.gone {
		r.log.Warn("webhook disabled: its receiver answered 410 Gone; sluice webhook resume sends again", "error", r.board.lastErr)
	}
	err := errors.Join(r.flush(ctx, now), r.note(ctx, now))
	if _, _, e := r.store.Claim(ctx, r.reader, r.owner, time.Millisecond); e != nil { // another worker need not wait for its end
		err = errors.Join(err, fmt.Errorf("let the lease go: %w", e))
	}
	return err
}
