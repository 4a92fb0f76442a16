package compare

import (
	"fmt"
	"strings"

	"sluice/loadtest"
)

// differences are what makes figures of two runs say nothing about each other, each once.
func differences(runs []*loadtest.Run) []string {
	first := runs[0]
	var found []string
	for _, q := range []struct {
		what string
		of   func(*loadtest.Run) any
	}{
		{"scenarios", func(r *loadtest.Run) any { return r.Scenario.Name }},
		{"plans of requests", func(r *loadtest.Run) any { return abbreviated(r.Plan) }},
		{"stores", func(r *loadtest.Run) any { return r.Store }},
		{"settings of the parts", func(r *loadtest.Run) any { return settings(&r.Scenario.Parts) }},
		{"targets", func(r *loadtest.Run) any { return whose(r.Target) }},
	} {
		for _, r := range runs[1:] {
			if a, b := q.of(first), q.of(r); a != b {
				found = append(found, fmt.Sprintf("%s differ (%v and %v)", q.what, a, b))
				break
			}
		}
	}
	return found
}

func abbreviated(hash string) string { return hash[:min(len(hash), 12)] }

func settings(p *loadtest.Parts) string { return fmt.Sprintf("%+v", *p) }

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
			r := &run.Rounds[i]
			if len(r.Invalid) > 0 {
				notes = append(notes, fmt.Sprintf("%s: round %d is INVALID (%s); it is left out", side, i+1, strings.Join(r.Invalid, "; ")))
				continue
			}
			rounds = append(rounds, r)
		}
	}
	return rounds, notes
}
