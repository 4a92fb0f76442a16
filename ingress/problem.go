package ingress

import (
	"fmt"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

	"sluice"
)

const (
	contentProblem = "application/problem+json"
	contentAnswer  = "application/json"
)

// refusal is what a refused request hears, as RFC 9457 has it.
type refusal struct {
	sluice.Verdict
	detail   string
	order    sluice.OrderID // zero: none
	startsAt time.Time
}

// refusalForm is what all problems with one refusal have in common, written once.
type refusalForm struct {
	status int
	head   []byte // of the JSON object
	tail   []byte
	count  prometheus.Counter
}

func newRefusalForm(r sluice.Refusal, count prometheus.Counter) *refusalForm {
	return &refusalForm{
		status: r.Status(), count: count,
		head: fmt.Appendf(nil, `{"type":"urn:sluice:refusal:%s","title":%q,"status":%d`, r, r.Title(), r.Status()),
		tail: fmt.Appendf(nil, `,"reason":"%s"`, r),
	}
}

// Names and values of headers that every answer has, in the form that needs no work.
var (
	headerCacheControl = []byte(fasthttp.HeaderCacheControl)
	headerRetryAfter   = []byte(fasthttp.HeaderRetryAfter)
	noStore            = []byte("no-store")
)

// refuse answers with a problem, or a browser with a page. A problem allocates nothing: under a rush most answers are
// refusals.
func (d *Door) refuse(ctx *fasthttp.RequestCtx, r refusal) {
	form := d.metrics.refused[r.Refusal]
	form.count.Inc()
	h := &ctx.Response.Header
	h.SetCanonical(headerCacheControl, noStore)
	if r.Refusal == sluice.BadTicket {
		h.Set(fasthttp.HeaderWWWAuthenticate, "Bearer")
	}
	if r.RetryAfter > 0 {
		var digits [20]byte
		h.SetCanonical(headerRetryAfter, strconv.AppendInt(digits[:0], wholeSeconds(r.RetryAfter), 10))
	}
	if wantsPage(ctx) {
		d.refusePage(ctx, r)
		return
	}
	h.SetContentType(contentProblem)
	ctx.SetStatusCode(form.status)
	ctx.Response.SwapBody(form.append(ctx.Response.SwapBody(nil)[:0], &r))
}

// wholeSeconds rounds up: nobody comes back too early.
func wholeSeconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

func (f *refusalForm) append(b []byte, r *refusal) []byte {
	b = append(b, f.head...)
	if r.detail != "" {
		b = append(b, `,"detail":`...)
		b = appendText(b, r.detail)
	}
	b = append(b, f.tail...)
	if r.RetryAfter > 0 {
		b = append(b, `,"retry_after_ms":`...)
		b = strconv.AppendInt(b, int64((r.RetryAfter+time.Millisecond-1)/time.Millisecond), 10) // never too early
	}
	if !r.startsAt.IsZero() {
		b = append(b, `,"starts_at":"`...)
		b = r.startsAt.UTC().AppendFormat(b, time.RFC3339Nano)
		b = append(b, '"')
	}
	if r.order != (sluice.OrderID{}) {
		b = append(b, `,"order":"`...)
		b = r.order.AppendTo(b)
		b = append(b, '"')
	}
	return append(b, '}')
}

// refuseError answers with an error that says what was wrong.
func (d *Door) refuseError(ctx *fasthttp.RequestCtx, err *sluice.Error) {
	d.refuse(ctx, refusal{Verdict: sluice.Verdict{Refusal: err.Refusal}, detail: err.Detail})
}

// unavailable answers that nothing can be promised now. The order may come to be all the same: ask again with its key.
func (d *Door) unavailable(ctx *fasthttp.RequestCtx, order *sluice.OrderID, detail string) {
	r := refusal{Verdict: sluice.Verdict{Refusal: sluice.Unavailable, RetryAfter: d.jitter(time.Second)}, detail: detail}
	if order != nil {
		r.order = *order
	}
	d.refuse(ctx, r)
}
