package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/faulttest/check"
	"sluice/loadtest/lab"
)

func TestReport_FailuresComeFirstAndSeedsAreAddedUp(t *testing.T) {
	o := options{out: filepath.Join(t.TempDir(), "results"), keep: t.TempDir(), seed: 4, seeds: 2, jobs: 3, programs: programs{sluice: os.Args[0]}}
	kept := func(seed uint64, outage time.Duration) result {
		return result{
			Case: "kill-x", Holds: "It goes on.", Store: "sqlite", Load: "30%", Seed: seed, OK: true, Faults: make([]check.Fault, 2),
			Verdict: &check.Verdict{OK: true, Outage: outage, Orders: check.Orders{Offered: 1000, Accepted: 900, OK: 900, Recovered: 3, Refused: 100}},
		}
	}
	broken := result{
		Case: "stop-y", Holds: "It waits.", Store: "postgres", Load: "300%", Seed: 4, Trouble: "the checker: exit status 1", Dir: "/somewhere",
		Verdict: &check.Verdict{Violations: []check.Violation{{Text: "P3: lost"}}, Orders: check.Orders{Offered: 500, Accepted: 200, OK: 199, Lost: 1}},
	}
	results := []result{kept(4, time.Second), kept(5, 2500*time.Millisecond), broken}
	if err := writeReport(o, time.Now(), lab.Now(), results); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(o.out, reportMD))
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	last := 0
	for _, want := range []string{
		"**2 of 3 runs kept every promise.** 4 faults injected; 2,500 orders offered, 2,000 accepted; 1,999 ok, 6 recovered, 1 lost",
		"- **stop-y/postgres/300%, seed 4**: P3: lost (`make faults ONLY=stop-y/postgres/300% SEED=4 SEEDS=1`)",
		"| stop-y | It waits. | postgres | 300% | **0 of 1** | 0 | 500 | 200 | 199 | 1 | 0 | 0 | 0 | 0.0 s | 0 ms | 0.0 s |",
		"| kill-x | It goes on. | sqlite | 30% | 2 of 2 | 4 | 2,000 | 1,800 | 1,800 | 0 | 0 | 6 | 200 | 2.5 s | 0 ms | 0.0 s |",
		"Seeds 4 to 5", "`make faults SEED=4 SEEDS=2 JOBS=3`",
	} {
		at := strings.Index(page[last:], want)
		if at < 0 {
			t.Fatalf("%q is not there, or not in its place:\n%s", want, page)
		}
		last += at
	}
	if text, err = os.ReadFile(filepath.Join(o.out, reportJSON)); err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(text, &r); err != nil || r.Selection != everything || len(r.Results) != 3 || r.Results[0].OK || r.Machine.Cores == 0 {
		t.Errorf("%+v (%v)", r, err)
	}
	if strings.Contains(string(text), "/somewhere") || results[0].Seed != 4 || results[2].Dir == "" {
		t.Error("a folder of this machine is in the report, or the results were changed")
	}

	// A part does not replace the whole; the whole does, and a part goes elsewhere.
	for _, part := range []options{{out: o.out, only: "kill-x"}, {out: o.out, short: true}} {
		if err := part.mayWrite(); !errors.Is(err, errWouldReplace) {
			t.Errorf("%s: %v", part.selection(), err)
		}
	}
	for _, fine := range []options{o, {only: "kill-x"}, {out: t.TempDir(), only: "kill-x"}} {
		if err := fine.mayWrite(); err != nil {
			t.Errorf("%s in %q: %v", fine.selection(), fine.out, err)
		}
	}
}

// A case that plays nothing, or shares its name with another, would look played.
func TestStories_HaveNamesOfTheirOwnAndSayWhatMustHold(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range stories() {
		if s.name == "" || s.holds == "" || s.inject == nil || seen[s.name] {
			t.Errorf("%q: %q", s.name, s.holds)
		}
		seen[s.name] = true
	}
	all, half := plan("", 1, 2, false), plan("", 1, 1, true)
	if len(all) < 4*len(half)-4*len(seen) || len(half) < len(seen) {
		t.Errorf("%d cases, %d runs, %d in short", len(seen), len(all), len(half))
	}
}

// The report that is committed is of the whole matrix, whatever it was written by: a part does not take its place.
func TestReport_OfTheWholeIsKept(t *testing.T) {
	o := options{out: "../../results", only: "kill-up"}
	if err := o.mayWrite(); !errors.Is(err, errWouldReplace) {
		t.Errorf("a part may replace it: %v", err)
	}
}
