// Package worker settles orders: it drains the queue into the inventory at a controlled pace, gives overdue holds back,
// tells the doors, and serves the operators. A message is finished only after its order is committed (P3).
package worker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-kratos/kratos/v2/middleware"
	"github.com/go-kratos/kratos/v2/transport"
	khttp "github.com/go-kratos/kratos/v2/transport/http"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"sluice"
	"sluice/inventory"
	"sluice/knsq"
	"sluice/queue"
)

// Config is what an operator decides about a worker.
type Config struct {
	NSQD        string      // TCP address
	NSQDHTTP    string      // HTTP address; empty: every new connection counts as its restart
	NSQDTLS     *tls.Config // nil: plain text; otherwise NSQDHTTP is an HTTPS address
	Pools       []PoolConfig
	MaxAttempts int        // isolated failures of one order before it is a dead letter
	Operators   []Operator // whose tokens operators and doors must present; none: nobody is asked
	Connections int        // most of the operations API at once, and most calls; an eighth of both is kept for doors

	EventChannels  []string      // of the topic of events, made before the first event
	EventBacklog   int           // most messages in the deepest of them; beyond, events wait in the store
	EventRetention time.Duration // how long events are kept, and sent again to an nsqd that has restarted
}

// DefaultConfig holds the defaults.
func DefaultConfig() Config {
	return Config{Pools: []PoolConfig{DefaultPool()}, MaxAttempts: 5, Connections: 1024, EventBacklog: 1_000_000, EventRetention: 24 * time.Hour}
}

// Parts are what a worker is made of. All but TLS and the last are required.
type Parts struct {
	Store    inventory.Store
	Keys     *sluice.IDKey
	Listener net.Listener // where the operations API is served; the worker closes it
	TLS      *tls.Config  // that the operations API speaks; nil: plain text
	Logger   *slog.Logger
	Registry *prometheus.Registry

	// Middleware runs around each batch of the drain: tracing or a limit, say. Its handler answers every message by itself. An
	// error without a call of it puts the batch back; one of knsq.Permanent makes dead letters of it.
	Middleware []middleware.Middleware
}

// Worker is a Kratos server made of three that must start and stop in order: the operations API, the drain and the
// sweeper. Kratos itself stops all servers of an app at once.
type Worker struct {
	Parts
	cfg      Config
	drain    *knsq.Server
	pools    []*pool // fixed
	outage   *outage
	settler  Settler
	doors    doors
	complain rate.Sometimes // keeps what every message may meet from filling the log
	outcomes *queue.Publisher
	http     *khttp.Server
	rpc      *rpc
	metrics  *metrics
	relay    *relay

	callers      callers      // of the operations API
	eventWaiters atomic.Int64 // calls that wait for an event

	sweeping sync.WaitGroup
	cancel   context.CancelCauseFunc

	life     sync.Mutex // of Start and Stop, which Kratos calls in goroutines of their own
	stopped  bool
	stopOnce sync.Once
	stopErr  error

	poolsMu    sync.Mutex
	poolsSet   sluice.Pools // as the pools took it over
	poolsHeard bool
}

var (
	_ transport.Server     = (*Worker)(nil)
	_ transport.Endpointer = (*Worker)(nil)
)

// New makes a worker. It does nothing before Start.
func New(cfg Config, parts Parts) (*Worker, error) {
	if cfg.Connections < 1 {
		return nil, fmt.Errorf("%d connections of the operations API: want 1 at least", cfg.Connections)
	}
	w := &Worker{Parts: parts, cfg: cfg}
	w.callers.most = int64(cfg.Connections)
	w.metrics = newMetrics(parts.Registry, w)
	w.complain = rate.Sometimes{First: 10, Interval: time.Second}
	w.settler = Settler{
		Keys: parts.Keys, Announce: w.announce, Keep: w.keep, MaxAttempts: cfg.MaxAttempts, Logger: parts.Logger, complain: rate.Sometimes{First: 10, Interval: time.Second},
	}
	w.outage = newOutage(parts.Store.Ping, w.storeTurned, parts.Logger)
	var err error
	if w.drain, err = w.newDrain(); err != nil {
		return nil, err
	}
	if err := newPools(w); err != nil {
		return nil, err
	}
	if _, err := w.drain.Endpoint(); err != nil {
		return nil, err
	}
	w.relay = newRelay(cfg, parts.Store, parts.Logger, parts.Registry)
	if w.http, w.rpc, err = w.operations(parts.Listener); err != nil {
		return nil, err
	}
	return w, nil
}

// Start begins to settle and to serve, and returns when Stop has ended it or the API can't be served.
func (w *Worker) Start(ctx context.Context) error {
	ctx, err := w.begin(ctx)
	if err != nil {
		return err
	}
	return w.http.Start(ctx) // after Stop it only lets go of the port
}

// begin begins all but to serve, unless Stop came first. It answers the worker's own context.
func (w *Worker) begin(ctx context.Context) (_ context.Context, err error) {
	w.life.Lock()
	defer w.life.Unlock()
	if w.stopped {
		return ctx, nil
	}
	w.outcomes, err = queue.NewPublisher(queue.PublisherConfig{
		Addr: w.cfg.NSQD, TLS: w.cfg.NSQDTLS, Topic: queue.TopicOutcomes, MaxPending: 2000, Logger: w.Logger,
		Report: func(messages []sluice.OrderID, r queue.Result) {
			if r != queue.Sent {
				w.metrics.unannounced.Add(float64(len(messages)))
			}
		},
	})
	if err != nil {
		return nil, fmt.Errorf("publisher of outcomes: %w", err)
	}
	// Kratos' context ends before it calls Stop; what is in flight must not be cut then.
	ctx, w.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	w.sweeping.Go(func() {
		if err := w.drain.Start(ctx); err != nil {
			w.Logger.Error("the drain can't be started", "error", err)
		}
	})
	w.sweeping.Go(func() { w.outage.run(ctx) })
	w.sweeping.Go(func() { w.watchPools(ctx) })
	w.sweeping.Go(func() { w.sweep(ctx) })
	w.relay.start(ctx)
	return ctx, nil
}

// errStopped is why the worker's context ends.
var errStopped = errors.New("the worker is stopping")

// Stop ends the drain first, so that what is in flight is settled and told, then the API, then the relay, which brings
// the last events to nsqd, then the sweeper. It returns with ctx at the latest. Another call waits for the first one.
func (w *Worker) Stop(ctx context.Context) error {
	w.stopOnce.Do(func() {
		w.life.Lock()
		w.stopped = true
		w.life.Unlock()
		w.stopErr = w.stop(ctx)
	})
	return w.stopErr
}

func (w *Worker) stop(ctx context.Context) error {
	w.outage.stop()
	err := w.drain.Stop(ctx)
	err = errors.Join(err, w.stopServing(ctx))
	w.relay.stop(ctx)
	if w.cancel != nil {
		w.cancel(errStopped)
	}
	w.sweeping.Wait()
	if w.outcomes != nil {
		err = errors.Join(err, w.outcomes.Stop(ctx))
	}
	return err
}

// stopPatience is how long calls may go on while the worker stops: somebody who does not read an answer must not take the
// time from those who wait for outcomes.
const stopPatience = 3 * time.Second

func (w *Worker) stopServing(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopPatience)
	defer cancel()
	w.rpc.leave()
	err := w.http.Stop(ctx)
	w.rpc.stop()
	return err
}

// Endpoint is where the operations API is served.
func (w *Worker) Endpoint() (*url.URL, error) { return w.http.Endpoint() }

// announceChunk bounds one message to the doors to about half a megabyte.
const announceChunk = 1000

// announce tells every door. It never waits, and a door that hears nothing asks by itself.
func (w *Worker) announce(c sluice.Changes) {
	w.relay.nudge()
	if c.Empty() {
		return
	}
	for rest := c.Statuses; ; {
		n := min(len(rest), announceChunk)
		body, err := queue.EncodeChanges(sluice.Changes{Now: c.Now, Statuses: rest[:n], Sales: c.Sales})
		if err != nil || !w.outcomes.Publish(sluice.OrderID{}, body) {
			w.metrics.unannounced.Inc()
		}
		if rest = rest[n:]; len(rest) == 0 {
			return
		}
	}
}
