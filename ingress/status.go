package ingress

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"sluice"
)

const (
	maxWait     = time.Minute
	strangeWait = time.Second // how long a status read waits to hear of an order that this door never met
)

// view is an order as its buyer sees it.
type view struct {
	sluice.Status
	position int64         // in the queue; 0 where it is in none
	eta      time.Duration // 0: unknown
	checkout string        // the sale's template; empty: none
}

// checkoutURL is where the buyer pays; empty: the shop did not say, or there is nothing to pay.
func (v *view) checkoutURL() string {
	return strings.ReplaceAll(v.checkout, "{order}", v.Order.String())
}

func (d *Door) queuedView(o *outstanding) view {
	position := d.position(o)
	return view{
		Status: sluice.Status{
			Order: o.order.ID, Sale: o.order.Sale, User: o.order.User,
			State: sluice.Queued, Version: 1, Units: o.order.Quantity,
		},
		position: position, eta: d.eta(position),
	}
}

func (d *Door) settledView(s *sluice.Status, facts *facts) view {
	v := view{Status: *s}
	if facts != nil && s.State == sluice.Held {
		v.checkout = facts.CheckoutURL
	}
	return v
}

// sight is what this door can say of an order.
type sight struct {
	view
	known   bool
	waiting *outstanding // where it is outstanding here
	asked   bool         // the database was asked of it, and answered
}

// see looks at an order's present status at this door. What it shows is durable (P10).
func (d *Door) see(id sluice.OrderID, ticket *sluice.Ticket) (sight, error) {
	s, err := d.sighting(id)
	if err == nil && !mayRead(ticket, &s.Status) {
		return sight{}, errNotYours
	}
	return s, err
}

// errNotYours says that an order is another buyer's.
var errNotYours = errors.New("the order is another buyer's")

// sighting looks at an order for whoever asks.
func (d *Door) sighting(id sluice.OrderID) (s sight, err error) {
	who := claim{id: id, until: time.Now().Add(d.cfg.Answer)}
	if err := d.look(&who); err != nil {
		return s, err
	}
	switch {
	case who.waiting != nil:
		if !who.waiting.durable() && !d.synced(who.waiting.commit, who.until) {
			return s, errSlowDisk
		}
		return sight{view: d.queuedView(who.waiting), known: true, waiting: who.waiting}, nil
	case who.known.State != "":
		return sight{view: d.settledView(&who.known, d.board.find([]byte(who.known.Sale))), known: true}, nil
	}
	return sight{view: view{Status: sluice.Status{Order: id, State: sluice.Queued, Version: 1}}}, nil
}

// status answers GET /v1/orders/{order}: now, or with ?wait= as soon as the status differs from what it was.
func (d *Door) status(ctx *fasthttp.RequestCtx, text []byte) {
	id, genuine := d.orderOf(ctx, text)
	if !genuine {
		return
	}
	wait, err := waitOf(ctx)
	if err != nil {
		d.refuseError(ctx, sluice.Refuse(sluice.BadRequest, "%v", err))
		return
	}
	ticket := d.identify(ctx, d.limits.Load())
	if ticket == nil {
		return
	}
	if s, ok := d.show(ctx, id, ticket, wait); ok {
		d.answerOrder(ctx, fasthttp.StatusOK, s.view)
	}
}

// orderOf reads an order's id. One that was never issued is refused here, without a look-up.
func (d *Door) orderOf(ctx *fasthttp.RequestCtx, text []byte) (sluice.OrderID, bool) {
	id, err := sluice.ParseOrderID(text)
	if err != nil || !d.Keys.Genuine(id) {
		d.refuse(ctx, refusal{Verdict: sluice.Verdict{Refusal: sluice.NoSuchOrder}})
		return id, false
	}
	return id, true
}

// show sees an order for whoever asks, or refuses them: it is the one way from the door's knowledge to a reader.
func (d *Door) show(ctx *fasthttp.RequestCtx, id sluice.OrderID, ticket *sluice.Ticket, wait time.Duration) (sight, bool) {
	s, err := d.watch(id, ticket, time.Now().Add(wait))
	switch {
	case errors.Is(err, errNotYours):
		d.refuse(ctx, refusal{Verdict: sluice.Verdict{Refusal: sluice.NoSuchOrder}})
		return s, false
	case err != nil:
		d.noAnswer(ctx, &id, err)
		return s, false
	case !s.known && !s.asked:
		d.unavailable(ctx, &id, "this door does not know the order, and nobody who might could be asked")
		return s, false
	}
	return s, true
}

// watch sees the order, and again with each news of it until its status differs from the first or it is late. An order
// that this door does not know is asked for first; what comes of that is news too.
func (d *Door) watch(id sluice.OrderID, ticket *sluice.Ticket, late time.Time) (sight, error) {
	first, err := d.see(id, ticket)
	if err != nil || first.State.Final() {
		return first, err
	}
	if first.waiting == nil {
		d.ask.add(id, time.Now()) // unknown, or held and perhaps paid since: the outcome may have gone past this door
	}
	strange := later(late, time.Now().Add(strangeWait)) // until when to wait to hear of an order never met
	for s, asked := first, false; ; {
		asked = asked || d.ask.answered(id)
		until := late
		if !s.known && !asked {
			until = strange
		}
		rung := d.waitForNews(id, &s, until)
		s, err = d.see(id, ticket)
		asked = asked || d.ask.answered(id)
		s.asked = asked
		if err != nil || !rung || s.Version != first.Version {
			return s, err
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// waitForNews waits until there is news of an order since it was seen, and reports whether there is. Whoever finds the waiting room full
// does not wait. An order that is not outstanding here is asked for again meanwhile: the first question may have been dropped, as
// another's was just before it, and the outcome may go past this door at any time.
func (d *Door) waitForNews(id sluice.OrderID, seen *sight, until time.Time) bool {
	wait := time.Until(until)
	if wait <= 0 {
		return false
	}
	bell := d.waiting.enter(id)
	if bell == nil {
		return false
	}
	defer d.waiting.leave(id, bell)
	if s, err := d.sighting(id); err != nil || s.Version != seen.Version { // news between the look and the bell
		return true
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	var again <-chan time.Time
	if seen.waiting == nil {
		tick := time.NewTicker(askAgain)
		defer tick.Stop()
		again = tick.C
	}
	for {
		select {
		case <-bell.rung:
			return true
		case <-again:
			d.ask.addAgain(id, time.Now())
		case <-t.C:
			return false
		case <-d.stop:
			return false
		}
	}
}

// answerOrder writes an order as the contract has it. A browser that placed it goes on to a page instead.
func (d *Door) answerOrder(ctx *fasthttp.RequestCtx, status int, v view) {
	if ctx.IsPost() && wantsPage(ctx) {
		seeOther(ctx, d.waitingPage(v.Order, v.Sale))
		return
	}
	h := &ctx.Response.Header
	h.SetContentType(contentAnswer)
	h.SetCanonical(headerCacheControl, noStore)
	ctx.SetStatusCode(status)
	if status == fasthttp.StatusAccepted {
		var path [128]byte
		h.SetBytesV(fasthttp.HeaderLocation, v.Order.AppendTo(append(path[:0], d.ordersHref...)))
	}
	ctx.Response.SwapBody(d.appendOrder(ctx.Response.SwapBody(nil)[:0], v))
}

const ordersPath = "/v1/orders/"

func (d *Door) appendOrder(b []byte, v view) []byte {
	b = append(b, `{"order":"`...)
	b = v.Order.AppendTo(b)
	b = append(b, `","status":"`...)
	b = append(b, v.State...)
	b = append(b, `","version":`...)
	b = strconv.AppendInt(b, v.Version, 10)
	if v.Sale != "" {
		b = append(b, `,"sale":"`...)
		b = append(b, v.Sale...) // a valid sale id needs no escape
		b = append(b, '"')
	}
	if v.Units > 0 {
		b = append(b, `,"units":`...)
		b = strconv.AppendInt(b, int64(v.Units), 10)
	}
	if v.Reason != "" {
		b = append(b, `,"reason":"`...)
		b = append(b, v.Reason...)
		b = append(b, '"')
	}
	if v.position > 0 {
		b = append(b, `,"position":`...)
		b = strconv.AppendInt(b, v.position, 10)
		b = append(b, `,"eta_ms":`...)
		b = strconv.AppendInt(b, v.eta.Milliseconds(), 10)
	}
	if v.State == sluice.Held {
		b = append(b, `,"pay_by":"`...)
		b = v.PayBy.UTC().AppendFormat(b, time.RFC3339Nano)
		b = append(b, '"')
		if v.checkout != "" {
			b = append(b, `,"checkout_url":`...)
			b = appendText(b, v.checkoutURL())
		}
	}
	b = append(b, `,"href":"`...)
	b = append(b, d.ordersHref...) // a valid base path needs no escape
	b = v.Order.AppendTo(b)
	return append(b, `"}`...)
}
