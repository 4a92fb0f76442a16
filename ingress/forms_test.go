package ingress

import (
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"sluice"
)

// submit posts a form as a page of the door's own host would.
func (s *stand) submit(form string, headers ...string) answer {
	s.t.Helper()
	return s.call("POST", "/v1/sales/demo/orders", form,
		append([]string{"Host", "door.example", "Content-Type", contentForm, "Origin", "https://door.example"}, headers...)...)
}

func TestForm_IsAnOrderWithTheLimitsAndErrorsOfJSON(t *testing.T) {
	s := newStand(t, testConfig(), nil, sale("demo", func(s *sluice.Sale) { s.PerUserLimit = 3 }))
	a := s.submit("user=Zo%C3%AB+A&quantity=3&key=k1")
	s.want(a, 202, "queued")
	if o := s.carrier.carried()[0]; o.User != "Zoë A" || o.Quantity != 3 || o.Key != "k1" {
		t.Errorf("carried %+v", o)
	}
	again := s.call("POST", "/v1/sales/demo/orders", `{"user":"Zoë A","quantity":3}`, "Idempotency-Key", "k1")
	s.want(again, 200, "queued")
	if again.Order != a.Order {
		t.Error("the same key as JSON is another order")
	}
	for _, c := range []struct {
		what, form string
		detail     string
	}{
		{"nothing", "", "user: it is missing"},
		{"no user", "quantity=1", "user: it is missing"},
		{"an empty user", "user=&quantity=1", "1 to 128 bytes"},
		{"a long user", "user=" + strings.Repeat("u", 129), "1 to 128 bytes"},
		{"a user that is not UTF-8", "user=%ff", "UTF-8"},
		{"a broken escape", "user=a%2", "hexadecimal"},
		{"no number", "user=a&quantity=one", "whole number"},
		{"no quantity", "user=a&quantity=", "whole number"},
		{"zero", "user=a&quantity=0", "1 to 10000"},
		{"more than the sale allows", "user=a&quantity=4", "1 to 3 a buyer"},
		{"a long key", "user=a&key=" + strings.Repeat("k", 129), "Idempotency-Key"},
		{"an empty key", "user=a&key=", "Idempotency-Key"},
		{"another field", "user=a&submit=Buy", `"submit" is not a field`},
		{"two users", "user=a&user=b", "user: it is there twice"},
		{"two quantities", "user=a&quantity=1&quantity=2", "quantity: it is there twice"},
		{"two keys", "user=a&key=1&key=2", "key: it is there twice"},
	} {
		a := s.submit(c.form)
		s.want(a, 400, "bad-request")
		if detail, _ := a.body["detail"].(string); !strings.Contains(detail, c.detail) {
			t.Errorf("%s: %q does not say %q", c.what, detail, c.detail)
		}
	}
	s.want(s.submit("user=a&key=1", "Idempotency-Key", "2"), 400, "bad-request")
	s.want(s.submit("user=a", "Content-Encoding", "gzip"), 415, "unsupported-media-type")
}

func TestForm_MustComeFromAPageThatMayOrderHere(t *testing.T) {
	cfg := testConfig()
	cfg.CORSOrigins = []string{shop}
	s := newStand(t, cfg, nil, sale("demo", nil))
	for _, c := range []struct {
		what    string
		headers []string
		ok      bool
	}{
		{"the door's own page", []string{"Origin", "https://door.example"}, true},
		{"the door's own page, without TLS", []string{"Origin", "http://door.example"}, true},
		{"a listed shop", []string{"Origin", shop}, true},
		{"a listed shop, as its browser says too", []string{"Origin", shop, fetchSite, "cross-site"}, true},
		{"the door's own page by the browser's word", []string{fetchSite, "same-origin"}, true},
		{"the same with an origin that a policy hides", []string{"Origin", "null", fetchSite, "same-origin"}, true},
		{"nobody says from where", nil, false},
		{"another site", []string{"Origin", other}, false},
		{"another site by the browser's word", []string{fetchSite, "cross-site"}, false},
		{"another host of the site", []string{"Origin", "https://www.door.example", fetchSite, "same-site"}, false},
		{"another port", []string{"Origin", "https://door.example:8443"}, false},
		{"the same host without TLS, where the browser knows that the door has it", []string{"Origin", "http://door.example", fetchSite, "cross-site"}, false},
		{"an address typed in", []string{fetchSite, "none"}, false},
		{"a hidden origin", []string{"Origin", "null"}, false},
		{"no host", []string{"Origin", "https://"}, false},
		{"another scheme", []string{"Origin", "ftp://door.example"}, false},
		{"a forwarded host", []string{"Origin", other, "X-Forwarded-Host", "evil.example"}, false},
	} {
		t.Run(c.what, func(t *testing.T) {
			a := s.call("POST", "/v1/sales/demo/orders", "user=u1", append([]string{"Host", "door.example", "Content-Type", contentForm}, c.headers...)...)
			if c.ok && (a.status != 202 && a.status != 200) || !c.ok && (a.status != 403 || a.reason() != "bad-origin") {
				t.Errorf("answer %d %v; want it let in: %t", a.status, a.body, c.ok)
			}
		})
	}
}

func TestOrigin_OfJSONCountsWhereCookiesCame(t *testing.T) {
	cfg := testConfig()
	cfg.CORSOrigins = []string{shop}
	s := newStand(t, cfg, nil, sale("demo", nil))
	cookie := []string{"Host", "door.example", "Cookie", "session=1"}
	for _, c := range []struct {
		headers []string
		ok      bool
	}{
		{cookie, true},
		{append(cookie, "Origin", shop), true},
		{append(cookie, "Origin", "https://door.example"), true},
		{append(cookie, "Origin", other), false},
		{append(cookie, "Origin", other, fetchSite, "cross-site"), false},
		{append(cookie, "Origin", "null"), false},
		{[]string{"Origin", other}, true},
	} {
		a := s.buy("u1", c.headers...)
		if c.ok && (a.status != 202 && a.status != 200) || !c.ok && (a.status != 403 || a.reason() != "bad-origin") {
			t.Errorf("%q: %d %v; want it let in: %t", c.headers, a.status, a.body, c.ok)
		}
	}
	s.cors = newCORS([]string{"*"}) // everybody may read, but not with anybody's cookies
	if a := s.buy("u2", append(cookie, "Origin", other)...); a.reason() != "bad-origin" {
		t.Errorf("with *: %d %v", a.status, a.body)
	}
	if a := s.call("POST", "/v1/sales/demo/orders", "user=u2", "Content-Type", contentForm, "Origin", other); a.reason() != "bad-origin" {
		t.Errorf("a form with *: %d %v", a.status, a.body)
	}
}

// FuzzForm checks the parser against net/url: what it takes, that takes too and reads alike.
func FuzzForm(f *testing.F) {
	for _, seed := range []string{"user=u1&quantity=2&key=k", "user=Zo%C3%AB+A", "&&user=a", "user=%zz", "user=a&user=b", "user=a;b", "=&user=a", "user=a%"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if strings.Contains(string(body), ";") {
			return // net/url refuses it; browsers, and so this parser, take it as it is
		}
		r := requests.Get().(*request)
		defer requests.Put(r)
		r.user, r.key, r.attributes, r.quantity = r.user[:0], r.key[:0], r.attributes[:0], 1
		if err := r.parseForm(body); err != nil {
			return
		}
		want, err := url.ParseQuery(string(body))
		if err != nil {
			t.Fatalf("%q is taken, but net/url says %v", body, err)
		}
		if want.Get("user") != string(r.user) || want.Get("key") != string(r.key) || len(want["user"]) != 1 || len(want["quantity"]) > 1 {
			t.Errorf("%q reads as %q %d %q; net/url has %v", body, r.user, r.quantity, r.key, want)
		}
		if !utf8.Valid(r.user) || r.quantity < 1 || r.quantity > sluice.MaxQuantity {
			t.Errorf("%q is taken with user %q, quantity %d", body, r.user, r.quantity)
		}
	})
}
