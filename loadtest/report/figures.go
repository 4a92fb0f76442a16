package report

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"sluice/loadtest"
)

// keyFigures are the few figures that matter.
func keyFigures(run *loadtest.Run, round *loadtest.Round) []figure {
	m, a := &round.Measured, &round.Audit
	offered := figure{"Offered", number(m.Offered) + " orders/s", count(m.Orders) + " orders sent of " + count(m.Sent) + " requests"}
	if late := m.Planned - m.Sent; late > 0 {
		offered.Note += fmt.Sprintf(", %s not sent", count(late))
	}
	figures := []figure{
		offered,
		{"Accepted", count(m.Accepted), share(m.Accepted, m.Orders)},
		refused(round),
		{"Failed", count(sum(m.Failed)), parts(m.Failed)},
		{"Goodput", number(m.Goodput) + " orders/s", join(count(a.Settled)+" orders settled, counted in the database", astray(run, round))},
		wait("Accepted: 99 % answered in", m.Latency[loadtest.Accepted]),
		wait("Refused: 99 % answered in", m.Latency[loadtest.Refused]),
		sojourn(a),
		highest(round),
		firstShed(&round.Recovery),
		recovery(run, &round.Recovery),
		cost(m),
		memory(round),
	}
	return figures
}

func refused(round *loadtest.Round) figure {
	f := figure{"Refused", count(sum(round.Measured.Refused)), parts(round.Measured.Refused)}
	var shed int64
	for _, p := range round.Series {
		shed += p.Shed
	}
	if shed > 0 {
		f.Note = count(shed) + " of them for load: " + f.Note
	}
	return f
}

func share(part, whole int64) string {
	if whole <= 0 {
		return ""
	}
	return percent(float64(part), float64(whole)) + " of the orders"
}

func wait(name string, l loadtest.Latency) figure {
	if l.Count == 0 {
		return figure{name, missing, "there were none"}
	}
	return figure{name, ms(l.P99), fmt.Sprintf("half in %s, 99.9 %% in %s", ms(l.P50), ms(l.P999))}
}

func sojourn(a *loadtest.Audit) figure {
	f := figure{"99 % settled in", missing, "not known"}
	switch {
	case a.Sojourn.Count > 0:
		f.Value, f.Note = ms(a.Sojourn.P99), "half in "+ms(a.Sojourn.P50)+", from the admission"
	case a.Read > 0:
		f.Note += fmt.Sprintf(": of %s orders that were read %s have a time of admission", count(a.Read), count(a.Sampled))
	}
	if a.Negative > 0 {
		f.Note += fmt.Sprintf("; %s were settled before they were admitted: clocks differ", count(a.Negative))
	}
	return f
}

func highest(round *loadtest.Round) figure {
	var top loadtest.Point
	over := false
	for _, p := range round.Series {
		if p.Outstanding >= top.Outstanding {
			top = p
		}
		over = over || p.Bound > 0 && p.Outstanding > p.Bound
	}
	f := figure{"Most orders outstanding", number(top.Outstanding), "of " + number(top.Bound) + " allowed"}
	switch {
	case top.Bound == 0:
		f.Value, f.Note = missing, "the service's own figures were not to be had"
	case over:
		f.Note += ": ABOVE ITS BOUND"
	}
	return f
}

func firstShed(r *loadtest.Recovery) figure {
	if r.FirstShed == nil {
		return figure{"First refused for load", "never", ""}
	}
	if r.ShedIn == "" { // an older report
		return figure{"First refused for load", "after " + seconds(*r.FirstShed), "since the first phase's start"}
	}
	return figure{
		"First refused for load", "after " + seconds(r.ShedAfter),
		"since the phase " + plain(r.ShedIn, 40) + " began; " + seconds(*r.FirstShed) + " since the first one did",
	}
}

func recovery(run *loadtest.Run, r *loadtest.Recovery) figure {
	f := figure{"Recovered from the rush", "not seen", ""}
	if r.Calm != nil {
		f.Value = "after " + seconds(*r.Calm)
	} else if len(run.Scenario.Phases) < 2 {
		f.Note = "no phase came after it"
	}
	if r.Idle != nil {
		f.Note = join(f.Note, "nothing outstanding "+seconds(*r.Idle)+" after the last answer")
	} else {
		f.Note = join(f.Note, "orders were still outstanding at the end")
	}
	return f
}

func cost(m *loadtest.Figures) figure {
	f := figure{"Processor time for 1,000 orders", missing, "not known"}
	if m.Each > 0 {
		f.Value, f.Note = seconds(m.Each), "of one core, without the generator"
	}
	return f
}

func memory(round *loadtest.Round) figure {
	top := map[string]float64{}
	all := 0.0
	for _, p := range round.Series {
		together := 0.0
		for name, mb := range p.Memory {
			top[name] = max(top[name], mb)
			if name != generator {
				together += mb
			}
		}
		all = max(all, together)
	}
	if len(top) == 0 {
		return figure{"Memory at most", missing, "not known"}
	}
	var each []string
	for _, name := range slices.Sorted(maps.Keys(top)) {
		each = append(each, plain(name, 24)+" "+number(top[name]))
	}
	return figure{"Memory at most", number(all) + " MB", strings.Join(each, ", ")}
}

func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "; " + b
}

func tables(run *loadtest.Run, round *loadtest.Round) []table {
	all := []table{answers(&round.Measured), phases(round)}
	if run.Search != nil {
		all = append(all, probes(run.Search))
	}
	if len(run.Rounds) > 1 {
		all = append(all, rounds(run))
	}
	return slices.DeleteFunc(all, func(t table) bool { return len(t.Rows) == 0 })
}

func answers(m *loadtest.Figures) table {
	t := table{
		Title: "How long answers took", Note: "From the moment at which the request was due.",
		Head: []string{"", "answers", "half", "90 %", "99 %", "99.9 %", "longest"},
	}
	for _, class := range loadtest.Classes() {
		if l, ok := m.Latency[class]; ok && l.Count > 0 {
			t.Rows = append(t.Rows, []string{string(class), count(l.Count), ms(l.P50), ms(l.P90), ms(l.P99), ms(l.P999), ms(l.Max)})
		}
	}
	if l := m.Lag; l.Count > 0 {
		t.Rows = append(t.Rows, []string{"sent late by", count(l.Count), ms(l.P50), ms(l.P90), ms(l.P99), ms(l.P999), ms(l.Max)})
	}
	if l := m.Wait; l.Max > 1 { // ms: below, there was a connection
		t.Rows = append(t.Rows, []string{"waited for a connection", count(l.Count), ms(l.P50), ms(l.P90), ms(l.P99), ms(l.P999), ms(l.Max)})
	}
	return t
}

func phases(round *loadtest.Round) table {
	t := table{Title: "Phase by phase", Head: []string{"phase", "for", "offered/s", "accepted", "refused", "failed", "accepted p99", "refused p99"}}
	for _, p := range round.Phases {
		t.Rows = append(t.Rows, []string{
			plain(p.Name, 60), seconds(p.For), number(p.Offered), count(p.Accepted), count(sum(p.Refused)), count(sum(p.Failed)),
			p99(p.Latency[loadtest.Accepted]), p99(p.Latency[loadtest.Refused]),
		})
	}
	return t
}

func p99(l loadtest.Latency) string {
	if l.Count == 0 {
		return missing
	}
	return ms(l.P99)
}

func probes(s *loadtest.Search) table {
	t := table{
		Title: "The search for its capacity", Words: true, Note: sustains(s),
		Head: []string{"stage", "offered/s", "goodput/s", "accepted p99", "settled p99", "shed", "limits"},
	}
	for _, p := range s.Probes {
		said := "kept"
		if !p.Kept {
			said = "broken: " + plain(strings.Join(p.Why, "; "), 300)
		}
		if len(p.Invalid) > 0 {
			said = "INVALID: " + plain(strings.Join(p.Invalid, "; "), 300)
		}
		t.Rows = append(t.Rows, []string{plain(p.Stage, 30), number(p.Rate), number(p.Goodput), ms(p.P99), ms(p.Sojourn), count(p.Shed), said})
	}
	return t
}

func rounds(run *loadtest.Run) table {
	t := table{Title: "Round by round", Words: true, Head: []string{"round", "goodput/s", "accepted", "refused", "failed", "accepted p99", "settled p99", "verdict"}}
	for i := range run.Rounds {
		r := &run.Rounds[i]
		said := "kept its limits"
		switch {
		case len(r.Invalid) > 0:
			said = "INVALID"
		case len(mismatches(run, &r.Audit)) > 0:
			said = "the audit disagrees"
		case len(r.Broken) > 0:
			said = "broke a limit"
		}
		if i == median(run) {
			said += ", drawn"
		}
		t.Rows = append(t.Rows, []string{
			fmt.Sprint(i + 1), number(r.Measured.Goodput), count(r.Measured.Accepted), count(sum(r.Measured.Refused)), count(sum(r.Measured.Failed)),
			p99(r.Measured.Latency[loadtest.Accepted]), p99(r.Audit.Sojourn), said,
		})
	}
	return t
}
