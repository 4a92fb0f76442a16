package loadtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Metrics without which an endpoint is the wrong one.
const (
	metricOutstanding = "sluice_door_outstanding_orders"
	metricStoreUp     = "sluice_worker_store_up"
)

// reading is what a process told of itself at one moment. What it does not tell is 0.
type reading struct {
	outstanding, bound float64 // orders, of a door

	settled, window, inHand float64 // orders, of a worker's pools together
	rate                    float64 // orders a second that they are set to; 0: as fast as the store
	commit                  float64 // seconds, of the slowest pool

	cpu, memory, gc float64 // seconds, bytes, seconds
}

// read makes a reading of metrics as Prometheus has them.
func read(families map[string]*dto.MetricFamily) reading {
	values := func(name string) []float64 { return valuesOf(families[name], nil) }
	return reading{
		outstanding: sum(values(metricOutstanding)),
		bound:       sum(values("sluice_door_bound_orders")),
		settled:     sum(valuesOf(families["sluice_worker_orders_total"], firstOutcome)),
		window:      sum(values("sluice_worker_pool_window")),
		inHand:      sum(values("sluice_worker_pool_in_hand")),
		rate:        rateOf(values("sluice_worker_pool_rate")),
		commit:      slices.Max(append(values("sluice_worker_pool_commit_seconds"), 0)),
		cpu:         sum(values("process_cpu_seconds_total")),
		memory:      sum(values("process_resident_memory_bytes")),
		gc:          sum(values("go_gc_duration_seconds")),
	}
}

// firstOutcome tells the states in which an order leaves the queue. What becomes of a hold later is not counted once more, unless it
// is paid: no load test pays.
func firstOutcome(m *dto.Metric) bool {
	for _, label := range m.GetLabel() {
		if label.GetName() == "state" {
			return label.GetValue() != "expired" && label.GetValue() != "cancelled"
		}
	}
	return false
}

// rateOf is what pools are set to together: one without a rate makes the whole without one.
func rateOf(pools []float64) float64 {
	if slices.Contains(pools, 0) {
		return 0
	}
	return sum(pools)
}

// valuesOf are the values of those metrics of a family that are wanted; nil: all. Of a summary it is the sum. One that is no number
// is left out: nothing can be reckoned with it.
func valuesOf(family *dto.MetricFamily, wanted func(*dto.Metric) bool) (values []float64) {
	for _, m := range family.GetMetric() {
		if wanted != nil && !wanted(m) {
			continue
		}
		// One of them is there, the others are 0.
		v := m.GetCounter().GetValue() + m.GetGauge().GetValue() + m.GetUntyped().GetValue() + m.GetSummary().GetSampleSum()
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			values = append(values, v)
		}
	}
	return values
}

func sum(values []float64) (total float64) {
	for _, v := range values {
		total += v
	}
	return total
}

// endpoint is where a process tells its metrics.
type endpoint struct {
	process string // its name
	url     string
	token   string // may be empty
	must    string // a metric without which it is the wrong address
}

// endpointsOf are where a service tells its metrics, under the names of its processes: of the doors' as many as there are doors.
func endpointsOf(s *Service, processes []string) (doors []endpoint, worker endpoint) {
	worker = endpoint{process: workerName, url: strings.TrimSuffix(s.Admin, "/") + "/metrics", token: s.Token, must: metricStoreUp}
	names := slices.DeleteFunc(processes, func(name string) bool { return !strings.HasPrefix(name, "door") })
	for i, at := range s.Metrics {
		door := endpoint{process: fmt.Sprintf("door-%d", i+1), url: at, must: metricOutstanding}
		if private(at) {
			door.token = s.Token
		}
		switch {
		case at == worker.url: // a door and a worker in one process
			door.process, door.token = worker.process, worker.token
		case len(names) == len(s.Metrics):
			door.process = names[i]
		}
		doors = append(doors, door)
	}
	return doors, worker
}

// private says whether nobody on the way to an address hears what is said.
func private(address string) bool {
	u, err := url.Parse(address)
	return err == nil && (u.Scheme == "https" || OnThisMachine(u.Hostname()))
}

// OnThisMachine says whether a host is this one by its loopback interface.
func OnThisMachine(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// workerName is the worker's among processes.
const workerName = "worker"

// mostMetrics bounds what is read of an answer, in bytes.
const mostMetrics = 8 << 20

// ask reads an endpoint. It waits no longer than its context.
func (e endpoint) ask(ctx context.Context, client *http.Client) (r reading, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, e.url, nil)
	if err != nil {
		return r, err
	}
	req.Header.Set("Accept", "text/plain;version=0.0.4")
	if e.token != "" {
		req.Header.Set("Authorization", "Bearer "+e.token)
	}
	res, err := client.Do(req)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, res.Body.Close()) }()
	if res.StatusCode != http.StatusOK {
		return r, fmt.Errorf("GET %s: %s", e.url, res.Status)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(io.LimitReader(res.Body, mostMetrics))
	if err != nil {
		return r, fmt.Errorf("GET %s: %w", e.url, err)
	}
	if families[e.must] == nil {
		return r, fmt.Errorf("GET %s: no %s among its metrics; want the address of the %s's", e.url, e.must, e.process)
	}
	return read(families), nil
}

// generator is the load test itself, which tells of itself what the service's processes do.
const generator = "generator"

// newSelf makes what reads the generator.
func newSelf() (self func() (reading, error)) {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return func() (reading, error) {
		gathered, err := r.Gather()
		families := make(map[string]*dto.MetricFamily, len(gathered))
		for _, f := range gathered {
			families[f.GetName()] = f
		}
		return read(families), err
	}
}
