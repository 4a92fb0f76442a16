package ingress

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"sluice"
)

// chromium's Accept when somebody goes to a page.
const acceptPage = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7"

func TestPrefersHTML(t *testing.T) {
	for accept, want := range map[string]bool{
		acceptPage:  true,
		"text/html": true,
		"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8": true, // Firefox, Safari
		"TEXT/HTML":                                               true,
		"text/html, application/json":                             true,
		"application/json;q=0.5, text/html":                       true,
		"text/html;q=0.6, application/json;q=0.5":                 true,
		"text/html; charset=utf-8 ; q=0.6, application/json; q=0": true,
		"":                                  false,
		"*/*":                               false,
		"application/json":                  false,
		"application/json, text/html":       false,
		"application/json, text/plain, */*": false,
		"text/html;q=0.5, application/json": false,
		"text/html;q=0.5, application/problem+json": false,
		"text/html;q=0":         false,
		"text/html;q=none":      false,
		"text/html-ish, text/*": false,
		"text/event-stream":     false,
		",;,=":                  false,
	} {
		if got := prefersHTML([]byte(accept)); got != want {
			t.Errorf("%q: %t, want %t", accept, got, want)
		}
	}
}

// page asks as a browser does.
func (s *stand) page(method, path, form string, headers ...string) (*fasthttp.Response, string) {
	s.t.Helper()
	var ctx fasthttp.RequestCtx
	h := &ctx.Request.Header
	h.SetMethod(method)
	ctx.Request.SetRequestURI(path)
	h.SetHost("door.example")
	h.Set("Accept", acceptPage)
	if method == "POST" {
		h.SetContentType(contentForm)
		h.Set("Origin", "https://door.example")
		ctx.Request.SetBodyString(form)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		h.Set(headers[i], headers[i+1])
	}
	s.Handle(&ctx)
	return &ctx.Response, string(ctx.Response.Body())
}

func peek(res *fasthttp.Response, name string) string { return string(res.Header.Peek(name)) }

func TestBrowser_IsLedToTheWaitingPageAndSeesHowItEnds(t *testing.T) {
	for _, base := range []string{"", "/sluice"} {
		t.Run(base, func(t *testing.T) {
			cfg := testConfig()
			cfg.BasePath = base
			s := newStand(t, cfg, nil, sale("demo", func(s *sluice.Sale) { s.CheckoutURL = "https://shop.example/pay?a=1&o={order}" }))
			res, body := s.page("POST", base+"/v1/sales/demo/orders", "user=u1")
			id := s.carrier.carried()[0].ID.String()
			if res.StatusCode() != 303 || peek(res, "Location") != base+"/wait/"+id || body != "" || peek(res, "Cache-Control") != "no-store" {
				t.Fatalf("an order: %d to %q, %q", res.StatusCode(), peek(res, "Location"), body)
			}
			if res, _ = s.page("POST", base+"/v1/sales/demo/orders", "user=u1"); res.StatusCode() != 303 || peek(res, "Location") != base+"/wait/"+id {
				t.Errorf("a repeat: %d to %q", res.StatusCode(), peek(res, "Location"))
			}
			held := s.outcome(id, sluice.Held, 2)
			held.PayBy = time.Date(2030, 1, 2, 15, 4, 0, 0, time.UTC)
			for _, c := range []struct {
				status sluice.Status
				says   []string
			}{
				{sluice.Status{}, []string{"You are in the line", `id="position" aria-live="off">1<`, `data-version="1" data-final="false"`, "<noscript><meta http-equiv"}},
				{held, []string{"It is yours until", "15:04 UTC", `href="https://shop.example/pay?a=1&amp;o=` + id + `"`, `data-version="2" data-final="false"`}},
				{s.outcome(id, sluice.Paid, 3), []string{"Your order is complete: 1 unit.", `data-final="true"`}},
			} {
				if c.status.Version > 0 {
					s.hear(c.status)
				}
				res, body := s.page("GET", base+"/wait/"+id, "")
				if res.StatusCode() != 200 || peek(res, "Content-Type") != "text/html; charset=utf-8" || peek(res, "Cache-Control") != "no-store" ||
					!strings.HasPrefix(peek(res, "Content-Security-Policy"), "default-src 'none'; script-src 'sha256-") {
					t.Errorf("the page: %s", &res.Header)
				}
				for _, want := range append(c.says, id, `data-events="`+base+"/v1/orders/"+id+`/events"`) {
					if !strings.Contains(body, want) {
						t.Errorf("version %d: the page does not say %q:\n%s", c.status.Version, want, body[strings.Index(body, "<main"):])
					}
				}
			}
		})
	}
}

func TestBrowser_SeesWhyNot(t *testing.T) {
	cfg := testConfig()
	cfg.Bound, cfg.CORSOrigins = 1, []string{shop}
	s := newStand(t, cfg, nil, sale("demo", nil),
		sale("gone", func(s *sluice.Sale) { s.Free, s.Sold = 0, 1000 }),
		sale("two", func(s *sluice.Sale) { s.PerUserLimit = 2 }))
	s.keepFresh()
	s.want(s.call("POST", "/v1/sales/two/orders", `{"user":"first"}`, "Idempotency-Key", "k"), 202, "queued")
	id := s.carrier.carried()[0].ID.String()
	from := func(url string) []string { return []string{"Referer", url} }
	for _, c := range []struct {
		what, method, path, form string
		headers                  []string
		status                   int
		retry                    bool
		says                     []string
		not                      string
	}{
		{
			"no room", "POST", "/v1/sales/demo/orders", "user=u", from("https://door.example/sale?a=1&b=2"), 503, true,
			[]string{"The line is full", `href="https://door.example/sale?a=1&amp;b=2">Back to the shop<`, "You can try again"},
			"http-equiv=\"refresh\"",
		},
		{
			"from a listed page", "POST", "/v1/sales/demo/orders", "user=u",
			[]string{"Origin", shop, "Referer", shop + "/"},
			503, true,
			[]string{`href="https://shop.example/"`},
			"http-equiv=\"refresh\"",
		},
		{"with somebody else's link", "POST", "/v1/sales/demo/orders", "user=u", from(other), 503, true, nil, "href"},
		{"with a script for a link", "POST", "/v1/sales/demo/orders", "user=u", from("javascript://door.example/%0aalert(1)"), 503, true, nil, "href"},
		{"all sold", "POST", "/v1/sales/gone/orders", "user=u", nil, 409, false, []string{"Sold out"}, "try again"},
		{"another quantity", "POST", "/v1/sales/two/orders", "user=first&quantity=2&key=k", nil, 422, false, []string{`href="/wait/` + id + `">See your order<`}, "try again"},
		{"another page", "POST", "/v1/sales/demo/orders", "user=u", []string{"Origin", other}, 403, false, []string{"may not order here"}, "href"},
		{"no such order", "GET", "/wait/5a46f2c0-0fce-814f-920e-caf5b0d6fdba", "", nil, 404, false, []string{"There is no such order"}, "href"},
		{"no order at all", "GET", "/wait/<script>", "", nil, 404, false, []string{"There is no such order"}, "<script>alert"},
		{"the address of the form", "GET", "/v1/sales/demo/orders", "", nil, 405, false, []string{"There is nothing to see here"}, "href"},
		{"nothing", "GET", "/nothing", "", nil, 404, false, []string{"There is nothing here"}, "href"},
	} {
		t.Run(c.what, func(t *testing.T) {
			res, body := s.page(c.method, c.path, c.form, c.headers...)
			if res.StatusCode() != c.status || (peek(res, "Retry-After") != "") != c.retry || peek(res, "Content-Type") != "text/html; charset=utf-8" {
				t.Errorf("%d, Retry-After %q, %q; want %d, %t", res.StatusCode(), peek(res, "Retry-After"), peek(res, "Content-Type"), c.status, c.retry)
			}
			main := body[strings.Index(body, "</style>"):strings.Index(body, "</main>")]
			for _, want := range c.says {
				if !strings.Contains(main, want) {
					t.Errorf("the page does not say %q:\n%s", want, main)
				}
			}
			if c.not != "" && strings.Contains(body[:strings.Index(body, "</main>")], c.not) {
				t.Errorf("the page says %q:\n%s", c.not, main)
			}
		})
	}
	s.truth.mu.Lock()
	s.truth.down = true
	s.truth.mu.Unlock()
	strange := s.Keys.ID([]byte("demo"), []byte("elsewhere"), nil, 0)
	if res, body := s.page("GET", "/wait/"+strange.String(), ""); res.StatusCode() != 503 || !strings.Contains(body, `http-equiv="refresh"`) || peek(res, "Retry-After") == "" {
		t.Errorf("a page that may be read again does not come back by itself: %d\n%s", res.StatusCode(), body)
	}
}

func TestBrowser_IsSentToTheShopsOwnPages(t *testing.T) {
	cfg := testConfig()
	cfg.Bound = 1
	cfg.WaitingPage, cfg.BusyPage = "https://shop.example/wait?o={order}&s={sale}", "/busy/{reason}?sale={sale}"
	s := newStand(t, cfg, nil, sale("demo", nil))
	res, _ := s.page("POST", "/v1/sales/demo/orders", "user=u1")
	id := s.carrier.carried()[0].ID.String()
	if want := "https://shop.example/wait?o=" + id + "&s=demo"; res.StatusCode() != 303 || peek(res, "Location") != want {
		t.Errorf("an order: %d to %q; want 303 to %q", res.StatusCode(), peek(res, "Location"), want)
	}
	for path, want := range map[string]string{
		"/v1/sales/demo/orders":          "/busy/queue-full?sale=demo",
		"/v1/sales/a%0d%0aX:%20b/orders": "/busy/unknown-sale?sale=a%0D%0AX%3A+b",
	} {
		if res, _ := s.page("POST", path, "user=u2"); res.StatusCode() != 303 || peek(res, "Location") != want {
			t.Errorf("%s: %d to %q; want 303 to %q", path, res.StatusCode(), peek(res, "Location"), want)
		}
	}
	if res, _ := s.page("GET", "/wait/nothing", ""); res.StatusCode() != 404 {
		t.Errorf("what is no order is answered %d", res.StatusCode())
	}
	s.want(s.buy("u2"), 503, "queue-full") // programs get their answer as ever
}

func BenchmarkBusyPage(b *testing.B) {
	s := fullDoor(b)
	s.run()
	ctx, _ := asks("demo")
	ctx.Request.Header.Set("Accept", acceptPage)
	ctx.Request.Header.SetContentType(contentForm)
	ctx.Request.Header.SetHost("door.example")
	ctx.Request.Header.Set("Origin", "https://door.example")
	ctx.Request.Header.Set("Referer", "https://door.example/sale")
	body := make([]byte, 0, 64)
	user := 0
	b.ReportAllocs()
	for b.Loop() {
		user++
		body = appendNumber(append(body[:0], "quantity=1&user=buyer-"...), user)
		ctx.Request.SetBodyRaw(body)
		ctx.Response.Reset()
		s.Handle(ctx)
	}
	if got := ctx.Response.StatusCode(); got != 503 {
		b.Fatalf("status %d: %s", got, ctx.Response.Body())
	}
	b.ReportMetric(float64(len(ctx.Response.Body())), "B/page")
}

func BenchmarkWaitingPage(b *testing.B) {
	s := newStand(b, testConfig(), nil, sale("demo", nil))
	path := fmt.Sprintf("/wait/%s", s.buy("u1").Order)
	b.ReportAllocs()
	for b.Loop() {
		if res, _ := s.page("GET", path, ""); res.StatusCode() != 200 {
			b.Fatal(res.StatusCode())
		}
	}
}
