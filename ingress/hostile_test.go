package ingress

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"sluice"
	"sluice/internal/race"
)

// said is one answer of a server.
type said struct {
	status      int
	contentType string
	reason      string
}

// converse sends raw bytes and reads all answers until the server closes the connection; closed is false where it does
// not within the time.
func converse(t testing.TB, address, raw string, within time.Duration) (answers []said, closed bool) {
	t.Helper()
	c, err := net.Dial("tcp", address) //nolint:noctx // loopback
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, raw); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	for {
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			return answers, errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil {
			t.Fatalf("answer to %.80q: %v", raw, err)
		}
		var problem struct{ Reason string }
		_ = json.Unmarshal(body, &problem) // other answers have no reason
		answers = append(answers, said{res.StatusCode, res.Header.Get("Content-Type"), problem.Reason})
	}
}

const (
	anOrder  = `{"user":"u1"}` // 13 bytes: d in hexadecimal
	next     = "GET /livez HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n"
	placing  = "POST /v1/sales/demo/orders HTTP/1.1\r\nHost: shop\r\nContent-Type: application/json\r\n"
	getting  = "GET /livez HTTP/1.1\r\nHost: shop\r\n"
	inChunks = placing + "Transfer-Encoding: chunked\r\n\r\n"
)

// probes are requests that a proxy in front of the door might understand otherwise than fasthttp does. Each is followed
// by another request, that must not be answered.
var probes = []struct {
	what, raw string
	alone     int // what fasthttp answers without the door's own scan; 200: it takes it
}{
	{"length and chunks", placing + "Content-Length: 13\r\nTransfer-Encoding: chunked\r\n\r\nd\r\n" + anOrder + "\r\n0\r\n\r\n", 200},
	{"chunks and length", placing + "Transfer-Encoding: chunked\r\nContent-Length: 13\r\n\r\nd\r\n" + anOrder + "\r\n0\r\n\r\n", 200},
	{"length and no chunks at all", getting + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 200},
	{"identity", placing + "Transfer-Encoding: identity\r\n\r\n", 200},
	{"identity with a length", placing + "Transfer-Encoding: identity\r\nContent-Length: 13\r\n\r\n" + anOrder, 200},
	{"a space before the colon of Transfer-Encoding", placing + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400},
	{"a tab before the colon of Transfer-Encoding", placing + "Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n", 400},
	{"xchunked", placing + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400},
	{"chunked twice", placing + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
	{"chunked, then identity", placing + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", 400},
	{"identity, chunked", placing + "Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n", 400},
	{"chunked, chunked", placing + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400},
	{"gzip, chunked", placing + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400},
	{"chunked in quotes", placing + "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", 400},
	{"chunked after a tab", placing + "Transfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n", 200},
	{"chunked before a tab", placing + "Transfer-Encoding: chunked\t\r\n\r\n0\r\n\r\n", 200},
	{"chunked after a vertical tab", placing + "Transfer-Encoding: \vchunked\r\n\r\n0\r\n\r\n", 400},
	{"chunked on a folded line", placing + "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 200},
	{"no encoding at all", placing + "Transfer-Encoding:\r\n\r\n", 400},
	{"an underscore for the hyphen", placing + "Transfer_Encoding: chunked\r\nTransfer Encoding: chunked\r\n\r\n0\r\n\r\n", 200},
	{"two lengths that agree", placing + "Content-Length: 13\r\nContent-Length: 13\r\n\r\n" + anOrder, 400},
	{"two lengths that differ", placing + "Content-Length: 13\r\nContent-Length: 0\r\n\r\n" + anOrder, 400},
	{"two lengths in one line", placing + "Content-Length: 13, 13\r\n\r\n" + anOrder, 400},
	{"a negative length", placing + "Content-Length: -13\r\n\r\n" + anOrder, 400},
	{"a length with a plus", placing + "Content-Length: +13\r\n\r\n" + anOrder, 400},
	{"a hexadecimal length", placing + "Content-Length: 0xd\r\n\r\n" + anOrder, 400},
	{"a length with a fraction", placing + "Content-Length: 13.0\r\n\r\n" + anOrder, 400},
	{"an empty length", placing + "Content-Length: \r\n\r\n", 400},
	{"a length with a space in it", placing + "Content-Length: 1 3\r\n\r\n" + anOrder, 400},
	{"a length after a tab", placing + "Content-Length:\t13\r\n\r\n" + anOrder, 200},
	{"a length before a space", placing + "Content-Length: 13 \r\n\r\n" + anOrder, 200},
	{"a length on a folded line", placing + "Content-Length:\r\n 13\r\n\r\n" + anOrder, 200},
	{"a length over 64 bits", placing + "Content-Length: 18446744073709551629\r\n\r\n" + anOrder, 400},
	{"a space before the colon of Content-Length", placing + "Content-Length : 13\r\n\r\n" + anOrder, 400},
	{"a bare LF after a header", getting + "X: y\nY: z\r\n\r\n", 200},
	{"a length after a bare LF", placing + "X: y\nContent-Length: 13\r\n\r\n" + anOrder, 200},
	{"a bare LF as the empty line", getting + "\n", 200},
	{"a bare LF before the empty line", getting + "X: y\n\r\n", 200},
	{"bare LFs everywhere", "GET /livez HTTP/1.1\nHost: shop\n\n", 200},
	{"a bare CR in a value", getting + "X: y\rY: z\r\n\r\n", 400},
	{"a bare CR for the end of a line", getting + "X: y\r\rY: z\r\n\r\n", 400},
	{"two CRs before the LF", getting + "X: y\r\r\n\r\n", 400},
	{"a bare CR in the target", "GET /livez\r HTTP/1.1\r\nHost: shop\r\n\r\n", 400},
	{"a bare CR after the version", "GET /livez HTTP/1.1\r\r\nHost: shop\r\n\r\n", 400},
	{"a folded line", getting + "X: y\r\n z\r\n\r\n", 200},
	{"a line folded with a tab", getting + "X: y\r\n\tz\r\n\r\n", 200},
	{"a folded first line", "GET /livez HTTP/1.1\r\n X: y\r\nHost: shop\r\n\r\n", 400},
	{"a space before a colon", getting + "X : y\r\n\r\n", 400},
	{"a space in a name", getting + "X Y: z\r\n\r\n", 200},
	{"a space in a name with no space after the colon", getting + "X Y:z z\r\n\r\n", 200},
	{"an empty name", getting + ": y\r\n\r\n", 400},
	{"a line without a colon", getting + "X\r\n\r\n", 400},
	{"a NUL in a value", getting + "X: a\x00b\r\n\r\n", 400},
	{"a NUL in a name", getting + "X\x00: y\r\n\r\n", 400},
	{"a NUL in the target", "GET /livez\x00 HTTP/1.1\r\nHost: shop\r\n\r\n", 400},
	{"a control character in a value", getting + "X: a\x01b\r\n\r\n", 400},
	{"a DEL in a value", getting + "X: a\x7fb\r\n\r\n", 400},
	{"a control character in the target", "GET /livez\x01 HTTP/1.1\r\nHost: shop\r\n\r\n", 400},
	{"a tab in the request line", "GET\t/livez\tHTTP/1.1\r\nHost: shop\r\n\r\n", 400},
	{"two spaces in the request line", "GET  /livez HTTP/1.1\r\nHost: shop\r\n\r\n", 400},
	{"a space at the end of the request line", "GET /livez HTTP/1.1 \r\nHost: shop\r\n\r\n", 400},
	{"a space in the target", "GET /livez /x HTTP/1.1\r\nHost: shop\r\n\r\n", 400},
	{"no host", "GET /livez HTTP/1.1\r\n\r\n", 400},
	{"an empty host", "GET /livez HTTP/1.1\r\nHost:\r\n\r\n", 400},
	{"two hosts", getting + "Host: other\r\n\r\n", 400},
	{"the same host twice", getting + "Host: shop\r\n\r\n", 400},
	{"a host on a folded line", "GET /livez HTTP/1.1\r\nHost:\r\n shop\r\n\r\n", 200},
	{"a host with a space", "GET /livez HTTP/1.1\r\nHost: shop other\r\n\r\n", 400},
	{"a host with a bad port", "GET /livez HTTP/1.1\r\nHost: shop:80x\r\n\r\n", 400},
	{"a URL of another host", "GET http://other/livez HTTP/1.1\r\nHost: shop\r\n\r\n", 200},
	{"a URL of another user", "GET http://u@shop/livez HTTP/1.1\r\nHost: shop\r\n\r\n", 200},
	{"a URL of another scheme", "GET gopher://shop/livez HTTP/1.1\r\nHost: shop\r\n\r\n", 200},
	{"a URL after two slashes", "GET //other:///livez HTTP/1.1\r\nHost: shop\r\n\r\n", 200},
	{"a target without a slash", "GET livez HTTP/1.1\r\nHost: shop\r\n\r\n", 400},
	{"an asterisk", "GET * HTTP/1.1\r\nHost: shop\r\n\r\n", 400},
	{"an asterisk with OPTIONS", "OPTIONS * HTTP/1.1\r\nHost: shop\r\n\r\n", 200},
	{"CONNECT", "CONNECT other:443 HTTP/1.1\r\nHost: shop\r\n\r\n", 200},
	{"HTTP/0.9", "GET /livez\r\n", 400},
	{"HTTP/1.2", "GET /livez HTTP/1.2\r\nHost: shop\r\n\r\n", 200},
	{"HTTP/2.0", "GET /livez HTTP/2.0\r\nHost: shop\r\nConnection: keep-alive\r\n\r\n", 200},
	{"the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400},
	{"a version in lower case", "GET /livez http/1.1\r\nHost: shop\r\n\r\n", 400},
	{"a version with two digits", "GET /livez HTTP/1.10\r\nHost: shop\r\n\r\n", 400},
	{"HTTP/1.0 that stays, in chunks", "POST /livez HTTP/1.0\r\nHost: shop\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
	{"a chunk size that is no number", inChunks + "x\r\n\r\n0\r\n\r\n", 400},
	{"an empty chunk size", inChunks + "\r\n\r\n0\r\n\r\n", 400},
	{"a negative chunk size", inChunks + "-d\r\n" + anOrder + "\r\n0\r\n\r\n", 400},
	{"a chunk size with a plus", inChunks + "+d\r\n" + anOrder + "\r\n0\r\n\r\n", 400},
	{"a chunk size with 0x", inChunks + "0xd\r\n" + anOrder + "\r\n0\r\n\r\n", 400},
	{"a chunk size after a space", inChunks + " d\r\n" + anOrder + "\r\n0\r\n\r\n", 400},
	{"a chunk size with an underscore", inChunks + "0_d\r\n" + anOrder + "\r\n0\r\n\r\n", 400},
	{"a chunk size over 64 bits", inChunks + "1000000000000000d\r\n" + anOrder + "\r\n0\r\n\r\n", 400},
	{"a chunk size before a bare LF", inChunks + "d\n" + anOrder + "\r\n0\r\n\r\n", 400},
	{"a chunk size before a bare CR", inChunks + "d\r" + anOrder + "\r\n0\r\n\r\n", 400},
	{"a bare LF after a chunk", inChunks + "d\r\n" + anOrder + "\n0\r\n\r\n", 400},
	{"a chunk longer than it says", inChunks + "c\r\n" + anOrder + "\r\n0\r\n\r\n", 400},
	{"a chunk shorter than it says", inChunks + "e\r\n" + anOrder + "\r\n0\r\n\r\n", 400},
	{"a bare LF in a chunk's extension", inChunks + "d;a\nb\r\n" + anOrder + "\r\n0\r\n\r\n", 400},
	{"a bare CR in a chunk's extension", inChunks + "d;a\rb\r\n" + anOrder + "\r\n0\r\n\r\n", 400},
	{"a space before a chunk's extension", inChunks + "d ;a=b\r\n" + anOrder + "\r\n0\r\n\r\n", 400},
	{"a key in a trailer", inChunks + "d\r\n" + anOrder + "\r\n0\r\nIdempotency-Key: k\r\n\r\n", 200},
	{"a trailer that is announced", strings.TrimSuffix(inChunks, "\r\n") + "Trailer: X-Y\r\n\r\nd\r\n" + anOrder + "\r\n0\r\nX-Y: z\r\n\r\n", 200},
	{"a length in a trailer", inChunks + "d\r\n" + anOrder + "\r\n0\r\nContent-Length: 0\r\n\r\n", 400},
	{"a folded trailer", inChunks + "d\r\n" + anOrder + "\r\n0\r\nX: y\r\n z\r\n\r\n", 200},
	{"a trailer that ends in a bare LF", inChunks + "d\r\n" + anOrder + "\r\n0\r\nX: y\n\r\n", 200},
	{"something for a trailer", inChunks + "d\r\n" + anOrder + "\r\n0\r\nhello\r\n\r\n", 400},
	{"no HTTP", "hello\r\n\r\n", 400},
	{"a TLS handshake", "\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n", 400},
}

// P7: whatever two readers of the same bytes might understand differently is refused, and nothing after it is answered.
func TestHostile_ADoubtfulRequestIsRefusedAndEndsTheConnection(t *testing.T) {
	s := newStand(t, testConfig(), nil, sale("demo", nil))
	s.run()
	address := s.serve(2 * time.Second)
	for _, p := range probes {
		t.Run(p.what, func(t *testing.T) {
			t.Parallel()
			answers, closed := converse(t, address, p.raw+next, 5*time.Second)
			if want := (said{400, contentProblem, string(sluice.BadRequest)}); len(answers) != 1 || answers[0] != want || !closed {
				t.Errorf("%q is answered %+v, closed: %t; want %+v, closed", p.raw, answers, closed, want)
			}
		})
	}
	t.Cleanup(func() {
		if n := s.credits.Outstanding(); n != 0 {
			t.Errorf("refused requests left %d orders outstanding", n)
		}
	})
}

// What RFC 9112 has everybody send or bear with goes on working, although it looks odd.
func TestHostile_WhatIsLegitimateIsServed(t *testing.T) {
	s := newStand(t, testConfig(), nil, sale("demo", func(s *sluice.Sale) { s.PerUserLimit = 100 }))
	s.run()
	address := s.serve(2 * time.Second)
	for _, c := range []struct {
		what, raw string
		statuses  []int // of all answers; the last request asks to close
	}{
		{"a browser's order", ordinary + next, []int{202, 200}},
		{"two at once", placing + "Content-Length: 13\r\n\r\n" + anOrder + next, []int{202, 200}},
		{"names in lower case, no space after the colon", "POST /v1/sales/demo/orders HTTP/1.1\r\nhost:shop\r\ncontent-type:application/json\r\ncontent-length:13\r\n\r\n" + anOrder + next, []int{202, 200}},
		{"tabs, colons and nothing in values", getting + "X:\ta\tb: c\r\nY:\r\nZ: \r\n\r\n" + next, []int{200, 200}},
		{"bytes over 127 in a value", getting + "X: \xff\xc3\xb6\r\n\r\n" + next, []int{200, 200}},
		{"line feeds in a body", placing + "Content-Length: 15\r\n\r\n{\"user\":\n\"u1\"\n}" + next, []int{202, 200}},
		{"a length of nothing", getting + "Content-Length: 0\r\n\r\n" + next, []int{200, 200}},
		{"a URL of this host", "GET http://shop/livez HTTP/1.1\r\nHost: SHOP\r\n\r\n" + next, []int{200, 200}},
		{"a URL of this host, without a path", "GET https://shop?x HTTP/1.1\r\nHost: shop\r\n\r\n" + next, []int{404, 200}},
		{"two slashes", "GET //livez HTTP/1.1\r\nHost: shop\r\n\r\n" + next, []int{200, 200}},
		{"HTTP/1.0", "GET /livez HTTP/1.0\r\n\r\n" + next, []int{200}},
		{"HTTP/1.0 that stays", "GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + next, []int{200, 200}},
		{"empty lines before a request", "\r\n\r\n" + getting + "\r\n\r\n" + next, []int{200, 200}},
		// A reader who does not take the LF for the end of the line finds no version at the real one, and refuses.
		{"a request line that ends in a bare LF", "GET /livez HTTP/1.1\nHost: shop\r\n\r\n" + next, []int{200, 200}},
		// After a chunked body the connection ends: how it was cut up only fasthttp has seen.
		{"an order in one chunk", inChunks + "d\r\n" + anOrder + "\r\n0\r\n\r\n" + next, []int{202}},
		{"an order in two chunks", inChunks + "008\r\n" + anOrder[:8] + "\r\n5\r\n" + anOrder[8:] + "\r\n0\r\n\r\n" + next, []int{202}},
		{"an order in CHUNKED", placing + "transfer-encoding:CHUNKED\r\n\r\nD\r\n" + anOrder + "\r\n0\r\n\r\n" + next, []int{202}},
		{"a chunk with an extension", inChunks + "d;a=b\r\n" + anOrder + "\r\n0\r\n\r\n" + next, []int{202}},
		{"no chunks", inChunks + "0\r\n\r\n" + next, []int{400}},
	} {
		t.Run(c.what, func(t *testing.T) {
			answers, closed := converse(t, address, c.raw, 5*time.Second)
			statuses := make([]int, len(answers))
			for i, a := range answers {
				statuses[i] = a.status
			}
			if !slices.Equal(statuses, c.statuses) || !closed {
				t.Errorf("%q is answered %v, closed: %t; want %v, closed", c.raw, statuses, closed, c.statuses)
			}
		})
	}
}

// What fasthttp does alone is the reason for the scan: where this test fails after an update, read the probes again.
func TestHostile_FasthttpAloneTakesSomeOfIt(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a listener on loopback does not wait
	if err != nil {
		t.Fatal(err)
	}
	server := &fasthttp.Server{
		Handler: func(*fasthttp.RequestCtx) {}, ReadTimeout: 2 * time.Second, Logger: quiet{slog.New(slog.DiscardHandler)},
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := server.Serve(l); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		if err := server.Shutdown(); err != nil {
			t.Error(err)
		}
		wg.Wait()
	})
	for _, p := range probes {
		t.Run(p.what, func(t *testing.T) {
			t.Parallel()
			answers, _ := converse(t, l.Addr().String(), p.raw+next, 5*time.Second)
			t.Logf("%d answers", len(answers))
			if len(answers) == 0 || answers[0].status != p.alone {
				t.Errorf("%q is answered %+v; the table has %d", p.raw, answers, p.alone)
			}
		})
	}
}

// ordinary is an order as a browser sends it.
const ordinary = "POST /v1/sales/demo/orders HTTP/1.1\r\nHost: shop.example\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\nAccept: application/json\r\n" +
	"Accept-Language: en-GB,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nContent-Type: application/json\r\n" +
	"Idempotency-Key: 6b1f7c1e-54f2-4b6f-9a3e-1f2d3c4b5a69\r\nContent-Length: 13\r\nOrigin: https://shop.example\r\n" +
	"Connection: keep-alive\r\nSec-Fetch-Dest: empty\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Site: same-origin\r\n\r\n" + anOrder

// received is a request as fasthttp hands it over.
func received(tb testing.TB, raw string) *fasthttp.RequestCtx {
	tb.Helper()
	ctx := &fasthttp.RequestCtx{}
	if err := ctx.Request.Read(bufio.NewReaderSize(strings.NewReader(raw), headerBytes)); err != nil {
		tb.Fatal(err)
	}
	return ctx
}

func TestMalformed_AllocatesNothing(t *testing.T) {
	if race.Enabled {
		t.Skip("allocations can't be counted under the race detector")
	}
	for raw, want := range map[string]string{ordinary: "", getting + "X: y\r\n z\r\n\r\n": foldedLine} {
		ctx := received(t, raw)
		var got string
		if n := testing.AllocsPerRun(1000, func() { got = malformed(ctx) }); n != 0 || got != want {
			t.Errorf("%.40q: %q with %v allocations; want %q with 0", raw, got, n, want)
		}
	}
}

// BenchmarkMalformed is what the scan adds to every request: of a browser, and of a program.
func BenchmarkMalformed(b *testing.B) {
	for name, raw := range map[string]string{"browser": ordinary, "program": placing + "Content-Length: 13\r\n\r\n" + anOrder} {
		b.Run(name, func(b *testing.B) {
			ctx := received(b, raw)
			b.ReportAllocs()
			for b.Loop() {
				if wrong := malformed(ctx); wrong != "" {
					b.Fatal(wrong)
				}
			}
		})
	}
}
