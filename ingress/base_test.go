package ingress

import (
	"testing"

	"github.com/valyala/fasthttp"
)

func TestBasePath_IsBeforeEveryRouteAndInEveryLink(t *testing.T) {
	cfg := testConfig()
	cfg.BasePath = "/sluice"
	s := newStand(t, cfg, nil, sale("demo", nil))
	a := s.call("POST", "/sluice/v1/sales/demo/orders", `{"user":"u1"}`)
	s.want(a, 202, "queued")
	href := "/sluice/v1/orders/" + a.Order
	if a.body["href"] != href || string(a.header.Peek("Location")) != href {
		t.Errorf("href %v, Location %s; want %s", a.body["href"], a.header.Peek("Location"), href)
	}
	for path, status := range map[string]int{
		href: 200, "/sluice/v1/sales/demo": 200,
		"/livez": 200, "/readyz": 200, "/sluice/livez": 200, "/sluice/readyz": 200,
		"/v1/sales/demo": 404, "/v1/orders/" + a.Order: 404, "/sluice": 404, "/sluice/": 404, "/": 404,
		"/sluicelivez": 404, "/sluice/sluice/livez": 404, "/sluice2/v1/sales/demo": 404, "/other/livez": 404,
	} {
		if got := s.call("GET", path, "").status; got != status {
			t.Errorf("GET %s: %d, want %d", path, got, status)
		}
	}
}

// Whatever a proxy or a CDN stands before the door, only a sale may be kept, for a second.
func TestAnswers_SayWhatMayBeCached(t *testing.T) {
	s := newStand(t, testConfig(), nil, sale("demo", nil))
	a := s.buy("u1")
	for what, c := range map[string]struct {
		answer
		want string
	}{
		"an order":    {a, "no-store"},
		"a repeat":    {s.buy("u1"), "no-store"},
		"its status":  {s.get(a.Order), "no-store"},
		"a refusal":   {s.call("GET", "/v1/sales/nope", ""), "no-store"},
		"no door yet": {s.call("GET", "/nothing", ""), "no-store"},
		"a sale":      {s.call("GET", "/v1/sales/demo", ""), "public, max-age=1"},
	} {
		if got := string(c.header.Peek("Cache-Control")); got != c.want {
			t.Errorf("%s: Cache-Control %q, want %q", what, got, c.want)
		}
	}
}

// A target is read as the parser would read it, however it is spelt.
func TestPathOf_IsWhatTheParserSays(t *testing.T) {
	for _, target := range []string{
		"/", "/v1/sales/demo", "/v1/sales/demo?x=/y", "/v1//sales", "/v1/./sales", "/v1/../sales", "/v1/sales/a.b", "/v1/sales/a..b", "/a/.", "/a/..",
		"/v1/sales/%64emo", "/v1/sales/demo#x", "/v1/sales/demo;x", "/v1/sales/DEMO_1-2", "//v1", "/v1/sales/", "/v1/sales/a b", "/v1/sales/ä", "http://shop/v1/sales/demo",
	} {
		var ctx fasthttp.RequestCtx
		ctx.Request.Header.SetRequestURI(target)
		ctx.Request.Header.SetHost("shop")
		if got, want := string(pathOf(&ctx)), string(ctx.Path()); got != want {
			t.Errorf("%s is read as %q, the parser has %q", target, got, want)
		}
	}
}
