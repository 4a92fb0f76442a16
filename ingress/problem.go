package ingress

import (
	"strconv"
	"time"

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
	order    *sluice.OrderID
	startsAt time.Time
}

// refuse answers with a problem. It allocates nothing: under a rush most answers are refusals.
func (d *Door) refuse(ctx *fasthttp.RequestCtx, r refusal) {
	d.metrics.refused[r.Refusal].Inc()
	ctx.Response.Header.SetContentType(contentProblem)
	ctx.Response.Header.Set(fasthttp.HeaderCacheControl, "no-store")
	ctx.SetStatusCode(r.Refusal.Status())
	if r.Refusal == sluice.BadTicket {
		ctx.Response.Header.Set(fasthttp.HeaderWWWAuthenticate, "Bearer")
	}
	if r.RetryAfter > 0 {
		var digits [20]byte
		whole := int64((r.RetryAfter + time.Second - 1) / time.Second)
		ctx.Response.Header.SetBytesV(fasthttp.HeaderRetryAfter, strconv.AppendInt(digits[:0], whole, 10))
	}
	ctx.Response.SwapBody(appendProblem(ctx.Response.SwapBody(nil)[:0], r))
}

func appendProblem(b []byte, r refusal) []byte {
	b = append(b, `{"type":"urn:sluice:refusal:`...)
	b = append(b, r.Refusal...)
	b = append(b, `","title":"`...)
	b = append(b, r.Refusal.Title()...)
	b = append(b, `","status":`...)
	b = strconv.AppendInt(b, int64(r.Refusal.Status()), 10)
	if r.detail != "" {
		b = append(b, `,"detail":`...)
		b = appendText(b, r.detail)
	}
	b = append(b, `,"reason":"`...)
	b = append(b, r.Refusal...)
	b = append(b, '"')
	if r.RetryAfter > 0 {
		b = append(b, `,"retry_after_ms":`...)
		b = strconv.AppendInt(b, int64((r.RetryAfter+time.Millisecond-1)/time.Millisecond), 10) // never too early
	}
	if !r.startsAt.IsZero() {
		b = append(b, `,"starts_at":"`...)
		b = r.startsAt.UTC().AppendFormat(b, time.RFC3339Nano)
		b = append(b, '"')
	}
	if r.order != nil {
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
	d.refuse(ctx, refusal{
		Verdict: sluice.Verdict{Refusal: sluice.Unavailable, RetryAfter: d.jitter(time.Second)},
		detail:  detail, order: order,
	})
}
