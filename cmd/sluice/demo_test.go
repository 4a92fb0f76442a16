package main

import (
	"strings"
	"testing"
	"time"

	"sluice"
	"sluice/config"
)

func TestDemoText_SaysHowTheSaleDoesAndHowToBuy(t *testing.T) {
	now := time.Now()
	sale := sluice.Sale{ID: "demo", Stock: 1000, PerUserLimit: 1, Free: 400, Sold: 600}
	with := func(change func(*sluice.Sale)) sluice.Sale {
		s := sale
		change(&s)
		return s
	}
	open := config.Config{Identity: "open"}
	for _, c := range []struct {
		name string
		cfg  config.Config
		sale sluice.Sale
		says []string
		not  string
	}{
		{"open", open, sale, []string{"is open: 400 of 1000 units are free", `-d '{"user":"alice","quantity":1}'`, "curl -s 'http://door/v1/orders/ORDER?wait=5s'"}, "ticket"},
		{
			"tickets",
			config.Config{Identity: "ticket", TicketKey: "keys/shop's.key.pub", TicketBuyer: "sub", TicketIssuer: "shop"},
			sale,
			[]string{
				`ticket=$(sluice ticket issue --ticket-key 'keys/shop'\''s.key' --buyer alice --ticket-issuer 'shop')`,
				`-H "Authorization: Bearer $ticket" -H 'Content-Type`, `curl -s -H "Authorization: Bearer $ticket" 'http://door`,
			},
			`"user"`,
		},
		{"a proxy's word", config.Config{Identity: "header", IdentityHeader: "Sluice-User"}, sale, []string{"-H 'Sluice-User: alice' -H"}, `"user"`},
		{"ended", open, with(func(s *sluice.Sale) { s.EndsAt, s.Free, s.Sold = now, 0, 1000 }), []string{"has ended"}, "curl"},
		{"paused", open, with(func(s *sluice.Sale) { s.Paused = true }), []string{"is paused", "sluice sale resume demo"}, "curl"},
		{"early", open, with(func(s *sluice.Sale) { s.StartsAt = now.Add(time.Hour) }), []string{"opens at " + now.Add(time.Hour).Format(time.RFC3339)}, "curl"},
		{"sold out", open, with(func(s *sluice.Sale) { s.Free, s.Sold = 0, 1000 }), []string{"is sold out", "sluice sale topup demo"}, "curl"},
		{"held", open, with(func(s *sluice.Sale) { s.Free, s.Held = 0, 400 }), []string{"no free unit"}, "curl"},
	} {
		text := demoText(c.cfg, c.sale, "http://admin", "http://door", now)
		for _, says := range append(c.says, "http://admin", "http://door") {
			if !strings.Contains(text, says) {
				t.Errorf("%s: it does not say %q but %s", c.name, says, text)
			}
		}
		if strings.Contains(text, c.not) {
			t.Errorf("%s: it says %q: %s", c.name, c.not, text)
		}
	}
}

func TestUp_SaysOfAnEndedDemoThatItHasEnded(t *testing.T) {
	admin, data := freePort(t), t.TempDir()
	args := []string{"up", "--demo", "--listen", freePort(t), "--admin", admin, "--data", data}
	up := launch(t, args...)
	eventually(t, "the demo is open", func() bool { return strings.Contains(up.said(), "is open: 1000 of 1000") })
	if p := launch(t, "sale", "end", "demo", "--admin", admin); p.exit() != 0 {
		t.Fatal(p.said())
	}
	up.terminate()
	up = launch(t, args...)
	eventually(t, "it has ended", func() bool { return strings.Contains(up.said(), `The sale "demo" has ended`) })
	if strings.Contains(up.said(), "curl") {
		t.Errorf("it says how to buy: %s", up.said())
	}
}
