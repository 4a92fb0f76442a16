package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLimits_AreOperatedFromTheCommandLine(t *testing.T) {
	admin := freePort(t)
	tokens := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(tokens, []byte("alice  alices-token-for-tests\n\nbob\tbobs-token-for-tests\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	up := launch(t, "up", "--listen", freePort(t), "--admin", admin, "--data", t.TempDir(), "--admin-token-file", tokens)
	eventually(t, "ready", func() bool { status, _ := call(t, "GET", "http://"+admin+"/readyz", ""); return status == 200 })
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"limits", 0, `"version": 0`},
		{"limits set --max-wait 10s --buyer-rate 0 --address-rate 100.5 --connections 500 --address-connections 50 --bound door-1=70 --bound x=8", 0, `"version": 1`},
		{"limits get", 0, `"x": 8`},
		{"limits get", 0, `"buyer_rate": 0,`},
		{"limits set --reset max-wait,bound.door-1 --buyer-rate 7", 0, `{
  "version": 2,
  "bounds": {
    "x": 8
  },
  "buyer_rate": 7,
  "address_rate": 100.5,
  "connections": 500,
  "address_connections": 50
}`},
		{"limits set", 2, "no limit is given"},
		{"limits set --reset bound", 2, "bound.DOOR"},
		{"limits set --reset max_wait", 2, `"max_wait": want max-wait`},
		{"limits set --max-wait 1s --reset max-wait", 2, "set and reset at once"},
		{"limits set --bound door-1=1 --reset bound.door-1", 2, "set and reset at once"},
		{"limits set --bound 5", 2, "must be formatted as key=value"},
		{"limits set --connections 0", 2, "connections 0: want 1"},
		{"limits set now", 2, "now"},
		{"limits sideways", 2, "sideways"},
		{"block user u1 --for 1h --note bot", 0, `"note": "bot"`},
		{"block network 203.0.113.7", 0, `"network": "203.0.113.7/32"`},
		{"block network 203.0.113.7/24", 2, "want 203.0.113.0/24"},
		{"block user", 2, "accepts 1 arg"},
		{"unblock user u1", 0, `"version": 5`},
		{"unblock user u1", 1, "not-found"},
		{"unblock network 203.0.113.7", 0, `"version": 6`},
	} {
		p := launch(t, append(strings.Fields(c.args), "--admin", admin, "--admin-token-file", tokens)...)
		if code := p.exit(); code != c.code || !strings.Contains(p.said(), c.says) {
			t.Errorf("sluice %s: exit %d, says %s; want %d, %q", c.args, code, p.said(), c.code, c.says)
		}
	}
	changes := func() int { return strings.Count(up.said(), `"limits changed"`) }
	eventually(t, "every change is logged", func() bool { return changes() >= 6 })
	if said := up.said(); changes() != 6 || !strings.Contains(said, "operator=alice") {
		t.Errorf("it logs %s", said)
	}
	if p := launch(t, "block", "u1"); p.exit() != 2 || !strings.Contains(p.said(), `"u1" for "sluice block"`) {
		t.Errorf("neither user nor network: it says %s", p.said())
	}
	if p := launch(t, "limits", "--admin", admin); p.exit() != 1 || !strings.Contains(p.said(), "unauthorized") {
		t.Errorf("without a token it says %s", p.said())
	}
}

func TestParseOperators(t *testing.T) {
	const secret = "0123456789abcdef"
	var many strings.Builder
	for n := range maxOperators {
		fmt.Fprintf(&many, "name-%d %s-%d\n", n, secret, n)
	}
	for _, c := range []struct{ text, want string }{
		{secret, "operator=" + secret},
		{"a token as it may have been: with spaces", "operator=a token as it may have been: with spaces"},
		{"alice " + secret, "alice=" + secret},
		{"alice " + secret + "\r\n\r\nbob\t" + secret + "2", "alice=" + secret + " bob=" + secret + "2"},
		{"", "the token has 0 characters; want at least 16"},
		{"short", "the token has 5 characters; want at least 16"},
		{"alice short", "line 1: the token has 5 characters; want at least 16"},
		{"alice " + secret + "\nbob short", "line 2: the token has 5 characters; want at least 16"},
		{"alice " + secret + "\n" + secret, "line 2: want NAME TOKEN, a name of at most 64 bytes and its token, without spaces in either"},
		{"alice " + secret + "\nbob the " + secret, "line 2: want NAME TOKEN, a name of at most 64 bytes and its token, without spaces in either"},
		{strings.Repeat("a", 65) + " " + secret, "line 1: want NAME TOKEN, a name of at most 64 bytes and its token, without spaces in either"},
		{"alice " + secret + "\nalice " + secret + "2", `line 2: there is a "alice" already; want a name of its own for each token`},
		{"alice " + secret + "\nbob " + secret, `line 2: it has the token of "alice"; want one of its own`},
		{many.String() + "one " + secret, "it has more than 100 lines; want at most so many"},
	} {
		operators, err := parseOperators(c.text)
		var got []string
		for _, o := range operators {
			got = append(got, o.Name+"="+o.Token)
		}
		text := strings.Join(got, " ")
		if err != nil {
			text = err.Error()
		}
		if text != c.want {
			t.Errorf("parseOperators(%.60q) = %s, want %s", c.text, text, c.want)
		}
	}
	if operators, err := parseOperators(strings.TrimSpace(many.String())); err != nil || len(operators) != maxOperators {
		t.Errorf("%d operators, %v, want %d", len(operators), err, maxOperators)
	}
}
