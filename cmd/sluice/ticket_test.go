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
