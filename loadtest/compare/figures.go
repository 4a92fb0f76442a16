package compare

import "sluice/loadtest"

// measure is what is compared of a round. of answers false where a round has none, such as the latency of refusals where nobody was
// refused.
type measure struct {
	name   string
	unit   string
	higher bool // is better
	of     func(*loadtest.Round) (float64, bool)
}

// measures begin with the goodput, which is all that searches are compared by.
var measures = []measure{
	{"goodput", "orders/s", true, func(r *loadtest.Round) (float64, bool) { return r.Measured.Goodput, true }},
	{"accepted p50", "ms", false, latency(loadtest.Accepted, func(l loadtest.Latency) float64 { return l.P50 })},
	{"accepted p99", "ms", false, latency(loadtest.Accepted, func(l loadtest.Latency) float64 { return l.P99 })},
	{"refused p99", "ms", false, latency(loadtest.Refused, func(l loadtest.Latency) float64 { return l.P99 })},
	{"sojourn p99", "ms", false, func(r *loadtest.Round) (float64, bool) { return r.Audit.Sojourn.P99, r.Audit.Sojourn.Count > 0 }},
	{"CPU for 1,000 orders", "s", false, func(r *loadtest.Round) (float64, bool) { return r.Measured.Each, r.Measured.Each > 0 }},
	{"highest memory", "MB", false, memory},
	{"failed", "share", false, func(r *loadtest.Round) (float64, bool) {
		var failed int64
		for _, n := range r.Measured.Failed {
			failed += n
		}
		return share(failed, r.Measured.Sent)
	}},
	{"shed", "share", false, func(r *loadtest.Round) (float64, bool) { return share(r.Measured.Shed(), r.Measured.Orders) }},
}

func latency(class loadtest.Class, of func(loadtest.Latency) float64) func(*loadtest.Round) (float64, bool) {
	return func(r *loadtest.Round) (float64, bool) {
		l, known := r.Measured.Latency[class]
		return of(l), known && l.Count > 0
	}
}

// memory is the most that all processes of the service had together.
func memory(r *loadtest.Round) (highest float64, known bool) {
	for i := range r.Series {
		var all float64
		for process, mb := range r.Series[i].Memory {
			if process != "generator" {
				all += mb
			}
		}
		highest = max(highest, all)
	}
	return highest, highest > 0
}

func share(n, of int64) (float64, bool) {
	if of == 0 {
		return 0, false
	}
	return float64(n) / float64(of), true
}
