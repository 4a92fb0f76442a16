package worker

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice"
	"sluice/api"
)

type metrics struct {
	settled      *prometheus.CounterVec
	commits      *prometheus.HistogramVec
	batches      *prometheus.HistogramVec
	storeUp      prometheus.Gauge
	buried       prometheus.Counter
	unannounced  prometheus.Counter
	limits       prometheus.Gauge
	blocks       prometheus.Gauge
	poolsVersion prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer, w *Worker) *metrics {
	const namespace, subsystem = "sluice", "worker"
	m := &metrics{
		settled: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "orders_total",
			Help: "Statuses committed or repeated, by state.",
		}, []string{"state"}),
		commits: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "commit_seconds",
			Help: "Time to settle one batch, waits for the store included.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15),
		}, []string{"pool"}),
		batches: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "batch_orders",
			Help: "Orders in one transaction.", Buckets: prometheus.ExponentialBuckets(1, 2, 11),
		}, []string{"pool"}),
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
		poolsVersion: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "pools_version",
			Help: "Version of what operators set of the pools, as this worker goes by it.",
		}),
	}
	reg.MustRegister(m.settled, m.commits, m.batches, m.storeUp, m.buried, m.unannounced, m.limits, m.blocks, m.poolsVersion, poolMetrics{w})
	w.callers.register(reg)
	m.storeUp.Set(1)
	return m
}

func (m *metrics) committed(pool string, took time.Duration, c sluice.Changes) {
	m.commits.WithLabelValues(pool).Observe(took.Seconds())
	m.batches.WithLabelValues(pool).Observe(float64(len(c.Statuses)))
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

// storeTurned notes that the store went away or came back.
func (m *metrics) storeTurned(away bool) {
	m.storeUp.Set(1)
	if away {
		m.storeUp.Set(0)
	}
}

// poolMetrics are the pools as they are when somebody looks.
type poolMetrics struct{ worker *Worker }

var poolGauges = []struct {
	desc  *prometheus.Desc
	value func(api.Pool) float64
}{
	{poolGauge("pool_window", "Most orders in hand, as the queue was told; 0 while paused or without a store."), func(p api.Pool) float64 { return float64(p.Window) }},
	{poolGauge("pool_in_hand", "Orders that were taken from the queue to be settled."), func(p api.Pool) float64 { return float64(p.InHand) }},
	{poolGauge("pool_rate", "Orders a second to settle; 0: as fast as the store."), func(p api.Pool) float64 { return p.Rate }},
	{poolGauge("pool_commit_seconds", "What a commit takes lately."), func(p api.Pool) float64 { return time.Duration(p.CommitLatency).Seconds() }},
	{poolGauge("pool_commit_baseline_seconds", "What the same commits take when nothing is wrong."), func(p api.Pool) float64 { return time.Duration(p.CommitBaseline).Seconds() }},
}

func poolGauge(name, help string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName("sluice", "worker", name), help, []string{"pool"}, nil)
}

var poolStates = prometheus.NewDesc(prometheus.BuildFQName("sluice", "worker", "pool_state"), "1 for the state that the pool is in.", []string{"pool", "state"}, nil)

// Describe implements prometheus.Collector.
func (poolMetrics) Describe(to chan<- *prometheus.Desc) {
	to <- poolStates
	for _, g := range poolGauges {
		to <- g.desc
	}
}

// Collect implements prometheus.Collector.
func (m poolMetrics) Collect(to chan<- prometheus.Metric) {
	for _, p := range m.worker.pools {
		state := p.state()
		for _, g := range poolGauges {
			to <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, g.value(state), state.Name)
		}
		to <- prometheus.MustNewConstMetric(poolStates, prometheus.GaugeValue, 1, state.Name, string(state.State))
	}
}
