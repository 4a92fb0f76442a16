package worker

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice"
)

// relayMetrics are of the events on their way to NSQ. Those of a worker that has not the lease stand still.
type relayMetrics struct {
	held, paused, backlog prometheus.Gauge
	lagEvents, lagSeconds prometheus.Gauge
	relayed, failures     prometheus.Counter
	pruned                prometheus.Counter
}

func newRelayMetrics(reg prometheus.Registerer) *relayMetrics {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "sluice", Subsystem: "events", Name: name, Help: help})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "sluice", Subsystem: "events", Name: name, Help: help})
	}
	m := &relayMetrics{
		held:       gauge("relay_held", "1 while this worker is the one that relays events."),
		paused:     gauge("relay_paused", "1 while events wait in the store: nobody has a channel, or one holds as many as it may."),
		backlog:    gauge("channel_backlog", "Messages in the deepest channel of the events, as nsqd says."),
		lagEvents:  gauge("relay_lag_events", "Events that are written and not yet taken by nsqd."),
		lagSeconds: gauge("relay_lag_seconds", "Age of the oldest of them."),
		relayed:    counter("relayed_total", "Events that nsqd took, those that were sent again included."),
		failures:   counter("relay_failures_total", "Connections of the relay that ended in an error."),
		pruned:     counter("pruned_total", "Events that were forgotten after their retention time."),
	}
	reg.MustRegister(m.held, m.paused, m.backlog, m.lagEvents, m.lagSeconds, m.relayed, m.failures, m.pruned)
	return m
}

// behind notes how far a reader at position is behind.
func (m *relayMetrics) behind(page sluice.Events, position int64) {
	if len(page.Events) == 0 {
		m.lagEvents.Set(0)
		m.lagSeconds.Set(0)
		return
	}
	m.lagEvents.Set(float64(page.Newest - max(position, page.Oldest-1)))
	m.lagSeconds.Set(max(0, time.Since(page.Events[0].At).Seconds()))
}
