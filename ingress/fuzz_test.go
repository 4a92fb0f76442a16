package ingress

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

// wire is a connection whose client has said everything and listens.
type wire struct {
	in  *bytes.Reader
	cut int // most bytes in one read
	out bytes.Buffer
}

func (w *wire) Read(p []byte) (int, error)     { return w.in.Read(p[:min(len(p), w.cut)]) }
func (w *wire) Write(p []byte) (int, error)    { return w.out.Write(p) }
func (*wire) Close() error                     { return nil }
func (*wire) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (*wire) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (*wire) SetDeadline(time.Time) error      { return nil }
func (*wire) SetReadDeadline(time.Time) error  { return nil }
func (*wire) SetWriteDeadline(time.Time) error { return nil }

// asked is a request that was understood.
type asked struct{ method, target, body string }

// FuzzHandle sends bytes to the whole server. It never panics, each of its answers is one in HTTP and in JSON, and it has
// served those requests alone that a strict reader of RFC 9112 finds in the same bytes.
func FuzzHandle(f *testing.F) {
	for _, p := range probes {
		f.Add([]byte(p.raw+next), uint8(0))
	}
	for _, raw := range []string{
		ordinary + ordinary + next, inChunks + "d;a=b\r\n" + anOrder + "\r\n0\r\n\r\n" + next, "\r\n\n" + getting + "\r\n" + next,
		placing + "Content-Length: 13\r\nExpect: 100-continue\r\n\r\n" + anOrder + next, "HEAD /livez HTTP/1.1\r\nHost: a\r\n\r\n" + next,
		"GET http://shop/v1/sales/demo HTTP/1.0\r\nHost: shop\r\nConnection: keep-alive\r\n\r\n" + next, "GET /v1/orders/x?wait=1s HTTP/1.1\r\nHost: a\r\n\r\n",
		"OPTIONS /v1/sales/demo/orders HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 9\r\n\r\n--b--\r\n\r\n" + next,
	} {
		f.Add([]byte(raw), uint8(7))
	}
	s := newStand(f, testConfig(), nil, sale("demo", nil))
	server := s.Server()
	var served []asked
	server.Handler = func(ctx *fasthttp.RequestCtx) {
		s.Handle(ctx)
		if malformed(ctx) == "" {
			served = append(served, asked{string(ctx.Method()), string(ctx.RequestURI()), string(ctx.Request.Body())})
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte, cut uint8) {
		served = nil
		w := &wire{in: bytes.NewReader(raw), cut: int(cut)}
		if cut == 0 {
			w.cut = len(raw) + 1
		}
		_ = server.ServeConn(w) // an error says that the client was not understood
		checkAnswers(t, raw, served, w.out.Bytes())
		rest := string(raw)
		for i, got := range served {
			var want asked
			var err error
			if want, rest, err = readStrictly(rest); err != nil || got != want {
				t.Fatalf("%q: request %d is served as %q; it is %q, %v", raw, i, got, want, err)
			}
		}
	})
}

// checkAnswers reads all answers: one for each request that was served, and perhaps a refusal, which is the last word.
func checkAnswers(t *testing.T, raw []byte, served []asked, answers []byte) {
	t.Helper()
	r := bufio.NewReader(bytes.NewReader(answers))
	for i := 0; ; {
		var to http.Request
		if i < len(served) {
			to.Method = served[i].method
		}
		res, err := http.ReadResponse(r, &to)
		if errors.Is(err, io.ErrUnexpectedEOF) && r.Buffered() == 0 { // the end
			if i < len(served) {
				t.Errorf("%q: %d requests are served, %d answered: %q", raw, len(served), i, answers)
			}
			return
		}
		if err != nil {
			t.Fatalf("%q is answered %q: %v", raw, answers, err)
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil || res.StatusCode == fasthttp.StatusInternalServerError {
			t.Fatalf("%q is answered %q: %v", raw, answers, err)
		}
		if res.StatusCode == fasthttp.StatusContinue {
			continue
		}
		if isJSON := strings.HasSuffix(res.Header.Get("Content-Type"), "json"); isJSON && to.Method != http.MethodHead && !json.Valid(body) {
			t.Errorf("%q is answered with what is no JSON: %q", raw, answers)
		}
		if i >= len(served) && (!res.Close || res.StatusCode < 400) {
			t.Errorf("%q is not understood, but answered %q", raw, answers)
		}
		i++
	}
}

var errNotStrict = errors.New("not as RFC 9112 has it")

// readStrictly reads one request as RFC 9112 has it, without any of the leniencies that it allows but a few that the door can't
// see: empty lines before a request, an LF alone after the request line, and, where nothing more is read, an LF alone for
// the empty line after the last chunk or instead of a header.
func readStrictly(in string) (got asked, rest string, err error) {
	line := ""
	for line == "" {
		var ok bool
		if line, in, ok = strings.Cut(in, "\n"); !ok {
			return got, "", errNotStrict
		}
		line = strings.TrimSuffix(line, "\r")
	}
	words := strings.Split(line, " ")
	if len(words) != 3 || words[2] != "HTTP/1.1" && words[2] != "HTTP/1.0" {
		return got, "", errNotStrict
	}
	got.method, got.target = words[0], words[1]
	if strings.HasPrefix(in, "\n") && words[2] == "HTTP/1.0" {
		return got, "", nil
	}
	length, inChunks, hosts := "", false, 0
	for {
		var ok bool
		if line, in, ok = strings.Cut(in, "\r\n"); !ok || strings.ContainsAny(line, "\r\n") {
			return got, "", errNotStrict
		}
		if line == "" {
			break
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || name == "" || strings.ContainsAny(name, " \t\"(),/;<=>?@[\\]{}") {
			return got, "", errNotStrict
		}
		value = strings.Trim(value, " \t")
		switch strings.ToLower(name) {
		case "host":
			hosts++
		case "content-length":
			if _, err := strconv.ParseUint(value, 10, 63); err != nil || length != "" {
				return got, "", errNotStrict
			}
			length = value
		case "transfer-encoding":
			if inChunks || !strings.EqualFold(value, "chunked") {
				return got, "", errNotStrict
			}
			inChunks = true
		}
	}
	switch {
	case hosts > 1 || hosts == 0 && words[2] == "HTTP/1.1" || length != "" && inChunks:
		return got, "", errNotStrict
	case inChunks:
		got.body, rest, err = readChunks(in)
		return got, rest, err
	}
	n, _ := strconv.Atoi("0" + length)
	if n > len(in) {
		return got, "", errNotStrict
	}
	got.body = in[:n]
	return got, in[n:], nil
}

func readChunks(in string) (body, rest string, err error) {
	for {
		line, after, ok := strings.Cut(in, "\r\n")
		size, _, _ := strings.Cut(line, ";")
		n, err := strconv.ParseUint(strings.TrimRight(size, " \t"), 16, 62)
		if !ok || err != nil || strings.ContainsAny(line, "\r\n") || n > uint64(len(after)) {
			return "", "", errNotStrict
		}
		if n == 0 {
			if strings.HasPrefix(after, "\n") || strings.HasPrefix(after, "\r\n") {
				return body, "", nil // nothing is read after it
			}
			return "", "", errNotStrict
		}
		body += after[:n]
		if in, ok = strings.CutPrefix(after[n:], "\r\n"); !ok {
			return "", "", errNotStrict
		}
	}
}
