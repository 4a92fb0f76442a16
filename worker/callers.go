package worker

import (
	"net"
	"net/http"
	"slices"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"sluice"
	"sluice/api"
)

// callers bounds what the operations API has open and does at once (P9): connections and, because one of HTTP/2 carries many, calls too.
// Whoever comes when all connections are taken waits for one in the kernel's queue, first come, first served.
//
// An eighth of both is for whom the rest must not crowd out: see first. Once the others have the rest, their calls are refused at once,
// and their connections end with their answers, so that whoever waits has his turn however busy they keep. Health checks without a token
// have an eighth of their own, for somebody who has none could keep them waiting for what they ask.
type callers struct {
	most        int64
	connections atomic.Int64
	calls       atomic.Int64
	strangers   atomic.Int64 // calls without a token where one is asked for
	refused     atomic.Int64
}

// first are the calls of doors, without which they admit nothing, and the figures that show what is wrong.
var first = []string{api.PathFacts, api.PathStatuses, "/metrics"}

// rest is how many of the connections and of the calls everybody may have.
func (c *callers) rest() int64 { return c.most - c.most/8 }

// turned counts the connections of a server.
func (c *callers) turned(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		c.connections.Add(1)
	case http.StateClosed, http.StateHijacked:
		c.connections.Add(-1)
	case http.StateActive, http.StateIdle:
	}
}

// filter refuses the calls that are too many. /livez costs nothing and is never refused: who hears no from it restarts the worker.
func (c *callers) filter(next http.Handler) http.Handler {
	return http.HandlerFunc(func(res http.ResponseWriter, r *http.Request) {
		calls, most := c.class(r)
		if most != c.most && c.connections.Load() > c.rest() {
			res.Header().Set("Connection", "close") // over HTTP/2: once its calls are answered
		}
		defer calls.Add(-1)
		if calls.Add(1) > most && r.URL.Path != "/livez" {
			c.refused.Add(1)
			refuse(res, r, sluice.Refuse(sluice.Unavailable, "%d calls run at once; try again", most))
			return
		}
		next.ServeHTTP(res, r)
	})
}

// class is where a call counts, and how many that may be then.
func (c *callers) class(r *http.Request) (calls *atomic.Int64, most int64) {
	switch {
	case callerOf(r.Context()).operator == "":
		return &c.strangers, max(c.most/8, 1)
	case slices.Contains(first, r.URL.Path):
		return &c.calls, c.most
	default:
		return &c.calls, c.rest()
	}
}

// register adds the figures to the worker's metrics.
func (c *callers) register(reg prometheus.Registerer) {
	gauge := func(name, help string, value func() int64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "sluice", Subsystem: "worker", Name: name, Help: help},
			func() float64 { return float64(value()) })
	}
	reg.MustRegister(
		gauge("connections", "Open connections of the operations API.", c.connections.Load),
		gauge("calls", "Calls of the operations API that run.", func() int64 { return c.calls.Load() + c.strangers.Load() }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Namespace: "sluice", Subsystem: "worker", Name: "calls_refused_total", Help: "Calls of the operations API that were refused at once, being too many.",
		}, func() float64 { return float64(c.refused.Load()) }),
	)
}
