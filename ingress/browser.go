package ingress

import (
	"bytes"
	"net/url"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"sluice"
	"sluice/console"
)

// Browsers that post a form are led from page to page; programs, pages' scripts among them, get JSON.

const waitPath = "/wait/"

var (
	waitAt     = []byte(waitPath)
	typeHTML   = []byte("text/html")
	typesOfAPI = [][]byte{[]byte("application/json"), []byte("application/problem+json")}
)

// wantsPage reports whether whoever asks would rather see a page than JSON. A browser that goes to a page names text/html
// first; a script or a program names JSON, or anything.
func wantsPage(ctx *fasthttp.RequestCtx) bool {
	accept := ctx.Request.Header.Peek(fasthttp.HeaderAccept)
	return bytes.ContainsAny(accept, "hH") && prefersHTML(accept) // html has one; what programs accept has none
}

// prefersHTML compares the weights of text/html and of JSON (RFC 9110, 12.5.1); of equals the first one counts.
func prefersHTML(accept []byte) bool {
	html, json := 0, 0
	for len(accept) > 0 {
		var one []byte
		one, accept, _ = bytes.Cut(accept, []byte(","))
		kind, parameters, _ := bytes.Cut(one, []byte(";"))
		kind = bytes.TrimSpace(kind)
		switch q := weight(parameters); {
		case q <= html || q <= json: // somebody came first
		case bytes.EqualFold(kind, typeHTML):
			html, json = q, 0
		case bytes.EqualFold(kind, typesOfAPI[0]) || bytes.EqualFold(kind, typesOfAPI[1]):
			html, json = 0, q
		}
	}
	return html > 0
}

// weight reads q=0.5 as 500 thousandths; a range without one weighs most.
func weight(parameters []byte) int {
	for len(parameters) > 0 {
		var one []byte
		one, parameters, _ = bytes.Cut(parameters, []byte(";"))
		name, value, _ := bytes.Cut(bytes.TrimSpace(one), []byte("="))
		if len(name) == 1 && name[0]|0x20 == 'q' {
			return thousandths(value)
		}
	}
	return 1000
}

func thousandths(value []byte) int {
	n, digits := 0, 0
	for _, c := range value {
		switch {
		case c == '.' && digits == 1:
		case c >= '0' && c <= '9' && digits < 4:
			n = n*10 + int(c-'0')
			digits++
		default:
			return 0
		}
	}
	for ; digits < 4; digits++ {
		n *= 10
	}
	return min(n, 1000)
}

// seeOther sends a browser on to another page.
func seeOther(ctx *fasthttp.RequestCtx, location string) {
	ctx.Response.Header.Set(fasthttp.HeaderCacheControl, "no-store")
	ctx.Response.Header.Set(fasthttp.HeaderLocation, location)
	ctx.SetStatusCode(fasthttp.StatusSeeOther)
}

// waitingPage is where a browser sees what becomes of an order.
func (d *Door) waitingPage(id sluice.OrderID, sale string) string {
	if d.cfg.WaitingPage == "" {
		return d.cfg.BasePath + waitPath + id.String()
	}
	return strings.ReplaceAll(strings.ReplaceAll(d.cfg.WaitingPage, "{order}", id.String()), "{sale}", sale)
}

// showOrder answers GET /wait/{order} with the door's own page of the order.
func (d *Door) showOrder(ctx *fasthttp.RequestCtx, text []byte) {
	id, genuine := d.orderOf(ctx, text)
	if !genuine {
		return
	}
	ticket := d.identify(ctx, d.limits.Load())
	if ticket == nil {
		return
	}
	s, ok := d.show(ctx, id, ticket, 0)
	if !ok {
		return
	}
	pageHeaders(ctx)
	err := console.WriteWaiting(ctx.Response.BodyWriter(), console.Waiting{
		Status: s.Status, Position: s.position, ETA: s.eta, Left: d.left(&s.Status), Checkout: s.checkoutURL(),
		Events: d.ordersHref + id.String() + string(eventsEnd), Home: d.home(),
	})
	if err != nil {
		ctx.Response.ResetBody()
		d.refuseError(ctx, sluice.Refuse(sluice.Internal, "write the page: %v", err))
	}
}

// left is how long the buyer of a held order has to pay, by the store's clock.
func (d *Door) left(s *sluice.Status) time.Duration {
	now := d.storeNow()
	if s.State != sluice.Held || now.IsZero() {
		return 0
	}
	return s.PayBy.Sub(now)
}

func pageHeaders(ctx *fasthttp.RequestCtx) {
	h := &ctx.Response.Header
	h.SetContentType(console.ContentType)
	h.Set(fasthttp.HeaderCacheControl, "no-store")
	h.Set(fasthttp.HeaderContentSecurityPolicy, console.Policy)
	h.Set(fasthttp.HeaderXContentTypeOptions, "nosniff")
	h.Set(fasthttp.HeaderReferrerPolicy, "same-origin") // an order's id is its buyer's own
}

// home is the shop's first page, where the door is mounted below it.
func (d *Door) home() string {
	if d.cfg.BasePath == "" {
		return ""
	}
	return "/"
}

// refusePage tells a browser why not: with the shop's page, where an order was refused and the shop has one, else with the
// door's own under the refusal's status.
func (d *Door) refusePage(ctx *fasthttp.RequestCtx, r refusal) {
	sale, ordering := orderedSale(d.relative(pathOf(ctx)))
	if ordering && ctx.IsPost() && d.cfg.BusyPage != "" {
		location := strings.ReplaceAll(d.cfg.BusyPage, "{reason}", string(r.Refusal))
		seeOther(ctx, strings.ReplaceAll(location, "{sale}", url.QueryEscape(string(sale))))
		return
	}
	page := console.Busy{Refusal: r.Refusal, RetryAfter: r.RetryAfter, Again: ctx.IsGet()}
	switch {
	case r.order != (sluice.OrderID{}) && ordering:
		page.URL, page.Label = d.waitingPage(r.order, string(sale)), "See your order"
	case ctx.IsPost():
		page.URL, page.Label = d.cameFrom(ctx), "Back to the shop"
	default:
		page.URL, page.Label = d.home(), "To the shop"
	}
	pageHeaders(ctx)
	ctx.SetStatusCode(r.Refusal.Status())
	ctx.Response.SwapBody(console.AppendBusy(ctx.Response.SwapBody(nil)[:0], page))
}

// orderedSale is the sale whose orders a path names.
func orderedSale(path []byte) (sale []byte, ok bool) {
	if path, ok = bytes.CutPrefix(path, salesAt); ok {
		return bytes.CutSuffix(path, ordersEnd)
	}
	return nil, false
}

// cameFrom is the page with the form, where it is one that may order here: nobody else's link belongs on a page of the shop.
// A form can't be sent again by loading a page again, so this is the way to try once more.
func (d *Door) cameFrom(ctx *fasthttp.RequestCtx) string {
	referer := ctx.Request.Header.Referer()
	u, err := url.Parse(string(referer))
	if err != nil || u.User != nil {
		return d.home()
	}
	origin := []byte(u.Scheme + "://" + u.Host)
	if !d.cors.lists(origin) && !d.own(ctx, origin) {
		return d.home()
	}
	return u.String()
}
