package ingress

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"runtime/debug"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/valyala/fasthttp"

	"sluice"
	"sluice/limiter"
)

// Limits of a connection. A buyer who needs more is not a buyer.
const (
	readTimeout  = 10 * time.Second
	writeTimeout = 10 * time.Second // of one answer, once it is there
	idleTimeout  = 75 * time.Second
	idleWorker   = 3 * time.Second // a goroutine without a connection: what a burst needed is given back soon
	headerBytes  = 8 << 10
	mostRequests = 10_000 // then a connection ends: buyers behind it spread over the doors again
)

// Server is the fasthttp server of this door.
func (d *Door) Server() *fasthttp.Server {
	s := &fasthttp.Server{
		Name:                  "sluice",
		Handler:               d.Handle,
		ErrorHandler:          d.unreadable,
		ExpectHandler:         expect,
		ReadTimeout:           readTimeout,
		WriteTimeout:          writeTimeout,
		IdleTimeout:           idleTimeout,
		MaxIdleWorkerDuration: idleWorker,
		ReadBufferSize:        headerBytes,
		MaxRequestBodySize:    maxBodyBytes,
		MaxRequestsPerConn:    mostRequests,
		Concurrency:           sluice.MaxBound, // Connections has the limits, and they change while the server runs
		CloseOnShutdown:       true,
		NoDefaultContentType:  true,
		SecureErrorLogMessage: true,
		Logger:                quiet{d.Logger},

		DisablePreParseMultipartForm: true, // no order comes as multipart/form-data
	}
	s.ConnState = func(c net.Conn, state fasthttp.ConnState) {
		if state == fasthttp.StateActive {
			begins(c, s.ReadTimeout)
		}
	}
	return s
}

// begins starts the time in which a connection's first request must arrive at its first byte, as fasthttp does for every later one:
// clients open connections ahead of need, and a request on one that is nearly as old as that would be called slow.
func begins(c net.Conn, timeout time.Duration) {
	if mine := connectionOf(c); mine != nil && !mine.spoke {
		mine.spoke = true
		_ = c.SetReadDeadline(time.Now().Add(timeout)) // where it fails, so does the read
	}
}

// expect has every body sent that a client asks about first.
func expect(ctx *fasthttp.RequestCtx) int {
	renewWriteDeadline(ctx)
	return fasthttp.StatusContinue
}

// renewWriteDeadline is for what fasthttp writes before or without a call of the handler: the deadline in force is that of
// the answer before, and may be long past.
func renewWriteDeadline(ctx *fasthttp.RequestCtx) {
	if c := ctx.Conn(); c != nil {
		_ = c.SetWriteDeadline(time.Now().Add(writeTimeout)) // where it fails, so does what is written next
	}
}

// quiet keeps a line for each broken connection out of the log: there is no bound on those.
type quiet struct{ log *slog.Logger }

func (q quiet) Printf(format string, _ ...any) { q.log.Debug("fasthttp", "event", format) }

var (
	livez     = []byte("/livez")
	readyz    = []byte("/readyz")
	ordersAt  = []byte(ordersPath)
	salesAt   = []byte("/v1/sales/")
	ordersEnd = []byte("/orders")
	eventsEnd = []byte("/events")
)

// Handle answers one request. A request that makes it panic, a defect, must not end the door for everybody.
func (d *Door) Handle(ctx *fasthttp.RequestCtx) {
	defer d.survive(ctx)
	if wrong := malformed(ctx); wrong != "" {
		d.refuseMalformed(ctx, wrong)
		return
	}
	if d.cors != nil && d.preflight(ctx) {
		return
	}
	path := d.relative(pathOf(ctx))
	if order, ok := bytes.CutPrefix(path, ordersAt); ok {
		d.handleOrder(ctx, order)
		return
	}
	if sale, ok := bytes.CutPrefix(path, salesAt); ok {
		d.handleSale(ctx, sale)
		return
	}
	if order, ok := bytes.CutPrefix(path, waitAt); ok {
		if d.allowed(ctx, ctx.IsGet(), "GET") {
			d.showOrder(ctx, order)
		}
		return
	}
	switch {
	case bytes.Equal(path, livez):
		ctx.SetContentType("text/plain; charset=utf-8")
		ctx.SetBodyString("alive\n")
	case bytes.Equal(path, readyz):
		d.readyz(ctx)
	default:
		d.refuse(ctx, refusal{Verdict: sluice.Verdict{Refusal: sluice.NotFound}})
	}
}

// pathOf is the request's path. Nearly every target is a plain one, which needs no parsing.
func pathOf(ctx *fasthttp.RequestCtx) []byte {
	path, _, _ := bytes.Cut(ctx.Request.Header.RequestURI(), []byte("?"))
	last := byte(0)
	for _, c := range path {
		plain := c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c >= 'A' && c <= 'Z'
		if !plain && (last == '/' || c != '/' && c != '.') { // what a parser would decode or take out
			return ctx.Path()
		}
		last = c
	}
	return path
}

// relative is a path below the base path, or nil. Health checks are answered without it too.
func (d *Door) relative(path []byte) []byte {
	if rest, ok := bytes.CutPrefix(path, d.base); ok || bytes.Equal(path, livez) || bytes.Equal(path, readyz) {
		return rest
	}
	return nil
}

// survive turns a panic into an answer. It is indeterminate for an order: the same key again tells.
func (d *Door) survive(ctx *fasthttp.RequestCtx) {
	if p := recover(); p != nil {
		d.complain.Do(func() { d.Logger.Error("a request panicked", "panic", p, "stack", string(debug.Stack())) })
		ctx.Response.Reset()
		d.cors.mark(ctx)
		d.refuseError(ctx, sluice.Refuse(sluice.Internal, "this is a defect; ask again with the same key"))
	}
}

func (d *Door) handleOrder(ctx *fasthttp.RequestCtx, rest []byte) {
	if !d.allowed(ctx, ctx.IsGet(), "GET") {
		return
	}
	if order, ok := bytes.CutSuffix(rest, eventsEnd); ok {
		d.events(ctx, order)
		return
	}
	d.status(ctx, rest)
}

func (d *Door) handleSale(ctx *fasthttp.RequestCtx, rest []byte) {
	if sale, ok := bytes.CutSuffix(rest, ordersEnd); ok {
		if d.allowed(ctx, ctx.IsPost(), "POST") {
			d.place(ctx, sale)
		}
		return
	}
	if d.allowed(ctx, ctx.IsGet(), "GET") {
		d.showSale(ctx, rest)
	}
}

func (d *Door) allowed(ctx *fasthttp.RequestCtx, ok bool, methods string) bool {
	if !ok {
		ctx.Response.Header.Set(fasthttp.HeaderAllow, methods)
		d.refuse(ctx, refusal{Verdict: sluice.Verdict{Refusal: sluice.MethodNotAllowed}})
	}
	return ok
}

func (d *Door) readyz(ctx *fasthttp.RequestCtx) {
	if err := d.Ready(); err != nil {
		d.unavailable(ctx, nil, err.Error())
		return
	}
	ctx.SetContentType("text/plain; charset=utf-8")
	ctx.SetBodyString("ready\n")
}

// saleView is a sale as a buyer may see it.
type saleView struct {
	Sale         string         `json:"sale"`
	StartsAt     time.Time      `json:"starts_at,omitzero"`
	EndsAt       time.Time      `json:"ends_at,omitzero"`
	Open         bool           `json:"open"`
	Reason       sluice.Refusal `json:"reason,omitempty"`
	PerUserLimit int            `json:"per_user_limit"`
	Now          time.Time      `json:"now"`
}

func (d *Door) showSale(ctx *fasthttp.RequestCtx, sale []byte) {
	now, informed := d.board.now()
	f := d.board.find(sale)
	if f == nil || !informed {
		d.unknownSale(ctx, informed)
		return
	}
	verdict := limiter.Gate(now, &f.Sale, f.fresh(time.Now()))
	body, err := json.Marshal(saleView{
		Sale: f.ID, StartsAt: f.StartsAt, EndsAt: f.EndsAt, PerUserLimit: f.PerUserLimit, Now: now,
		Open: verdict.Admitted(), Reason: verdict.Refusal,
	})
	if err != nil {
		d.refuseError(ctx, sluice.Refuse(sluice.Internal, "write the sale: %v", err))
		return
	}
	ctx.SetContentType(contentAnswer)
	ctx.Response.Header.Set(fasthttp.HeaderCacheControl, "public, max-age=1")
	ctx.Response.SetBodyRaw(body)
}

// unreadable answers a request that fasthttp could not read: too large, too slow or not HTTP.
func (d *Door) unreadable(ctx *fasthttp.RequestCtx, err error) {
	if mine := connectionOf(ctx.Conn()); mine != nil && !mine.spoke { // an answer would be taken for that of who asks this very moment
		_ = ctx.Conn().Close()
		return
	}
	renewWriteDeadline(ctx)
	d.cors.mark(ctx)
	r := sluice.Refuse(sluice.BadRequest, "this is not an HTTP request that can be understood")
	if _, small := errors.AsType[*fasthttp.ErrSmallBuffer](err); small {
		r = sluice.Refuse(sluice.TooLarge, "the header is over %d bytes", headerBytes)
	} else if errors.Is(err, fasthttp.ErrBodyTooLarge) {
		r = sluice.Refuse(sluice.TooLarge, "the body is over %d bytes", maxBodyBytes)
	} else if e, ok := errors.AsType[timeout](err); ok && e.Timeout() {
		r = sluice.Refuse(sluice.TooSlowRequest, "the request did not arrive within %v", readTimeout)
	}
	d.refuseError(ctx, r)
}

// timeout is net.Error without what is deprecated in it: fasthttp's own has only this.
type timeout interface {
	error
	Timeout() bool
}

// appendText appends s as a JSON string.
func appendText(b []byte, s string) []byte {
	b, _ = jsontext.AppendQuote(b, s) // an error says that bytes which are not UTF-8 were replaced
	return b
}
