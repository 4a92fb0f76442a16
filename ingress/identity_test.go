package ingress

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"sluice"
	"sluice/limiter"
)

func ticketed(t *testing.T, change func(*Config), sales ...sluice.Sale) *stand {
	t.Helper()
	cfg := testConfig()
	cfg.Identity = IdentityTicket
	if change != nil {
		change(&cfg)
	}
	if len(sales) == 0 {
		sales = []sluice.Sale{sale("demo", nil), sale("other", nil)}
	}
	return newStand(t, cfg, nil, sales...)
}

// With tickets a buyer is who the ticket says, in a header or in the cookie, and nobody else.
func TestTicket_SaysWhoBuys(t *testing.T) {
	for _, c := range []struct {
		what, body string
		headers    []string
		status     int
		reason     string
	}{
		{"a ticket in the header", `{}`, []string{"Authorization", "Bearer alice//"}, 202, "queued"},
		{"the scheme in other letters", `{}`, []string{"Authorization", "bearer alice//"}, 202, "queued"},
		{"a ticket in the cookie", `{}`, []string{"Cookie", "theme=dark; sluice_ticket=alice//"}, 202, "queued"},
		{"the order names the same buyer", `{"user":"alice"}`, []string{"Authorization", "Bearer alice//"}, 202, "queued"},
		{"a ticket for this sale", `{}`, []string{"Authorization", "Bearer alice//demo"}, 202, "queued"},
		{"no ticket", `{"user":"alice"}`, nil, 401, "bad-ticket"},
		{"another scheme", `{"user":"alice"}`, []string{"Authorization", "Basic alice//"}, 401, "bad-ticket"},
		{"a bad ticket", `{"user":"alice"}`, []string{"Authorization", "Bearer nonsense"}, 401, "bad-ticket"},
		{"the header wins over the cookie", `{}`, []string{"Authorization", "Bearer nonsense", "Cookie", "sluice_ticket=alice//"}, 401, "bad-ticket"},
		{"the order names another buyer", `{"user":"bob"}`, []string{"Authorization", "Bearer alice//"}, 401, "bad-ticket"},
		{"a ticket for another sale", `{}`, []string{"Authorization", "Bearer alice//other"}, 401, "bad-ticket"},
		{"a header that only proxies may set", `{}`, []string{"Sluice-User", "alice"}, 401, "bad-ticket"},
	} {
		t.Run(c.what, func(t *testing.T) {
			s := ticketed(t, nil)
			a := s.call("POST", "/v1/sales/demo/orders", c.body, c.headers...)
			s.want(a, c.status, c.reason)
			if c.status == 401 && (len(a.header.Peek("WWW-Authenticate")) == 0 || s.credits.Outstanding() != 0) {
				t.Errorf("WWW-Authenticate %q, %d outstanding", a.header.Peek("WWW-Authenticate"), s.credits.Outstanding())
			}
			if c.status == 202 && s.carrier.carried()[0].User != "alice" {
				t.Errorf("the order is %q's", s.carrier.carried()[0].User)
			}
		})
	}
}

// An order is its buyer's: to others it does not exist, however long they wait for it, queued or settled.
func TestTicket_OnlyTheBuyerReadsAnOrder(t *testing.T) {
	s := ticketed(t, nil)
	order := s.call("POST", "/v1/sales/demo/orders", `{}`, "Authorization", "Bearer alice//").Order
	read := func(wait, ticket string) answer {
		return s.call("GET", "/v1/orders/"+order+wait, "", "Authorization", ticket)
	}
	s.want(read("", "Bearer alice//"), 200, "queued")
	s.want(read("", "Bearer bob//"), 404, "unknown-order")
	s.want(read("?wait=1m", "Bearer bob//"), 404, "unknown-order") // at once: the test has no minute
	s.want(read("", "nothing"), 401, "bad-ticket")
	held := s.outcome(order, sluice.Held, 2)
	held.User = "alice"
	s.hear(held)
	s.want(read("", "Bearer alice//"), 200, "held")
	s.want(read("", "Bearer bob//"), 404, "unknown-order")
}

// An order that another door took is shown to its buyer only, too: what the database says of it names the buyer.
func TestTicket_OnlyTheBuyerReadsAnOrderOfAnotherDoor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := ticketed(t, nil)
		id := s.Keys.ID([]byte("demo"), []byte("alice"), nil, 0)
		s.truth.settle(sluice.Status{Order: id, Sale: "demo", User: "alice", State: sluice.Paid, Version: 2, Units: 1, SettledAt: time.Now()})
		s.run()
		s.want(s.call("GET", "/v1/orders/"+id.String(), "", "Authorization", "Bearer bob//"), 404, "unknown-order")
		s.want(s.call("GET", "/v1/orders/"+id.String(), "", "Authorization", "Bearer alice//"), 200, "paid")
	})
}

func TestHeader_IsBelievedFromTrustedProxiesOnly(t *testing.T) {
	s := ticketed(t, func(c *Config) {
		c.Identity, c.Proxies = IdentityHeader, limiter.Proxies{netip.MustParsePrefix("10.0.0.0/8")}
	})
	s.want(s.call("POST", "/v1/sales/demo/orders", `{}`, "Sluice-User", "alice", from, "10.1.2.3:80"), 202, "queued")
	s.want(s.call("POST", "/v1/sales/demo/orders", `{}`, "Sluice-User", "bob", from, "203.0.113.1:80"), 401, "bad-ticket")
	s.want(s.call("POST", "/v1/sales/demo/orders", `{"user":"bob"}`, "Sluice-User", "alice", from, "10.1.2.3:80"), 401, "bad-ticket")
	s.want(s.call("POST", "/v1/sales/demo/orders", `{"user":"bob"}`, from, "10.1.2.3:80"), 401, "bad-ticket")
	// A proxy that adds its line leaves the client's own before it.
	s.want(s.call("POST", "/v1/sales/demo/orders", `{}`, "Sluice-User", "victim", "Sluice-User", "mallory", from, "10.1.2.3:80"), 401, "bad-ticket")
}

// Without an identity an address is limited, IPv6 by /64; a proxy's word on the address counts, nobody else's does.
func TestAddressRate_CountsAddressesWithoutAnIdentity(t *testing.T) {
	cfg := testConfig()
	cfg.AddressRate = limiter.Rate{PerSecond: 0.001, Burst: 2}
	cfg.Proxies = limiter.Proxies{netip.MustParsePrefix("10.0.0.0/8")}
	s := newStand(t, cfg, nil, sale("demo", nil))
	n := 0
	buy := func(headers ...string) answer {
		n++
		return s.buy("buyer-"+string(rune('a'+n)), headers...)
	}
	for _, c := range []struct {
		headers []string
		status  int
	}{
		{[]string{from, "203.0.113.1:1"}, 202},
		{[]string{from, "203.0.113.1:2", "X-Forwarded-For", "203.0.113.9"}, 202},
		{[]string{from, "203.0.113.1:3", "X-Forwarded-For", "203.0.113.9"}, 429}, // its own word counts for nothing
		{[]string{from, "203.0.113.2:1"}, 202},
		{[]string{from, "10.0.0.1:1", "X-Forwarded-For", "203.0.113.1"}, 429},
		{[]string{from, "10.0.0.1:1", "X-Forwarded-For", "203.0.113.3"}, 202},
		{[]string{from, "[2001:db8::1]:1"}, 202},
		{[]string{from, "[2001:db8::2]:1"}, 202},
		{[]string{from, "[2001:db8::3]:1"}, 429},
		{[]string{from, "[2001:db8:0:1::1]:1"}, 202},
	} {
		if a := buy(c.headers...); a.status != c.status {
			t.Errorf("%q: %d %s, want %d", c.headers, a.status, a.reason(), c.status)
		} else if a.status == 429 && len(a.header.Peek("Retry-After")) == 0 {
			t.Errorf("%q: no Retry-After", c.headers)
		}
	}
}

// A carrier's NAT holds thousands of buyers: who has a ticket is not counted by address; who has a bad one is.
func TestAddressRate_LeavesBuyersWithATicketAlone(t *testing.T) {
	s := ticketed(t, func(c *Config) { c.AddressRate = limiter.Rate{PerSecond: 0.001, Burst: 1} })
	for _, buyer := range []string{"a", "b", "c", "d"} {
		s.want(s.call("POST", "/v1/sales/demo/orders", `{}`, "Authorization", "Bearer "+buyer+"//"), 202, "queued")
	}
	s.want(s.call("POST", "/v1/sales/demo/orders", `{}`), 401, "bad-ticket")
	s.want(s.call("POST", "/v1/sales/demo/orders", `{}`), 429, "rate-limited")
	s.want(s.call("POST", "/v1/sales/demo/orders", `{}`, "Authorization", "Bearer e//"), 202, "queued")
}
