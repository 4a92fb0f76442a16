package worker

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// relayMetrics tell how far behind the events are that leave by NSQ. Every worker measures that, whoever relays.
type relayMetrics struct {
	relayed   prometheus.Counter
	resent    prometheus.Counter
	forgotten prometheus.Counter
	leased    prometheus.Gauge
	paused    prometheus.Gauge
	again     prometheus.Gauge
	behind    prometheus.Gauge
	oldest    atomic.Int64 // Unix milliseconds of the oldest new event that nsqd did not confirm; 0: there is none
}

func newRelayMetrics(reg prometheus.Registerer) *relayMetrics {
	name := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "sluice", Subsystem: "events", Name: name, Help: help}
	}
	counter := func(n, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts(name(n, help)))
	}
	level := func(n, help string) prometheus.Gauge { return prometheus.NewGauge(prometheus.GaugeOpts(name(n, help))) }
	m := &relayMetrics{
		relayed:   counter("relayed_total", "New events that nsqd took from this worker."),
		resent:    counter("resent_total", "Events that this worker sent again because nsqd had restarted."),
		forgotten: counter("forgotten_total", "Events that were older than the retention before they could be relayed."),
		leased:    level("relay_held", "1 while this worker is the one that relays."),
		paused:    level("relay_paused", "1 while a channel is too deep to relay to."),
		again:     level("resend_events", "Events that are still to be sent again after nsqd's restart."),
		behind:    level("relay_lag_events", "New events that nsqd has not confirmed."),
	}
	lag := prometheus.NewGaugeFunc(prometheus.GaugeOpts(name("relay_lag_seconds", "Age of the oldest new event that nsqd has not confirmed.")),
		func() float64 { return m.lag().Seconds() })
	reg.MustRegister(m.relayed, m.resent, m.forgotten, m.leased, m.paused, m.again, m.behind, lag)
	return m
}

func gauge(set bool) float64 {
	if set {
		return 1
	}
	return 0
}

// lag goes by this machine's clock, the event's time by the store's.
func (m *relayMetrics) lag() time.Duration {
	oldest := m.oldest.Load()
	if oldest == 0 {
		return 0
	}
	return max(0, time.Since(time.UnixMilli(oldest)))
}

func (m *relayMetrics) caughtUp() {
	m.oldest.Store(0)
	m.behind.Set(0)
}

// measure reads the lag from the store, since nobody may be able to relay.
func (r *relay) measure(ctx context.Context) {
	tick := time.NewTicker(relayAsk)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			r.measureOnce(ctx) // where the store does not answer, what was seen last grows on
		case <-r.stopping:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (r *relay) measureOnce(ctx context.Context) {
	if r.closed.Load() {
		r.caughtUp()
		return
	}
	ctx, cancel := context.WithTimeout(ctx, relayDeadline)
	defer cancel()
	readers, err := r.store.Readers(ctx)
	if err != nil {
		return
	}
	page, err := r.store.Events(ctx, furthest(readers, r.confirmed.Load()), 1)
	switch {
	case err != nil:
	case len(page.Events) == 0:
		r.caughtUp()
	default:
		r.oldest.Store(page.Events[0].At.UnixMilli())
		r.behind.Set(float64(page.Newest - page.Events[0].Seq + 1))
	}
}
