package report

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"regexp"
	"slices"
	"strings"
	text "text/template"
	"time"

	"sluice"
	"sluice/loadtest"
)

//go:embed pages
var pages embed.FS

var (
	htmlPage = template.Must(template.New("report.html").Funcs(template.FuncMap{"sheet": sheet}).ParseFS(pages, "pages/report.html"))
	mdPage   = text.Must(text.New("report.md").Funcs(text.FuncMap{"md": markdown, "row": row, "rule": rule}).ParseFS(pages, "pages/report.md"))
)

func sheet() (template.CSS, error) {
	b, err := pages.ReadFile("pages/report.css")
	return template.CSS(b), err //nolint:gosec // embedded, nobody's input
}

// page is what the pages say, in words: those of Markdown and HTML differ in looks only.
type page struct {
	Title, About, When string
	Verdict            verdict
	Figures            []figure
	Drawn              string // which round the figures and pictures are of, where there are several
	Charts             []picture
	Missing            []string // why pictures are left out
	Tables             []table
	Generator          string
	Machine            []figure
	Repeat             []figure
	Command            string
	Reading            []string
	HasLog             bool
}

// figure is a figure with its name, and what else there is to say of it.
type figure struct{ Name, Value, Note string }

type picture struct {
	File, Title, Look string
	SVG               template.HTML
	svg               []byte
}

type table struct {
	Title, Note string
	Words       bool // the last column has words, and not figures
	Head        []string
	Rows        [][]string
}

func newPage(run *loadtest.Run) (*page, error) {
	drawn := median(run)
	round := &run.Rounds[drawn]
	p := &page{
		Title:     "Load test: " + plain(run.Scenario.Name, 80),
		About:     plain(run.Scenario.About, 1000),
		When:      run.Began.UTC().Format("2 January 2006, 15:04 UTC") + ", for " + seconds(run.Took),
		Verdict:   judge(run),
		Figures:   keyFigures(run, round),
		Tables:    tables(run, round),
		Generator: ceiling(run, round),
		Machine:   machine(run),
		Repeat:    repeat(run),
		Command:   plain(run.Command, 2000),
		Reading: []string{
			"Waiting is counted from the moment at which a request was due, and not from when it could be sent: a service that stops for a second makes a second of it visible.",
			"A refusal is an answer, and no failure: it came at once, and told the buyer when to come back. Failed is only who got no answer, or none that is definite.",
			"The generator and the service share the processors of one machine, so rates are those of this machine; take the cost of an order, and not the rate, to others.",
		},
	}
	if run.Target != "" {
		p.Reading[2] = "The service was somebody's own, at another address: what is between it and the generator is in the figures too."
	}
	if len(run.Rounds) > 1 {
		p.Drawn = fmt.Sprintf("Figures and pictures are of round %d, the median of %d by goodput.", drawn+1, len(run.Rounds))
	}
	return p, p.draw(charts(run, round))
}

func (p *page) draw(all []chart) error {
	for _, c := range all {
		if !c.seen() {
			p.Missing = append(p.Missing, c.title+": left out, because there is nothing to draw ("+whyEmpty(c.file)+").")
			continue
		}
		svg, err := c.draw()
		if err != nil {
			return err
		}
		p.Charts = append(p.Charts, picture{
			File: c.file, Title: c.title, Look: c.look, svg: svg,
			SVG: template.HTML(svg), //nolint:gosec // drawn here, its texts escaped
		})
	}
	return nil
}

func whyEmpty(file string) string {
	switch file {
	case "capacity.svg":
		return "it takes two different rates at least"
	case "offered.svg", "latency.svg", "percentiles.svg":
		return "no answer came"
	}
	return "the service's own figures were not to be had, or were zero throughout"
}

func (p *page) html() ([]byte, error) {
	var b bytes.Buffer
	err := htmlPage.Execute(&b, p)
	return b.Bytes(), err
}

var blankLines = regexp.MustCompile(`\n{3,}`)

func (p *page) markdown() ([]byte, error) {
	var b bytes.Buffer
	err := mdPage.Execute(&b, p)
	return blankLines.ReplaceAll(b.Bytes(), []byte("\n\n")), err
}

// special is what means something in Markdown, or in the HTML that it may have.
var special = regexp.MustCompile("[\\\\`*_{}\\[\\]<>#|~&]")

// markdown is a text that means only itself.
func markdown(s string) string {
	return special.ReplaceAllStringFunc(s, func(c string) string {
		switch c {
		case "<":
			return "&lt;"
		case ">":
			return "&gt;"
		case "&":
			return "&amp;"
		}
		return `\` + c
	})
}

func row(cells []string) string {
	escaped := make([]string, len(cells))
	for i, c := range cells {
		escaped[i] = markdown(c)
	}
	return "| " + strings.Join(escaped, " | ") + " |"
}

// rule is what is between a table's head and its rows: names to the left, figures to the right.
func rule(t table) string {
	rule := "|---|" + strings.Repeat("---:|", len(t.Head)-1)
	if t.Words {
		rule = strings.TrimSuffix(rule, "---:|") + "---|"
	}
	return rule
}

func milliseconds(d sluice.Duration) float64 {
	return float64(time.Duration(d)) / float64(time.Millisecond)
}

func machine(run *loadtest.Run) []figure {
	m := &run.Machine
	return named([]figure{
		{"Processor", plain(m.CPU, 100), plural(m.Cores, "core", "cores")},
		{"Kernel", plain(m.Kernel, 100), ""},
		{"Go", plain(m.Go, 100), ""},
		{"File system of the data", plain(m.FileSystem, 100), "4 KiB are safe after " + ms(m.Sync)},
		{"Load average", plain(m.Load, 100), "at the end"},
		{"Taken by others", number(m.Steal) + " %", "of processor time"},
	})
}

func repeat(run *loadtest.Run) []figure {
	target := "parts of its own"
	if run.Target != "" {
		target = plain(run.Target, 300)
	}
	return named([]figure{
		{"Against", target, ""},
		{"Store", plain(run.Store, 60), ""},
		{"Commit", plain(run.Commit, 80), ""},
		{"Seed", fmt.Sprint(run.Seed), "equal seeds plan equal requests"},
		{"Plan", plain(run.Plan, 80), "SHA-256 over the planned requests"},
		{"Limits", limits(&run.Scenario.SLO), ""},
	})
}

func named(figures []figure) []figure {
	return slices.DeleteFunc(figures, func(f figure) bool { return f.Value == "" })
}

// ceiling says how near the generator was to what it can do.
func ceiling(run *loadtest.Run, round *loadtest.Round) string {
	if run.Ceiling == nil || run.Ceiling.Rate <= 0 {
		return "What the generator can do here was not measured."
	}
	c, busiest := run.Ceiling, 0.0
	began := 0.0
	for _, p := range round.Series {
		if p.At-began > 0.5 {
			busiest = max(busiest, float64(p.Planned)/(p.At-began))
		}
		began = p.At
	}
	said := fmt.Sprintf("By itself, against a server that does nothing, the generator reaches %s requests a second here (99 of 100 answers within %s).",
		number(c.Rate), ms(c.P99))
	if busiest > 0 {
		said += fmt.Sprintf(" The busiest second of this run asked for %s: %s of what the generator can do here.", number(busiest), percent(busiest, c.Rate))
	}
	return said
}
