package worker

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice"
	"sluice/api"
	"sluice/internal/calm"
	"sluice/knsq"
	"sluice/queue"
)

// Ping is the store's, and fails where it is down; pings are counted.
func (s *troubled) Ping(ctx context.Context) error {
	s.pings.Add(1)
	s.mu.Lock()
	down := s.down
	s.mu.Unlock()
	if down {
		return errGone
	}
	if err := s.illness(); err != nil {
		return err
	}
	return s.Store.Ping(ctx)
}

func (s *shop) pool(name string) api.Pool {
	s.t.Helper()
	c := api.NewClient(s.url, testToken)
	defer c.Close()
	pools, err := c.Pools(s.t.Context())
	must(s.t, err)
	for _, p := range pools.Worker {
		if p.Name == name {
			return p
		}
	}
	s.t.Fatalf("there is no pool %s in %+v", name, pools)
	return api.Pool{}
}

func (s *shop) setPool(name string, patch map[string]any) {
	s.t.Helper()
	c := api.NewClient(s.url, testToken)
	defer c.Close()
	_, err := c.PatchPool(s.t.Context(), name, patch)
	must(s.t, err)
}

func (s *shop) placeMany(from, to int) {
	s.t.Helper()
	users := make([]string, 0, to-from)
	for n := range to - from {
		users = append(users, fmt.Sprint("u", from+n))
	}
	s.place(users...)
}

func (s *shop) heard() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.outcomes)
}

func TestPools_CloseTheirWindowsWhileTheStoreIsAway(t *testing.T) {
	s := newShop(t, func(c *Config) {
		for _, name := range []string{"b", "c"} {
			pool := DefaultPool()
			pool.Name = name
			c.Pools = append(c.Pools, pool)
		}
	})
	s.open(`{"id":"demo","stock":10000,"payment_window":"0s"}`)
	s.store.set(func(s *troubled) { s.down = true })
	s.store.pings.Store(0)
	began := time.Now()
	s.placeMany(0, 2000)
	s.eventually("every pool's window is closed", func() bool {
		for _, name := range []string{"settle", "b", "c"} {
			if p := s.pool(name); p.State != api.PoolProbing || p.Window != 0 {
				return false
			}
		}
		return true
	})
	if s.gauge("sluice_worker_store_up") != 0 {
		t.Error("the gauge says that the store is up")
	}
	time.Sleep(time.Second)
	if n, d := s.store.pings.Load(), time.Since(began); n < 1 || n > 3+int64(d/(400*time.Millisecond)) {
		t.Errorf("%d pings in %v: three pools must ask as one", n, d)
	}
	s.store.set(func(s *troubled) { s.down = false })
	s.eventually("all are settled", func() bool { return s.heard() == 2000 })
	if p := s.pool("settle"); p.State != api.PoolDraining || p.Window < p.Batch || s.gauge("sluice_worker_store_up") != 1 {
		t.Errorf("after the outage: %+v", p)
	}
	if audit, err := s.store.Audit(t.Context()); err != nil || audit.Sales[0].Orders[sluice.Paid] != 2000 {
		t.Errorf("audit %+v, %v", audit, err)
	}
}

func TestPools_ChangeTheirRateWithinASecond(t *testing.T) {
	const orders = 3000
	var s *shop
	calm.Play(t, 150*time.Millisecond, func(complain calm.Complain) {
		s = newShop(t, func(c *Config) { c.Pools[0].Rate = 20 })
		s.open(`{"id":"demo","stock":10000,"payment_window":"0s"}`)
		s.placeMany(0, orders)
		s.speedsUp(complain)
	})
	s.setPool("settle", map[string]any{"rate": 1})
	s.keepsToOneASecond()
	s.setPool("settle", map[string]any{"rate": 0})
	s.eventually("all are settled, those too that were put back", func() bool { return s.heard() == orders })
	if audit, err := s.store.Audit(t.Context()); err != nil || audit.Sales[0].Orders[sluice.Paid] != orders {
		t.Errorf("audit %+v, %v", audit, err)
	}
}

// speedsUp sets a faster rate as another worker on this store does, and sees that it is kept soon.
func (s *shop) speedsUp(complain calm.Complain) {
	s.t.Helper()
	s.eventually("it drains slowly", func() bool { return s.heard() > 3 })
	if _, err := s.store.ChangePools(s.t.Context(), func(p *sluice.Pools) error {
		rate := 1000.0
		p.Pools = map[string]sluice.Pool{"settle": {Rate: &rate}}
		return nil
	}); err != nil {
		s.t.Fatal(err)
	}
	began := time.Now()
	s.eventually("it drains faster", func() bool { return s.heard() > 100 })
	if d := time.Since(began); d > 1500*time.Millisecond {
		complain("a rate of 1000 a second settled 100 orders only after %v", d)
	}
}

// keepsToOneASecond watches two workers whose batches of 100 were filling when their rate became one a second. Each may have had one
// that it settles still, the first turn comes at once, and another one may catch up: all others are a second apart, and alone. A
// machine that stands still only draws that out.
func (s *shop) keepsToOneASecond() {
	s.t.Helper()
	const calls, workers = 7, 2
	began := time.Now()
	before := len(s.store.batches())
	s.eventually("it drains as it should now", func() bool { return len(s.store.batches()) >= before+calls })
	if took := time.Since(began); took < (calls-workers-2)*time.Second {
		s.t.Errorf("%d transactions took %v at one a second", calls, took)
	}
	large := 0
	for _, batch := range s.store.batches()[before:][:calls] {
		if len(batch) > 1 {
			large++
		}
		if len(batch) > 100 || large > workers {
			s.t.Errorf("a transaction of %d orders, number %d of more than one, at one a second", len(batch), large)
		}
	}
}

// batches are those that Reserve was asked for.
func (s *troubled) batches() [][]sluice.Order {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.reserves)
}

// nsqd gives up on what is in hand for too long, and would send it to somebody else as well.
func TestPools_PutBackWhatTheirRateLeavesNoTimeFor(t *testing.T) {
	s := newShop(t, func(c *Config) { c.Pools[0].Rate = 1000 })
	s.open(`{"id":"demo","stock":10000,"payment_window":"0s"}`)
	s.placeMany(0, 3000)
	s.eventually("it drains", func() bool { return s.heard() > 100 })
	s.setPool("settle", map[string]any{"rate": 1})
	if p := s.pool("settle"); p.InHand < 20 {
		t.Fatalf("too little is in hand to begin with: %+v", p)
	}
	s.eventually("little is in hand", func() bool { return s.pool("settle").InHand <= 3 })
	s.setPool("settle", map[string]any{"rate": 0})
	s.eventually("all are settled", func() bool { return s.heard() == 3000 })
}

func TestPools_PauseAndResume(t *testing.T) {
	s := newShop(t, nil)
	s.open(`{"id":"demo","stock":10000,"payment_window":"0s"}`)
	all := 0
	calm.Play(t, 100*time.Millisecond, func(complain calm.Complain) {
		s.setPool("settle", map[string]any{"window": 0})
		if p := s.pool("settle"); p.State != api.PoolPaused || p.Window != 0 {
			t.Errorf("paused: %+v", p)
		}
		time.Sleep(300 * time.Millisecond) // nsqd hears of it, too
		s.placeMany(all, all+10)
		time.Sleep(200 * time.Millisecond)
		if n := s.heard() - all; n > 0 {
			complain("%d orders were settled while the pool is paused", n)
		}
		all += 10
		s.setPool("settle", map[string]any{"window": 5})
		if p := s.pool("settle"); p.State != api.PoolDraining || p.Window != 5 || p.Largest != 5 {
			t.Errorf("with a window of 5: %+v", p)
		}
		s.eventually("all are settled", func() bool { return s.heard() == all })
	})
	s.setPool("settle", map[string]any{"window": nil})
	if p := s.pool("settle"); p.Set != (sluice.Pool{}) || p.Window < p.Batch || p.Largest != 4*p.Batch {
		t.Errorf("as it was started: %+v", p)
	}
}

// A pool that was paused stays so when its worker starts anew.
func TestPools_BeginAsTheyWereSet(t *testing.T) {
	s := newShop(t, func(c *Config) {
		other := DefaultPool()
		other.Name, other.Topic = "vip", "orders-vip"
		c.Pools = append(c.Pools, other)
	})
	w := &Worker{Parts: Parts{Store: s.store, Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry()}, cfg: DefaultConfig(), drain: knsq.NewServer()}
	w.metrics = newMetrics(w.Registry, w)
	must(t, newPools(w))
	if p := w.pools[0].state(); p.State != api.PoolWaiting || p.Window != 0 {
		t.Errorf("before it knows: %+v", p)
	}
	s.setPool("settle", map[string]any{"window": 0})
	must(t, w.hearPools(t.Context()))
	if p := w.pools[0].state(); p.State != api.PoolPaused || p.Window != 0 {
		t.Errorf("once it knows: %+v", p)
	}
	w.applyPools(sluice.Pools{}) // an answer that was late
	if p := w.pools[0].state(); p.State != api.PoolPaused {
		t.Errorf("older settings took the place of newer ones: %+v", p)
	}
}

// Doors are told the pace of all pools that drain what they send, as it is set.
func TestPools_TellTheDoorsTheirPace(t *testing.T) {
	s := newShop(t, func(c *Config) {
		c.Pools[0].Rate = 1000
		for name, topic := range map[string]string{"second": queue.TopicOrders, "other": "elsewhere"} {
			pool := DefaultPool()
			pool.Name, pool.Topic, pool.Rate, pool.Batch = name, topic, 500, 20
			c.Pools = append(c.Pools, pool)
		}
	})
	c := api.NewClient(s.url, testToken)
	defer c.Close()
	for _, step := range []struct {
		pool  string
		patch map[string]any
		want  sluice.Pace
	}{
		{"settle", nil, sluice.Pace{DrainRate: 1500, Batch: 100}},
		{"settle", map[string]any{"rate": 2000}, sluice.Pace{DrainRate: 2500, Batch: 200}},
		{"second", map[string]any{"window": 0}, sluice.Pace{DrainRate: 2000, Batch: 200}},
		{"second", map[string]any{"window": nil, "rate": 0}, sluice.Pace{DrainRate: 0, Batch: 200}},
		{"settle", map[string]any{"rate": 0}, sluice.Pace{DrainRate: 0, Batch: 256}},
	} {
		if step.patch != nil {
			s.setPool(step.pool, step.patch)
		}
		if facts, err := c.Facts(t.Context(), api.Door{}); err != nil || facts.Pace != step.want {
			t.Errorf("after %s %v: %+v, %v; want %+v", step.pool, step.patch, facts.Pace, err, step.want)
		}
	}
}

func TestPools_AreSetByAMergePatch(t *testing.T) {
	s := newShop(t, nil)
	for _, c := range []struct {
		body   string
		status int
		want   string // what is set, or a part of the error's detail
	}{
		{`{}`, 200, `map[]`},
		{`{"pools":{"settle":{"rate":500,"window":64}}}`, 200, `map[settle:map[rate:500 window:64]]`},
		{`{"pools":{"settle":{"rate":null}}}`, 200, `map[settle:map[window:64]]`},
		{`{"pools":{"settle":{"rate":1.5}}}`, 200, `map[settle:map[rate:1.5 window:64]]`},
		{`{"pools":{"settle":null}}`, 200, `map[]`},
		{`{"pools":{"settle":{"rate":0,"window":0}}}`, 200, `map[settle:map[rate:0 window:0]]`},
		{`{"pools":null}`, 200, `map[]`},
		{`{"pools":{"setle":{"rate":5}}}`, 400, `"setle" is no pool of this worker: it has settle`},
		{`{"pools":{"setle":null}}`, 200, `map[]`},
		{`{"pools":{"settle":{"Rate":5}}}`, 400, `"Rate" can't be set`},
		{`{"pools":{"settle":{"batch":5}}}`, 400, `"batch" can't be set`},
		{`{"pools":{"settle":{"rate":0.5}}}`, 400, `rate 0.5: want 0, or 1 to 1000000`},
		{`{"pools":{"settle":{"window":-1}}}`, 400, `window -1: want 0`},
		{`{"pools":{"settle":{"window":1.5}}}`, 400, `window`},
		{`{"pools":{"settle":{"rate":"5"}}}`, 400, `rate`},
		{`{"pools":[]}`, 400, `pools can't be read`},
		{`{"version":7}`, 400, `"version" can't be patched`},
		{`{"worker":[]}`, 400, `"worker" can't be patched`},
		{`null`, 400, `the body is empty`},
		{``, 400, `the body is empty`},
	} {
		status, out := s.call("PATCH", "/v1/pools", c.body, testToken)
		text := fmt.Sprint(out["detail"])
		if status == 200 {
			if out["pools"] == nil {
				out["pools"] = map[string]any{}
			}
			text = fmt.Sprint(out["pools"])
		}
		if status != c.status || (status == 200 && text != c.want) || !strings.Contains(text, c.want) {
			t.Errorf("PATCH %s: %d %s; want %d %s", c.body, status, text, c.status, c.want)
		}
	}
	events := s.log.events(t, "pools changed")
	if len(events) != 7 || events[0]["operator"] != "tests" || events[0]["change"] != `set {"pools":{"settle":{"rate":500,"window":64}}}` {
		t.Errorf("logged %v", events)
	}
	if v := s.gauge("sluice_worker_pools_version"); v != 7 {
		t.Errorf("the gauge says version %v, want 7", v)
	}
}

func TestNew_NamesWhatIsWrongWithAPool(t *testing.T) {
	for _, c := range []struct {
		change func(*Config)
		want   string
	}{
		{func(c *Config) { c.Pools = nil }, "0 pools; want 1"},
		{func(c *Config) { c.Pools = append(c.Pools, c.Pools[0]) }, "two pools of the name settle"},
		{func(c *Config) { c.Pools[0].Name = "A" }, `name "A"`},
		{func(c *Config) { c.Pools[0].Topic = "a b" }, `pool settle: subscribe to /a b/settle: consumer: topic "a b"`},
		{func(c *Config) { c.Pools[0].Workers = 0 }, "0 workers"},
		{func(c *Config) { c.Pools[0].Batch = 0 }, "batch 0"},
		{func(c *Config) { c.Pools[0].Rate = 0.1 }, "rate 0.1: want 0, or 1"},
	} {
		cfg := DefaultConfig()
		c.change(&cfg)
		_, err := New(cfg, Parts{Store: &troubled{}, Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry()})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %q", err, c.want)
		}
	}
}

// A store that becomes slow has less in hand, and more again once it is well.
func TestPools_GiveASlowStoreLess(t *testing.T) {
	s := newShop(t, func(c *Config) { c.Pools[0].Batch = 20 })
	s.open(`{"id":"demo","stock":1000000,"payment_window":"0s"}`)
	const well, ill = 10 * time.Millisecond, 200 * time.Millisecond // without a disk, which would have its share in both
	s.store.set(func(s *troubled) { s.hollow, s.pause = true, well })
	var stop atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; !stop.Load(); n++ {
			if n-s.heard() > 2000 {
				time.Sleep(time.Millisecond)
				n--
				continue
			}
			o := s.order(fmt.Sprint("u", n))
			s.orders.Publish(o.ID, queue.AppendOrder(nil, o))
		}
	}()
	s.eventually("the window is wide", func() bool { return s.pool("settle").Window == 80 })
	s.store.set(func(s *troubled) { s.pause = ill })
	began := time.Now()
	s.eventually("the window is cut", func() bool { return s.pool("settle").Window <= 40 })
	t.Logf("halved %v after commits of %v took %v", time.Since(began), well, ill)
	s.eventually("the window is at its floor", func() bool { return s.pool("settle").Window == 20 })
	p := s.pool("settle")
	if p.CommitLatency < 2*p.CommitBaseline {
		t.Errorf("it tells %+v", p)
	}
	s.store.set(func(s *troubled) { s.pause = well })
	s.eventually("the window is wide again", func() bool { return s.pool("settle").Window == 80 })
	stop.Store(true)
	<-done
}
