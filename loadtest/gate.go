package loadtest

import (
	"fmt"
	"time"

	"sluice"
)

// Limits of a run that can be believed.
const (
	mostLag    = 5.0   // ms from the intended start to the sending, at the 99th percentile
	mostUnsent = 0.001 // share of the planned requests
	mostSteal  = 2.0   // percent of processor time that other machines took
)

// gate says why the figures of a run can't be believed, each in a sentence: the generator or the machine was measured, not the
// service. None: they can. steal is in percent.
func gate(f Figures, planned, sent int64, steal float64) []string {
	var why []string
	say := func(format string, a ...any) { why = append(why, fmt.Sprintf(format, a...)) }
	if planned <= 0 || sent <= 0 {
		say("nothing was measured: of %d planned requests %d were sent; want a longer time or a higher rate", planned, sent)
		return why
	}
	if unsent := planned - sent; share(unsent, planned) > mostUnsent {
		say("the generator could not keep up: %d of %d planned requests (%s) were never sent, at most %s may be, so the service saw less load than "+
			"planned: use more connections, a faster machine or a lower rate", unsent, planned, percent(share(unsent, planned)), percent(mostUnsent))
	}
	switch {
	case f.Lag.Count == 0:
		say("it is not known how late the generator sent its requests, so latencies could be anybody's")
	case !within(f.Lag.P99, 0, mostLag):
		say("the generator could not keep up: it sent requests %.4g ms late at the 99th percentile, at most %g ms are allowed, so latencies are partly "+
			"its own: use a faster machine, more connections or a lower rate", f.Lag.P99, mostLag)
	}
	if !within(steal, 0, mostSteal) {
		say("the machine lost time: others took %.4g %% of its processors (steal), at most %g %% is allowed, so figures are partly theirs: repeat it "+
			"when it is quiet, or on a machine of its own", steal, mostSteal)
	}
	return why
}

// broken says which limits of the SLO were broken, each in a sentence with its figures. None: it was kept. A limit that is asked for
// and about which nothing is known counts as broken.
func broken(slo SLO, f Figures, a Audit) []string {
	var why []string
	say := func(format string, a ...any) { why = append(why, fmt.Sprintf(format, a...)) }
	limit := func(what string, limit sluice.Duration, l Latency) {
		if most := milliseconds(time.Duration(limit)); l.Count > 0 && most > 0 && !within(l.P99, 0, most) {
			say("%s p99 %.4g ms, the SLO allows %g ms", what, l.P99, most)
		}
	}
	if slo.AcceptedP99 > 0 && f.Latency[Accepted].Count == 0 {
		say("no order was accepted, so the SLO's %v for accepted orders can't be shown", time.Duration(slo.AcceptedP99))
	}
	limit("accepted", slo.AcceptedP99, f.Latency[Accepted])
	limit("refused", slo.RefusedP99, f.Latency[Refused])
	if slo.SojournP99 > 0 {
		why = append(why, sojourn(slo, a)...)
		limit("from admission to settlement:", slo.SojournP99, a.Sojourn)
	}
	if failed := total(f.Failed); share(failed, f.Sent) > slo.Failed {
		say("%d of %d requests (%s) failed, most of them: %s; the SLO allows %s",
			failed, f.Sent, percent(share(failed, f.Sent)), largest(f.Failed), percent(slo.Failed))
	}
	if refused := f.Shed(); slo.Shed != nil && share(refused, f.Orders) > *slo.Shed {
		say("%d of %d orders (%s) were refused for load, the SLO allows %s", refused, f.Orders, percent(share(refused, f.Orders)), percent(*slo.Shed))
	}
	return why
}

// sojourn says what keeps the percentile from being known: orders that were never settled have no time, and would flatter it.
func sojourn(slo SLO, a Audit) []string {
	const tail = 0.01 // of a p99
	if unsettled := a.Promised - a.Settled; share(unsettled, a.Promised) > tail {
		return []string{fmt.Sprintf("%d of %d promised orders were not settled in the end, so p99 from admission to settlement is longer than was waited "+
			"for; the SLO allows %v", unsettled, a.Promised, time.Duration(slo.SojournP99))}
	}
	if a.Promised > 0 && a.Sojourn.Count == 0 {
		return []string{fmt.Sprintf("no order's time from admission to settlement is known, so the SLO's %v can't be shown", time.Duration(slo.SojournP99))}
	}
	return nil
}

// share is part of whole; all of it where something is part of nothing.
func share(part, whole int64) float64 {
	switch {
	case part <= 0:
		return 0
	case whole <= 0:
		return 1
	}
	return float64(part) / float64(whole)
}

func total(counts map[string]int64) (n int64) {
	for _, c := range counts {
		n += c
	}
	return n
}

// largest is the name with the largest count; of equal ones the first.
func largest(counts map[string]int64) (name string) {
	for candidate, n := range counts {
		if most := counts[name]; n > most || n == most && (name == "" || candidate < name) {
			name = candidate
		}
	}
	return name
}

func percent(share float64) string { return fmt.Sprintf("%.4g %%", 100*share) }

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
