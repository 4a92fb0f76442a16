package report

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/HdrHistogram/hdrhistogram-go"

	"sluice/loadtest"
)

func TestReport_IsReadAsItWasWritten(t *testing.T) {
	run, intervals := flashSale(2)
	search(run)
	dir := filepath.Join(t.TempDir(), "results", "2026-05-04-flash")
	if err := Write(dir, run, intervals); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, filepath.Join(dir, RunFile)} {
		got, err := Read(path)
		if err != nil {
			t.Fatal(err)
		}
		if inJSON(t, got) != inJSON(t, run) {
			t.Errorf("%s is another run than was written", path)
		}
	}
	want := []string{
		"capacity.svg", "cores.svg", "latency.hlog", "latency.svg", "memory.svg", "offered.svg", "outstanding.svg", "percentiles.svg",
		"report.html", "report.md", "run.json",
	}
	if got := names(t, dir); !slices.Equal(got, want) {
		t.Errorf("the report has %q, want %q", got, want)
	}
	if got := names(t, filepath.Dir(dir)); len(got) != 1 {
		t.Errorf("beside it are %q", got)
	}
}

func TestReadLog_HasTheCountsThatWereWritten(t *testing.T) {
	run, intervals := flashSale(2)
	dir := filepath.Join(t.TempDir(), "r")
	if err := Write(dir, run, intervals); err != nil {
		t.Fatal(err)
	}
	got, err := ReadLog(dir)
	if err != nil || len(got) != len(intervals) {
		t.Fatalf("%d intervals of %d: %v", len(got), len(intervals), err)
	}
	merged := map[loadtest.Class]*hdrhistogram.Histogram{}
	for i, g := range got {
		w := intervals[i]
		if g.Round != w.Round || g.Class != w.Class || !g.From.Equal(w.From) || g.For != w.For || !g.Values.Equals(w.Values) {
			t.Fatalf("interval %d is %d-%s from %v for %v, want %d-%s from %v for %v", i, g.Round, g.Class, g.From, g.For, w.Round, w.Class, w.From, w.For)
		}
		if merged[g.Class] == nil {
			merged[g.Class] = hdrhistogram.New(1, 60_000_000, 3)
		}
		if g.Round == 2 {
			merged[g.Class].Merge(g.Values)
		}
	}
	for class, want := range run.Rounds[1].Measured.Latency {
		if h := merged[class]; h.TotalCount() != want.Count || float64(h.ValueAtQuantile(99))/1000 != want.P99 {
			t.Errorf("%s: merged they are %d with a p99 of %d us, want %d and %v ms", class, h.TotalCount(), h.ValueAtQuantile(99), want.Count, want.P99)
		}
	}
	if none, err := ReadLog(t.TempDir()); err != nil || none != nil {
		t.Errorf("a folder without a log: %v, %v", none, err)
	}
}

func TestReport_BeginsWithItsVerdict(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*loadtest.Run)
		class  string
		want   []string
	}{
		"good": {func(*loadtest.Run) {}, "good", []string{"**Valid, and it kept its limits.**", "Limits kept: 99 % of accepted", "The audit agrees: all 32,"}},
		"invalid": {
			func(r *loadtest.Run) {
				r.Rounds[0].Invalid = []string{"requests were sent 41 ms late", "2 % were not sent"}
			}, "doubtful",
			[]string{"**INVALID because requests were sent 41 ms late; 2 % were not sent.**", "Don't use its figures"},
		},
		"interrupted": {
			func(r *loadtest.Run) { r.Partial, r.Took, r.Rounds[0].Audit.Settled = true, 12, 1000 }, "doubtful",
			[]string{"**PARTIAL: it was interrupted after 12 s", "When it was interrupted, 1,000 of the 32,"},
		},
		"broken": {
			func(r *loadtest.Run) { r.Rounds[0].Broken = []string{"p99 61 ms > 50 ms"} }, "bad",
			[]string{"**Valid, but it broke its limits.**", "Limits broken: p99 61 ms &gt; 50 ms."},
		},
		"oversold": {
			func(r *loadtest.Run) { r.Rounds[0].Audit.Wrong = []string{"sold 3 units too many"} }, "bad",
			[]string{"**Valid, but a promise was broken.**", "The audit DISAGREES: sold 3 units too many."},
		},
		"orders lost": {
			func(r *loadtest.Run) { r.Rounds[0].Audit.Promised, r.Rounds[0].Audit.Settled = 1200, 1199 }, "bad",
			[]string{"DISAGREES: 1,200 orders were promised, and only 1,199 found settled"},
		},
		"invalid and oversold": {func(r *loadtest.Run) {
			r.Rounds[0].Invalid, r.Rounds[0].Audit.Balanced = []string{"late"}, false
		}, "bad", []string{"INVALID because late", "the ledger does not balance"}},
	} {
		run, _ := flashSale(1)
		c.change(run)
		dir := filepath.Join(t.TempDir(), "r")
		if err := Write(dir, run, nil); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(read(t, dir, MarkdownFile), "\n")
		head := strings.Join(lines[:min(8, len(lines))], "\n")
		for _, want := range c.want {
			if !strings.Contains(head, want) {
				t.Errorf("%s: %q is not among the first lines:\n%s", name, want, head)
			}
		}
		if page := read(t, dir, HTMLFile); !strings.Contains(page, `<section id="verdict" class="`+c.class+`"`) {
			t.Errorf("%s: its banner is not %s", name, c.class)
		}
	}
}

func TestVerdict_IsGoodForAWholeRunThatKeptEverything(t *testing.T) {
	run, _ := flashSale(1)
	search(run)
	if said, good := Verdict(run); !good || !strings.HasPrefix(said, "Valid, and it kept its limits.\nLimits: ") {
		t.Errorf("good is %v: %s", good, said)
	}
	for limit, want := range map[string]string{
		"service":     "It sustains 4,210 ± 130 orders/s within its limits. It does no more: at 4,240 orders/s it refused for load.",
		"generator":   "It may do more: the generator was at its end: at",
		"probes":      "It may do more: no more tries were allowed: at",
		"interrupted": "It may do more: the search was interrupted: at",
	} {
		run.Search.Limit = limit
		if said, _ := Verdict(run); !strings.Contains(said, want) {
			t.Errorf("ended by the %s: %s", limit, said)
		}
	}
	run.Search.Sustains, run.Search.Why = 0, nil
	if said, good := Verdict(run); good || !strings.HasPrefix(said, "Valid, but no rate that was tried kept the limits.") ||
		!strings.Contains(said, "No rate that was tried kept the limits.") || strings.Contains(said, "imits kept") {
		t.Errorf("without a rate, good is %v: %s", good, said)
	}
	run.Search.Limit, run.Search.Probes[0].Wrong = loadtest.LimitPromise, []string{"P1: oversold"}
	if said, good := Verdict(run); good || !strings.Contains(said, "a broken promise ended the search") || !strings.Contains(said, "The audit DISAGREES: at ") {
		t.Errorf("with a broken promise, good is %v: %s", good, said)
	}
	run.Partial = true
	if said, good := Verdict(run); good || !strings.HasPrefix(said, "PARTIAL: it was interrupted after ") {
		t.Errorf("interrupted, good is %v: %s", good, said)
	}
	run.Failure = "door ended by itself: signal: killed"
	if said, good := Verdict(run); good || !strings.Contains(said, "because door ended by itself: signal: killed, and its figures") {
		t.Errorf("failed, good is %v: %s", good, said)
	}
}

func TestReport_DrawsTheRoundInTheMiddle(t *testing.T) {
	run, _ := flashSale(3)
	for i, goodput := range []float64{520, 480, 500} {
		run.Rounds[i].Measured.Goodput = goodput
	}
	if got := median(run); got != 2 {
		t.Errorf("it draws round %d", got+1)
	}
	if said := sold(run); !strings.Contains(said, "Goodput 500 ") || !strings.Contains(said, "round 3, the median of 3") {
		t.Errorf("it says %q", said)
	}
}

func TestReport_TakesNamesAsTextOnly(t *testing.T) {
	const evil = "</style><script>alert(1)</script> [x](javascript:1) | `a` *b* \"q\" ]]> \x00\x1b\u0085\ufffe\xff\n# head"
	run, _ := flashSale(2)
	run.Scenario.Name, run.Scenario.About, run.Command, run.Commit, run.Target, run.Machine.CPU, run.Plan = evil, evil, evil, evil, evil, evil, evil
	for i := range run.Rounds {
		r := &run.Rounds[i]
		r.Phases[1].Name, r.Invalid, r.Broken, r.Audit.Wrong = evil, []string{evil}, []string{evil}, []string{evil}
		r.Measured.Refused[evil] = 3
		for _, p := range r.Series {
			p.CPU["\ufffe\u0090\xff<&"], p.Memory[evil] = 0.3, 20
		}
	}
	search(run)
	run.Search.Probes[0].Stage, run.Search.Probes[5].Why = evil, []string{evil}
	dir := filepath.Join(t.TempDir(), "r")
	if err := Write(dir, run, nil); err != nil {
		t.Fatal(err)
	}
	page := read(t, dir, HTMLFile)
	for _, never := range []string{"<script", "alert(1)</s"} {
		if strings.Contains(page, never) || strings.Contains(withoutCode(read(t, dir, MarkdownFile)), never) {
			t.Errorf("a page has %q", never)
		}
	}
	for line := range strings.SplitSeq(withoutCode(read(t, dir, MarkdownFile)), "\n") {
		if strings.HasPrefix(line, "# head") || strings.Contains(line, "[x](java") || strings.Contains(line, " | `a` *b*") {
			t.Errorf("this line means more than it says: %q", line)
		}
	}
	for _, name := range names(t, dir) {
		if strings.HasSuffix(name, ".svg") {
			wellFormed(t, name, read(t, dir, name))
		}
	}
}

// withoutCode is Markdown without its indented lines, in which nothing means anything.
func withoutCode(md string) string {
	return regexp.MustCompile(`(?m)^    .*$`).ReplaceAllString(md, "")
}

// A chart is drawn or left out, whatever its figures; it is never a picture of nothing, or of places that are none.
func TestReport_OutlivesImpossibleFigures(t *testing.T) {
	nowhere := regexp.MustCompile(`NaN|Inf|\d{16}|e\+`)
	values := []float64{0, -1, 1e-300, 1e-7, 1e12, 1e300, math.MaxFloat64, 3}
	for i, v := range values {
		run, _ := flashSale(1)
		search(run)
		r, other := &run.Rounds[0], values[(i+3)%len(values)]
		for j := range r.Series {
			p := &r.Series[j]
			p.AcceptedP99, p.RefusedP99, p.Settled, p.Outstanding, p.Bound = v, other, v, v, other
			p.CPU, p.Memory = map[string]float64{"door": v, "worker": other}, map[string]float64{generator: v}
			if j%7 == 3 {
				p.At, p.Orders = other, math.MaxInt64
			}
		}
		for j := range run.Search.Probes {
			run.Search.Probes[j].Rate, run.Search.Probes[j].Goodput = v, other
		}
		run.Search.Probes[3].Rate = 1
		run.Search.Sustains = v
		l := r.Measured.Latency[loadtest.Accepted]
		l.Curve = []loadtest.Quantile{{Q: -1, MS: v}, {Q: 0, MS: v}, {Q: v, MS: other}, {Q: 1, MS: v}}
		r.Measured.Latency[loadtest.Accepted] = l
		r.Phases[1].From, r.Phases[2].For, run.Took = v, v, v
		dir := filepath.Join(t.TempDir(), "r")
		if err := Write(dir, run, nil); err != nil {
			t.Fatalf("with %v: %v", v, err)
		}
		for _, name := range names(t, dir) {
			if svg := read(t, dir, name); strings.HasSuffix(name, ".svg") {
				drawn := svg[strings.Index(svg, "</desc>"):]
				if at := nowhere.FindStringIndex(drawn); at != nil {
					t.Errorf("with %v: %s has %q", v, name, drawn[max(0, at[0]-40):at[1]+20])
				}
				wellFormed(t, name, svg)
			}
		}
	}
}

func TestReport_SaysWhichChartsAreLeftOut(t *testing.T) {
	run, _ := flashSale(1)
	run.Rounds[0].Series, run.Rounds[0].Phases, run.Rounds[0].Measured.Latency, run.Ceiling = nil, nil, nil, nil
	dir := filepath.Join(t.TempDir(), "r")
	if err := Write(dir, run, nil); err != nil {
		t.Fatal(err)
	}
	if got := names(t, dir); !slices.Equal(got, []string{"report.html", "report.md", "run.json"}) {
		t.Errorf("it has %q", got)
	}
	for _, file := range []string{MarkdownFile, HTMLFile} {
		if n := strings.Count(read(t, dir, file), "left out, because"); n != 7 {
			t.Errorf("%s says of %d charts why they are left out", file, n)
		}
	}
}

func TestReport_KeepsASoakSmall(t *testing.T) {
	run, _ := flashSale(1)
	r := &run.Rounds[0]
	points := r.Series
	for len(r.Series) < 8*3600 {
		p := points[len(r.Series)%len(points)]
		p.At = float64(len(r.Series) + 1)
		r.Series = append(r.Series, p)
	}
	dir := filepath.Join(t.TempDir(), "r")
	if err := Write(dir, run, nil); err != nil {
		t.Fatal(err)
	}
	if size := len(read(t, dir, HTMLFile)); size > 400_000 {
		t.Errorf("the page of eight hours has %d bytes", size)
	}
}

func TestWrite_ReplacesAReportOnlyWhenAsked(t *testing.T) {
	run, intervals := flashSale(1)
	dir := filepath.Join(t.TempDir(), "r")
	if err := Write(dir, run, intervals); err != nil {
		t.Fatal(err)
	}
	if err := Write(dir, run, nil); err == nil || err.Error() != "report "+dir+": it is there already; name another folder, or ask for it to be replaced" {
		t.Errorf("writing it again: %v", err)
	}
	run.Scenario.Name = "another"
	if err := Write(dir, run, nil, Replace); err != nil {
		t.Fatal(err)
	}
	if got, err := Read(dir); err != nil || got.Scenario.Name != "another" {
		t.Errorf("after it was replaced: %v", err)
	}
	if slices.Contains(names(t, dir), LogFile) {
		t.Error("a log of the old report is left")
	}
	if err := os.WriteFile(filepath.Join(dir, "thesis.txt"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Write(dir, run, nil, Replace); err == nil || !strings.Contains(err.Error(), `"thesis.txt"`) {
		t.Errorf("a folder with something else in it: %v", err)
	}
	if got := names(t, filepath.Dir(dir)); len(got) != 1 {
		t.Errorf("beside it are %q", got)
	}
}

func TestWrite_LeavesNothingAfterAnError(t *testing.T) {
	run, _ := flashSale(1)
	parent := t.TempDir()
	file := filepath.Join(parent, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	broken, _ := flashSale(1)
	broken.Rounds[0].Measured.Goodput = math.NaN()
	for name, c := range map[string]struct {
		dir  string
		run  *loadtest.Run
		want string
	}{
		"a file in the way":    {filepath.Join(file, "r"), run, "not a directory"},
		"a file at the place":  {file, run, "it is there already"},
		"no rounds":            {filepath.Join(parent, "r"), &loadtest.Run{Format: 1}, "no rounds"},
		"figures that are not": {filepath.Join(parent, "r"), broken, "NaN"},
	} {
		err := Write(c.dir, c.run, nil)
		if err == nil || !strings.HasPrefix(err.Error(), "report "+c.dir+": ") || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := names(t, parent); !slices.Equal(got, []string{"file"}) {
		t.Errorf("left are %q", got)
	}
}

func TestRead_RefusesWhatIsNoRun(t *testing.T) {
	dir := t.TempDir()
	for content, want := range map[string]string{
		"":                             "is not the run.json of a load test",
		"{}":                           "it has no format",
		"[1]":                          "is not the run.json of a load test",
		`{"format":2,"rounds":[{}]}`:   "has format 2; this sluice reads format 1",
		`{"format":1}`:                 "has no rounds",
		`{"format":1,"rounds":[]}`:     "has no rounds",
		`{"format":1,"rounds":[{}]} x`: "is not the run.json of a load test",
		`{"format":1,"rounds":"many"}`: "is not the run.json of a load test",
	} {
		path := filepath.Join(dir, "x.json")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(path); err == nil || !strings.HasPrefix(err.Error(), path+": ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", content, err, want)
		}
	}
	if _, err := Read(filepath.Join(dir, "nowhere")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a folder that is not there: %v", err)
	}
	huge := filepath.Join(dir, "huge.json")
	if err := os.WriteFile(huge, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(huge, most+1); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(huge); err == nil || !strings.Contains(err.Error(), "larger than 256 MB") {
		t.Errorf("a huge file: %v", err)
	}
}

// The run that the browser's test draws: SLUICE_UPDATE=1 writes it anew.
func TestRead_ReadsTheRunThatIsKept(t *testing.T) {
	run, _ := flashSale(1)
	search(run)
	if os.Getenv("SLUICE_UPDATE") != "" {
		if err := os.WriteFile("testdata/run.json", []byte(inJSON(t, run)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := Read("testdata")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := judge(kept), judge(run); got.Head != want.Head || kept.Plan != run.Plan || len(kept.Rounds[0].Series) != 60 {
		t.Errorf("it is judged %q, and the one of today %q", got.Head, want.Head)
	}
}

// Whatever is read can be written.
func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"format":1,"rounds":[{}],"search":{"probes":[{"rate":1,"goodput":1},{"rate":2,"goodput":2}]}}`)) // small ones: large ones are slow to shrink
	f.Add([]byte(`{"format":1,"rounds":[{"measured":{"latency":{"accepted":{"count":9,"p99_ms":3,"curve":[{"q":0.5,"ms":1},{"q":1,"ms":3}]}}}}]}`))
	f.Add([]byte(`{"format":1,"rounds":[{"series":[{"at_s":1,"orders":9,"settled":1e300},{"at_s":1e300}]}]}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		run, err := decode(content)
		if err != nil {
			return
		}
		if _, err := render(run, nil); err != nil {
			t.Errorf("it was read, and can't be written: %v", err)
		}
	})
}

func FuzzReadLog(f *testing.F) {
	h := hdrhistogram.New(1, 60_000_000, 1)
	_ = h.RecordValue(7)
	kept, err := encodeLog(new(loadtest.Run), []loadtest.Interval{{Round: 1, Class: loadtest.Accepted, Values: h}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(kept)
	f.Add([]byte("Tag=1-accepted,0,1,1,HISTFAAAAEV42pNpmSz\n"))
	f.Fuzz(func(_ *testing.T, content []byte) { _, _ = decodeLog(content) })
}

func TestNumber_HasThreeDigitsThatCount(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 1234567: "1,234,567", 999.6: "1,000", 99.96: "100", 12.34: "12.3", 50: "50", 9.996: "10", 1.234: "1.23", 0.42: "0.42", 0.0417: "0.042",
		-12.34: "-12.3", math.NaN(): missing, math.Inf(1): missing,
	} {
		if got := number(v); got != want {
			t.Errorf("number(%v) = %q, want %q", v, got, want)
		}
	}
	for v, want := range map[float64]string{0.31: "310 ms", 12: "12 s", 300: "5m", 3725: "1h2m5s"} {
		if got := seconds(v); got != want {
			t.Errorf("seconds(%v) = %q, want %q", v, got, want)
		}
	}
}

func inJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name)) //nolint:gosec // a test's own
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func wellFormed(t *testing.T, name, content string) {
	t.Helper()
	for d := xml.NewDecoder(strings.NewReader(content)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("%s is no picture: %v", name, err)
		}
	}
}

// The charts' figures are the workers', and the verdict's the audit's.
func TestReport_WarnsWhereCountersAndAuditDiffer(t *testing.T) {
	for name, c := range map[string]struct {
		change func(run *loadtest.Run)
		warns  bool
	}{
		"they agree":    {func(*loadtest.Run) {}, false},
		"half is lost":  {func(run *loadtest.Run) { run.Rounds[0].Audit.Settled /= 2 }, true},
		"of a stranger": {func(run *loadtest.Run) { run.Rounds[0].Audit.Settled /= 2; run.Target = "http://127.0.0.1:8080" }, false},
		"interrupted":   {func(run *loadtest.Run) { run.Rounds[0].Audit.Settled /= 2; run.Partial = true }, false},
	} {
		run, _ := flashSale(1)
		c.change(run)
		dir := filepath.Join(t.TempDir(), "r")
		if err := Write(dir, run, nil); err != nil {
			t.Fatal(err)
		}
		page := read(t, dir, MarkdownFile)
		if got := strings.Contains(page, "WARNING: the workers counted"); got != c.warns {
			t.Errorf("%s: it warns: %v", name, got)
		}
		if everybody := strings.Contains(page, "they count everybody's orders"); everybody != (run.Target != "") {
			t.Errorf("%s: it speaks of everybody's orders: %v", name, everybody)
		}
		if strings.Contains(read(t, dir, "offered.svg"), "goodput") {
			t.Errorf("%s: a chart calls the workers' counters the goodput", name)
		}
	}
}

func TestReport_SaysInWhichPhaseOrdersWereFirstRefusedForLoad(t *testing.T) {
	run, _ := flashSale(1)
	r := &run.Rounds[0].Recovery
	r.ShedIn, r.ShedAfter = "rush", 0.4
	if got, want := firstShed(r), (figure{"First refused for load", "after 400 ms", "since the phase rush began; 10.4 s since the first one did"}); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestReport_SaysWhySojournsAreNotKnown(t *testing.T) {
	a := loadtest.Audit{Read: 1000, Sampled: 900, Negative: 3}
	if got := sojourn(&a); got.Value != missing || got.Note != "not known: of 1,000 orders that were read 900 have a time of admission; 3 were settled before they were admitted: clocks differ" {
		t.Errorf("got %q", got)
	}
}
