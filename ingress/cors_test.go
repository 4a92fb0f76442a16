package ingress

import (
	"strings"
	"testing"

	"github.com/valyala/fasthttp"

	"sluice/internal/race"
)

const shop, other = "https://shop.example", "https://evil.example"

// marks are the CORS headers of an answer.
func marks(a answer) string {
	var out []string
	for _, name := range []string{
		"Access-Control-Allow-Origin", "Access-Control-Allow-Credentials", "Access-Control-Expose-Headers",
		"Access-Control-Allow-Methods", "Access-Control-Allow-Headers", "Access-Control-Max-Age", "Vary",
	} {
		if v := a.header.Peek(name); len(v) > 0 {
			out = append(out, strings.TrimPrefix(name, "Access-Control-")+": "+string(v))
		}
	}
	return strings.Join(out, "; ")
}

func TestCORS(t *testing.T) {
	const (
		listed    = "Allow-Origin: https://shop.example; Allow-Credentials: true; Expose-Headers: Location, Retry-After; "
		everybody = "Allow-Origin: *; Expose-Headers: Location, Retry-After"
		may       = "; Allow-Methods: GET, POST; Allow-Headers: Content-Type, Idempotency-Key, Authorization; Max-Age: 7200"
		asks      = "Access-Control-Request-Method"
	)
	list, star := []string{shop, "http://127.0.0.1:3000"}, []string{"*"}
	for _, c := range []struct {
		what         string
		origins      []string
		method, path string
		headers      []string
		status       int
		marks        string
	}{
		{"none configured", nil, "GET", "/v1/sales/demo", []string{"Origin", shop}, 200, ""},
		{"none configured, a preflight", nil, "OPTIONS", "/v1/sales/demo/orders", []string{"Origin", shop, asks, "POST"}, 405, ""},
		{"a listed origin", list, "GET", "/v1/sales/demo", []string{"Origin", shop}, 200, listed + "Vary: Origin"},
		{"another one", list, "GET", "/v1/sales/demo", []string{"Origin", other}, 200, "Vary: Origin"},
		{"a longer one", list, "GET", "/v1/sales/demo", []string{"Origin", shop + ".evil.example"}, 200, "Vary: Origin"},
		{"no origin", list, "GET", "/v1/sales/demo", nil, 200, "Vary: Origin"},
		{"a refusal", list, "GET", "/v1/sales/nope", []string{"Origin", shop}, 404, listed + "Vary: Origin"},
		{"nothing there", list, "GET", "/nothing", []string{"Origin", shop}, 404, listed + "Vary: Origin"},
		{
			"a preflight", list, "OPTIONS", "/v1/sales/demo/orders",
			[]string{"Origin", shop, asks, "POST"},
			204,
			listed[:len(listed)-2] + may + "; Vary: Origin",
		},
		{"a preflight of another", list, "OPTIONS", "/v1/sales/demo/orders", []string{"Origin", other, asks, "POST"}, 403, "Vary: Origin"},
		{"OPTIONS that asks nothing", list, "OPTIONS", "/v1/sales/demo/orders", []string{"Origin", shop}, 405, listed + "Vary: Origin"},
		{"everybody", star, "GET", "/v1/sales/demo", []string{"Origin", other}, 200, everybody},
		{"everybody, a preflight", star, "OPTIONS", "/v1/sales/demo/orders", []string{"Origin", other, asks, "POST"}, 204, everybody + may},
		{"everybody, no origin", star, "GET", "/v1/sales/demo", nil, 200, "Allow-Origin: *"},
	} {
		t.Run(c.what, func(t *testing.T) {
			cfg := testConfig()
			cfg.CORSOrigins = c.origins
			s := newStand(t, cfg, nil, sale("demo", nil))
			a := s.call(c.method, c.path, "", c.headers...)
			if a.status != c.status || marks(a) != c.marks {
				t.Errorf("%d %s\nwant %d %s", a.status, marks(a), c.status, c.marks)
			}
		})
	}
}

// A page must be able to read why it was refused, also where the request could not even be read, and its events.
func TestCORS_MarksWhatTheServerItselfRefusesAndEventStreams(t *testing.T) {
	cfg := testConfig()
	cfg.CORSOrigins = []string{shop}
	s := newStand(t, cfg, nil, sale("demo", nil))
	address := s.serve(readTimeout)
	res, _ := speak(t, address, post("demo", typeJSON, strings.Repeat(" ", maxBodyBytes+1), "Origin: "+shop))
	if res.StatusCode != 413 || res.Header.Get("Access-Control-Allow-Origin") != shop {
		t.Errorf("a body over the limit: %d, %v", res.StatusCode, res.Header)
	}
	id := s.buy("u1").Order
	if res := s.listen(address, id).res; res.Header.Get("Vary") != "Origin" {
		t.Errorf("an event stream: %v", res.Header)
	}
}

func TestCORS_RefusingAllocatesNothing(t *testing.T) {
	if race.Enabled {
		t.Skip("allocations can't be counted under the race detector")
	}
	s := fullDoor(t)
	s.cors = newCORS([]string{shop})
	ctx, next := asks("demo")
	ctx.Request.Header.Set(fasthttp.HeaderOrigin, shop)
	user := 0
	n := testing.AllocsPerRun(1000, func() {
		user++
		next(user)
		s.Handle(ctx)
	})
	if ctx.Response.StatusCode() != 503 || len(ctx.Response.Header.Peek("Access-Control-Allow-Origin")) == 0 || n != 0 {
		t.Errorf("status %d with %v allocations: %s", ctx.Response.StatusCode(), n, &ctx.Response.Header)
	}
}
