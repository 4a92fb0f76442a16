package loadtest

import (
	"fmt"
	"time"

	"sluice"
)

// Limits of a run that can be believed.
const (
	mostLag    = 5.0   // ms that the generator itself took to send, or that a request waited for a connection, at the 99th percentile
	mostUnsent = 0.001 // share of the planned requests
	mostSteal  = 2.0   // percent of processor time that other machines took
)

// gate says why the figures of a round can't be believed, each in a sentence: the generator or the machine was measured, not the
// service. None: they can. connections is the most that there were, steal in percent.
func gate(r *Round, connections int, steal float64) []string {
	f := &r.Measured
	var why []string
	say := func(format string, a ...any) { why = append(why, fmt.Sprintf(format, a...)) }
	if f.Planned <= 0 || f.Sent <= 0 {
		say("nothing was measured: of %d planned requests %d were sent; want a longer time or a higher rate", f.Planned, f.Sent)
		return why
	}
	if unsent := f.Planned - f.Sent; share(unsent, f.Planned) > mostUnsent {
		say("the generator could not keep up: %d of %d planned requests (%s) were never sent, at most %s may be, so the service saw less load than "+
			"planned: use more connections, a faster machine or a lower rate", unsent, f.Planned, percent(share(unsent, f.Planned)), percent(mostUnsent))
	}
	if f.Lag.Count == 0 {
		say("it is not known how late the generator sent its requests, so latencies could be anybody's")
	} else if late := slowest(r); late != "" {
		say("the generator could not keep up: %s, at most %g ms are allowed, so latencies are partly its own: use a faster machine, more connections or "+
			"a lower rate", late, mostLag)
	}
	if waited := starved(r); waited != "" {
		say("the cap of %d connections was reached: %s, at most %g ms are allowed, while the service answered most of those that it had in time: it saw "+
			"less load than planned; raise connections in the scenario", connections, waited, mostLag)
	}
	if !within(steal, 0, mostSteal) {
		say("the machine lost time: others took %.4g %% of its processors (steal), at most %g %% is allowed, so figures are partly theirs: repeat it "+
			"when it is quiet, or on a machine of its own", steal, mostSteal)
	}
	return why
}

// fewest requests of a phase or a second have a 99th percentile that is more than one of them.
const fewest = 100

// slowest says where the generator was too late: in the whole round, in a phase, or in the second that had most to send, in which it
// matters most and which a long round hides. Empty: nowhere.
func slowest(r *Round) string {
	const text = "it sent requests %.4g ms late at the 99th percentile"
	if f := &r.Measured; !within(f.Lag.P99, 0, mostLag) {
		return fmt.Sprintf(text, f.Lag.P99)
	}
	for i := range r.Phases {
		if p := &r.Phases[i]; p.Lag.Count >= fewest && !within(p.Lag.P99, 0, mostLag) {
			return fmt.Sprintf("in the phase %s "+text, p.Name, p.Lag.P99)
		}
	}
	var busiest Point
	for _, p := range r.Series {
		if p.Planned > busiest.Planned {
			busiest = p
		}
	}
	if busiest.Planned >= fewest && share(busiest.Late, busiest.Planned) > 0.01 {
		return fmt.Sprintf("in the busiest second, up to %g s, it sent %d of %d requests late", busiest.At, busiest.Late, busiest.Planned)
	}
	return ""
}

// starved says where requests waited for a connection although the service was quick. Where it kept connections longer than the SLO
// allows for most of their time, it was the service that made them scarce: then the wait belongs to its latency, and is no reason to
// doubt the figures. Empty: nowhere.
func starved(r *Round) string {
	const text = "requests waited %.4g ms for one at the 99th percentile"
	starves := func(f *Figures) bool { return !within(f.Wait.P99, 0, mostLag) && !(f.Slow > 0.5) }
	if f := &r.Measured; starves(f) {
		return fmt.Sprintf(text, f.Wait.P99)
	}
	for i := range r.Phases {
		if p := &r.Phases[i]; p.Wait.Count >= fewest && starves(p) {
			return fmt.Sprintf("in the phase %s "+text, p.Name, p.Wait.P99)
		}
	}
	return ""
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
	switch none := f.Latency[Accepted].Count == 0; {
	case none && slo.AcceptedP99 > 0:
		say("no order was accepted, so the SLO's %v for accepted orders can't be shown", time.Duration(slo.AcceptedP99))
	case none && f.Orders > 0:
		say("no order of %d was accepted", f.Orders)
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
	if a.Sojourn.Count == 0 && a.Read > 0 {
		return []string{fmt.Sprintf("of %d orders only %d have believable times of admission and settlement, so the SLO's %v can't be shown", a.Read,
			a.Sampled-a.Negative, time.Duration(slo.SojournP99))}
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
