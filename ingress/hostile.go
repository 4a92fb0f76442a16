package ingress

import (
	"bytes"

	"github.com/valyala/fasthttp"

	"sluice"
)

// What malformed says. RFC 9112 leaves recipients a choice in most of it; a proxy in front may choose otherwise, and then
// the two of them see different requests in the same bytes.
const (
	bareLineFeed  = "a header line ends in a bare LF; want CRLF"
	foldedLine    = "a header line is folded; want each on one line"
	spaceInName   = "a header's name has a space in it"
	badLength     = "Content-Length: want digits, after at most one space"
	badEncoding   = "Transfer-Encoding: want chunked, after at most one space"
	bothFramings  = "Content-Length and Transfer-Encoding are both there; want one"
	trailerFields = "fields follow the chunked body; send them in the header"
	otherHost     = "the target names another host than Host, or is no path"
	otherProtocol = "want HTTP/1.1 or HTTP/1.0"
)

var (
	contentLength    = []byte("Content-Length")
	transferEncoding = []byte("Transfer-Encoding")
	chunked          = []byte("chunked")
	http10           = []byte("HTTP/1.0")
	oneSpace         = []byte(" ")
	authority        = []byte("://")
	twoSlashes       = []byte("//")
)

// malformed says what is wrong with a request that fasthttp has taken, or nothing. It allocates nothing: every request
// goes through it.
func malformed(ctx *fasthttp.RequestCtx) string {
	h := &ctx.Request.Header
	if !h.IsHTTP11() && !bytes.Equal(h.Protocol(), http10) {
		return otherProtocol
	}
	if target := h.RequestURI(); target[0] != '/' && !ownURL(target, h.Host()) || bytes.HasPrefix(target, twoSlashes) && bytes.Contains(target, authority) {
		return otherHost // fasthttp takes //other:///path for a URL too
	}
	framed, wrong := scan(h.RawHeaders())
	switch {
	case wrong != "" || !framed.chunked:
		return wrong
	case framed.length:
		return bothFramings
	case len(h.PeekTrailerKeys()) > 0: // fasthttp would read them as if they were headers
		return trailerFields
	}
	// How a chunked body was cut up is not to be seen here: what follows it on this connection is not read.
	ctx.SetConnectionClose()
	return ""
}

// framing is which headers say where the body ends.
type framing struct{ length, chunked bool }

// scan looks at each line of a header block as it was on the wire. fasthttp has checked already that names and values have
// no control characters, that each line has a colon with no space before it, and that lengths are numbers.
func scan(raw []byte) (f framing, wrong string) {
	for len(raw) > 0 && string(raw) != "\r\n" {
		end := bytes.IndexByte(raw, '\n')
		if end < 1 || raw[end-1] != '\r' {
			return f, bareLineFeed
		}
		line := raw[:end-1]
		raw = raw[end+1:]
		if len(line) == 0 || line[0] == ' ' || line[0] == '\t' {
			return f, foldedLine
		}
		// Nearly always the first space follows the colon.
		if space := bytes.IndexByte(line, ' '); space > 0 && line[space-1] != ':' && bytes.IndexByte(line[:space], ':') < 0 {
			return f, spaceInName
		}
		switch line[0] | 0x20 { // in lower case
		case 'c':
			if value, is := valueOf(line, contentLength); is {
				f.length = true
				if !digits(value) {
					return f, badLength
				}
			}
		case 't':
			if value, is := valueOf(line, transferEncoding); is {
				f.chunked = true
				if !bytes.EqualFold(value, chunked) {
					return f, badEncoding
				}
			}
		}
	}
	return f, ""
}

// valueOf is what a line with that name has after the colon and the one space that everybody sends.
func valueOf(line, name []byte) (value []byte, is bool) {
	n := len(name)
	if len(line) <= n || line[n] != ':' || !bytes.EqualFold(line[:n], name) {
		return nil, false
	}
	return bytes.TrimPrefix(line[n+1:], oneSpace), true
}

func digits(value []byte) bool {
	for _, c := range value {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(value) > 0
}

// ownURL reports whether a target that is no path is one all the same: the whole URL of something on the host that Host
// names, as a proxy is asked.
func ownURL(target, host []byte) bool {
	scheme, rest, ok := bytes.Cut(target, authority)
	if !ok || !bytes.EqualFold(scheme, []byte("http")) && !bytes.EqualFold(scheme, []byte("https")) {
		return false
	}
	if end := bytes.IndexAny(rest, "/?#"); end >= 0 {
		rest = rest[:end]
	}
	return bytes.EqualFold(rest, host)
}

// refuseMalformed answers once and closes: where this request ends, and so where another begins, is in doubt.
func (d *Door) refuseMalformed(ctx *fasthttp.RequestCtx, wrong string) {
	d.refuse(ctx, refusal{Verdict: sluice.Verdict{Refusal: sluice.BadRequest}, detail: wrong})
	ctx.SetConnectionClose()
}
