package worker

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice"
	"sluice/internal/calm"
	"sluice/internal/pgcluster"
	"sluice/inventory"
	"sluice/inventory/postgres"
	"sluice/queue"
)

// crowd is how one hot sale is drained.
type crowd struct {
	name    string
	workers int // of each pool
	pools   int // of each process
	process int // workers of sluice, each with connections of its own
	flush   time.Duration
}

// counted counts what a store is asked to settle.
type counted struct {
	inventory.Store
	orders, commits *atomic.Int64
}

func (c counted) Reserve(ctx context.Context, batch []sluice.Order) (sluice.Changes, error) {
	changes, err := c.Store.Reserve(ctx, batch)
	if err == nil {
		c.orders.Add(int64(len(batch)))
		c.commits.Add(1)
	}
	return changes, err
}

// drained is what came of a crowd.
type drained struct {
	rate  float64 // orders a second
	batch float64 // orders in one transaction
}

// drain has a crowd settle orders of one sale on PostgreSQL, all of which wait in the queue when it begins.
func drain(t testing.TB, c crowd, orders int) drained {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	nsqd, err := queue.StartServer(queue.ServerConfig{
		Listen: "127.0.0.1:0", DataDir: t.TempDir(), MemQueueSize: orders + 1, Logger: log,
		Channels: []queue.Channel{{Topic: queue.TopicOrders, Name: queue.ChannelSettle}},
	})
	check(t, err)
	defer func() { check(t, nsqd.Stop(context.Background())) }()
	keys, err := sluice.NewIDKey(bytes.Repeat([]byte("k"), sluice.MinIDKeyBytes))
	check(t, err)
	p, err := queue.NewPublisher(queue.PublisherConfig{Addr: nsqd.Addr(), Topic: queue.TopicOrders, MaxPending: orders + 1})
	check(t, err)
	for n := range orders {
		user := fmt.Sprint("u", n)
		o := sluice.Order{ID: keys.ID([]byte("hot"), []byte(user), nil, 0), Sale: "hot", User: user, Quantity: 1}
		if !p.Publish(o.ID, queue.AppendOrder(nil, o)) {
			t.Fatal("the publisher is full")
		}
	}
	check(t, p.Stop(context.Background()))

	url := pgcluster.Database(t)
	store, err := postgres.Open(t.Context(), url)
	check(t, err)
	defer func() { check(t, store.Close()) }()
	_, err = store.CreateSale(t.Context(), sluice.Sale{ID: "hot", Stock: int64(orders), PerUserLimit: 1, OverAdmission: 1.5})
	check(t, err)

	var settled, commits atomic.Int64
	var workers []*Worker
	var stores []*postgres.Store
	var running sync.WaitGroup
	defer func() {
		for _, w := range workers {
			check(t, w.Stop(context.Background()))
		}
		running.Wait()
		for _, s := range stores {
			check(t, s.Close())
		}
	}()
	for range c.process {
		own, err := postgres.Open(t.Context(), url)
		check(t, err)
		stores = append(stores, own)
		workers = append(workers, hotWorker(t, c, nsqd.Addr(), keys, counted{own, &settled, &commits}, log))
	}
	for _, w := range workers {
		running.Go(func() { _ = w.Start(context.Background()) })
	}
	for settled.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	began := time.Now()
	for deadline := began.Add(2 * time.Minute); settled.Load() < int64(orders); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%+v: %d of %d orders are settled", c, settled.Load(), orders)
		}
	}
	took := time.Since(began)
	audit, err := store.Audit(t.Context())
	if err != nil || !audit.Balanced || audit.Sales[0].Sold != int64(orders) {
		t.Errorf("%+v: audit %+v, %v", c, audit, err)
	}
	return drained{float64(orders) / took.Seconds(), float64(settled.Load()) / float64(commits.Load())}
}

func hotWorker(t testing.TB, c crowd, nsqd string, keys *sluice.IDKey, store inventory.Store, log *slog.Logger) *Worker {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	check(t, err)
	cfg := DefaultConfig()
	cfg.NSQD, cfg.Pools = nsqd, nil
	for n := range c.pools {
		pool := DefaultPool()
		pool.Name, pool.Workers, pool.Flush = fmt.Sprint("settle-", n), c.workers, c.flush
		cfg.Pools = append(cfg.Pools, pool)
	}
	w, err := New(cfg, Parts{Store: store, Keys: keys, Listener: l, Logger: log, Registry: prometheus.NewRegistry()})
	check(t, err)
	return w
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var hotCrowds = []crowd{
	{"one worker", 1, 1, 1, 2 * time.Millisecond},
	{"two workers", 2, 1, 1, 2 * time.Millisecond},
	{"four workers", 4, 1, 1, 2 * time.Millisecond},
	{"two pools of one", 1, 2, 1, 2 * time.Millisecond},
	{"four pools of one", 1, 4, 1, 2 * time.Millisecond},
	{"two processes of two", 2, 1, 2, 2 * time.Millisecond},
}

// Transactions on one row wait for one another. Whoever waits lets the queue behind it fill whole batches, so that more of
// them do not share out what one would have taken. How fast they are is for BenchmarkHot to tell.
func TestPools_OnOneHotSKUKeepTheirBatches(t *testing.T) {
	const orders, batch = 10_000, 256
	for _, c := range hotCrowds {
		calm.Play(t, 10*time.Millisecond, func(complain calm.Complain) { // whoever stands still for longer than the flush takes what is there
			got := drain(t, c, orders)
			t.Logf("%s: %.0f orders/s, %.0f orders in a transaction", c.name, got.rate, got.batch)
			if got.batch < 0.6*batch {
				complain("%s: %.0f orders in a transaction, want nearly %d", c.name, got.batch, batch)
			}
		})
	}
}

// BenchmarkHot tells what workers, pools and flush times make of one hot sale.
func BenchmarkHot(b *testing.B) {
	for _, flush := range []time.Duration{0, 2 * time.Millisecond, 5 * time.Millisecond} {
		for _, c := range hotCrowds {
			b.Run(fmt.Sprintf("%s/flush=%v", c.name, flush), func(b *testing.B) {
				c.flush = flush
				for b.Loop() {
					d := drain(b, c, 100_000)
					b.ReportMetric(d.rate, "orders/s")
					b.ReportMetric(d.batch, "orders/commit")
				}
			})
		}
	}
}
