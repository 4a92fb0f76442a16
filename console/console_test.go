package console

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"regexp"
	"strings"
	"testing"
	"time"

	"sluice"
)

// everyPage renders each page that there is.
func everyPage(t *testing.T) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for _, r := range sluice.Refusals() {
		for _, p := range []Busy{
			{Refusal: r, URL: "/", Label: "To the shop"},
			{Refusal: r, RetryAfter: 90 * time.Second},
			{Refusal: r, RetryAfter: 90 * time.Second, Again: true},
		} {
			name := string(r)
			if p.RetryAfter > 0 {
				name += " with a wait"
			}
			if p.Again {
				name += " that is over by itself"
			}
			all[name] = string(AppendBusy(nil, p))
		}
	}
	var statuses []sluice.Status
	for _, state := range []sluice.State{sluice.Queued, sluice.Held, sluice.Paid, sluice.Expired, sluice.Cancelled, sluice.Failed} {
		statuses = append(statuses, sluice.Status{State: state})
	}
	for _, reason := range []sluice.Reason{sluice.SoldOut, sluice.UserLimit, sluice.SaleClosed, sluice.Stale, sluice.UnknownSale, "another"} {
		statuses = append(statuses, sluice.Status{State: sluice.Rejected, Reason: reason})
	}
	for _, s := range statuses {
		s.Order, s.Version, s.Units, s.PayBy = sluice.OrderID{1}, 3, 2, time.Now()
		var b bytes.Buffer
		if err := WriteWaiting(&b, Waiting{Status: s, Position: 7, ETA: time.Minute, Checkout: "https://shop.example/", Events: "/events", Home: "/"}); err != nil {
			t.Fatal(err)
		}
		all[string(s.State)+" "+string(s.Reason)] = b.String()
	}
	return all
}

func TestPages_AreWholeSmallAndSaySomething(t *testing.T) {
	title := regexp.MustCompile(`<title>[^<]{5,}</title>`)
	heading := regexp.MustCompile(`<h1>[^<]{5,}`)
	for name, page := range everyPage(t) {
		if !strings.HasPrefix(page, "<!doctype html>\n<html lang=\"en\">") || !strings.HasSuffix(page, "</html>\n") {
			t.Errorf("%s: not a whole page:\n%s", name, page)
		}
		if !title.MatchString(page) || !heading.MatchString(page) || strings.Count(page, "<h1>") != 1 {
			t.Errorf("%s: no title or heading:\n%s", name, page)
		}
		if strings.Contains(page, "@@") || strings.Contains(page, "ZgotmplZ") || strings.Contains(page, "<no value>") {
			t.Errorf("%s: a gap is left:\n%s", name, page)
		}
		if len(page) > 8<<10 {
			t.Errorf("%s has %d bytes", name, len(page))
		}
		if wait := strings.Contains(name, "wait"); wait != strings.Contains(page, "in 2 minutes") {
			t.Errorf("%s: it does not say when to come back, or says it without need:\n%s", name, page)
		}
	}
}

// What the policy allows is what the pages have, and nothing that a page would load, run or post by itself.
func TestPages_KeepToTheirPolicy(t *testing.T) {
	element := regexp.MustCompile(`(?s)<(script|style)([^>]*)>(.*?)</`)
	for name, page := range everyPage(t) {
		found := element.FindAllStringSubmatch(page, -1)
		if len(found) != 2 {
			t.Errorf("%s has %d scripts and styles", name, len(found))
		}
		for _, e := range found {
			sum := sha256.Sum256([]byte(e[3]))
			if want := e[1] + "-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"; e[2] != "" || !strings.Contains(Policy, want) {
				t.Errorf("%s: the policy does not allow its %s", name, e[1])
			}
		}
		for _, no := range []string{" style=", " onclick=", " src=", "<link", "<form", "<img", "@import", "url("} {
			if strings.Contains(page, no) {
				t.Errorf("%s has %q", name, no)
			}
		}
	}
}

func TestPages_EscapeWhatIsNotTheirs(t *testing.T) {
	page := string(AppendBusy(nil, Busy{Refusal: sluice.AllSold, URL: `/"><script>alert(1)</script>`, Label: "<b>"}))
	if strings.Contains(page, "<script>alert") || strings.Contains(page, "<b>") {
		t.Error(page)
	}
	var b bytes.Buffer
	if err := WriteWaiting(&b, Waiting{Status: sluice.Status{State: sluice.Held}, Checkout: "javascript:alert(1)", Events: `"><script>alert(1)</script>`}); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "<script>alert") || strings.Contains(b.String(), "javascript:") {
		t.Error(b.String())
	}
}

func TestAbout(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "1 second", time.Millisecond: "1 second", time.Second: "1 second", 89 * time.Second: "89 seconds",
		90 * time.Second: "2 minutes", 89 * time.Minute: "89 minutes", 90 * time.Minute: "2 hours", 50 * time.Hour: "50 hours",
	} {
		if got := about(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}
