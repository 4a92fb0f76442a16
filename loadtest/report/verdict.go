package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"sluice/loadtest"
)

// verdict is what a run comes to, in the order in which it matters: can it be believed, did it hold, was every promise kept.
type verdict struct {
	Class string // good, bad, doubtful
	Head  string
	Lines []string
}

// Verdict says in a few lines what a run comes to. It is good where the figures can be believed and are whole, the limits were kept,
// and the audit agrees.
func Verdict(run *loadtest.Run) (said string, good bool) {
	if len(run.Rounds) == 0 {
		return "It has no rounds.", false
	}
	v := judge(run)
	return strings.Join(append([]string{v.Head}, v.Lines...), "\n"), v.Class == "good"
}

func judge(run *loadtest.Run) verdict {
	invalid := ofRounds(run, func(r *loadtest.Round) []string { return r.Invalid })
	broken := ofRounds(run, func(r *loadtest.Round) []string { return r.Broken })
	wrong := ofRounds(run, func(r *loadtest.Round) []string { return mismatches(run, &r.Audit) })

	found := true
	if run.Search != nil {
		broken = nil // repeats at the knee may break a limit: how many is the search's business
		found = run.Search.Sustains > 0
		wrong = append(wrong, ofProbes(run.Search)...)
	}
	v := verdict{Class: "good", Head: "Valid, and it kept its limits."}
	if len(broken) > 0 {
		v.Head = "Valid, but it broke its limits."
	}
	if !found {
		v.Head = "Valid, but no rate that was tried kept the limits."
	}
	if len(wrong) > 0 {
		v.Head = "Valid, but a promise was broken."
	}
	if len(invalid) > 0 {
		v.Class, v.Head = "doubtful", "INVALID because "+strings.Join(invalid, "; ")+"."
		v.Lines = append(v.Lines, "Don't use its figures: mend the cause and repeat it.")
	}
	if run.Partial {
		v.Class = "doubtful"
		v.Head = "PARTIAL: it " + ended(run) + ", and its figures are of what was until then. " + v.Head
	}
	switch {
	case len(broken) > 0:
		v.Lines = append(v.Lines, "Limits broken: "+strings.Join(broken, "; ")+".")
	case run.Search != nil:
		v.Lines = append(v.Lines, "Limits: "+limits(&run.Scenario.SLO)+".")
	default:
		v.Lines = append(v.Lines, "Limits kept: "+limits(&run.Scenario.SLO)+".")
	}
	if run.Search != nil {
		v.Lines = append(v.Lines, sustains(run.Search))
	}
	v.Lines = append(v.Lines, sold(run))
	if len(wrong) > 0 {
		v.Lines = append(v.Lines, "The audit DISAGREES: "+strings.Join(wrong, "; ")+".")
	} else {
		v.Lines = append(v.Lines, agreed(run))
	}
	if n := len(run.Discarded); n > 0 {
		v.Lines = append(v.Lines, fmt.Sprintf("Not believed and played again: %s, the last one because %s.", plural(n, "round", "rounds"), strings.TrimSuffix(plain(run.Discarded[n-1], 400), ".")))
	}
	if len(wrong) > 0 || (len(broken) > 0 || !found) && v.Class == "good" {
		v.Class = "bad"
	}
	return v
}

// ended says when and why a partial run did.
func ended(run *loadtest.Run) string {
	if run.Failure == "" {
		return "was interrupted after " + seconds(run.Took)
	}
	return "ended after " + seconds(run.Took) + " because " + strings.TrimSuffix(plain(run.Failure, 400), ".")
}

// ofProbes are the promises that were broken in a search's tries. Their rounds are mostly not in the report.
func ofProbes(s *loadtest.Search) (wrong []string) {
	for i := range s.Probes {
		for _, w := range s.Probes[i].Wrong {
			wrong = append(wrong, fmt.Sprintf("at %s orders/s: %s", number(s.Probes[i].Rate), plain(w, 400)))
		}
	}
	return wrong
}

// ofRounds collects what is said of rounds, and of which one where there are several.
func ofRounds(run *loadtest.Run, of func(*loadtest.Round) []string) []string {
	var all []string
	for i := range run.Rounds {
		for _, said := range of(&run.Rounds[i]) {
			said = strings.TrimSuffix(plain(said, 400), ".")
			if len(run.Rounds) > 1 {
				said = fmt.Sprintf("round %d: %s", i+1, said)
			}
			all = append(all, said)
		}
	}
	return all
}

// mismatches are how an audit differs from what buyers were told.
func mismatches(run *loadtest.Run, a *loadtest.Audit) []string {
	wrong := a.Wrong
	if !a.Balanced {
		wrong = append([]string{"the ledger does not balance"}, wrong...)
	}
	if a.Settled < a.Promised && !run.Partial {
		wrong = append([]string{fmt.Sprintf("%s orders were promised, and only %s found settled", count(a.Promised), count(a.Settled))}, wrong...)
	}
	return wrong
}

func sold(run *loadtest.Run) string {
	r := &run.Rounds[median(run)]
	said := fmt.Sprintf("Goodput %s orders a second, of %s offered", number(r.Measured.Goodput), number(r.Measured.Offered))
	if len(run.Rounds) > 1 {
		said += fmt.Sprintf(" (round %d, the median of %d)", median(run)+1, len(run.Rounds))
	}
	return said + "."
}

func agreed(run *loadtest.Run) string {
	var promised, found int64
	for i := range run.Rounds {
		promised += run.Rounds[i].Audit.Promised
		found += run.Rounds[i].Audit.Settled
	}
	switch {
	case found < promised:
		return fmt.Sprintf("When it was interrupted, %s of the %s orders that were promised had been settled; the ledger balances.", count(found), count(promised))
	case found > promised:
		return fmt.Sprintf("The audit agrees: all %s orders that were promised are settled, and %s more whose answers were lost. The ledger balances.",
			count(promised), count(found-promised))
	}
	return fmt.Sprintf("The audit agrees: all %s orders that were promised are settled, and the ledger balances.", count(promised))
}

// limits says an SLO.
func limits(slo *loadtest.SLO) string {
	var said []string
	for _, l := range []struct {
		of string
		ms float64
	}{
		{"99 % of accepted orders answered within", milliseconds(slo.AcceptedP99)},
		{"99 % of refusals within", milliseconds(slo.RefusedP99)},
		{"99 % settled within", milliseconds(slo.SojournP99)},
	} {
		if l.ms > 0 {
			said = append(said, l.of+" "+ms(l.ms))
		}
	}
	if slo.Failed > 0 {
		said = append(said, "at most "+percent(slo.Failed, 1)+" of requests failed")
	} else {
		said = append(said, "no request failed")
	}
	if slo.Shed != nil {
		said = append(said, "at most "+percent(*slo.Shed, 1)+" of orders refused for load")
	}
	return strings.Join(said, ", ")
}

func sustains(s *loadtest.Search) string {
	if s.Limit == loadtest.LimitPromise {
		return "What it sustains is not known: a broken promise ended the search" + because(s.Why)
	}
	if s.Sustains <= 0 {
		return "No rate that was tried kept the limits" + because(s.Why)
	}
	said := fmt.Sprintf("It sustains %s ± %s orders/s within its limits.", number(s.Sustains), number(s.Margin))
	switch s.Limit {
	case "service":
		return said + " It does no more" + because(s.Why)
	case "generator":
		return said + " It may do more: the generator was at its end" + because(s.Why)
	case "probes":
		return said + " It may do more: no more tries were allowed" + because(s.Why)
	}
	return said + " It may do more: the search was interrupted" + because(s.Why)
}

// because ends a sentence with its reasons.
func because(why []string) string {
	if len(why) == 0 {
		return "."
	}
	return ": " + strings.TrimSuffix(plain(strings.Join(why, "; "), 400), ".") + "."
}

// median is the round whose goodput is in the middle: the one that is drawn.
func median(run *loadtest.Run) int {
	order := make([]int, len(run.Rounds))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Compare(run.Rounds[a].Measured.Goodput, run.Rounds[b].Measured.Goodput)
	})
	return order[(len(order)-1)/2]
}
