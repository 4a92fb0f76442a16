package ingress

import (
	"bufio"
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/valyala/fasthttp"

	"sluice"
	"sluice/internal/contract"
)

// documented holds an answer of a door that is mounted at base against the published contract.
func documented(t testing.TB, ctx *fasthttp.RequestCtx, base string) {
	t.Helper()
	target := string(ctx.RequestURI())
	if rest, inside := strings.CutPrefix(target, base); inside && strings.HasPrefix(rest, "/") {
		target = rest
	} else if !slices.Contains(health, target) { // which are served without the base too
		target = "/outside" + target
	}
	req, err := http.NewRequestWithContext(t.Context(), string(ctx.Method()), target, bytes.NewReader(ctx.PostBody()))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range ctx.Request.Header.All() {
		req.Header.Add(string(name), string(value))
	}
	res := &http.Response{
		StatusCode: ctx.Response.StatusCode(), Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(bodyOf(ctx))),
	}
	for name, value := range ctx.Response.Header.All() {
		res.Header.Add(string(name), string(value))
	}
	if err := contract.Door(t).Check(req, res); err != nil {
		t.Error("not as documented:", err)
	}
}

var health = []string{"/livez", "/readyz"}

// bodyOf is what was answered; nothing of a stream, which may not end.
func bodyOf(ctx *fasthttp.RequestCtx) []byte {
	if ctx.Response.IsBodyStream() {
		return nil
	}
	return ctx.Response.Body()
}

// documentedRaw holds an answer over a socket against the published contract. What is no HTTP is no call.
func documentedRaw(t testing.TB, raw string, res *http.Response) {
	t.Helper()
	req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
	if err != nil {
		req = nil
	}
	if err := contract.Door(t).Check(req, res); err != nil {
		t.Error("not as documented:", err)
	}
}

// What is documented is served, and nothing else is: of no method and under no path that the door's code names.
func TestContract_IsWhatTheDoorServes(t *testing.T) {
	cfg := testConfig()
	cfg.CORSOrigins = []string{"https://shop.example"}
	s := newStand(t, cfg, nil, sale("demo", nil))
	calls := contract.Door(t).Calls()
	order := s.Keys.ID([]byte("demo"), []byte("u1"), nil, 0).String()
	s.buy("u1")
	fill := strings.NewReplacer("{sale}", "demo", "{order}", order)
	// A browser that asks what a page may do is told, whatever it asks of; documented is what pages call.
	asked := func(call contract.Call) bool { return call.Method == "OPTIONS" && call.Path == waitPath+"{order}" }
	for _, path := range pathsOf(calls) {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
			call := contract.Call{Method: method, Path: path}
			want := slices.Contains(calls, call) || asked(call)
			var ctx fasthttp.RequestCtx
			ctx.Request.Header.SetMethod(method)
			ctx.Request.SetRequestURI(fill.Replace(path))
			if method == "OPTIONS" {
				ctx.Request.Header.Set("Origin", "https://shop.example")
				ctx.Request.Header.Set("Access-Control-Request-Method", "POST")
			}
			s.Handle(&ctx)
			var problem struct{ Reason sluice.Refusal }
			_ = json.Unmarshal(bodyOf(&ctx), &problem) // no problem is no reason
			_ = ctx.Response.CloseBodyStream()
			served := !slices.Contains([]sluice.Refusal{sluice.MethodNotAllowed, sluice.NotFound, sluice.NoSuchOrder}, problem.Reason)
			if served != want && !slices.Contains(health, path) {
				t.Errorf("%s %s: served %t, documented %t (%d %s)", method, path, served, want, ctx.Response.StatusCode(), problem.Reason)
			}
		}
	}
	for _, literal := range pathLiterals(t) {
		if !slices.ContainsFunc(pathsOf(calls), func(path string) bool { return strings.Contains(path, literal) }) {
			t.Errorf("the door's code names the path %q, the document does not", literal)
		}
	}
}

func pathsOf(calls []contract.Call) []string {
	var paths []string
	for _, c := range calls {
		paths = append(paths, c.Path)
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

var aPath = regexp.MustCompile(`^/[a-z]`)

// pathLiterals are the strings of the package's code that look like paths.
func pathLiterals(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var literals []string
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if s, err := strconv.Unquote(lit.Value); err == nil && aPath.MatchString(s) {
					literals = append(literals, s)
				}
			}
			return true
		})
	}
	if len(literals) < 4 {
		t.Fatalf("only the paths %q were found", literals)
	}
	return literals
}

// The good answers, and refusals that no request alone brings about. Every answer that a stand gives in any test is held
// against the document; here are those that others do not ask for.
func TestContract_OfAnOrdersLife(t *testing.T) {
	s := newStand(t, testConfig(), nil, sale("demo", func(s *sluice.Sale) {
		s.PerUserLimit, s.CheckoutURL = 2, "https://shop.example/pay?o={order}"
	}))
	s.want(s.call("POST", "/v1/sales/demo/orders", `{"user":"Zoë","quantity":2,"attributes":{"size":"L"}}`, "Idempotency-Key", "k"), 202, "queued")
	for _, state := range []sluice.State{sluice.Held, sluice.Paid, sluice.Expired, sluice.Cancelled, sluice.Rejected, sluice.Failed} {
		first := s.buy("u-"+string(state), "Idempotency-Key", "k")
		s.want(first, 202, "queued")
		s.want(s.call("GET", "/v1/orders/"+first.Order+"?wait=1ms", ""), 200, "queued")
		s.hear(s.outcome(first.Order, state, 2))
		s.want(s.buy("u-"+string(state), "Idempotency-Key", "k"), 200, string(state))
		s.want(s.get(strings.ToUpper(first.Order)), 200, string(state))
	}
	s.call("GET", "/v1/sales/demo", "")
	s.call("GET", "/livez", "")
	s.call("GET", "/readyz", "")
	s.board.clock.Store(nil)
	s.want(s.call("GET", "/readyz", ""), 503, "unavailable")
	s.want(s.buy("u1"), 503, "unavailable")
	s.want(s.call("GET", "/v1/sales/demo", ""), 503, "unavailable")
}

func TestContract_OfALineThatIsFull(t *testing.T) {
	cfg := testConfig()
	cfg.Bound = 2
	s := newStand(t, cfg, nil, sale("demo", nil))
	s.buy("u1")
	s.drainable.Store(1) // as the longest wait would have it
	s.want(s.buy("u2"), 503, "too-slow")
	s.drainable.Store(2)
	s.buy("u2")
	s.want(s.buy("u3"), 503, "queue-full")
}

func TestContract_OfADiskThatStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &stuckDisk{}
		cfg := testConfig()
		cfg.Answer = 20 * time.Millisecond
		s := newStand(t, cfg, errorfs.Wrap(vfs.NewMem(), disk), sale("demo", nil))
		disk.stick()
		a := s.buy("u1")
		s.want(a, 503, "unavailable")
		s.want(s.get(a.Order), 503, "unavailable")
		disk.free()
	})
}

func TestContract_OfADefect(t *testing.T) {
	s := newStand(t, testConfig(), nil, sale("demo", nil))
	s.Truth = nil
	s.Keys = nil // every request that needs it panics
	s.want(s.buy("u1"), 500, "internal")
}
