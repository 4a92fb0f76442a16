// Package console has the pages that buyers see: the one on which they wait, and the one that says why not. A page is one
// answer without anything to load after it, works without scripts, and lets nothing run but its own.
package console

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"html"
	"html/template"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice"
)

// ContentType is that of every page.
const ContentType = "text/html; charset=utf-8"

//go:embed pages
var files embed.FS

var (
	style  = element("style", read("page.css"))
	script = element("script", read("page.js"))

	// Policy is the Content-Security-Policy of every page: its own script and style, by their hashes, and its own origin's
	// events; no frames around it, so that nobody clicks on it unawares.
	Policy = fmt.Sprintf("default-src 'none'; script-src '%s'; style-src '%s'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
		digest(read("page.js")), digest(read("page.css")))

	pages = template.Must(template.New("pages").Funcs(template.FuncMap{
		"style":  func() template.HTML { return style },
		"script": func() template.HTML { return script },
	}).Parse(read("pages.html")))
)

func read(name string) string {
	b, err := files.ReadFile("pages/" + name)
	if err != nil {
		panic(err) // a file that is not embedded: the first test sees it
	}
	return string(b)
}

func element(tag, content string) template.HTML {
	return template.HTML("<" + tag + ">" + content + "</" + tag + ">") //nolint:gosec // embedded, nobody's input
}

func digest(content string) string {
	sum := sha256.Sum256([]byte(content))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// Waiting is what the page of an order shows.
type Waiting struct {
	Status   sluice.Status
	Position int64         // in the line; 0: none
	ETA      time.Duration // of its end
	Left     time.Duration // until it must be paid; 0: unknown, or nothing to pay
	Checkout string        // where to pay; empty: nowhere
	Events   string        // URL of the order's event stream, of the page's own origin
	Home     string        // the shop's URL; empty: unknown
}

// waitingPage is what its template reads.
type waitingPage struct {
	Waiting
	words
	Final                         bool
	Refresh, Left                 int // seconds; the first where there are no scripts
	LeftAbout                     string
	Place, About, Until, UntilUTC string
	Units                         string
}

// WriteWaiting writes the page on which a buyer waits, and hears how it ended.
func WriteWaiting(w io.Writer, p Waiting) error {
	page := waitingPage{
		Waiting: p, words: outcome(&p.Status), Final: p.Status.State.Final(), Refresh: 5,
		Place: strconv.FormatInt(p.Position, 10), About: about(p.ETA), Units: units(p.Status.Units),
	}
	if p.Status.State == sluice.Held {
		page.Refresh, page.Left, page.LeftAbout = 20, max(0, int(p.Left/time.Second)), about(p.Left)
		page.Until, page.UntilUTC = p.Status.PayBy.UTC().Format(time.RFC3339), p.Status.PayBy.UTC().Format("15:04 MST")
	}
	return pages.ExecuteTemplate(w, "waiting", page)
}

// Busy is what the page of a refusal shows.
type Busy struct {
	Refusal    sluice.Refusal
	RetryAfter time.Duration // zero: coming back does not help
	Again      bool          // the page was read, not posted: it may load itself again
	URL, Label string        // a link to go on with; empty: none
}

// busyPages are rendered once: under a rush most pages are refusals. What differs from buyer to buyer is put in between.
var busyPages = func() map[busyKind]*cut {
	all := make(map[busyKind]*cut)
	for _, r := range sluice.Refusals() {
		for _, k := range []busyKind{{r, false, false}, {r, true, false}, {r, true, true}} {
			all[k] = render("busy", struct {
				words
				Retry, Again bool
			}{refusedWords(r), k.retry, k.again})
		}
	}
	return all
}()

var busyLink = render("link", nil)

type busyKind struct {
	refusal      sluice.Refusal
	retry, again bool
}

// AppendBusy appends the page that says why not, and when to come back.
func AppendBusy(b []byte, p Busy) []byte {
	seconds := int64((p.RetryAfter + time.Second - 1) / time.Second)
	page := busyPages[busyKind{p.Refusal, seconds > 0, seconds > 0 && p.Again}]
	if page == nil {
		page = busyPages[busyKind{sluice.Internal, false, false}]
	}
	b = slices.Grow(b, page.size+busyLink.size+len(p.URL)+len(p.Label)+64)
	for i, part := range page.parts {
		b = append(b, part...)
		if i == len(page.slots) {
			break
		}
		switch page.slots[i] {
		case "SECONDS":
			b = strconv.AppendInt(b, seconds, 10)
		case "WHEN":
			b = append(append(b, "in "...), about(p.RetryAfter)...)
		case "LINK":
			b = appendLink(b, p.URL, p.Label)
		}
	}
	return b
}

func appendLink(b []byte, url, label string) []byte {
	if url == "" {
		return b
	}
	b = append(b, busyLink.parts[0]...)
	b = append(b, html.EscapeString(url)...)
	b = append(b, busyLink.parts[1]...)
	b = append(b, html.EscapeString(label)...)
	return append(b, busyLink.parts[2]...)
}

// cut is a rendered page with gaps.
type cut struct {
	parts, slots []string // a part, a slot, a part …
	size         int      // of all parts
}

// render executes a template and cuts it at each @@SLOT@@.
func render(name string, data any) *cut {
	var out bytes.Buffer
	if err := pages.ExecuteTemplate(&out, name, data); err != nil {
		panic(err) // a template that can't be executed: the first test sees it
	}
	c := &cut{}
	for i, piece := range strings.Split(out.String(), "@@") {
		if i%2 == 0 {
			c.parts = append(c.parts, piece)
			c.size += len(piece)
		} else {
			c.slots = append(c.slots, piece)
		}
	}
	return c
}
