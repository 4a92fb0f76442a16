package ingress

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"sluice"
	"sluice/limiter"
)

// serve serves the door over a real socket until the test ends.
func (s *stand) serve(readTimeout time.Duration) string {
	s.t.Helper()
	return s.serveOn(s.Connections.Listen(loopback(s.t), false), func(server *fasthttp.Server) { server.ReadTimeout = readTimeout })
}

// heard is an answer without its connection.
type heard struct {
	StatusCode int
	Header     http.Header
}

// speak sends raw bytes and reads one answer.
func speak(t *testing.T, address, raw string) (heard, map[string]any) {
	t.Helper()
	c, err := net.Dial("tcp", address) //nolint:noctx // loopback
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, raw); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("answer to %.80q: %v", raw, err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	documentedRaw(t, raw, res)
	var problem map[string]any
	if err := json.Unmarshal(body, &problem); err != nil {
		t.Fatalf("answer to %.80q is no JSON: %s", raw, body)
	}
	return heard{res.StatusCode, res.Header}, problem
}

func post(sale, contentType, body string, headers ...string) string {
	h := strings.Join(append(headers, ""), "\r\n")
	return fmt.Sprintf("POST /v1/sales/%s/orders HTTP/1.1\r\nHost: shop\r\nContent-Type: %s\r\nContent-Length: %d\r\n%s\r\n%s",
		sale, contentType, len(body), h, body)
}

const typeJSON = "application/json"

// refused is a row of the table: what somebody does, and what they hear.
type refused struct {
	what, raw string
	status    int
	reason    sluice.Refusal
	detail    string // what the answer says of it
	retry     bool   // Retry-After and retry_after_ms are there
}

func (c refused) check(t *testing.T, address string) {
	t.Helper()
	t.Run(c.what, func(t *testing.T) {
		res, problem := speak(t, address, c.raw)
		if res.StatusCode != c.status || problem["reason"] != string(c.reason) || res.Header.Get("Content-Type") != contentProblem {
			t.Errorf("got %d %v (%s); want %d %s as %s", res.StatusCode, problem, res.Header.Get("Content-Type"), c.status, c.reason, contentProblem)
		}
		if problem["status"] != float64(c.status) || problem["title"] == "" || problem["type"] != "urn:sluice:refusal:"+string(c.reason) {
			t.Errorf("problem %v", problem)
		}
		if detail, _ := problem["detail"].(string); !strings.Contains(detail, c.detail) {
			t.Errorf("detail %q does not say %q", detail, c.detail)
		}
		if got := res.Header.Get("Retry-After") != "" && problem["retry_after_ms"] != nil; got != c.retry {
			t.Errorf("Retry-After %q, retry_after_ms %v; want them: %t", res.Header.Get("Retry-After"), problem["retry_after_ms"], c.retry)
		}
	})
}

// TestRefusals is the table of what a buyer can do wrong and what the door answers, over a real socket. Every answer is held
// against the published contract, too.
func TestRefusals(t *testing.T) {
	cfg := testConfig()
	s := newStand(t, cfg, nil,
		sale("demo", func(s *sluice.Sale) { s.PerUserLimit = 3 }),
		sale("later", func(s *sluice.Sale) { s.StartsAt = time.Now().Add(time.Hour) }),
		sale("over", func(s *sluice.Sale) { s.EndsAt = time.Now().Add(-time.Hour) }),
		sale("resting", func(s *sluice.Sale) { s.Paused = true }),
		sale("gone", func(s *sluice.Sale) { s.Free, s.Sold = 0, 1000 }),
		sale("spoken-for", func(s *sluice.Sale) {
			s.Free, s.Held, s.NextRelease = 0, 1000, time.Now().Add(20*time.Second)
		}),
	)
	s.buyers.Take(time.Since(s.began), maphash.String(s.seed, "hasty"), limiter.Rate{PerSecond: 0.01, Burst: 1})
	s.set(sluice.Limits{Blocks: []sluice.Block{{User: "bot"}}})
	s.run()
	address := s.serve(readTimeout)
	ok := `{"user":"u1","quantity":1}`
	for _, c := range []refused{
		{"malformed JSON", post("demo", typeJSON, `{"user":"u1"`), 400, sluice.BadRequest, "not an order", false},
		{"an empty body", post("demo", typeJSON, ``), 400, sluice.BadRequest, "empty", false},
		{"not an object", post("demo", typeJSON, `["u1"]`), 400, sluice.BadRequest, "not an object", false},
		{"two objects", post("demo", typeJSON, ok+ok), 400, sluice.BadRequest, "follows", false},
		{"a repeated name", post("demo", typeJSON, `{"user":"u1","user":"u2"}`), 400, sluice.BadRequest, "duplicate", false},
		{"a misspelt field", post("demo", typeJSON, `{"user":"u1","quanity":2}`), 400, sluice.BadRequest, "quanity", false},
		{"no user", post("demo", typeJSON, `{"quantity":1}`), 400, sluice.BadRequest, "user: it is missing", false},
		{"a user of the wrong type", post("demo", typeJSON, `{"user":1}`), 400, sluice.BadRequest, "user: want a string", false},
		{"an empty user", post("demo", typeJSON, `{"user":""}`), 400, sluice.BadRequest, "user", false},
		{"a user over 128 bytes", post("demo", typeJSON, `{"user":"`+strings.Repeat("u", 129)+`"}`), 400, sluice.BadRequest, "1 to 128 bytes", false},
		{"a user with a control character", post("demo", typeJSON, `{"user":"a\u0007b"}`), 400, sluice.BadRequest, "control characters", false},
		{"a user that is not UTF-8", post("demo", typeJSON, "{\"user\":\"a\xffb\"}"), 400, sluice.BadRequest, "UTF-8", false},
		{"quantity as text", post("demo", typeJSON, `{"user":"u1","quantity":"1"}`), 400, sluice.BadRequest, "quantity", false},
		{"a fraction of a unit", post("demo", typeJSON, `{"user":"u1","quantity":1.5}`), 400, sluice.BadRequest, "whole number", false},
		{"zero units", post("demo", typeJSON, `{"user":"u1","quantity":0}`), 400, sluice.BadRequest, "1 to 10000", false},
		{"fewer than no units", post("demo", typeJSON, `{"user":"u1","quantity":-1}`), 400, sluice.BadRequest, "1 to 10000", false},
		{"a huge quantity", post("demo", typeJSON, `{"user":"u1","quantity":99999999999999999999}`), 400, sluice.BadRequest, "1 to 10000", false},
		{"more than the sale allows", post("demo", typeJSON, `{"user":"u1","quantity":4}`), 400, sluice.BadRequest, "1 to 3 a buyer", false},
		{"attributes that are no object", post("demo", typeJSON, `{"user":"u1","attributes":[]}`), 400, sluice.BadRequest, "attributes", false},
		{"attributes over a kilobyte", post("demo", typeJSON, `{"user":"u1","attributes":{"a":"`+strings.Repeat("x", 1024)+`"}}`), 400, sluice.BadRequest, "1024 bytes", false},
		{"a bad key", post("demo", typeJSON, ok, "Idempotency-Key: "+strings.Repeat("k", 129)), 400, sluice.BadRequest, "Idempotency-Key", false},
		{"a body over the limit", post("demo", typeJSON, strings.Repeat(" ", maxBodyBytes+1)), 413, sluice.TooLarge, "body is over 8192", false},
		{"headers over the limit", "GET / HTTP/1.1\r\nHost: shop\r\nX: " + strings.Repeat("x", headerBytes) + "\r\n\r\n", 413, sluice.TooLarge, "header is over", false},
		{"a form", post("demo", "application/x-www-form-urlencoded", "user=u1"), 403, sluice.BadOrigin, "neither Origin nor", false},
		{"another content type", post("demo", "text/plain", ok), 415, sluice.UnsupportedMediaType, "application/json", false},
		{"a compressed body", post("demo", typeJSON, ok, "Content-Encoding: gzip"), 415, sluice.UnsupportedMediaType, "encoding", false},
		{"not HTTP", "hello\r\n\r\n", 400, sluice.BadRequest, "not an HTTP request", false},
		{"an unknown sale", post("nope", typeJSON, ok), 404, sluice.NoSuchSale, "", false},
		{"before the start", post("later", typeJSON, ok), 403, sluice.NotStarted, "", true},
		{"after the end", post("over", typeJSON, ok), 410, sluice.Ended, "", false},
		{"while paused", post("resting", typeJSON, ok), 503, sluice.SalePaused, "", true},
		{"all sold", post("gone", typeJSON, ok), 409, sluice.AllSold, "", false},
		{"every unit held", post("spoken-for", typeJSON, ok), 503, sluice.NoneFree, "", true},
		{"too fast", post("demo", typeJSON, `{"user":"hasty"}`), 429, sluice.RateLimited, "", true},
		{"a blocked buyer", post("demo", typeJSON, `{"user":"bot"}`), 403, sluice.Blocked, "", false},
		{"an order that is no id", "GET /v1/orders/x HTTP/1.1\r\nHost: shop\r\n\r\n", 404, sluice.NoSuchOrder, "", false},
		{"an invented order", "GET /v1/orders/5a46f2c0-0fce-814f-920e-caf5b0d6fdba HTTP/1.1\r\nHost: shop\r\n\r\n", 404, sluice.NoSuchOrder, "", false},
		{"the wrong method", "DELETE /v1/sales/demo/orders HTTP/1.1\r\nHost: shop\r\n\r\n", 405, sluice.MethodNotAllowed, "", false},
		{"nothing there", "GET /v2 HTTP/1.1\r\nHost: shop\r\n\r\n", 404, sluice.NotFound, "", false},
	} {
		c.check(t, address)
	}
	const endless = "POST /v1/sales/demo/orders HTTP/1.1\r\nHost: shop\r\nContent-Length: 9\r\n\r\n{"
	refused{"a request that does not end", endless, 408, sluice.TooSlowRequest, "did not arrive", false}.check(t, s.serve(2*time.Second))
	if n := s.credits.Outstanding(); n != 0 {
		t.Errorf("refused requests left %d orders outstanding", n)
	}
	t.Run("at a full door", refusalsOfAFullDoor)
	t.Run("where the wait would be too long", refusalsOfASlowDoor)
	t.Run("at a door that can't promise anything", refusalsOfAStuckDoor)
	t.Run("at a door that asks for tickets", refusalsWithoutATicket)
	t.Run("a bad wait", func(t *testing.T) {
		id := s.Keys.ID([]byte("demo"), []byte("u"), nil, 0)
		res, problem := speak(t, address, "GET /v1/orders/"+id.String()+"?wait=1h HTTP/1.1\r\nHost: shop\r\n\r\n")
		if res.StatusCode != 400 || !strings.Contains(problem["detail"].(string), "0s to 1m0s") {
			t.Errorf("got %d %v", res.StatusCode, problem)
		}
	})
	t.Run("after all of that, a good order", func(t *testing.T) {
		res, body := speak(t, address, post("demo", typeJSON, `{"user":"Zo\u00eb","quantity":3,"attributes":{"size":"L"}}`))
		if res.StatusCode != 202 || body["status"] != "queued" {
			t.Errorf("got %d %v", res.StatusCode, body)
		}
		if o := s.carrier.carried()[0]; o.User != "Zoë" || o.Quantity != 3 || string(o.Attributes) != `{"size":"L"}` {
			t.Errorf("carried %+v", o)
		}
	})
}

func several(s *sluice.Sale) { s.PerUserLimit = 3 }

func refusalsOfAFullDoor(t *testing.T) {
	cfg := testConfig()
	cfg.Bound = 1
	s := newStand(t, cfg, nil, sale("demo", several))
	s.run()
	s.want(s.buy("first", "Idempotency-Key", "k"), 202, "queued")
	address := s.serve(time.Second)
	for _, c := range []refused{
		{"the bound is reached", post("demo", typeJSON, `{"user":"u1"}`), 503, sluice.QueueFull, "", true},
		{"the key of another quantity", post("demo", typeJSON, `{"user":"first","quantity":2}`, "Idempotency-Key: k"), 422, sluice.IdempotencyMismatch, "another quantity", false},
	} {
		c.check(t, address)
	}
}

func refusalsOfASlowDoor(t *testing.T) {
	s := newStand(t, testConfig(), nil, sale("demo", nil)) // it does not run: nobody works out the wait anew
	s.drainable.Store(1)
	s.want(s.buy("first"), 202, "queued")
	refused{"the wait would be too long", post("demo", typeJSON, `{"user":"u1"}`), 503, sluice.TooSlow, "", true}.check(t, s.serve(time.Second))
}

func refusalsOfAStuckDoor(t *testing.T) {
	s := newStand(t, testConfig(), nil, sale("demo", nil))
	if err := s.Journal.Close(); err != nil {
		t.Fatal(err)
	}
	refused{"the journal can't be written", post("demo", typeJSON, `{"user":"u1"}`), 503, sluice.Unavailable, "journal", true}.check(t, s.serve(time.Second))
}

func refusalsWithoutATicket(t *testing.T) {
	s := ticketed(t, nil)
	s.run()
	order := s.call("POST", "/v1/sales/demo/orders", `{}`, "Authorization", "Bearer alice//").Order
	get := "GET /v1/orders/" + order + " HTTP/1.1\r\nHost: shop\r\n"
	address := s.serve(time.Second)
	for _, c := range []refused{
		{"no ticket", post("demo", typeJSON, `{"user":"u1"}`), 401, sluice.BadTicket, "no stamp", false},
		{"a bad ticket", post("demo", typeJSON, `{}`, "Authorization: Bearer nonsense"), 401, sluice.BadTicket, "no stamp", false},
		{"a ticket for another sale", post("demo", typeJSON, `{}`, "Authorization: Bearer bob//other"), 401, sluice.BadTicket, "another sale", false},
		{"an order in another buyer's name", post("demo", typeJSON, `{"user":"alice"}`, "Authorization: Bearer bob//"), 401, sluice.BadTicket, "another buyer", false},
		{"an order, read without a ticket", get + "\r\n", 401, sluice.BadTicket, "no stamp", false},
		{"somebody else's order", get + "Authorization: Bearer bob//\r\n\r\n", 404, sluice.NoSuchOrder, "", false},
	} {
		c.check(t, address)
	}
}

func TestSale_ShowsWhatABuyerMaySee(t *testing.T) {
	starts := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	s := newStand(t, testConfig(), nil, sale("later", func(s *sluice.Sale) { s.StartsAt = starts }))
	a := s.call("GET", "/v1/sales/later", "")
	if a.status != 200 || a.body["open"] != false || a.body["reason"] != "not-started" || a.body["starts_at"] != starts.Format(time.RFC3339) || a.body["now"] == nil {
		t.Errorf("sale: %d %v", a.status, a.body)
	}
	if _, told := a.body["stock"]; told {
		t.Error("a buyer is told the stock")
	}
	s.want(s.call("GET", "/v1/sales/nope", ""), 404, "unknown-sale")
}
