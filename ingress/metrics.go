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
	refused         map[sluice.Refusal]*refusalForm
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
		refused:         make(map[sluice.Refusal]*refusalForm),
		outcomes:        make(map[sluice.State]prometheus.Counter),
	}
	for _, r := range sluice.Refusals() {
		m.refused[r] = newRefusalForm(r, refused.WithLabelValues(string(r)))
	}
	for _, s := range []sluice.State{sluice.Held, sluice.Paid, sluice.Expired, sluice.Cancelled, sluice.Rejected, sluice.Failed} {
		m.outcomes[s] = outcomes.WithLabelValues(string(s))
	}
	gauge("outstanding_orders", "Admitted orders that are not settled.", func() float64 { return float64(d.credits.Outstanding()) })
	gauge("bound_orders", "The most outstanding orders in force now.", func() float64 { return float64(d.boundNow()) })
	gauge("bound_set_orders", "The most outstanding orders that are set, however long they wait.", func() float64 { return float64(d.limits.Load().bound) })
	gauge("max_wait_seconds", "Longest wait to admit for; 0: any.", func() float64 { return d.limits.Load().maxWait.Seconds() })
	gauge("buyer_rate", "New orders a second that one buyer may ask for; 0: any.", func() float64 { return d.limits.Load().buyerRate.PerSecond })
	gauge("address_rate", "Requests a second of one address without an identity; 0: any.", func() float64 { return d.limits.Load().addressRate.PerSecond })
	gauge("connections_limit", "The most connections at once.", func() float64 { return float64(d.limits.Load().connections) })
	gauge("address_connections_limit", "The most connections of one address at once; 0: any.", func() float64 { return float64(d.limits.Load().addressConnections) })
	gauge("blocks", "Buyers and networks that are turned away.", func() float64 { return float64(d.limits.Load().blocked) })
	gauge("limits_version", "Version of the operators' limits; 0: none were set.", func() float64 { return float64(d.limits.Load().version) })
	d.Connections.register(reg)
	gauge("drain_rate", "Orders a second that leave the queue, as this door estimates it; 0 unknown.", d.drainRate)
	return m
}

func (m *metrics) settled(s sluice.State) {
	if c := m.outcomes[s]; c != nil {
		c.Inc()
	}
}
