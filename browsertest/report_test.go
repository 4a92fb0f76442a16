package browsertest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// writeReport writes the report of a made-up run, which has everything that a report can show: a search, and a crowd of 60,000.
func writeReport(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "report")
	cmd := exec.CommandContext(context.Background(), sluice, "loadtest", "report", "../loadtest/report/testdata/run.json", "--out", dir)
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	return dir
}

// drawing is what a browser made of a chart.
type drawing struct {
	Title, About  string
	Width, Height float64
	Lines         int      // strokes as thick as a line of figures, or dots, with a length that is seen
	Outside       []string // texts that are not within the picture
	Over          []string // texts that are over other texts
	Smallest      float64  // text, in pixels
	Texts         int
}

const drawings = `[...document.querySelectorAll("svg")].map(svg => {
	const box = svg.getBoundingClientRect();
	const texts = [...svg.querySelectorAll("text")].filter(t => t.textContent.trim() !== "").map(t => ({t: t.textContent, r: t.getBoundingClientRect(), size: parseFloat(getComputedStyle(t).fontSize)}));
	const seen = p => p.getTotalLength() > 0 && Math.max(p.getBBox().width, p.getBBox().height) > 0;
	const ofFigures = p => getComputedStyle(p).strokeWidth === "2px" || !["none", "rgb(255, 255, 255)"].includes(getComputedStyle(p).fill);
	const apart = (a, b) => a.right <= b.left + 1 || b.right <= a.left + 1 || a.bottom <= b.top + 2 || b.bottom <= a.top + 2;
	return {
		Title: svg.querySelector("title")?.textContent ?? "", About: svg.querySelector("desc")?.textContent ?? "",
		Width: box.width, Height: box.height, Texts: texts.length,
		Lines: [...svg.querySelectorAll("path")].filter(p => seen(p) && ofFigures(p)).length,
		Outside: texts.filter(x => x.r.left < box.left || x.r.right > box.right || x.r.top < box.top || x.r.bottom > box.bottom || x.r.width === 0).map(x => x.t),
		Over: texts.flatMap((a, i) => texts.slice(i + 1).filter(b => !apart(a.r, b.r)).map(b => a.t + " / " + b.t)),
		Smallest: Math.min(...texts.map(x => x.size * box.width / svg.viewBox.baseVal.width)),
	};
})`

func TestReport_ShowsItsVerdictAndEveryChart(t *testing.T) {
	b := openTab(t)
	address := "file://" + filepath.Join(writeReport(t), "report.html")
	for _, width := range []int64{1280, 390} {
		b.do(chromedp.EmulateViewport(width, 800), chromedp.Navigate(address))
		if said := eval[string](b, `document.querySelector("#verdict").innerText`); !strings.HasPrefix(said, "Valid, and it kept its limits.") ||
			!strings.Contains(said, "It sustains 4,210 ± 130 orders/s") || !strings.Contains(said, "The audit agrees") {
			t.Errorf("%d: the verdict is %q", width, said)
		}
		if wide := eval[int64](b, `document.documentElement.scrollWidth`); wide > width {
			t.Errorf("the page is %d wide in a window of %d", wide, width)
		}
		b.drawn(width)
		for theme, want := range map[string][2]int{"light": {200, 255}, "dark": {0, 60}} { // how bright the paper is
			b.theme(theme)
			if paper := brightness(b, "body"); paper < want[0] || paper > want[1] {
				t.Errorf("%d: in the %s theme the paper has a brightness of %d", width, theme, paper)
			}
			if card := brightness(b, ".card"); card < 250 {
				t.Errorf("%d: in the %s theme charts are on a card with a brightness of %d", width, theme, card)
			}
			b.wholePicture(fmt.Sprintf("report-%d-%s", width, theme))
		}
	}
	if loaded := eval[[]string](b, `performance.getEntriesByType("resource").map(e => e.name)`); len(loaded) > 0 {
		t.Errorf("it loads %q", loaded)
	}
	b.quiet()
}

// drawn looks whether all charts are.
func (b *tab) drawn(width int64) {
	b.t.Helper()
	charts := eval[[]drawing](b, drawings)
	if len(charts) != 7 {
		b.t.Errorf("%d: %d charts, want 7", width, len(charts))
	}
	for _, c := range charts {
		if c.Width < 300 || c.Height < 150 || c.Lines < 3 || c.Texts < 8 || c.Title == "" || len(c.About) < 50 {
			b.t.Errorf("%d: a chart is not drawn: %+v", width, c)
		}
		if len(c.Outside) > 0 || len(c.Over) > 0 || c.Smallest < 8 {
			b.t.Errorf("%d: %s: texts outside of it: %q, over each other: %q, smallest %.1f px", width, c.Title, c.Outside, c.Over, c.Smallest)
		}
	}
}

// What a run really gives is another matter than what a test makes up.
func TestReport_OfARunIsDrawn(t *testing.T) {
	out := t.TempDir()
	cmd := exec.CommandContext(context.Background(), sluice, "loadtest", "smoke", "--no-ceiling", "--out", out, "--work", t.TempDir())
	said, err := cmd.CombinedOutput() // a busy machine may make the run invalid, which is an error: the report is there all the same
	pages, _ := filepath.Glob(filepath.Join(out, "*", "report.html"))
	if len(pages) != 1 {
		t.Fatalf("reports %q: %v: %s", pages, err, said)
	}
	b := openTab(t)
	b.do(chromedp.EmulateViewport(1280, 800), chromedp.Navigate("file://"+pages[0]))
	b.drawn(1280)
	if verdict := eval[string](b, `document.querySelector("#verdict").innerText`); !strings.Contains(verdict, "The audit agrees") {
		t.Errorf("the verdict is %q", verdict)
	}
	b.wholePicture("report-smoke")
	b.quiet()
}

// Each chart is a file of its own, too, which others show as a picture.
func TestReport_HasChartsThatArePictures(t *testing.T) {
	dir := writeReport(t)
	files, err := filepath.Glob(filepath.Join(dir, "*.svg"))
	if err != nil || len(files) != 7 {
		t.Fatalf("charts %q: %v", files, err)
	}
	b := openTab(t)
	for _, file := range files {
		b.do(chromedp.Navigate("file://" + file))
		if width := eval[float64](b, `document.documentElement.getBBox().width`); width < 300 {
			t.Errorf("%s is %.0f wide", filepath.Base(file), width)
		}
	}
	b.quiet()
}

func (b *tab) theme(name string) {
	b.t.Helper()
	send(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}},
	})
}

// brightness of an element's background, from 0 to 255.
func brightness(b *tab, of string) int {
	b.t.Helper()
	return eval[int](b, fmt.Sprintf(`Math.max(...getComputedStyle(document.querySelector(%q)).backgroundColor.match(/\d+/g).map(Number))`, of))
}

// wholePicture keeps a screenshot of the whole page, where SLUICE_SCREENSHOTS names a folder.
func (b *tab) wholePicture(name string) {
	b.t.Helper()
	dir := os.Getenv("SLUICE_SCREENSHOTS")
	if dir == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), run(b, chromedp.FullScreenshot(100)), 0o600); err != nil {
		b.t.Fatal(err)
	}
}
