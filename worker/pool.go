package worker

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"sluice"
	"sluice/api"
	"sluice/knsq"
	"sluice/queue"
)

// PoolConfig is what a pool is started with.
type PoolConfig struct {
	Name    string // for operators and metrics; unique in the worker
	Topic   string
	Channel string
	Workers int           // most transactions at a time
	Batch   int           // most orders in one of them
	Flush   time.Duration // longest wait for a batch to fill
	Window  int           // most orders in hand; 0: what the workers can use
	Rate    float64       // orders a second; 0: as fast as the store
}

// DefaultPool drains what the doors send.
func DefaultPool() PoolConfig {
	return PoolConfig{
		Name: "settle", Topic: queue.TopicOrders, Channel: queue.ChannelSettle,
		Workers: 2, Batch: 256, Flush: 2 * time.Millisecond,
	}
}

func (c *PoolConfig) check() error {
	switch {
	case !sluice.ValidPoolName(c.Name):
		return fmt.Errorf("name %.80q: want 1 to %d of a-z, 0-9, dot, dash and underscore", c.Name, sluice.MaxPoolName)
	case c.Workers < 1 || c.Batch < 1 || c.Flush < 0 || c.Window < 0 || c.Window > sluice.MaxWindow:
		return fmt.Errorf("%d workers, batch %d, flush %v, window %d: want 1 or more workers, batches of 1 or more, and 0 or more of the others",
			c.Workers, c.Batch, c.Flush, c.Window)
	case !sluice.ValidDrainRate(c.Rate):
		return fmt.Errorf("rate %v: want 0, or 1 to %.0f orders a second", c.Rate, sluice.MaxDrainRate)
	}
	return nil
}

// useful is the window beyond which more orders in hand would only lie there: each worker has a batch, and its next one
// is on the way.
func (c *PoolConfig) useful() int { return min(2*c.Workers*c.Batch, sluice.MaxWindow) }

// largest is the largest window where nothing is set.
func (c *PoolConfig) largest() int {
	if c.Window > 0 {
		return min(c.Window, c.useful())
	}
	return c.useful()
}

// pool drains one channel at its own pace, with a window of its own.
type pool struct {
	cfg          PoolConfig
	worker       *Worker
	subscription *knsq.Subscription
	pace         pace
	batch        atomic.Int64 // most orders in one transaction at the present rate
	inHand       atomic.Int64 // orders that workers have and have not answered

	mu     sync.Mutex
	set    sluice.Pool // what operators set
	rate   float64     // the effective one
	heard  bool        // what operators set is known
	away   bool        // the store is
	window window
	told   int // the subscription's window
}

func newPool(w *Worker, cfg PoolConfig) (*pool, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("pool %s: %w", cfg.Name, err)
	}
	p := &pool{cfg: cfg, worker: w, told: 1}
	p.pacedLocked(cfg.Rate)
	p.window = newWindow(p.limitsLocked())
	p.subscription = knsq.RegisterRawBatch(w.drain, cfg.Topic, cfg.Channel, p.settle,
		knsq.Workers(cfg.Workers), knsq.Batch(cfg.Batch), knsq.Flush(cfg.Flush), knsq.MaxInFlight(p.told),
		knsq.MsgTimeout(messageTimeout), knsq.HandlerTimeout(knsq.NoTimeout),
		knsq.MaxAttempts(0), // they count outages too
		knsq.Backoff(putBack, putBack), knsq.DeadLetter(w.deadLetter))
	if err := p.subscription.Err(); err != nil {
		return nil, fmt.Errorf("pool %s: %w", cfg.Name, err)
	}
	p.steerLocked()
	return p, nil
}

// newPools makes the worker's pools.
func newPools(w *Worker) error {
	if len(w.cfg.Pools) == 0 || len(w.cfg.Pools) > sluice.MaxPools {
		return fmt.Errorf("%d pools; want 1 to %d", len(w.cfg.Pools), sluice.MaxPools)
	}
	for _, cfg := range w.cfg.Pools {
		if w.pool(cfg.Name) != nil {
			return fmt.Errorf("there are two pools of the name %s", cfg.Name)
		}
		p, err := newPool(w, cfg)
		if err != nil {
			return err
		}
		w.pools = append(w.pools, p)
	}
	return nil
}

// pool finds a pool by its name; nil where there is none.
func (w *Worker) pool(name string) *pool {
	for _, p := range w.pools {
		if p.cfg.Name == name {
			return p
		}
	}
	return nil
}

// apply takes over what operators set.
func (p *pool) apply(set sluice.Pool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set, p.heard = set, true
	rate := p.cfg.Rate
	if set.Rate != nil {
		rate = *set.Rate
	}
	if rate != p.rate {
		p.pacedLocked(rate)
	}
	p.window.limit(p.limitsLocked())
	p.steerLocked()
}

// pacedLocked sets the rate. A batch waits for its pace: a tenth of a second at the most.
func (p *pool) pacedLocked(rate float64) {
	p.rate = rate
	batch := p.cfg.Batch
	if rate > 0 {
		batch = min(batch, max(1, int(rate/10)))
	}
	p.batch.Store(int64(batch))
	p.pace.set(rate, batch)
}

func (p *pool) limitsLocked() windowLimits {
	l := windowLimits{batch: int(p.batch.Load()), most: p.cfg.largest(), rate: p.rate}
	if p.set.Window != nil {
		l.most = min(*p.set.Window, p.cfg.useful())
	}
	return l
}

// turned hears that the store went away or came back.
func (p *pool) turned(away, long bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away = away
	if !away && long {
		p.window.restart(time.Now())
	}
	p.steerLocked()
}

// sampled takes in what a commit told.
func (p *pool) sampled(s sample) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.full = s.full || int(p.inHand.Load()) >= p.told
	p.window.next(time.Now(), s)
	p.steerLocked()
}

// steerLocked tells the queue how much may come.
func (p *pool) steerLocked() {
	n := p.window.orders()
	if !p.heard || p.away {
		n = 0
	}
	if n != p.told {
		p.told = n
		p.subscription.SetMaxInFlight(n)
	}
}

// state is the pool as operators see it.
func (p *pool) state() api.Pool {
	p.mu.Lock()
	defer p.mu.Unlock()
	most := p.window.limits.most
	out := api.Pool{
		Name: p.cfg.Name, Topic: p.cfg.Topic, Channel: p.cfg.Channel, Workers: p.cfg.Workers, Flush: sluice.Duration(p.cfg.Flush),
		Started: api.PoolStart{Rate: p.cfg.Rate, Window: p.cfg.largest(), Batch: p.cfg.Batch}, Set: p.set,
		Rate: p.rate, Batch: int(p.batch.Load()), Largest: most, Window: p.told, InHand: int(p.inHand.Load()),
		CommitBaseline: seconds(p.window.usual), CommitLatency: seconds(p.window.took), State: api.PoolDraining,
	}
	switch {
	case !p.heard:
		out.State = api.PoolWaiting
	case most == 0:
		out.State = api.PoolPaused
	case p.away:
		out.State = api.PoolProbing
	}
	return out
}

func seconds(s float64) sluice.Duration {
	return sluice.Duration(time.Duration(s * float64(time.Second)).Round(time.Microsecond))
}

// setPace is how the worker's pools are set to settle what the doors send, for the doors: a pool without a rate makes
// the whole without one.
func (w *Worker) setPace() sluice.Pace {
	var pace sluice.Pace
	unlimited := false
	for _, p := range w.pools {
		s := p.state()
		if s.Topic != queue.TopicOrders {
			continue
		}
		pace.Batch = max(pace.Batch, s.Batch)
		if s.State != api.PoolPaused {
			pace.DrainRate += s.Rate
			unlimited = unlimited || s.Rate == 0
		}
	}
	if unlimited {
		pace.DrainRate = 0
	}
	return pace
}

// storeTurned hears that the store went away, or came back.
func (w *Worker) storeTurned(away, long bool) {
	w.metrics.storeTurned(away)
	for _, p := range w.pools {
		p.turned(away, long)
	}
}

// poolsPoll is how often a worker looks what operators have set.
const poolsPoll = 500 * time.Millisecond

// watchPools keeps the pools as operators set them. A pool begins only once that is known: it might be paused.
func (w *Worker) watchPools(ctx context.Context) {
	tick := time.NewTicker(poolsPoll)
	defer tick.Stop()
	for failing := false; ; {
		err := w.hearPools(ctx)
		if (err != nil) != failing && ctx.Err() == nil {
			failing = err != nil
			w.Logger.Warn("reading what is set of the pools", "working", !failing, "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (w *Worker) hearPools(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	set, err := w.Store.Pools(ctx)
	if err != nil {
		return err
	}
	w.applyPools(set)
	return nil
}

// applyPools takes settings over, unless later ones were already.
func (w *Worker) applyPools(set sluice.Pools) {
	w.poolsMu.Lock()
	defer w.poolsMu.Unlock()
	if w.poolsHeard && set.Version <= w.poolsSet.Version {
		return
	}
	w.poolsSet, w.poolsHeard = set, true
	for _, p := range w.pools {
		p.apply(set.Pools[p.cfg.Name])
	}
	w.metrics.poolsVersion.Set(float64(set.Version))
	w.Logger.Info("pools take their settings over", "version", set.Version)
}
