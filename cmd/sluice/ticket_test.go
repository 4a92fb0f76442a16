package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/ticket"
)

func TestTicket_IsIssuedFromTheCommandLineAndVerifies(t *testing.T) {
	key := filepath.Join(t.TempDir(), "shop.key")
	if p := launch(t, "ticket", "key", key); p.exit() != 0 {
		t.Fatalf("key: %s", p.said())
	}
	if info, err := os.Stat(key); err != nil || info.Mode() != 0o600 {
		t.Errorf("the private key: %v, %v; want 0600", info.Mode(), err)
	}
	v, err := ticket.Open(ticket.Config{KeyFile: key + ".pub", Issuer: "shop", Audience: "sluice", BuyerClaim: "customer"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	p := launch(t, "ticket", "issue", "--ticket-key", key, "--buyer", "u1", "--class", "members", "--sale", "spring", "--valid", "2h",
		"--ticket-issuer", "shop", "--ticket-audience", "sluice", "--ticket-buyer-claim", "customer")
	if p.exit() != 0 {
		t.Fatalf("issue: %s", p.said())
	}
	got, err := v.Verify(bytes.TrimSpace([]byte(p.said())), time.Now())
	if err != nil || got.Buyer != "u1" || got.Class != "members" || got.Sale != "spring" {
		t.Errorf("%q: %+v, %v", p.said(), got, err)
	}
	if left := time.Until(got.Expires); left < time.Hour || left > 2*time.Hour {
		t.Errorf("it is good for %v; want 2h", left)
	}
}

func TestTicketKey_NeverOverwritesAKey(t *testing.T) {
	for _, there := range []string{"shop.key", "shop.key.pub"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, there), []byte("dear"), 0o600); err != nil {
			t.Fatal(err)
		}
		p := launch(t, "ticket", "key", filepath.Join(dir, "shop.key"))
		if code := p.exit(); code != 1 || !strings.Contains(p.said(), there+": file exists") {
			t.Errorf("%s is there: exit %d, says %s", there, code, p.said())
		}
		files, err := os.ReadDir(dir)
		kept, _ := os.ReadFile(filepath.Join(dir, there))
		if err != nil || len(files) != 1 || string(kept) != "dear" {
			t.Errorf("%s is there: %v, %v, and it holds %q now", there, files, err, kept)
		}
	}
}

func TestTicketIssue_ToldWhatIsWrongWithTheCommandLine(t *testing.T) {
	dir := t.TempDir()
	key, public := filepath.Join(dir, "shop.key"), filepath.Join(dir, "shop.key.pub")
	if p := launch(t, "ticket", "key", key); p.exit() != 0 {
		t.Fatalf("key: %s", p.said())
	}
	for _, c := range []struct {
		args []string
		code int
		says []string
	}{
		{[]string{"issue", "--buyer", "u1"}, 2, []string{"ticket-key", "missing"}},
		{[]string{"issue", "--ticket-key", key}, 2, []string{"buyer", "1 to 128"}},
		{[]string{"issue", "--ticket-key", key, "--buyer", "u1", "--sale", "Spring"}, 2, []string{"sale", `"Spring"`, "a-z"}},
		{[]string{"issue", "--ticket-key", key, "--buyer", "u1", "--valid", "0s"}, 2, []string{"valid", "30m"}},
		{[]string{"issue", "--ticket-key", key, "--buyer", "u1", "--valid", "soon"}, 2, []string{"soon", "sluice ticket issue --help"}},
		{[]string{"issue", "--ticket-key", public, "--buyer", "u1"}, 2, []string{public, "only check", "private key"}},
		{[]string{"issue", "--ticket-key", key + "-none", "--buyer", "u1"}, 1, []string{"ticket-key", "no such file"}},
		{[]string{"issue", "--help"}, 0, []string{"sluice ticket issue --ticket-key shop.key --buyer u1"}},
		{[]string{"key"}, 2, []string{"accepts 1 arg"}},
		{[]string{"key", filepath.Join(dir, "none", "shop.key")}, 1, []string{"no such file"}},
		{[]string{"sell"}, 2, []string{"sell"}},
	} {
		p := launch(t, append([]string{"ticket"}, c.args...)...)
		code := p.exit()
		for _, says := range c.says {
			if code != c.code || !strings.Contains(p.said(), says) {
				t.Errorf("sluice ticket %v: exit %d, says %s; want %d, %q", c.args, code, p.said(), c.code, says)
			}
		}
	}
}

// A door that asks for tickets takes the shop's, takes over new keys while it runs, and shows an order to its buyer only.
func TestTicket_BuysAtTheDoor(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(dir, "shop.key")
	makeKey := func() {
		if p := launch(t, "ticket", "key", key); p.exit() != 0 {
			t.Fatalf("key: %s", p.said())
		}
	}
	issue := func(args ...string) string {
		p := launch(t, append([]string{"ticket", "issue", "--ticket-key", key}, args...)...)
		if p.exit() != 0 {
			t.Fatalf("issue: %s", p.said())
		}
		return strings.TrimSpace(p.said())
	}
	makeKey()
	door := freePort(t)
	up := launch(t, "up", "--demo", "--listen", door, "--admin", freePort(t), "--data", filepath.Join(dir, "data"), "--identity", "ticket", "--ticket-key", key+".pub")
	eventually(t, "the demo is open", func() bool { status, _ := call(t, "GET", "http://"+door+"/v1/sales/demo", ""); return status == 200 })
	orders := "http://" + door + "/v1/sales/demo/orders"

	alice, bob := issue("--buyer", "alice"), issue("--buyer", "bob", "--sale", "another")
	status, order := place(t, alice, orders, `{}`)
	if status != 202 {
		t.Fatalf("alice: %d %v", status, order)
	}
	for _, c := range []struct {
		who, ticket, method, url, body string
		status                         int
	}{
		{"alice again", alice, "POST", orders, `{"user":"alice"}`, 200},
		{"nobody", "", "POST", orders, `{"user":"alice"}`, 401},
		{"bob, with a ticket for another sale", bob, "POST", orders, `{}`, 401},
		{"bob, who reads alice's order", bob, "GET", "http://" + door + order["href"].(string), "", 404},
		{"nobody, who reads alice's order", "", "GET", "http://" + door + order["href"].(string), "", 401},
		{"alice, who reads her order", alice, "GET", "http://" + door + order["href"].(string) + "?wait=5s", "", 200},
	} {
		if status, answer := callWith(t, c.ticket, c.method, c.url, c.body); status != c.status {
			t.Errorf("%s: %d %v, want %d", c.who, status, answer, c.status)
		}
	}
	for _, file := range []string{key, key + ".pub"} {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	makeKey()
	carol := issue("--buyer", "carol")
	eventually(t, "the new key is in force", func() bool { status, _ := callWith(t, carol, "POST", orders, `{}`); return status == 202 })
	if status, _ := callWith(t, alice, "POST", orders, `{}`); status != 401 {
		t.Errorf("a ticket of the old key: %d, want 401", status)
	}
	for _, secret := range []string{alice, bob, carol} {
		if strings.Contains(up.said(), secret) {
			t.Error("a ticket is in the log")
		}
	}
}
