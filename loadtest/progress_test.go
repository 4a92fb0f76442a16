package loadtest

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

var spiking = Progress{
	Phase: "spike", Rate: 2000, Accepted: 1234, Shed: 56, Failed: 7, P99: 12_345 * time.Microsecond,
	Done: 14 * time.Second, Left: 46 * time.Second,
}

func TestProgress_ReadsAsOneLine(t *testing.T) {
	for _, c := range []struct {
		p    Progress
		want string
	}{
		{spiking, "spike: 2000/s, 1234 accepted, 56 shed, 7 failed, p99 12.3ms, 46s left"},
		{Progress{Phase: "end", P99: 1234 * time.Millisecond, Left: -time.Second}, "end: 0/s, 0 accepted, 0 shed, 0 failed, p99 1.23s, 0s left"},
		{Progress{Phase: "page", Rate: 0.5, P99: 123_456}, "page: 0.5/s, 0 accepted, 0 shed, 0 failed, p99 123µs, 0s left"},
	} {
		if got := c.p.String(); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func TestProgress_WritesALineEveryFiveSecondsToAFile(t *testing.T) {
	var out bytes.Buffer
	p := newProgress(&out, time.Minute)
	for s := range 61 {
		p.show(Progress{Phase: "steady", Done: time.Duration(s) * time.Second, Left: time.Duration(60-s) * time.Second})
	}
	p.end()
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(lines) != 12 || !strings.HasSuffix(lines[0], "55s left") || !strings.HasSuffix(lines[11], " 0s left") {
		t.Errorf("%d lines: %s", len(lines), out.String())
	}
	if strings.ContainsAny(out.String(), "\r\x1b") {
		t.Errorf("a terminal's codes in a file: %q", out.String())
	}
}

func TestProgress_DrawsOverOneLineOfATerminal(t *testing.T) {
	for _, width := range []int{200, 80, 20, 0} {
		var out bytes.Buffer
		p := barProgress(&out, time.Minute, func() int { return width })
		for s := range 70 { // longer than it should take: orders are still to settle
			now := spiking
			now.Done = time.Duration(s) * time.Second
			p.show(now)
		}
		p.end()
		drawn := out.String()
		if strings.Count(drawn, "\n") != 1 || !strings.HasSuffix(drawn, "\n") {
			t.Errorf("width %d: %q", width, drawn)
		}
		last := drawn[strings.LastIndex(drawn, "\r")+1:]
		last = strings.NewReplacer("\x1b[0K", "", "\x1b[2K", "", "\n", "").Replace(last)
		if width >= 80 && utf8.RuneCountInString(last) > width {
			t.Errorf("width %d: %d columns: %q", width, utf8.RuneCountInString(last), last)
		}
		if width == 200 && (!strings.Contains(last, "99%") || !strings.Contains(last, spiking.String())) {
			t.Errorf("it ends with %q", last)
		}
	}
}

func TestProgress_OfNoTimeIsNoFailure(t *testing.T) {
	var out bytes.Buffer
	p := barProgress(&out, 0, func() int { return 80 })
	p.show(Progress{Phase: "smoke", Done: time.Second})
	p.end()
	if !strings.Contains(out.String(), "smoke") {
		t.Errorf("%q", out.String())
	}
}
