package main

import (
	"context"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sluice/loadtest"
	"sluice/loadtest/report"
)

var builtIn string // removed when the tests have ended; empty: nothing was built

// built is the program itself: a load test starts it as its parts.
var built = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "sluice-built-")
	if err != nil {
		return "", err
	}
	builtIn = dir
	program := filepath.Join(dir, "sluice")
	out, err := exec.CommandContext(context.Background(), "go", "build", "-o", program, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return program, nil
})

// loadtestProcess starts `sluice loadtest`, in a shell where there is something to be done before.
func loadtestProcess(t *testing.T, before string, args ...string) *process {
	t.Helper()
	program, err := built()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.Background(), program, append([]string{"loadtest"}, args...)...)
	if before != "" {
		cmd = exec.CommandContext(context.Background(), "bash", append([]string{"-c", before + `; exec "$0" "$@"`, program, "loadtest"}, args...)...)
	}
	return launchCommand(t, cmd)
}

const short = `name: short
seed: 5
parts: {bound: 200, drain_rate: 150}
sales: [{name: rush, stock: 300}]
crowd: {keyed: 0.5, double_click: 0.1, click_within: 100ms, retry: 0.5, tries: 3}
warmup: {for: 500ms, rate: 50}
phases:
  - {name: calm, for: 1s, orders: {rate: 50}, pages: {rate: 50}}
  - {name: burst, for: 2s, orders: {rate: 400, random: true}}
  - {name: after, for: 1s, orders: {rate: 20}}
`

func scenarioFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mine.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// onlyReport reads the one report of a folder.
func onlyReport(t *testing.T, out string) *loadtest.Run {
	t.Helper()
	entries, err := os.ReadDir(out)
	if err != nil || len(entries) != 1 {
		t.Fatalf("%s has %v, want one report (%v)", out, entries, err)
	}
	run, err := report.Read(filepath.Join(out, entries[0].Name()))
	if err != nil {
		t.Fatal(err)
	}
	return run
}

func TestLoadtest_ReportsWhatTheAuditCounted(t *testing.T) {
	t.Parallel()
	stores := []string{"sqlite"}
	if url := os.Getenv("SLUICE_TEST_POSTGRES"); url != "" {
		stores = append(stores, url)
	}
	path := scenarioFile(t, short)
	plans := map[string]bool{}
	for _, store := range stores {
		out := t.TempDir()
		p := loadtestProcess(t, "", path, "--store", store, "--out", out, "--no-ceiling")
		status := p.exitWithin(2 * time.Minute) // a busy machine has rounds played again
		run := onlyReport(t, out)
		round := run.Rounds[0]
		// A busy machine may make the run invalid, and then the exit status says so.
		if good := len(round.Invalid) == 0 && len(round.Broken) == 0; (status == 0) != good {
			t.Errorf("exit status %d; invalid %q, broken %q", status, round.Invalid, round.Broken)
		}
		plans[run.Plan] = true
		a, m := round.Audit, round.Measured
		if !a.Balanced || len(a.Wrong) > 0 || a.Settled == 0 || a.Settled != a.Promised || a.Sold != 300 || a.Sampled == 0 {
			t.Errorf("audit %+v; want all promised orders settled and the stock sold", a)
		}
		if m.Accepted < a.Promised || m.Sent != m.Planned || m.Refused["sold-out"]+m.Refused["none-free"]+m.Refused["queue-full"] == 0 {
			t.Errorf("measured %+v; want everything sent, and many refused", m)
		}
		failed := maps.Clone(m.Failed)
		// Which a door says where the disk stands still, as for a second at worst.
		if delete(failed, "unavailable"); len(failed) > 0 || m.Failed["unavailable"] > m.Planned/2 {
			t.Errorf("failed %v; want nothing to", m.Failed)
		}
		for _, name := range []string{"door", "worker", "nsqd", "generator"} {
			if m.CPU[name] <= 0 {
				t.Errorf("processor time of %s: %v", name, m.CPU)
			}
		}
		// The last order was settled when nothing was outstanding any more, or before; the drain carries 150 a second.
		if least := float64(a.Settled) / (m.For + *round.Recovery.Idle + 1); m.Goodput < least || m.Goodput > 1.3*150 {
			t.Errorf("goodput %v of %d settled orders; want %v to 195", m.Goodput, a.Settled, least)
		}
		if len(round.Phases) != 3 || len(round.Series) < 4 || round.Series[2].Bound != 200 || m.Goodput <= 0 {
			t.Errorf("%d phases, series %+v, goodput %v", len(round.Phases), round.Series, m.Goodput)
		}
	}
	if len(plans) != 1 {
		t.Errorf("runs of one seed have %d plans", len(plans))
	}
}

// A service that runs already: its sales open with their phase, are counted alone, and are ended when all is over.
func TestLoadtest_PlaysAgainstARunningServiceAndLeavesNoSaleOpen(t *testing.T) {
	t.Parallel()
	door, admin, out := freePort(t), freePort(t), t.TempDir()
	up := launch(t, "up", "--demo", "--listen", door, "--admin", admin, "--data", filepath.Join(t.TempDir(), "data"))
	eventually(t, "the service is up", func() bool { return strings.Contains(up.said(), "sluice is up") })
	text := strings.Replace(short, "parts: {bound: 200, drain_rate: 150}\n", "", 1)
	text = strings.Replace(text, "stock: 300", "stock: 300, opens: burst", 1)
	// What is sent late in the calm would come after the opening.
	text = strings.Replace(text, "  - {name: burst", "  - {name: silence, for: 1s}\n  - {name: burst", 1)
	p := loadtestProcess(t, "", scenarioFile(t, text), "--target", "http://"+door, "--admin", admin, "--out", out, "--no-ceiling")
	status := p.exitWithin(2 * time.Minute)
	run := onlyReport(t, out)
	round := run.Rounds[0]
	if good := len(round.Invalid) == 0 && len(round.Broken) == 0; (status == 0) != good {
		t.Errorf("exit status %d; invalid %q, broken %q", status, round.Invalid, round.Broken)
	}
	if a := round.Audit; !a.Balanced || a.Failed() || a.Settled != a.Promised || a.Sold != 300 || a.Stock != 300 {
		t.Errorf("audit %+v; want its own sale sold and nobody else's counted", a)
	}
	if calm := round.Phases[0]; calm.Accepted != 0 || calm.Refused["not-started"] == 0 {
		t.Errorf("before the sale opened: %+v", calm)
	}
	if run.Target != "http://"+door || run.Store != "unknown" {
		t.Errorf("target %q, store %q", run.Target, run.Store)
	}
	_, list := call(t, "GET", "http://"+admin+"/v1/sales", "")
	ended := 0
	for _, s := range list["sales"].([]any) { //nolint:forcetypeassert // a wrong answer fails the test either way
		sale := s.(map[string]any) //nolint:forcetypeassert // likewise
		if id := fmt.Sprint(sale["id"]); strings.HasPrefix(id, "load-") {
			if ended++; sale["ends_at"] == nil {
				t.Errorf("%s is open still", id)
			}
		}
	}
	if want := 2 * (1 + len(run.Discarded)); ended != want {
		t.Errorf("%d sales of the load test, want its own and the warm-up's, %d: %v", ended, want, list)
	}
}

// A service that speaks TLS with certificates of its own, and asks for a token.
func TestLoadtest_PlaysAgainstAServiceWithItsOwnAuthority(t *testing.T) {
	t.Parallel()
	s, out := newSecureShop(t), t.TempDir()
	s.startNSQD(t)
	s.startWorker(t)
	s.startDoor(t)
	eventually(t, "ready", func() bool { status, _ := call(t, "GET", "http://"+s.door+"/readyz", ""); return status == 200 })
	text := strings.Replace(short, "parts: {bound: 200, drain_rate: 150}\n", "", 1)
	args := []string{
		scenarioFile(t, text), "--target", "http://" + s.door, "--admin", s.admin, "--admin-token-file", s.token,
		"--metrics", "https://" + s.metrics + "/metrics", "--out", out, "--no-ceiling",
	}
	if p := loadtestProcess(t, "", append(args, "--admin", "https://"+s.admin)...); p.exit() != 2 || !strings.Contains(p.said(), "certificate") {
		t.Errorf("without its authority it says %s", p.said())
	}
	p := loadtestProcess(t, "", append(args, "--admin-ca", s.ca.File)...)
	status := p.exitWithin(2 * time.Minute)
	round := onlyReport(t, out).Rounds[0]
	if good := len(round.Invalid) == 0 && len(round.Broken) == 0; (status == 0) != good {
		t.Errorf("exit status %d; invalid %q, broken %q", status, round.Invalid, round.Broken)
	}
	if a := round.Audit; !a.Balanced || a.Failed() || a.Sold != 300 {
		t.Errorf("audit %+v; want the sale sold", a)
	}
	if strings.Contains(p.said(), "did not tell") || round.Series[len(round.Series)-1].Bound == 0 {
		t.Errorf("the door's metrics are not there; it says %s", p.said())
	}
}

// The whole search, on real parts that carry some sixty orders a second.
func TestLoadtestSearch_ReportsTheRoundsOfTheRateThatItFound(t *testing.T) {
	t.Parallel()
	out := t.TempDir()
	path := scenarioFile(t, `name: little
parts: {bound: 500, drain_rate: 60}
sales: [{name: rush, stock: 100000}]
crowd: {keyed: 1}
phases: [{name: steady, for: 500ms, orders: {rate: 100}}]
slo: {sojourn_p99: 300ms, shed: 0}
`)
	p := loadtestProcess(t, "", "search", path, "--out", out, "--no-ceiling", "--from", "30", "--within", "0.5")
	status := p.exitWithin(4 * time.Minute)
	run := onlyReport(t, out)
	s := run.Search
	if s == nil || len(run.Rounds) == 0 || len(s.Probes) < 4 {
		t.Fatalf("%d rounds, search %+v", len(run.Rounds), s)
	}
	if good := s.Sustains > 0 && !run.Partial && !slices.ContainsFunc(run.Rounds, func(r loadtest.Round) bool { return len(r.Invalid) > 0 }); (status == 0) != good {
		t.Errorf("exit status %d, and the search found %+v", status, s)
	}
	if s.Sustains > 0 && run.Scenario.Phases[0].Orders.Rate != s.Rate {
		t.Errorf("the report's scenario has %v orders a second, and the rate that was found is %v", run.Scenario.Phases[0].Orders.Rate, s.Rate)
	}
	for i := range run.Rounds {
		r := &run.Rounds[i]
		if planned := s.Rate * r.Measured.For; s.Sustains > 0 && math.Abs(float64(r.Measured.Planned)-planned) > 1 {
			t.Errorf("round %d planned %d requests in %v s; the rate that was found is %v", i+1, r.Measured.Planned, r.Measured.For, s.Rate)
		}
		if r.Audit.Failed() {
			t.Errorf("round %d: %q", i+1, r.Audit.Wrong)
		}
	}
}

// Reports are committed: they must not tell a password.
func TestRepeats_KeepsPasswordsBack(t *testing.T) {
	t.Parallel()
	for arg, want := range map[string]string{
		"postgres://shop:secret@db:5432/shop?sslmode=disable": "postgres://shop:xxxxx@db:5432/shop?sslmode=disable",
		"--store=postgres://shop:secret@db/shop":              "--store=postgres://shop:xxxxx@db/shop",
		"postgres://db/shop?password=secret":                  "postgres://db/shop?password=xxxxx",
		"postgres://shop:secret%@db/shop":                     "postgres://xxxxx",
		"postgres://shop@db/shop":                             "postgres://shop@db/shop",
		"http://127.0.0.1:8080":                               "http://127.0.0.1:8080",
		"--rounds=3":                                          "--rounds=3",
	} {
		if got := repeats([]string{"loadtest", arg}); got != "sluice loadtest "+want {
			t.Errorf("%s: got %s", arg, got)
		}
	}
}

func TestLoadtest_InterruptedLeavesAPartialReportAndNothingElse(t *testing.T) {
	t.Parallel()
	out, work := t.TempDir(), t.TempDir()
	p := loadtestProcess(t, "", scenarioFile(t, strings.Replace(short, "for: 2s", "for: 2m", 1)), "--out", out, "--work", work, "--no-ceiling")
	for end := time.Now().Add(20 * time.Second); !strings.Contains(p.said(), "burst"); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the burst does not begin")
		}
	}
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if status := p.exitWithin(2 * time.Minute); status != 1 {
		t.Errorf("exit status %d, want 1", status)
	}
	run := onlyReport(t, out)
	if a := run.Rounds[0].Audit; !run.Partial || !a.Balanced || a.Settled != a.Promised || a.Settled == 0 {
		t.Errorf("partial %v, audit %+v", run.Partial, a)
	}
	if !strings.Contains(p.said(), "PARTIAL") {
		t.Error("it does not say that the report is partial")
	}
	if left, err := os.ReadDir(work); err != nil || len(left) > 0 {
		t.Errorf("it leaves %v (%v)", left, err)
	}
}

func TestLoadtest_RefusesWhatCanNotBePlayed(t *testing.T) {
	t.Parallel()
	good := scenarioFile(t, short)
	slow := scenarioFile(t, strings.Replace(short, "drain_rate: 150", "slow: {for: 1s, busy: 1ms, of: 2ms}", 1))
	for _, c := range []struct {
		before, args, says string
	}{
		{"", "nosuch", "there is none of this name; want one of baseline"},
		{"", scenarioFile(t, short+"colour: blue\n"), "there is no key colour"},
		{"", scenarioFile(t, strings.Replace(short, "rate: 400", "rate: -4", 1)), "phases[1].orders.rate: -4; want 0 to 200000"},
		{"", good + " --target http://127.0.0.1:1", "the front door at http://127.0.0.1:1 is not ready"},
		{"", good + " --target ftp://127.0.0.1:1", "want the URL of a front door"},
		{"", good + " --target http://192.0.2.1:80", "--target http://192.0.2.1:80: it is not on this machine"},
		{"", good + " --target http://127.0.0.1:1 --admin 192.0.2.1:80", "--admin http://192.0.2.1:80: it is not on this machine"},
		{"", good + " --target http://127.0.0.1:1 --metrics http://192.0.2.1:80/metrics", "--metrics http://192.0.2.1:80/metrics: it is not on this machine"},
		{"", good + " --store postgres://shop:hush-hush@127.0.0.1:1/shop", "--store: failed to connect"},
		{"", slow + " --target http://127.0.0.1:1", "can't be slowed"},
		{"", good + " --store mysql", "want sqlite, postgres or postgres://"},
		{"", good + " --rounds 0", "want 1 to 100"},
		{"", good + " --work /nowhere/at/all", "--work"},
		{"ulimit -n 120", good, "the limit of open files (RLIMIT_NOFILE) is 120, the hard one 120, and 256 connections need 356: run `ulimit -n 356` as root first"},
		{"ulimit -n 24", good, "the limit of open files (RLIMIT_NOFILE) is 24,"},
		{"", "plan", "--report is missing"},
		{"", "plan --report /nowhere", "/nowhere"},
		{"", "plan --peak fast", "want a rate above 0"},
		{"", "compare /nowhere /nowhere", "/nowhere"},
		{"", "search --within 7", "search within 7"},
	} {
		out := t.TempDir()
		args := strings.Fields(c.args)
		if args[0] != "plan" && args[0] != "compare" {
			args = append(args, "--out", out)
		}
		p := loadtestProcess(t, c.before, args...)
		status := p.exit()
		if strings.Contains(p.said(), "by itself") || strings.Contains(p.said(), "hush-hush") {
			t.Errorf("%s: the generator was measured first, or a password told: %s", c.args, p.said())
		}
		said := strings.TrimSpace(p.said())
		last := said[strings.LastIndex(said, "\n")+1:]
		if status != 2 || !strings.Contains(last, c.says) {
			t.Errorf("%s %s: exit status %d, and it says %q; want 2 and %q in its last line", c.before, c.args, status, said, c.says)
		}
		if left, err := os.ReadDir(out); err != nil || len(left) > 0 {
			t.Errorf("%s leaves %v (%v)", c.args, left, err)
		}
	}
}

// The disk that reports go to is a tiny one, in a mount namespace of the test's own.
func TestLoadtest_FindsAFullDiskBeforeItBegins(t *testing.T) {
	t.Parallel()
	if out, err := exec.CommandContext(t.Context(), "unshare", "-rm", "true").CombinedOutput(); err != nil {
		t.Skipf("no mount namespace to be had here: %v %s", err, out)
	}
	program, err := built()
	if err != nil {
		t.Fatal(err)
	}
	const script = `mount -t tmpfs -o size=1m none "$1" && "$0" loadtest "$2" --no-ceiling --out "$1"; status=$?; ls -A "$1"; exit $status`
	p := launchCommand(t, exec.CommandContext(context.Background(), "unshare", "-rm", "bash", "-c", script, program, t.TempDir(), scenarioFile(t, short)))
	if status := p.exit(); status != 2 || strings.Count(strings.TrimSpace(p.said()), "\n") > 0 || !strings.Contains(p.said(), "no space left") {
		t.Errorf("exit status %d, and it says %q; want 2, and one line", status, p.said())
	}
}
