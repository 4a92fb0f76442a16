package contract

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

const order = `"order":"5a46f2c0-0fce-814f-920e-caf5b0d6fdba","href":"/v1/orders/5a46f2c0-0fce-814f-920e-caf5b0d6fdba"`

// exchange is a call with its answer, good as it stands.
type exchange struct {
	method, path, request, contentType string
	status                             int
	headers                            map[string]string
	body                               string
}

func (e exchange) check(t *testing.T, d *Document) error {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), e.method, e.path, strings.NewReader(e.request))
	req.Header.Set("Content-Type", e.contentType)
	res := &http.Response{StatusCode: e.status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(e.body))}
	for name, value := range e.headers {
		res.Header.Set(name, value)
	}
	return d.Check(req, res)
}

func placed() exchange {
	return exchange{
		method: "POST", path: "/v1/sales/demo/orders", request: `{"user":"alice"}`, contentType: "application/json", status: 202,
		headers: map[string]string{"Content-Type": "application/json", "Cache-Control": "no-store", "Location": "/v1/orders/5a46f2c0-0fce-814f-920e-caf5b0d6fdba"},
		body:    `{` + order + `,"status":"queued","version":1,"sale":"demo","units":1,"position":1,"eta_ms":0}`,
	}
}

func asked() exchange {
	e := placed()
	e.method, e.path, e.request, e.status = "GET", "/v1/orders/5a46f2c0-0fce-814f-920e-caf5b0d6fdba?wait=20s", "", 200
	return e
}

func full() exchange {
	e := placed()
	e.status = 503
	e.headers = map[string]string{"Content-Type": "application/problem+json", "Retry-After": "2"}
	e.body = `{"type":"urn:sluice:refusal:queue-full","title":"The queue is full","status":503,"reason":"queue-full","retry_after_ms":1200}`
	return e
}

func TestCheck_LetsGoodAnswersPass(t *testing.T) {
	d := Door(t)
	for what, e := range map[string]exchange{"an order": placed(), "a status": asked(), "a refusal": full()} {
		if err := e.check(t, d); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Each of these is a good answer with one thing wrong.
func TestCheck_FindsWhatIsWrong(t *testing.T) {
	in := func(good, bad string) func(*exchange) {
		return func(e *exchange) { e.body = strings.Replace(e.body, good, bad, 1) }
	}
	header := func(name, value string) func(*exchange) {
		return func(e *exchange) {
			if e.headers[name] = value; value == "" {
				delete(e.headers, name)
			}
		}
	}
	for _, c := range []struct {
		what  string
		good  exchange
		spoil func(*exchange)
		want  string
	}{
		{"an unknown field", placed(), in(`"units"`, `"stock":3,"units"`), "additional properties 'stock'"},
		{"a field of the wrong type", placed(), in(`"version":1`, `"version":"1"`), "got string, want integer"},
		{"a missing field", placed(), in(`"sale":"demo",`, ``), "missing property 'sale'"},
		{"an unknown state", placed(), in(`"queued"`, `"waiting"`), "must be one of 'queued'"},
		{"a state that 202 can't have", placed(), in(`"status":"queued","version":1`, `"status":"paid","version":2`), "must be 'queued'"},
		{"an order id that is none", placed(), in(`"order":"5a46f2c0`, `"order":"5a46f2c`), "does not match pattern"},
		{"held, without saying until when", asked(), in(`"status":"queued","version":1,"sale":"demo","units":1,"position":1,"eta_ms":0`, `"status":"held","version":2`), "missing property 'pay_by'"},
		{"held until no time", asked(), in(`"status":"queued","version":1,"sale":"demo","units":1,"position":1,"eta_ms":0`, `"status":"held","version":2,"pay_by":"soon"`), "date-time"},
		{"a position that goes without an ETA", asked(), in(`,"eta_ms":0`, ``), "eta_ms"},
		{"text that is no JSON", asked(), in(`}`, ``), "decoded"},
		{"no Location", placed(), header("Location", ""), "'Location' is missing"},
		{"a wrong Location", placed(), header("Location", "/orders/1"), "does not match pattern"},
		{"an answer that caches keep", placed(), header("Cache-Control", ""), "'Cache-Control' is missing"},
		{"another content type", placed(), header("Content-Type", "application/vnd.order+json"), "application/vnd.order+json"},
		{"an undocumented status", placed(), func(e *exchange) { e.status = 201 }, "'201'"},
		{"a refusal with another status", full(), func(e *exchange) { e.status = 429 }, "must be 429"},
		{"a status that belies its body", full(), in(`"status":503`, `"status":500`), "says status 500"},
		{"no Retry-After", full(), header("Retry-After", ""), "'Retry-After' is missing"},
		{"a Retry-After that is no number", full(), header("Retry-After", "soon"), "Retry-After"},
		{"a Retry-After too soon", full(), header("Retry-After", "1"), "do not agree"},
		{"no retry_after_ms", full(), in(`,"retry_after_ms":1200`, ``), "retry_after_ms"},
		{"an undocumented reason", full(), in(`"reason":"queue-full"`, `"reason":"tea-time"`), "must be one of"},
		{"a reason of another call", full(), in(`"reason":"queue-full"`, `"reason":"not-held"`), "must be one of"},
		{"a reason of another status", full(), in(`"reason":"queue-full"`, `"reason":"sold-out"`), "must be one of"},
		{"a type of another reason", full(), in("refusal:queue-full", "refusal:too-slow"), "is not that of reason"},
		{"a request that should not have been accepted", placed(), func(e *exchange) { e.request = `{"user":"alice","colour":"red"}` }, "accepted but is not documented"},
		{"a form that should not have been accepted", placed(), func(e *exchange) {
			e.contentType, e.request = "application/x-www-form-urlencoded", "user=alice&quantity=none"
		}, "accepted but is not documented"},
		{"a content type that should not have been accepted", placed(), func(e *exchange) { e.contentType = "text/plain" }, "accepted but is not documented"},
		{"a query that should not have been accepted", asked(), func(e *exchange) { e.path += "x" }, "accepted but is not documented"},
		{"a path that is not documented", asked(), func(e *exchange) { e.path = "/v1/secrets" }, "'200'"},
		{"a method that is not documented", asked(), func(e *exchange) { e.method = "DELETE" }, "'200'"},
		{"a refusal of a call, given elsewhere", full(), func(e *exchange) { e.path = "/v1/secrets" }, "'503'"},
		{"a page that is not text", exchange{method: "GET", path: "/livez", status: 200, headers: map[string]string{"Content-Type": "text/plain"}, body: "dead\n"}, func(*exchange) {}, "alive"},
	} {
		t.Run(c.what, func(t *testing.T) {
			c.spoil(&c.good)
			err := c.good.check(t, Door(t))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Check = %v\nwant something about %q", err, c.want)
			}
		})
	}
}

// What is no HTTP is answered too.
func TestCheck_KnowsAnswersToWhatIsNoRequest(t *testing.T) {
	check := func(reason string) error {
		res := &http.Response{
			StatusCode: 400, Header: http.Header{"Content-Type": {"application/problem+json"}},
			Body: io.NopCloser(strings.NewReader(`{"type":"urn:sluice:refusal:` + reason + `","title":"x","status":400,"reason":"` + reason + `","detail":"x"}`)),
		}
		return Door(t).Check(nil, res)
	}
	if err := check("bad-request"); err != nil {
		t.Error(err)
	}
	if err := check("queue-full"); err == nil {
		t.Error("a refusal of a call passes for an answer to what is none")
	}
}
