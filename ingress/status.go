package ingress

import (
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"sluice"
)

const (
	maxWait     = time.Minute
	strangeWait = 300 * time.Millisecond // how long a status read waits for news of an order this door never met
)

// view is an order as its buyer sees it.
type view struct {
	sluice.Status
	position int64         // in the queue; 0 where it is in none
	eta      time.Duration // 0: unknown
	checkout string        // the sale's template; empty: none
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

// see finds the order's present status at this door; false where it knows nothing.
func (d *Door) see(id sluice.OrderID) (v view, known bool, err error) {
	who := identity{id: id}
	if err := d.look(&who); err != nil {
		return v, false, err
	}
	switch {
	case who.waiting != nil:
		return d.queuedView(who.waiting), true, nil
	case who.known.State != "":
		return d.settledView(&who.known, d.board.find([]byte(who.known.Sale))), true, nil
	}
	return view{Status: sluice.Status{Order: id, State: sluice.Queued, Version: 1}}, false, nil
}

// status answers GET /v1/orders/{order}: now, or with ?wait= as soon as the status differs from what it was.
func (d *Door) status(ctx *fasthttp.RequestCtx, text []byte) {
	id, err := sluice.ParseOrderID(text)
	if err != nil || !d.Keys.Genuine(id) {
		d.refuse(ctx, refusal{Verdict: sluice.Verdict{Refusal: sluice.NoSuchOrder}})
		return
	}
	wait, err := waitOf(ctx)
	if err != nil {
		d.refuseError(ctx, sluice.Refuse(sluice.BadRequest, "%v", err))
		return
	}
	v, err := d.watch(id, wait)
	if err != nil {
		d.brokenJournal(ctx, err)
		return
	}
	d.answerOrder(ctx, fasthttp.StatusOK, v)
}

// watch sees the order, and waits for news where it is asked to or knows nothing of the order.
func (d *Door) watch(id sluice.OrderID, wait time.Duration) (view, error) {
	bell := d.waiting.enter(id) // before the look, so that no news falls between the two
	if bell != nil {
		defer d.waiting.leave(id, bell)
	}
	v, known, err := d.see(id)
	if err != nil {
		return v, err
	}
	if !known {
		wait = max(wait, strangeWait)
	}
	if !known || d.stale(&v.Status) {
		d.ask.add(id, time.Now())
	}
	if bell == nil || wait == 0 || v.State.Final() {
		return v, nil
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-bell.rung:
	case <-t.C:
	case <-d.stop:
	}
	v, _, err = d.see(id)
	return v, err
}

// stale reports whether a hold's deadline has passed without news of it: the outcome may have been missed.
func (d *Door) stale(s *sluice.Status) bool {
	if s.State != sluice.Held {
		return false
	}
	now, known := d.board.now()
	return known && now.After(s.PayBy.Add(2*time.Second))
}

// answerOrder writes an order as the contract has it.
func (d *Door) answerOrder(ctx *fasthttp.RequestCtx, status int, v view) {
	h := &ctx.Response.Header
	h.SetContentType(contentAnswer)
	h.Set(fasthttp.HeaderCacheControl, "no-store")
	ctx.SetStatusCode(status)
	if status == fasthttp.StatusAccepted {
		var path [64]byte
		h.SetBytesV(fasthttp.HeaderLocation, v.Order.AppendTo(append(path[:0], ordersPath...)))
	}
	ctx.Response.SwapBody(appendOrder(ctx.Response.SwapBody(nil)[:0], v))
}

const ordersPath = "/v1/orders/"

func appendOrder(b []byte, v view) []byte {
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
			b = appendText(b, strings.ReplaceAll(v.checkout, "{order}", v.Order.String()))
		}
	}
	b = append(b, `,"href":"`+ordersPath...)
	b = v.Order.AppendTo(b)
	return append(b, `"}`...)
}
