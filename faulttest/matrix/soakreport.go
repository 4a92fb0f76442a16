package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sluice/faulttest/check"
	"sluice/loadtest/lab"
)

// soakReport is what a soak leaves.
type soakReport struct {
	OK       bool            `json:"ok"`
	Command  string          `json:"command"`
	Commit   string          `json:"commit"` // of the program under test
	Machine  lab.Machine     `json:"machine"`
	Began    time.Time       `json:"began"`
	Seed     uint64          `json:"seed"`
	For      string          `json:"for"`
	Capacity float64         `json:"capacity"` // orders a second
	Offered  float64         `json:"offered"`  // orders a second
	Bound    int64           `json:"bound"`
	Ratio    float64         `json:"ratio"` // S9: the most outstanding over the bound
	Memory   []memoryFigures `json:"memory"`
	Trials   []tried         `json:"trials"`
	Result   result          `json:"result"`
}

// memoryFigures are S10 of a part.
type memoryFigures struct {
	Part    string  `json:"part"`
	Early   int64   `json:"early"` // bytes resident after the warm time, at an age at which it was seen late too
	Late    int64   `json:"late"`  // as the run ended
	Ratio   float64 `json:"ratio"` // the largest for any age; 0: no age was met early and late
	Peak    int64   `json:"peak"`
	Samples int     `json:"samples"`
}

// mostGrowth is S10.
const mostGrowth = 1.10

// judge works out the figures.
func (r *soakReport) judge(samples []check.Sample) {
	r.OK = r.Result.OK
	if r.Result.Verdict != nil {
		r.Ratio = float64(r.Result.Verdict.Peak) / float64(r.Bound)
	}
	var parts []string
	end := int64(0)
	for _, s := range samples {
		if !slices.Contains(parts, s.Part) {
			parts = append(parts, s.Part)
		}
		end = max(end, s.At)
	}
	slices.Sort(parts)
	for _, part := range parts {
		m := memoryFigures{Part: part}
		m.Ratio, m.Early, m.Late = growth(samples, part, int64(warmTime), end-(end-int64(warmTime))/4)
		for _, s := range samples {
			if s.Part == part {
				m.Peak, m.Samples = max(m.Peak, s.Memory), m.Samples+1
			}
		}
		r.Memory = append(r.Memory, m)
		if m.Ratio > mostGrowth || m.Ratio == 0 {
			r.OK = false
		}
	}
}

// middle is the median.
func middle(list []int64) int64 {
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}

func (r *soakReport) write(dir string) error {
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "soak.json"), append(text, '\n'), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "soak.md"), []byte(r.text()), 0o644)
}

// text is the report for people.
func (r *soakReport) text() string {
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	say("# Soak\n")
	say("%.0f orders a second are offered to two doors and settled in PostgreSQL at %.0f for %s, and every 20 s something is done to a part, or to", r.Offered, r.Capacity, r.For)
	say("a connection. Real processes; the checker judges what is left, from outside.\n")
	say("`%s`, %s, commit %s. %s.\n", r.Command, r.Began.UTC().Format(time.DateOnly), r.Commit, r.Machine.Describe())
	if !r.OK {
		say("**It failed.** %s\n", r.Result.Trouble)
	}
	if v := r.Result.Verdict; v != nil {
		o := v.Orders
		say("| offered | accepted | ok | lost | unexpected | recovered | refused | in doubt | longest outage | slowest answer |")
		say("|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
		say("| %d | %d | %d | %d | %d | %d | %d | %d | %v | %v |\n", o.Offered, o.Accepted, o.OK, o.Lost, o.Unexpected, o.Recovered, o.Refused,
			o.Indeterminate, v.Outage.Round(time.Millisecond), v.Slowest.Round(time.Millisecond))
		say("S9: most orders outstanding over the bound: %d ÷ %d = %.3f.\n", v.Peak, r.Bound, r.Ratio)
	}
	say("S10, resident memory at the end over that after two minutes, of processes of the same age, the largest of all ages; at most %.2f. The doors'", mostGrowth)
	say("journals have " + journalMemory + " MiB instead of 128, so that their caches are full by then at this rate:\n")
	say("| part | after 2 min, MiB | at the end, MiB | ratio | peak, MiB | samples |")
	say("|---|---:|---:|---:|---:|---:|")
	for _, m := range r.Memory {
		ratio := "no age was met twice"
		if m.Ratio > 0 {
			ratio = fmt.Sprintf("%.3f", m.Ratio)
		}
		say("| %s | %d | %d | %s | %d | %d |", m.Part, m.Early>>20, m.Late>>20, ratio, m.Peak>>20, m.Samples)
	}
	say("\n| at, s | done | undone, s | doors ready, s |")
	say("|---:|---|---:|---:|")
	for _, t := range r.Trials {
		say("| %.1f | %s | %.1f | %.1f |", t.At, t.What, t.Healed, t.Serving)
	}
	return b.String()
}
