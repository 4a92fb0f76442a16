package ingress

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"hash/maphash"
	mathrand "math/rand/v2"
	"time"

	"github.com/valyala/fasthttp"

	"sluice"
	"sluice/journal"
	"sluice/limiter"
)

// place is the path of an order at the door: parse, identify, repeat?, sale gate, blocks and rates, stock, bound, journal,
// answer, carry.
func (d *Door) place(ctx *fasthttp.RequestCtx, sale []byte) {
	r := requests.Get().(*request)
	defer requests.Put(r)
	r.began = time.Now()
	if err := d.foreign(ctx); err != nil {
		d.refuseError(ctx, err)
		return
	}
	if err := r.parse(ctx); err != nil {
		d.refuseError(ctx, err)
		return
	}
	limits := d.limits.Load()
	ticket := d.identify(ctx, limits)
	if ticket == nil {
		return
	}
	if err := r.sign(ticket, sale); err != nil {
		d.refuseError(ctx, err)
		return
	}
	if d.turnedAway.Load() != nil {
		d.unavailable(ctx, nil, errNotIntroduced.Error())
		return
	}
	now, informed := d.board.now() // first: whoever knows the store's time knows all sales
	facts := d.board.find(sale)
	if facts == nil || !informed { // without the store's time the gate can't tell if the sale is on
		d.unknownSale(ctx, informed)
		return
	}
	if r.quantity > facts.PerUserLimit {
		d.refuseError(ctx, sluice.Refuse(sluice.BadRequest, "quantity %d: this sale allows 1 to %d a buyer", r.quantity, facts.PerUserLimit))
		return
	}
	who, err := d.recall(r, facts)
	if err != nil {
		d.noAnswer(ctx, &who.id, err)
		return
	}
	if who.known.State != "" || who.waiting != nil {
		d.repeat(ctx, r, facts, &who)
		return
	}
	if v := d.refusal(ctx, r, facts, limits, now); !v.Admitted() {
		d.refuse(ctx, refusal{Verdict: v, startsAt: startOf(v, facts)})
		return
	}
	if err := d.Journal.Admitting(); err != nil {
		d.complain.Do(func() { d.Logger.Warn("nothing is admitted", "error", err) })
		d.unavailable(ctx, nil, "orders can't be made durable now")
		return
	}
	if gone(ctx) {
		d.refuseError(ctx, errGone)
		return
	}
	d.admit(ctx, r, facts, limits, ticket, &who)
}

// errGone answers who gave up. They may have asked again and been refused by now, and nobody would know of this order.
var errGone = sluice.Refuse(sluice.BadRequest, "the connection was closed before its request had its turn: nothing was ordered")

func gone(ctx *fasthttp.RequestCtx) bool {
	mine := connectionOf(ctx.Conn())
	return mine != nil && mine.gone()
}

// refusal is what speaks against a new order, but for the bound: the sale's gate, a block, a rate, the stock.
func (d *Door) refusal(ctx *fasthttp.RequestCtx, r *request, f *facts, limits *limits, now time.Time) sluice.Verdict {
	fresh := f.fresh(time.Now())
	if v := limiter.Gate(now, &f.Sale, fresh); !v.Admitted() {
		return v
	}
	if d.blocked(ctx, limits, now, r.user) {
		return sluice.Verdict{Refusal: sluice.Blocked}
	}
	if d.cfg.Identity == IdentityOpen {
		if wait := d.tooFastAddress(ctx, limits); wait > 0 {
			return sluice.Verdict{Refusal: sluice.RateLimited, RetryAfter: wait}
		}
	}
	if wait := d.buyers.Take(time.Since(d.began), maphash.Bytes(d.seed, r.user), limits.buyerRate); wait > 0 {
		return sluice.Verdict{Refusal: sluice.RateLimited, RetryAfter: wait}
	}
	if fresh && !limiter.Stock(f.Free, f.listing.queued.Load(), f.OverAdmission, d.board.share(limits.bound)) {
		return sluice.Verdict{Refusal: sluice.NoneFree, RetryAfter: d.nextRelease(now, f)}
	}
	return sluice.Verdict{}
}

// claim is the order that is asked for, and what this door knows of it already.
type claim struct {
	id, first sluice.OrderID // first: the id of the first attempt
	attempt   int
	known     sluice.Status // settled, where its State is not empty
	waiting   *outstanding  // not settled yet, where not nil
	until     time.Time     // who asks is answered by then
}

// recall derives the order's id and looks it up. Without a key, buyer and sale are the key where the limit is one unit, and a repeat
// after a rejection, expiry or cancellation is a new attempt; where the limit is more, every request is a new order.
func (d *Door) recall(r *request, facts *facts) (who claim, err error) {
	keyless := len(r.key) == 0
	who.until = r.began.Add(d.cfg.Answer)
	if keyless && facts.PerUserLimit > 1 {
		r.key = appendRandomKey(r.key)
		who.id = d.Keys.ID([]byte(facts.ID), r.user, r.key, 0)
		who.first = who.id
		return who, nil
	}
	r.name = append(r.name[:0], facts.ID...) // the sale's bytes, without a conversion that allocates
	who.first = d.Keys.ID(r.name, r.user, r.key, 0)
	who.id = who.first
	if err = d.look(&who); err != nil || !keyless || !who.known.State.Retryable() {
		return who, err
	}
	// The journal has the latest attempt of this door; later ones may have come in at others.
	if who.attempt, err = d.Journal.Attempt(who.first); err != nil {
		return who, err
	}
	who.attempt = max(who.attempt, 1)
	for ; ; who.attempt++ {
		who.id = d.Keys.ID(r.name, r.user, r.key, who.attempt)
		if err = d.look(&who); err != nil || !who.known.State.Retryable() {
			return who, err
		}
	}
}

// look finds what this door knows of who.id: outstanding, or settled and durable. Outstanding comes first: an order is
// settled before its credit goes back. The only error that is not the journal's is errSlowDisk.
func (d *Door) look(who *claim) (err error) {
	who.known, who.waiting = sluice.Status{}, nil
	if o, held := d.credits.Get(who.id); held {
		who.waiting = o
		return nil
	}
	for {
		var known bool
		if who.known, known, err = d.Journal.Settled(who.id); err != nil {
			return err
		}
		// Also where nothing is known: the first status may be on its way, and not be seen yet.
		c := d.Journal.Settling(who.id)
		if c == nil {
			return nil
		}
		if !d.synced(c, who.until) { // P10: a crash could take this status back
			return errSlowDisk
		}
		if known { // what was read is in that commit or in an older one: durable now. Newer news is for the next look.
			return nil
		}
	}
}

func appendRandomKey(b []byte) []byte {
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails (crypto/rand)
	return hex.AppendEncode(b, random[:])
}

// repeat answers an order that is in already, with its present status, however full the queue is.
func (d *Door) repeat(ctx *fasthttp.RequestCtx, r *request, facts *facts, who *claim) {
	d.metrics.repeated.Inc()
	units := who.known.Units
	if who.waiting != nil {
		if !d.awaitDisk(ctx, who.waiting, who.until) {
			return
		}
		units = who.waiting.order.Quantity
	} else if !who.known.State.Final() {
		d.ask.add(who.id, time.Now()) // the next repeat hears of a change that this door has missed
	}
	if units != r.quantity && units > 0 {
		d.refuse(ctx, refusal{
			Verdict: sluice.Verdict{Refusal: sluice.IdempotencyMismatch}, order: who.id,
			detail: "the order with this key asks for another quantity",
		})
		return
	}
	if who.waiting != nil {
		d.answerOrder(ctx, fasthttp.StatusOK, d.queuedView(who.waiting))
		return
	}
	d.answerOrder(ctx, fasthttp.StatusOK, d.settledView(&who.known, facts))
}

// errSettled says that the order was settled while its credit was asked for.
var errSettled = errors.New("settled already")

// admit takes a credit, waits for the disk, answers and carries.
func (d *Door) admit(ctx *fasthttp.RequestCtx, r *request, facts *facts, limits *limits, ticket *sluice.Ticket, who *claim) {
	bound := d.boundOf(limits)
	shares, n := d.shares(bound, facts, ticket)
	o, taken, err := d.credits.Take(who.id, bound, func() (*outstanding, error) { return d.promise(ctx, r, facts, who) }, shares[:n]...)
	switch {
	case errors.Is(err, errSettled):
		if err := d.look(who); err != nil {
			d.noAnswer(ctx, &who.id, err)
			return
		}
		d.repeat(ctx, r, facts, who)
	case errors.Is(err, errGone):
		d.refuseError(ctx, errGone)
	case err != nil:
		d.noAnswer(ctx, &who.id, err)
	case taken == limiter.Full:
		d.refuseFull(ctx, bound, bound < limits.bound)
	case taken == limiter.Present:
		who.waiting = o
		d.repeat(ctx, r, facts, who)
	default:
		if !d.awaitDisk(ctx, o, who.until) {
			return // reconcile carries it once the disk has it
		}
		d.metrics.accepted.Inc()
		d.answerOrder(ctx, fasthttp.StatusAccepted, d.queuedView(o))
		d.carry(o)
	}
}

// aWhile is how old the look at who has hung up may be.
const aWhile = 10 * time.Millisecond

// promise hands a new order to the journal. It runs under the credit's lock, where the last look at the journal is
// exact: an order of this door is outstanding or settled there, never neither.
func (d *Door) promise(ctx *fasthttp.RequestCtx, r *request, facts *facts, who *claim) (*outstanding, error) {
	_, settled, err := d.Journal.Settled(who.id)
	if err != nil {
		return nil, err
	}
	if settled || d.Journal.Settling(who.id) != nil {
		return nil, errSettled
	}
	// A disk that stands still holds everybody up here, and who waits gives up.
	switch waited := time.Since(r.began); {
	case waited > d.cfg.Answer:
		return nil, errSlowDisk
	case waited > aWhile && gone(ctx):
		return nil, errGone
	}
	o := &outstanding{
		sale: facts.listing,
		order: sluice.Order{
			ID: who.id, Sale: facts.ID, User: string(r.user), Key: string(r.key),
			Attempt: who.attempt, Quantity: r.quantity, AcceptedAt: d.storeNow(),
		},
		again: time.Now().Add(d.cfg.Answer + time.Second),
	}
	if len(r.attributes) > 0 {
		o.order.Attributes = append([]byte(nil), r.attributes...)
	}
	if parent := ctx.Request.Header.PeekBytes(traceHeader); sluice.ValidTraceparent(parent) {
		o.order.Trace.Parent = string(parent)
	}
	if o.commit, o.place, err = d.Journal.Append(&o.order, who.first); err != nil {
		return nil, err
	}
	o.sale.queued.Add(int64(r.quantity))
	return o, nil
}

// awaitDisk waits until the order is durable. Where that takes too long it answers that the order's fate is unknown; the
// credit stays out until it is known.
func (d *Door) awaitDisk(ctx *fasthttp.RequestCtx, o *outstanding, until time.Time) bool {
	if o.durable() || d.synced(o.commit, until) {
		return true
	}
	d.noAnswer(ctx, &o.order.ID, errSlowDisk)
	return false
}

// errSlowDisk says that what is asked for may or may not be on disk.
var errSlowDisk = errors.New("the journal's disk did not answer in time; ask again with the same key")

// synced waits for the disk, but not for long.
func (d *Door) synced(c *journal.Commit, until time.Time) bool {
	within := max(time.Until(until), 0)
	t, _ := d.timers.Get().(*time.Timer)
	if t == nil {
		t = time.NewTimer(within)
	} else {
		t.Reset(within)
	}
	defer func() {
		t.Stop()
		d.timers.Put(t)
	}()
	select {
	case <-c.Done():
		return true
	case <-t.C:
	}
	select { // both may have been there
	case <-c.Done():
		return true
	default:
		return false
	}
}

// refuseFull says when there is likely to be room; tooSlow is whether the bound is the longest wait's.
func (d *Door) refuseFull(ctx *fasthttp.RequestCtx, bound int64, tooSlow bool) {
	reason := sluice.QueueFull
	if tooSlow {
		reason = sluice.TooSlow
	}
	d.refuse(ctx, refusal{Verdict: sluice.Verdict{
		Refusal:    reason,
		RetryAfter: d.jitter(d.returns.After(time.Since(d.began), d.credits.Outstanding(), bound, d.likelyRate())),
	}})
}

// nextRelease is how soon a unit may be free again: when the first hold falls due or, where units are free but spoken
// for, when the queue will have been settled; within reason, and not the same for everybody.
func (d *Door) nextRelease(now time.Time, f *facts) time.Duration {
	wait := d.eta(d.credits.Outstanding())
	if f.Free == 0 && f.NextRelease.After(now) {
		wait = f.NextRelease.Sub(now)
	}
	return d.jitter(min(max(wait, time.Second), time.Minute))
}

// unknownSale says that there is no such sale where the door would know; informed is whether it did before it looked.
func (d *Door) unknownSale(ctx *fasthttp.RequestCtx, informed bool) {
	if !informed {
		d.unavailable(ctx, nil, errUninformed.Error())
		return
	}
	d.refuse(ctx, refusal{Verdict: sluice.Verdict{Refusal: sluice.NoSuchSale}})
}

// noAnswer says that the journal did not tell in time, or can't be read.
func (d *Door) noAnswer(ctx *fasthttp.RequestCtx, order *sluice.OrderID, err error) {
	d.complain.Do(func() { d.Logger.Error("journal", "error", err) })
	detail := "the journal can't be read"
	if errors.Is(err, errSlowDisk) {
		detail = errSlowDisk.Error()
	}
	d.unavailable(ctx, order, detail)
}

func (d *Door) jitter(wait time.Duration) time.Duration {
	return limiter.Jitter(wait, mathrand.Float64())
}

// storeNow is the store's time as the door knows it; zero before the first word from a worker.
func (d *Door) storeNow() time.Time {
	now, _ := d.board.now()
	return now
}

func startOf(v sluice.Verdict, f *facts) time.Time {
	if v.Refusal == sluice.NotStarted {
		return f.StartsAt
	}
	return time.Time{}
}
