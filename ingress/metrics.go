package ingress

import (
	"github.com/prometheus/client_golang/prometheus"

	"sluice"
)

// metrics of one door. Counters are looked up once: the hot path only adds.
type metrics struct {
	accepted        prometheus.Counter
	repeated        prometheus.Counter
	carriedAgain    prometheus.Counter
	inquiriesFailed prometheus.Counter
	refused         map[sluice.Refusal]prometheus.Counter
	outcomes        map[sluice.State]prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, d *Door) *metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "sluice", Subsystem: "door", Name: name, Help: help})
		reg.MustRegister(c)
		return c
	}
	gauge := func(name, help string, value func() float64) {
		reg.MustRegister(prometheus.NewGaugeFunc(
			prometheus.GaugeOpts{Namespace: "sluice", Subsystem: "door", Name: name, Help: help}, value))
	}
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "sluice", Subsystem: "door", Name: "refused_total", Help: "Requests turned away, by reason.",
	}, []string{"reason"})
	outcomes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "sluice", Subsystem: "door", Name: "settled_total", Help: "Orders of this door that were settled, by state.",
	}, []string{"state"})
	reg.MustRegister(refused, outcomes)
	m := &metrics{
		accepted:        counter("accepted_total", "Orders answered 202."),
		repeated:        counter("repeated_total", "Requests that were repeats of a known order."),
		carriedAgain:    counter("carried_again_total", "Orders handed to the queue once more."),
		inquiriesFailed: counter("inquiries_failed_total", "Questions to the workers without an answer."),
		refused:         make(map[sluice.Refusal]prometheus.Counter),
		outcomes:        make(map[sluice.State]prometheus.Counter),
	}
	for _, r := range sluice.Refusals() {
		m.refused[r] = refused.WithLabelValues(string(r))
	}
	for _, s := range []sluice.State{sluice.Held, sluice.Paid, sluice.Expired, sluice.Cancelled, sluice.Rejected, sluice.Failed} {
		m.outcomes[s] = outcomes.WithLabelValues(string(s))
	}
	gauge("outstanding_orders", "Admitted orders that are not settled.", func() float64 { return float64(d.credits.Outstanding()) })
	gauge("bound_orders", "The most outstanding orders in force now.", func() float64 { return float64(d.bound.Load()) })
	gauge("drain_rate", "Orders a second that leave the queue, as this door estimates it; 0 unknown.", d.drainRate)
	return m
}

func (m *metrics) settled(s sluice.State) {
	if c := m.outcomes[s]; c != nil {
		c.Inc()
	}
}
