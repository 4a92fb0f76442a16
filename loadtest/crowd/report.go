package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// report compares what the crowd saw with what the books say.
type report struct {
	options
	*tally        // nobody else uses it any more
	before, after ledger
	took          time.Duration
	ended         error // why the run was cut short; nil where it was not
}

// print writes the report and answers what does not add up.
func (r report) print(w io.Writer) []string {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-12s%s\n", name, fmt.Sprintf(format, args...))
	}
	line("offered", "%d buyers, %d requests, at most %d at a time", r.buyers, r.requests, r.concurrency)
	line("accepted", "%d orders (%d learned from a repeat)", r.accepted, r.repeats)
	line("refused", "%s", counts(r.refused))
	line("came back", "%s", counts(r.retried))
	line("outcomes", "%s", counts(r.outcomes))
	line("sold", "%d (and %d held) of %d, says the audit", r.after.Sold, r.after.Held, r.after.Stock+r.after.TopUps)
	line("first answer", " 202: %s", latency(r.firstYes))
	line("", " refusal: %s", latency(r.firstNo))
	line("", " (closed loop: a slow door slows the crowd; these are not the latencies of an open arrival rate)")
	line("wall time", "%v", r.took.Round(time.Millisecond))
	line("goodput", "%.0f orders/s settled, says the audit", float64(r.settledSince())/r.took.Seconds())

	problems := r.check()
	if len(problems) == 0 {
		line("verdict", "everything adds up")
		return nil
	}
	line("verdict", "it does NOT add up:")
	for _, p := range problems {
		fmt.Fprintln(w, "  -", p)
	}
	return problems
}

// check lists every disagreement between the buyers, the audit and the promises.
func (r report) check() []string {
	problems := slices.Clone(r.problems)
	wrong := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if r.more > 0 {
		wrong("… and %d more like these", r.more)
	}
	if r.ended != nil {
		wrong("the run was cut short: %v", r.ended)
	}
	if r.done != r.buyers {
		wrong("%d buyers came and %d got an answer", r.buyers, r.done)
	}
	r.checkBooks(wrong)
	r.checkSold(wrong)
	r.checkOutcomes(wrong)
	return problems
}

// checkBooks: the ledger balances (P8), nothing is oversold (P1), and the sale is shown as it is booked.
func (r report) checkBooks(wrong func(string, ...any)) {
	a := r.after
	if !a.Balanced || len(a.Differences) > 0 {
		wrong("the audit is not balanced: %s", strings.Join(a.Differences, "; "))
	}
	if a.Stock+a.TopUps != a.Free+a.Held+a.Sold {
		wrong("stock %d + topups %d is not free %d + held %d + sold %d", a.Stock, a.TopUps, a.Free, a.Held, a.Sold)
	}
	if a.Held+a.Sold > a.Stock+a.TopUps {
		wrong("oversold: held %d + sold %d of %d units", a.Held, a.Sold, a.Stock+a.TopUps)
	}
	if a.Shown != a.facts() {
		wrong("the sale is shown as %+v and audited as %+v", a.Shown, a.facts())
	}
}

// checkSold: as many units went as there were or as were asked for, neither more (P1) nor fewer (P2).
func (r report) checkSold(wrong func(string, ...any)) {
	free := r.before.Free + r.after.TopUps - r.before.TopUps
	want := min(free, int64(r.buyers))
	went := r.after.Sold + r.after.Held - r.before.Sold - r.before.Held
	if went == want {
		return
	}
	hint := ""
	if len(r.before.Orders) > 0 {
		hint = " (the sale had orders before this run: buyers of the same --prefix may have met their limit)"
	}
	wrong("%d units were sold or held, want %d: %d were free and %d buyers came%s", went, want, free, r.buyers, hint)
}

// checkOutcomes: what buyers were told is what is booked, order by order (P3).
func (r report) checkOutcomes(wrong func(string, ...any)) {
	if none := r.outcomes["none"]; none > 0 {
		wrong("%d accepted orders have no outcome", none)
	}
	// A hold that a buyer saw may have ended since; units cannot have come from anywhere else.
	taking := []string{"held", "paid", "expired", "cancelled"}
	var seen, booked int64
	for _, state := range taking {
		seen += int64(r.states[state])
		booked += r.after.Orders[state] - r.before.Orders[state]
	}
	slack := int64(r.unresolved) // who never learned whether there is an order may have one
	if booked < seen || booked > seen+slack {
		wrong("buyers saw %d orders paid or held and the audit has %d (%d buyers never got an answer)", seen, booked, slack)
	}
	total := r.settledSince()
	if told := int64(r.accepted - r.outcomes["none"]); total < told || total > told+slack+int64(r.outcomes["none"]) {
		wrong("buyers saw %d orders settled and the audit has %d", told, total)
	}
}

// settledSince is how many orders the books settled during the run.
func (r report) settledSince() (n int64) {
	for state, count := range r.after.Orders {
		if state != "queued" {
			n += count - r.before.Orders[state]
		}
	}
	return n
}

func counts(m map[string]int) string {
	if len(m) == 0 {
		return "none"
	}
	var parts []string
	total := 0
	for _, name := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%s %d", name, m[name]))
		total += m[name]
	}
	return fmt.Sprintf("%d: %s", total, strings.Join(parts, ", "))
}

func latency(h *hdrhistogram.Histogram) string {
	if h.TotalCount() == 0 {
		return "none"
	}
	ms := func(us int64) string { return fmt.Sprintf("%.2f ms", float64(us)/1000) }
	return fmt.Sprintf("p50 %s, p99 %s, max %s (%d)",
		ms(h.ValueAtQuantile(50)), ms(h.ValueAtQuantile(99)), ms(h.Max()), h.TotalCount())
}
