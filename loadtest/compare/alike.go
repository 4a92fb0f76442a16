package compare

import (
	"fmt"
	"slices"
	"strings"

	"sluice/loadtest"
)

// differences are what makes figures of two runs say nothing about each other, each once: everything that a scenario has but what it is
// called and what is asked of it. A search sets the rates itself, so that its plan is its own.
func differences(runs []*loadtest.Run) []string {
	first := runs[0]
	var found []string
	for _, q := range []struct {
		what string
		of   func(*loadtest.Run) any
	}{
		{"kinds of runs", kindOf},
		{"scenarios", func(r *loadtest.Run) any { return r.Scenario.Name }},
		{"plans of requests", func(r *loadtest.Run) any { return abbreviated(planOf(r)) }},
		{"phases", func(r *loadtest.Run) any { return phasesOf(r) }},
		{"sales", func(r *loadtest.Run) any { return r.Scenario.Sales }},
		{"crowds", func(r *loadtest.Run) any { return r.Scenario.Crowd }},
		{"warm-ups", func(r *loadtest.Run) any { return r.Scenario.Warmup }},
		{"connections", func(r *loadtest.Run) any { return r.Scenario.Connections }},
		{"time-outs", func(r *loadtest.Run) any { return r.Scenario.Timeout }},
		{"times to settle", func(r *loadtest.Run) any { return r.Scenario.Settle }},
		{"settings of the parts", func(r *loadtest.Run) any { return r.Scenario.Parts }},
		{"stores", func(r *loadtest.Run) any { return r.Store }},
		{"targets", func(r *loadtest.Run) any { return whose(r.Target) }},
	} {
		for _, r := range runs[1:] {
			if a, b := fmt.Sprintf("%+v", q.of(first)), fmt.Sprintf("%+v", q.of(r)); a != b {
				found = append(found, fmt.Sprintf("%s differ (%.120s and %.120s)", q.what, a, b))
				break
			}
		}
	}
	return found
}

func kindOf(r *loadtest.Run) any {
	if r.Search != nil {
		return "a search"
	}
	return "a run"
}

func planOf(r *loadtest.Run) string {
	if r.Search != nil {
		return ""
	}
	return r.Plan
}

// phasesOf are the phases, of a search without the rates.
func phasesOf(r *loadtest.Run) []loadtest.Phase {
	phases := slices.Clone(r.Scenario.Phases)
	for i := range phases {
		if p := &phases[i]; r.Search != nil {
			p.Orders.Rate, p.Orders.To, p.Pages.Rate, p.Pages.To = 0, 0, 0, 0
		}
	}
	return phases
}

func abbreviated(hash string) string { return hash[:min(len(hash), 12)] }

func whose(target string) string {
	if target == "" {
		return "parts of its own"
	}
	return "a running service"
}

// doubts are what may explain a change besides the service.
func doubts(runs []*loadtest.Run) []string {
	first := runs[0].Machine
	for _, r := range runs[1:] {
		var differ []string
		for _, m := range []struct {
			what string
			a, b any
		}{
			{"processor", first.CPU, r.Machine.CPU},
			{"cores", first.Cores, r.Machine.Cores},
			{"kernel", first.Kernel, r.Machine.Kernel},
			{"Go", first.Go, r.Machine.Go},
			{"file system", first.FileSystem, r.Machine.FileSystem},
		} {
			if m.a != m.b {
				differ = append(differ, fmt.Sprintf("%s: %v and %v", m.what, m.a, m.b))
			}
		}
		if len(differ) > 0 {
			return []string{"WARNING: the machines differ (" + strings.Join(differ, "; ") + "): a change may be theirs"}
		}
	}
	return nil
}

// valid is the rounds of a side that can be believed, and what is to be said of the others.
func valid(side string, runs []*loadtest.Run) (rounds []*loadtest.Round, notes []string) {
	for _, run := range runs {
		if run.Partial {
			notes = append(notes, fmt.Sprintf("%s: the run of %s was interrupted; it is left out", side, run.Began.UTC().Format("2006-01-02 15:04")))
			continue
		}
		for i := range run.Rounds {
			switch r := &run.Rounds[i]; {
			case r.Audit.Failed():
				notes = append(notes, fmt.Sprintf("%s: in round %d promises were broken (%s); it is left out", side, i+1, strings.Join(r.Audit.Wrong, "; ")))
			case len(r.Invalid) > 0:
				notes = append(notes, fmt.Sprintf("%s: round %d is INVALID (%s); it is left out", side, i+1, strings.Join(r.Invalid, "; ")))
			default:
				rounds = append(rounds, r)
			}
		}
	}
	return rounds, notes
}

// sustained is a search's valid repeats at the rate that it found, each as a round of which only the goodput is known.
func sustained(side string, runs []*loadtest.Run) (rounds []*loadtest.Round, notes []string) {
	for _, run := range runs {
		if run.Partial {
			notes = append(notes, fmt.Sprintf("%s: the search of %s was not finished; it is left out", side, run.Began.UTC().Format("2006-01-02 15:04")))
			continue
		}
		if run.Search.Limit != loadtest.LimitService {
			notes = append(notes, fmt.Sprintf("%s: the search of %s ended at %s: its figure is a lower bound", side, run.Began.UTC().Format("2006-01-02 15:04"), run.Search.Limit))
		}
		for i := range run.Search.Probes {
			if p := &run.Search.Probes[i]; p.Stage == loadtest.StageRepeat && p.Rate == run.Search.Rate && len(p.Invalid) == 0 {
				rounds = append(rounds, &loadtest.Round{Measured: loadtest.Figures{Goodput: p.Goodput}})
			}
		}
	}
	return rounds, notes
}

// broken are the promises that were broken in these runs, in valid rounds and in others.
func broken(runs []*loadtest.Run) (promises []string) {
	for _, run := range runs {
		for i := range run.Rounds {
			if a := &run.Rounds[i].Audit; a.Failed() {
				promises = append(promises, fmt.Sprintf("round %d: %s", i+1, strings.Join(a.Wrong, "; ")))
			}
		}
	}
	return promises
}
