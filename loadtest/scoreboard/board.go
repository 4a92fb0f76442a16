package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	labs "sluice/loadtest/lab"
)

// entry is one row as it is written.
type entry struct {
	ID      string          `json:"id"`
	Title   string          `json:"title"`
	Ratio   float64         `json:"ratio"` // median; in Unit
	Unit    string          `json:"unit"`
	Spread  [2]float64      `json:"spread"` // lowest and highest
	Runs    int             `json:"runs"`
	Must    float64         `json:"must"`
	Then    float64         `json:"then"`
	Least   bool            `json:"at_least,omitempty"` // Must is a least value, not a most one
	OK      bool            `json:"ok"`                 // Ratio reaches Must, and so does each of Also
	Against string          `json:"against,omitempty"`
	Also    []comparison    `json:"also,omitempty"`
	Note    string          `json:"note,omitempty"`
	Sides   map[string]side `json:"sides"`
	Machine labs.Machine    `json:"machine"`
	Command string          `json:"command"`
	Short   bool            `json:"short,omitempty"`
	Commit  string          `json:"commit"`
	Date    string          `json:"date"`
	Took    string          `json:"took"`
}

func newEntry(r row, f figure) entry {
	missed := func(c comparison) bool { return !c.OK }
	return entry{
		ID: r.id, Title: r.title, Ratio: f.ratio, Unit: r.unit, Spread: f.spread, Runs: f.runs, Must: r.must, Then: r.then,
		Least: r.least, OK: r.reaches(f.ratio, r.must) && !slices.ContainsFunc(f.also, missed), Note: f.note, Sides: f.sides,
		Against: f.against, Also: f.also,
	}
}

// String is the entry in a line, for who watches.
func (e entry) String() string {
	verdict := "reached"
	if !e.OK {
		verdict = "NOT reached"
	}
	figures := make([]string, 0, 1+len(e.Also))
	for _, f := range e.figures() {
		figures = append(figures, fmt.Sprintf("%s (%s); must be %s", f.value(f.Ratio), f.between(), f.wanted(f.Must)))
	}
	return fmt.Sprintf("%s: %s: %s", e.ID, strings.Join(figures, "; also "), verdict)
}

// figures is the entry once for each of its ratios.
func (e entry) figures() []entry {
	all := []entry{e}
	if len(e.Also) > 0 {
		all[0].Title += " against " + e.Against
		all[0].OK = row{least: e.Least}.reaches(e.Ratio, e.Must)
	}
	for _, c := range e.Also {
		f := e
		f.Title += " against " + c.Against
		f.Ratio, f.Spread, f.Runs, f.Must, f.Then, f.OK, f.Least = c.Ratio, c.Spread, c.Runs, c.Must, c.Then, c.OK, true
		all = append(all, f)
	}
	return all
}

func (e entry) value(v float64) string {
	text := fmt.Sprintf("%.3f", v)
	if e.Unit != "×" {
		text = fmt.Sprintf("%.1f", v)
	}
	return text + " " + e.Unit
}

func (e entry) between() string {
	return fmt.Sprintf("%s to %s, %d runs", strings.TrimSuffix(e.value(e.Spread[0]), " "+e.Unit), e.value(e.Spread[1]), e.Runs)
}

func (e entry) wanted(v float64) string {
	sign := "≤"
	if e.Least {
		sign = "≥"
	}
	return fmt.Sprintf("%s %g %s", sign, v, e.Unit)
}

// board is all entries, in the order of the rows.
type board []entry

func readBoard(dir string) (board, error) {
	text, err := os.ReadFile(filepath.Join(dir, "scoreboard.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var b board
	if err := json.Unmarshal(text, &b); err != nil {
		return nil, fmt.Errorf("%s/scoreboard.json can't be read (remove it to begin anew): %w", dir, err)
	}
	return b, nil
}

// put replaces the entry of the same row, or adds it.
func (b *board) put(e entry) {
	*b = append(slices.DeleteFunc(*b, func(old entry) bool { return old.ID == e.ID }), e)
	slices.SortFunc(*b, func(x, y entry) int { return position(x.ID) - position(y.ID) })
}

// position orders S2 before S10.
func position(id string) (n int) {
	_, _ = fmt.Sscanf(id, "S%d", &n)
	return n
}

func (b board) write(dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	text, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(replace(filepath.Join(dir, "scoreboard.json"), append(text, '\n')), replace(filepath.Join(dir, "scoreboard.md"), []byte(b.table())))
}

// replace writes a file whole or not at all.
func replace(path string, text []byte) error {
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return err
	}
	return errors.Join(os.Chmod(path+".new", 0o644), os.Rename(path+".new", path)) //nolint:gosec // results are for everybody to read
}

const preamble = `# Scoreboard

Every figure is taken in one run, both sides in turn (A B B A …) on the same machine; it is the median, with the lowest and the
highest beside it. Processor time is ` + "`utime + stime`" + ` of all processes of a side over the answers that it gave; the load generator's is not
counted. Absolute rates are for the reader: generator and service share the processors. Written by ` + "`make scoreboard`" + `; the raw
figures are in [scoreboard.json](scoreboard.json).

`

// table is the board for a reader.
func (b board) table() string {
	var t strings.Builder
	t.WriteString(preamble + "| row | what | figure | lowest to highest | must be | then | |\n|---|---|---:|---|---|---|---|\n")
	for _, e := range b {
		for _, f := range e.figures() {
			verdict := "**missed**"
			if f.OK {
				verdict = "reached"
			}
			fmt.Fprintf(&t, "| %s | %s | %s | %s | %s | %s | %s |\n",
				f.ID, f.Title, f.value(f.Ratio), f.between(), f.wanted(f.Must), f.wanted(f.Then), verdict)
		}
	}
	for _, e := range b {
		e.section(&t)
	}
	return t.String()
}

// section says what a row means and what its sides did.
func (e entry) section(t *strings.Builder) {
	fmt.Fprintf(t, "\n## %s: %s\n\n", e.ID, e.Title)
	if i := slices.IndexFunc(rows, func(r row) bool { return r.id == e.ID }); i >= 0 {
		fmt.Fprintf(t, "%s\n\n", rows[i].meaning)
	}
	if e.Note != "" {
		fmt.Fprintf(t, "%s\n\n", e.Note)
	}
	t.WriteString("| side | processor time an answer | a second | p50 | p99 | answers |\n|---|---|---:|---:|---:|---|\n")
	for _, name := range slices.Sorted(maps.Keys(e.Sides)) {
		s := e.Sides[name]
		fmt.Fprintf(t, "| %s | %s | %s | %s | %s | %s |\n", name, s.cost(), number("%.0f", s.PerSecond), number("%.2f ms", s.P50), number("%.2f ms", s.P99), s.told())
	}
	fmt.Fprintf(t, "\n`%s`, %s, commit `%s`, took %s. %s.\n", e.Command, e.Date, e.Commit, e.Took, e.Machine.Describe())
}

func number(format string, v float64) string {
	if v == 0 {
		return "–"
	}
	return fmt.Sprintf(format, v)
}

// cost is the processor time of an answer, by process where there are several.
func (s side) cost() string {
	if len(s.Parts) < 2 {
		return number("%.2f µs", s.CPU)
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(s.Parts)) {
		parts = append(parts, fmt.Sprintf("%s %.2f", name, s.Parts[name]))
	}
	return fmt.Sprintf("%.2f µs (%s)", s.CPU, strings.Join(parts, ", "))
}

// told is the answers by kind, and whatever else the row tells of the side.
func (s side) told() string {
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(s.Answers)) {
		parts = append(parts, fmt.Sprintf("%s: %d", kind, s.Answers[kind]))
	}
	for _, name := range slices.Sorted(maps.Keys(s.Figures)) {
		parts = append(parts, name+": "+strconv.FormatFloat(math.Round(s.Figures[name]*1000)/1000, 'f', -1, 64))
	}
	if len(parts) == 0 {
		return "–"
	}
	return strings.Join(parts, "; ")
}
