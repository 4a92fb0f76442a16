package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sluice/internal/race"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// few is the part of the matrix that `make fewfaults` plays: kills, an ended door, a stopped database, a cut connection, copies, a poisoned
// message and lost events, both stores, both loads. It is no part of the tests that run side by side, and how long answers take, which no
// machine that does other work can promise, is told and not judged here.
var few = []string{
	"kill-ingress/sqlite/300%", "kill-nsqd-robbed/postgres/30%", "kill-worker-in-transaction/postgres/300%", "kill-up/sqlite/30%",
	"kill-all-across-deadline/sqlite/300%", "term-ingress/sqlite/30%", "stop-postgres/postgres/300%", "cut-door-nsqd/sqlite/30%",
	"copies/sqlite/30%", "poison/sqlite/30%", "events/sqlite/30%",
}

// P1-P8, P10 as the matrix has them; `make faults` plays the whole of it.
func TestFaults_AFewOfTheMatrix(t *testing.T) {
	if race.Enabled {
		t.Skip("programs with the race detector take longer than buyers wait")
	}
	if os.Getenv("SLUICE_FAULTS_FEW") == "" {
		t.Skip("it takes two minutes: make fewfaults")
	}
	dir := t.TempDir()
	p := programs{sluice: os.Getenv("SLUICE_FAULT_BINARY"), checker: filepath.Join(dir, "checker")}
	if p.sluice == "" {
		p.sluice = filepath.Join(dir, "sluice")
		build(t, p.sluice, "../../cmd/sluice")
	}
	build(t, p.checker, "../checker")
	var runs []run
	for _, name := range few {
		got := plan(name, 1, 1, false)
		if len(got) != 1 {
			t.Fatalf("%q are %d runs, want one", name, len(got))
		}
		runs = append(runs, got[0])
	}
	keep := os.Getenv("SLUICE_FAULT_DIR")
	if keep == "" {
		keep = dir
	}
	var said bytes.Buffer
	began := time.Now()
	results, err := playAll(t.Context(), runs, options{programs: p, keep: keep, jobs: 3}, &said)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("in %v:\n%s", time.Since(began).Round(time.Second), &said)
	for _, r := range results {
		if r.Late { // whoever is in a hurry plays it with make faults, on a machine that has nothing else to do
			t.Logf("%s/%s/%s kept every promise but P7, in time: %s", r.Case, r.Store, r.Load, r.Trouble)
		}
		if !r.OK && !r.Late || r.Verdict == nil || r.Verdict.Orders.OK == 0 || len(r.Faults) == 0 {
			t.Errorf("%s/%s/%s: %d faults, %s; SLUICE_FAULT_DIR keeps what it leaves", r.Case, r.Store, r.Load, len(r.Faults), r.Trouble)
		}
	}
}

func build(t *testing.T, program, source string) {
	t.Helper()
	if said, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, source).CombinedOutput(); err != nil {
		t.Fatal(fmt.Errorf("build %s: %w\n%s", source, err, said))
	}
}
