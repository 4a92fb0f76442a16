package webhook

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	deliveries *prometheus.CounterVec
	took       *prometheus.HistogramVec
	lag        *prometheus.GaugeVec
	waiting    *prometheus.GaugeVec
	dead       *prometheus.CounterVec
	missed     *prometheus.CounterVec
	underWay   *prometheus.GaugeVec
	failing    *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	const namespace, subsystem = "sluice", "webhook"
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}, []string{"endpoint"})
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Subsystem: subsystem, Name: name, Help: help,
		}, append([]string{"endpoint"}, labels...))
	}
	m := &metrics{
		deliveries: counter("deliveries_total", "Attempts to deliver an event, by how they went.", "outcome"),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "delivery_seconds",
			Help: "Time of one attempt.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 15),
		}, []string{"endpoint"}),
		lag:      gauge("lag_seconds", "Age of the oldest event that this worker has read and neither delivered nor stored."),
		waiting:  gauge("waiting", "Events that are stored to be tried again."),
		dead:     counter("dead_total", "Events that were given up."),
		missed:   counter("missed_total", "Events that the store had forgotten before they were read, and dead ones that made room for newer ones."),
		underWay: gauge("in_flight", "Requests under way."),
		failing:  gauge("failing", "1 while the endpoint as a whole fails, or is disabled."),
	}
	reg.MustRegister(m.deliveries, m.took, m.lag, m.waiting, m.dead, m.missed, m.underWay, m.failing)
	return m
}
