package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func runCrowd(t *testing.T, stock int, fault string, more ...string) (status int, out string) {
	t.Helper()
	door, admin := newFake(t, stock, fault)
	args := append([]string{
		"--url", door, "--admin", admin, "--buyers", "60", "--concurrency", "8", "--settle", "300ms", "--timeout", "20s",
	}, more...)
	var stdout, stderr bytes.Buffer
	status = run(t.Context(), args, &stdout, &stderr)
	return status, stdout.String() + stderr.String()
}

func TestCrowd_PassesAnHonestShop(t *testing.T) {
	for name, stock := range map[string]int{"more buyers than units": 20, "more units than buyers": 100} {
		t.Run(name, func(t *testing.T) {
			status, out := runCrowd(t, stock, "")
			if status != exitDone || !strings.Contains(out, "everything adds up") {
				t.Errorf("exit %d, want 0:\n%s", status, out)
			}
		})
	}
}

// A checker that finds nothing has to be one that would have found something.
func TestCrowd_CatchesEveryPlantedFault(t *testing.T) {
	for fault, says := range map[string]string{
		"oversell":   "oversold",       // P1
		"lost":       "has no outcome", // P3
		"shared":     "belongs to",     // P5
		"unbalanced": "is not free",    // P8
	} {
		t.Run(fault, func(t *testing.T) {
			status, out := runCrowd(t, 20, fault)
			if status != exitFailed || !strings.Contains(out, says) {
				t.Errorf("exit %d, want 1 and %q:\n%s", status, says, out)
			}
		})
	}
}

func TestCrowd_HistoryHasEveryAskBeforeItsAnswer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.jsonl")
	if status, out := runCrowd(t, 20, "", "--history", path); status != exitDone {
		t.Fatalf("exit %d:\n%s", status, out)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // only read
	open, last, answers := map[string]int{}, int64(-1), 0
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatalf("%s: %v", lines.Bytes(), err)
		}
		if e.At < last || e.User == "" || e.Key == "" {
			t.Fatalf("line out of order or incomplete: %s", lines.Bytes())
		}
		last = e.At
		if e.Event == "ask" {
			open[e.User+e.Call]++
			continue
		}
		answers++
		if open[e.User+e.Call]--; open[e.User+e.Call] < 0 {
			t.Fatalf("an answer before its ask: %s", lines.Bytes())
		}
	}
	if answers < 60 {
		t.Errorf("%d answers, want one or more for each of 60 buyers", answers)
	}
}

func TestCrowd_UsageErrorsAreClear(t *testing.T) {
	for args, says := range map[string]string{
		"--buyers 0":        "--buyers 0: want",
		"--url nonsense":    "want an address like",
		"--settle -1s":      "want a time above zero",
		"--nosuch":          "nosuch",
		"extra":             `unexpected argument "extra"`,
		"--concurrency 0.5": "concurrency",
	} {
		var stderr bytes.Buffer
		status := run(t.Context(), strings.Fields(args), &bytes.Buffer{}, &stderr)
		if status != exitUsage || !strings.Contains(stderr.String(), says) || strings.Count(stderr.String(), "\n") != 1 {
			t.Errorf("crowd %s: exit %d, %q; want 2 and one line with %q", args, status, stderr.String(), says)
		}
	}
}

func TestCrowd_HelpShowsAnExample(t *testing.T) {
	var stderr bytes.Buffer
	status := run(t.Context(), []string{"--help"}, &bytes.Buffer{}, &stderr)
	if status != exitDone || !strings.Contains(stderr.String(), "crowd --url http://127.0.0.1:8080") {
		t.Errorf("exit %d: %s", status, stderr.String())
	}
}

func TestBuyer_HearsWhatToDoNext(t *testing.T) {
	now := time.Now()
	soon, later := now.Add(time.Minute), 5*time.Minute
	for name, c := range map[string]struct {
		answer answer
		tries  int
		want   step
		unsure bool
	}{
		"accepted":              {answer{status: 202, order: "o"}, 1, followOrder, false},
		"repeat":                {answer{status: 200, order: "o"}, 2, followOrder, false},
		"queue full":            {answer{status: 503, reason: "queue-full", retry: time.Second}, 1, comeBack, false},
		"the last try":          {answer{status: 503, reason: "queue-full", retry: time.Second}, 20, goHome, false},
		"later than the run":    {answer{status: 503, reason: "none-free", retry: later}, 1, goHome, false},
		"sold out":              {answer{status: 409, reason: "sold-out"}, 1, goHome, false},
		"unavailable":           {answer{status: 503, reason: "unavailable"}, 1, comeBack, true},
		"broken":                {answer{}, 1, comeBack, true},
		"broken on the last":    {answer{}, 20, goHome, true},
		"gateway":               {answer{status: 502, reason: "http-502"}, 1, comeBack, true},
		"definite after broken": {answer{status: 410, reason: "ended"}, 3, goHome, false},
	} {
		b := &buyer{tries: c.tries}
		if got := b.hear(c.answer, now, soon, 20); got != c.want || b.unsure != c.unsure {
			t.Errorf("%s: step %d, unsure %v; want %d, %v", name, got, b.unsure, c.want, c.unsure)
		}
	}
}

func TestRead_UnderstandsProblemsAndStatuses(t *testing.T) {
	seconds := http.Header{"Retry-After": {"3"}}
	a := read(503, seconds, []byte(`{"status":503,"reason":"queue-full"}`))
	if a.reason != "queue-full" || a.retry != 3*time.Second || a.doubtful() {
		t.Errorf("queue-full: %+v", a)
	}
	a = read(503, seconds, []byte(`{"status":503,"reason":"queue-full","retry_after_ms":250}`))
	if a.retry != 250*time.Millisecond {
		t.Errorf("retry_after_ms is the finer one: %+v", a)
	}
	if a = read(202, nil, []byte(`{"status":"queued"}`)); a.err == nil || !a.doubtful() {
		t.Errorf("a 202 without an order must not count as accepted: %+v", a)
	}
	if a = read(504, nil, []byte(`<html>`)); a.reason != "http-504" || !a.doubtful() {
		t.Errorf("a page instead of a problem: %+v", a)
	}
}
