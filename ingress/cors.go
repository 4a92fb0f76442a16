package ingress

import (
	"bytes"

	"github.com/valyala/fasthttp"

	"sluice"
)

// cors says whose pages may read the door's answers, refusals and event streams included: a page must be able to show
// the reason. A nil *cors says nothing, and browsers keep the answers from pages of other origins.
type cors struct {
	everybody bool // but nobody with credentials
	listed    map[string]bool
}

// What a page may send and read, and how many seconds a browser may remember that: the most that any browser does.
const (
	corsMethods = "GET, POST"
	corsHeaders = "Content-Type, Idempotency-Key, Authorization"
	corsExposed = "Location, Retry-After"
	corsMaxAge  = "7200"
)

// newCORS makes it from exact origins, or from "*" alone; nil where there are none.
func newCORS(origins []string) *cors {
	if len(origins) == 0 {
		return nil
	}
	c := &cors{listed: make(map[string]bool, len(origins))}
	for _, o := range origins {
		if o == "*" {
			c.everybody = true
			continue
		}
		c.listed[o] = true
	}
	return c
}

// lists reports whether an origin is listed by name.
func (c *cors) lists(origin []byte) bool { return c != nil && c.listed[string(origin)] }

// mark adds to an answer who may read it. It allocates nothing: under a rush most answers are refusals.
func (c *cors) mark(ctx *fasthttp.RequestCtx) {
	if c == nil {
		return
	}
	h := &ctx.Response.Header
	origin := ctx.Request.Header.Peek(fasthttp.HeaderOrigin)
	if c.everybody {
		h.Set(fasthttp.HeaderAccessControlAllowOrigin, "*")
	} else {
		h.Set(fasthttp.HeaderVary, fasthttp.HeaderOrigin) // for caches, also where no page asks
		if !c.listed[string(origin)] {
			return
		}
		h.SetBytesV(fasthttp.HeaderAccessControlAllowOrigin, origin)
		h.Set(fasthttp.HeaderAccessControlAllowCredentials, "true")
	}
	if len(origin) > 0 {
		h.Set(fasthttp.HeaderAccessControlExposeHeaders, corsExposed)
	}
}

var corsOptions = []byte(fasthttp.MethodOptions)

// preflight marks the answer, and gives it where a browser only asks what a page may do.
func (d *Door) preflight(ctx *fasthttp.RequestCtx) bool {
	d.cors.mark(ctx)
	if !bytes.Equal(ctx.Method(), corsOptions) {
		return false
	}
	origin := ctx.Request.Header.Peek(fasthttp.HeaderOrigin)
	if len(origin) == 0 || len(ctx.Request.Header.Peek(fasthttp.HeaderAccessControlRequestMethod)) == 0 {
		return false
	}
	if !d.cors.everybody && !d.cors.lists(origin) {
		d.refuseError(ctx, sluice.Refuse(sluice.BadOrigin, "pages of %.100q may not use this door", origin))
		return true
	}
	h := &ctx.Response.Header
	h.Set(fasthttp.HeaderAccessControlAllowMethods, corsMethods)
	h.Set(fasthttp.HeaderAccessControlAllowHeaders, corsHeaders)
	h.Set(fasthttp.HeaderAccessControlMaxAge, corsMaxAge)
	ctx.SetStatusCode(fasthttp.StatusNoContent)
	return true
}
