package ingress

import (
	"bytes"

	"github.com/valyala/fasthttp"

	"sluice"
)

const fetchSite = "Sec-Fetch-Site" // browsers write it themselves; a page can't

// foreign refuses an order that a page of somebody else may have made its visitor's browser send. Any page can post a
// form, with the visitor's cookies; one with JSON is stopped by its browser, but where cookies came all the same a page that
// may not order here is told so. Programs say no origin and send JSON.
func (d *Door) foreign(ctx *fasthttp.RequestCtx) *sluice.Error {
	h := &ctx.Request.Header
	origin := h.Peek(fasthttp.HeaderOrigin)
	form := isForm(h)
	if !form && (len(origin) == 0 || len(h.Peek(fasthttp.HeaderCookie)) == 0) {
		return nil
	}
	site := h.Peek(fetchSite)
	switch {
	case d.cors.lists(origin) || string(site) == "same-origin":
		return nil
	case len(origin) == 0 && len(site) == 0:
		return sluice.Refuse(sluice.BadOrigin, "a form with neither Origin nor Sec-Fetch-Site may come from any page; want one of them, or an order as application/json")
	case fromElsewhere(site) || !d.own(ctx, origin):
		return sluice.Refuse(sluice.BadOrigin, "the origin %.100q, Sec-Fetch-Site %.20q: want a page of this host, or one of cors-origins", origin, site)
	}
	return nil
}

// fromElsewhere reports whether a browser says that the page is of another origin: of the same host without TLS, for one.
func fromElsewhere(site []byte) bool { return len(site) > 0 && string(site) != "none" }

var schemeEnd = []byte("://")

// own reports whether an origin is the door's own, as the Host header names it. Whether the scheme is right too can be told
// only where the door has TLS itself; elsewhere a proxy may have it. X-Forwarded-Host is anybody's to send.
func (d *Door) own(ctx *fasthttp.RequestCtx, origin []byte) bool {
	scheme, host, ok := bytes.Cut(origin, schemeEnd)
	if !ok || len(host) == 0 || !bytes.EqualFold(host, ctx.Request.Header.Host()) {
		return false
	}
	return string(scheme) == "https" || string(scheme) == "http" && !ctx.IsTLS()
}
