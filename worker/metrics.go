package worker

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice"
)

type metrics struct {
	settled     *prometheus.CounterVec
	commits     prometheus.Histogram
	batches     prometheus.Histogram
	storeUp     prometheus.Gauge
	buried      prometheus.Counter
	unannounced prometheus.Counter
	limits      prometheus.Gauge
	blocks      prometheus.Gauge

	events *relayMetrics

	down atomic.Bool // guards one log line for each time that the store goes away
}

func newMetrics(reg prometheus.Registerer) *metrics {
	const namespace, subsystem = "sluice", "worker"
	m := &metrics{
		settled: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "orders_total",
			Help: "Statuses committed or repeated, by state.",
		}, []string{"state"}),
		commits: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "commit_seconds",
			Help: "Time to settle one batch, waits for the store included.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15),
		}),
		batches: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "batch_orders",
			Help: "Orders in one transaction.", Buckets: prometheus.ExponentialBuckets(1, 2, 11),
		}),
		storeUp: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "store_up", Help: "1 while the store answers.",
		}),
		buried: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "dead_letters_total", Help: "Messages kept as dead letters.",
		}),
		unannounced: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "unannounced_total",
			Help: "Messages to the doors that could not be handed to the queue; doors ask after those orders.",
		}),
		limits: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "limits_version",
			Help: "Version of the limits that operators set, as this worker last read it.",
		}),
		blocks: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "blocks", Help: "Buyers and networks that operators turn away.",
		}),
	}
	m.events = newRelayMetrics(reg)
	reg.MustRegister(m.settled, m.commits, m.batches, m.storeUp, m.buried, m.unannounced, m.limits, m.blocks)
	return m
}

func (m *metrics) committed(took time.Duration, c sluice.Changes) {
	m.down.Store(false)
	m.commits.Observe(took.Seconds())
	m.batches.Observe(float64(len(c.Statuses)))
	m.moved(c)
}

func (m *metrics) moved(c sluice.Changes) {
	for i := range c.Statuses {
		m.settled.WithLabelValues(string(c.Statuses[i].State)).Inc()
	}
}

// limited notes the present limits.
func (m *metrics) limited(l sluice.Limits) {
	m.limits.Set(float64(l.Version))
	m.blocks.Set(float64(len(l.Blocks)))
}

// storeDown notes that the store is away, and reports whether that is news.
func (m *metrics) storeDown() bool {
	m.storeUp.Set(0)
	return !m.down.Swap(true)
}
