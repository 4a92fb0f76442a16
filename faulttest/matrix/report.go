package main

import (
	"bytes"
	"cmp"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sluice/loadtest/lab"
)

// report is what faults.json holds.
type report struct {
	Selection string      `json:"selection"` // everything, or what was selected
	Command   string      `json:"command"`
	Commit    string      `json:"commit"` // of the program under test
	Date      string      `json:"date"`
	Took      string      `json:"took"`
	Jobs      int         `json:"jobs"` // runs side by side
	Machine   lab.Machine `json:"machine"`
	Results   []result    `json:"results"` // failures first
}

const (
	everything = "everything" // but what is long; reports are known by it
	reportJSON = "faults.json"
	reportMD   = "faults.md"
)

// selection is what of the matrix is played.
func (o options) selection() string {
	var parts []string
	if o.only != "" {
		parts = append(parts, o.only)
	}
	if o.short {
		parts = append(parts, "half of it")
	}
	if len(parts) == 0 {
		return everything
	}
	return strings.Join(parts, ", ")
}

// repeat is the command that plays the same again.
func (o options) repeat() string {
	text := fmt.Sprintf("make faults SEED=%d SEEDS=%d JOBS=%d", o.seed, o.seeds, o.jobs)
	if o.only != "" {
		text += " ONLY='" + o.only + "'"
	}
	if o.short {
		text += " SHORT=1"
	}
	return text
}

var errWouldReplace = errors.New("there is a report of the whole matrix, which a part of it does not replace: want another --out")

// mayWrite: a part of the matrix does not take the place of the whole.
func (o options) mayWrite() error {
	if o.out == "" || o.selection() == everything {
		return nil
	}
	path := filepath.Join(o.out, reportJSON)
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	var there report
	if err = errors.Join(err, json.Unmarshal(text, &there)); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if there.Selection == everything {
		return fmt.Errorf("%s: %w", path, errWouldReplace)
	}
	return nil
}

// writeReport writes what the runs came to, for people and for programs.
func writeReport(o options, began time.Time, then lab.Moment, results []result) error {
	r := report{
		Selection: o.selection(), Command: o.repeat(), Commit: commitOf(o.programs.sluice), Date: began.UTC().Format("2006-01-02 15:04 UTC"),
		Took: time.Since(began).Round(time.Second).String(), Jobs: o.jobs, Results: slices.Clone(results),
	}
	slices.SortStableFunc(r.Results, func(a, b result) int { return cmp.Compare(rank(a.OK), rank(b.OK)) })
	for i := range r.Results {
		one := &r.Results[i]
		if one.Dir != "" { // of this machine alone
			one.Trouble = strings.ReplaceAll(one.Trouble, filepath.Dir(one.Dir)+string(filepath.Separator), "")
		}
		one.Dir = ""
	}
	err := os.MkdirAll(o.out, 0o755)
	if err != nil {
		return err
	}
	machine, err := lab.ReadMachine(o.keep)
	if err != nil {
		return err
	}
	r.Machine = machine.Since(then)
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	var page bytes.Buffer
	r.print(&page)
	return errors.Join(os.WriteFile(filepath.Join(o.out, reportJSON), append(text, '\n'), 0o644),
		os.WriteFile(filepath.Join(o.out, reportMD), page.Bytes(), 0o644))
}

func rank(ok bool) int {
	if ok {
		return 1
	}
	return 0
}

// commitOf is the source that a program was built from, as the program itself says.
func commitOf(program string) string {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return "unknown"
	}
	commit, changed := "unknown", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = s.Value[:min(len(s.Value), 7)]
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = ", and changes"
		}
	}
	return commit + changed
}

// sum is what the seeds of one case on one store at one load came to.
type sum struct {
	result  // the first of them
	runs    int
	ok      int
	faults  int
	outage  time.Duration
	slowest time.Duration
	excused time.Duration
	unknown int // runs that came to no verdict
	seconds float64
	orders  struct{ offered, accepted, ok, lost, unexpected, recovered, refused int64 }
}

func (s *sum) add(r result) {
	s.runs++
	s.ok += rank(r.OK)
	s.faults += len(r.Faults)
	s.seconds += r.Seconds
	if r.Verdict == nil {
		s.unknown += rank(r.Skipped == "")
		return
	}
	s.slowest = max(s.slowest, r.Verdict.Slowest)
	s.excused += r.Verdict.Excused
	s.outage = max(s.outage, r.Verdict.Outage)
	o := r.Verdict.Orders
	s.orders.offered += o.Offered
	s.orders.accepted += o.Accepted
	s.orders.ok += o.OK
	s.orders.lost += o.Lost
	s.orders.unexpected += o.Unexpected
	s.orders.recovered += o.Recovered
	s.orders.refused += o.Refused
}

// sums adds the seeds up; what had a failure comes first.
func (r report) sums() (list []*sum, all sum) {
	for _, one := range r.Results {
		at := slices.IndexFunc(list, func(s *sum) bool { return s.Case == one.Case && s.Store == one.Store && s.Load == one.Load })
		if at < 0 {
			at, list = len(list), append(list, &sum{result: one})
		}
		list[at].add(one)
		all.add(one)
	}
	return list, all
}

// print writes the report for people.
func (r report) print(w io.Writer) {
	list, all := r.sums()
	fmt.Fprintf(w, `# Fault matrix

Real processes and a real PostgreSQL, which are killed, stopped and cut off at moments that a seed chooses, at 30 %% and at 300 %% of what the drain
takes (%d orders a second). Buyers come when the seed says, whatever those before them were told; they pay, pay twice, cancel, pay at the deadline or
leave. When all is over, a checker that imports nothing of the service reads what each of them asked and heard, the public API and the published views,
and judges every promise. *Lost*: told 202, and no outcome. *Unexpected*: an outcome that nobody asked for. Both are failures. *Recovered*: left in
doubt, and there all the same, as most hear when they ask again; the rest of those who were accepted are *ok*. *Outage*: the longest time in which buyers asked and nobody got a definite answer.
*Slowest*: of the answers of a door to which nothing was done; it has 2 s, less *excused*, in which the machine kept a bystander waiting who only
writes to its disk (the sum of all runs). Written by `+"`make faults`"+`; every run is in [faults.json](faults.json).

**%d of %d runs kept every promise.** %d faults injected; %s orders offered, %s accepted; %s ok, %s recovered, %d lost, %d unexpected;
%s refused, the others left in doubt. %d runs came to no verdict, and count nowhere else. Played: %s.

`, capacity, all.ok, all.runs, all.faults, thousands(all.orders.offered), thousands(all.orders.accepted), thousands(all.orders.ok),
		thousands(all.orders.recovered), all.orders.lost, all.orders.unexpected, thousands(all.orders.refused), all.unknown, r.played())
	r.failures(w)
	fmt.Fprintln(w, "| case | what must hold besides every promise | store | load | kept | faults | offered | accepted | ok | lost | unexpected | recovered | refused | longest outage | slowest | excused |")
	fmt.Fprintln(w, "|---|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
	for _, s := range list {
		kept := fmt.Sprintf("%d of %d", s.ok, s.runs)
		if s.ok < s.runs {
			kept = "**" + kept + "**"
		}
		o := s.orders
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %d | %s | %s | %s | %d | %d | %s | %s | %.1f s | %d ms | %.1f s |\n", s.Case, s.Holds, s.Store, s.Load, kept, s.faults,
			thousands(o.offered), thousands(o.accepted), thousands(o.ok), o.lost, o.unexpected, thousands(o.recovered), thousands(o.refused), s.outage.Seconds(), s.slowest.Milliseconds(), s.excused.Seconds())
	}
	fmt.Fprintf(w, "\nSeeds %s, %d runs side by side, in %s on %s. Commit %s. %s.\n\nRepeat with `%s`; one run with `make faults ONLY=CASE/STORE/LOAD SEED=N SEEDS=1`.\n",
		r.seeds(), r.Jobs, r.Took, r.Date, r.Commit, r.Machine.Describe(), r.Command)
}

func (r report) played() string {
	if r.Selection == everything {
		return everything + " but what is long"
	}
	return r.Selection
}

// failures tells of each run that failed why, and how to repeat it.
func (r report) failures(w io.Writer) {
	for _, one := range r.Results {
		if one.OK {
			continue
		}
		why, _, _ := strings.Cut(one.Trouble, "\n")
		if v := one.Verdict; v != nil && len(v.Violations) > 0 {
			why = v.Violations[0].Text
		}
		fmt.Fprintf(w, "- **%s/%s/%s, seed %d**: %s (`make faults ONLY=%s/%s/%s SEED=%d SEEDS=1`)\n",
			one.Case, one.Store, one.Load, one.Seed, why, one.Case, one.Store, one.Load, one.Seed)
	}
	if slices.ContainsFunc(r.Results, func(r result) bool { return !r.OK }) {
		fmt.Fprintln(w)
	}
}

func (r report) seeds() string {
	var seeds []uint64
	for _, one := range r.Results {
		seeds = append(seeds, one.Seed)
	}
	if len(seeds) == 0 {
		return "none"
	}
	if low, high := slices.Min(seeds), slices.Max(seeds); low < high {
		return fmt.Sprintf("%d to %d", low, high)
	}
	return fmt.Sprint(seeds[0])
}

// thousands writes 1234567 as 1,234,567.
func thousands(n int64) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
