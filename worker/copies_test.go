package worker

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"sluice"
	"sluice/internal/pgcluster"
	"sluice/inventory"
	"sluice/inventory/postgres"
	"sluice/inventory/sqlite"
	"sluice/queue"
)

// P1, P2, P3, P5: every message comes three times, in no order, across batches and across two workers on one store, and what is
// sold, told and noted is as if it had come once.
func TestDrain_EverythingDeliveredThreeTimesChangesNothing(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "inventory.db"))
		must(t, err)
		defer func() { must(t, store.Close()) }()
		thrice(t, store, store)
	})
	t.Run("postgres", func(t *testing.T) {
		url := pgcluster.Database(t)
		one, err := postgres.Open(t.Context(), url)
		must(t, err)
		defer func() { must(t, one.Close()) }()
		other, err := postgres.Open(t.Context(), url)
		must(t, err)
		defer func() { must(t, other.Close()) }()
		thrice(t, one, other)
	})
}

// thrice has 200 buyers of two sales order twice each: one sale has enough for everybody, the other for half of them.
func thrice(t *testing.T, stores ...inventory.Store) {
	t.Helper()
	const buyers, scarce = 200, 100
	store := stores[0]
	keys, err := sluice.NewIDKey(bytes.Repeat([]byte("k"), sluice.MinIDKeyBytes))
	must(t, err)
	for _, sale := range []sluice.Sale{
		{ID: "plenty", Stock: 10 * buyers, PerUserLimit: 1, PaymentWindow: sluice.Duration(1e12), OverAdmission: 1.5},
		{ID: "scarce", Stock: scarce, PerUserLimit: 2, OverAdmission: 1.5},
	} {
		_, err := store.CreateSale(t.Context(), sale)
		must(t, err)
	}
	var copies []sluice.Order
	for n := range buyers {
		for _, sale := range []string{"plenty", "scarce"} {
			for _, key := range []string{"one", "two"} {
				o := sluice.Order{Sale: sale, User: fmt.Sprint("u", n), Key: key, Quantity: 1}
				o.ID = keys.ID([]byte(o.Sale), []byte(o.User), []byte(o.Key), 0)
				copies = append(copies, o, o, o)
			}
		}
	}
	rand.Shuffle(len(copies), func(i, j int) { copies[i], copies[j] = copies[j], copies[i] })
	deliver(t, keys, copies, stores)

	audit, err := store.Audit(t.Context())
	must(t, err)
	plenty, few := audit.Sales[0], audit.Sales[1]
	if !audit.Balanced || plenty.Held != buyers || plenty.Orders[sluice.Held] != buyers || plenty.Orders[sluice.Rejected] != buyers {
		t.Errorf("of plenty: %+v; want %d held, and as many refused their second one", plenty, buyers)
	}
	if few.Sold != scarce || few.Free != 0 || few.Orders[sluice.Paid] != scarce || few.Orders[sluice.Rejected] != 2*buyers-scarce {
		t.Errorf("of scarce: %+v; want %d paid and the rest rejected", few, scarce)
	}
	page, err := store.Events(t.Context(), 0, inventory.MaxEvents)
	must(t, err)
	told, soldOut := map[sluice.OrderID]int{}, 0
	for i, e := range page.Events {
		if e.Seq != int64(i+1) {
			t.Fatalf("event %d has the number %d", i+1, e.Seq)
		}
		if e.Type == sluice.EventSoldOut {
			soldOut++
		}
		if (e.Order != sluice.OrderID{}) {
			told[e.Order]++
		}
	}
	if len(told) != len(copies)/3 || soldOut != 1 {
		t.Errorf("there are events of %d orders, and the sale is sold out %d times; want %d and once", len(told), soldOut, len(copies)/3)
	}
	for id, n := range told {
		if n != 1 {
			t.Errorf("order %v has %d events; want one", id, n)
		}
	}
}

// deliver has one worker for each store settle messages of orders, and waits until all of them are settled.
func deliver(t *testing.T, keys *sluice.IDKey, orders []sluice.Order, stores []inventory.Store) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	nsqd, err := queue.StartServer(queue.ServerConfig{Listen: "127.0.0.1:0", DataDir: t.TempDir(), Logger: log})
	must(t, err)
	defer func() { must(t, nsqd.Stop(t.Context())) }()
	settled := make([]atomic.Int64, len(stores))
	var running sync.WaitGroup
	defer running.Wait()
	for i, store := range stores {
		var lc net.ListenConfig
		l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
		must(t, err)
		cfg := DefaultConfig()
		cfg.NSQD, cfg.Pools[0].Batch, cfg.Pools[0].Rate = nsqd.Addr(), 32, 1500
		w, err := New(cfg, Parts{
			Store: counted{store, &settled[i], new(atomic.Int64)}, Keys: keys, Listener: l, Logger: log, Registry: prometheus.NewRegistry(),
		})
		must(t, err)
		running.Go(func() { _ = w.Start(t.Context()) })
		defer func() { must(t, w.Stop(t.Context())) }()
		eventually(t, "it is there for its part", func() bool { return w.pools[0].subscription.Connected() && w.pools[0].state().Window > 0 })
	}
	publishAll(t, nsqd.Addr(), orders)
	eventually(t, "every copy is settled", func() bool {
		n := int64(0)
		for i := range settled {
			n += settled[i].Load()
		}
		return n >= int64(len(orders)) // one that nsqd sends again counts again
	})
	for i := range settled {
		if settled[i].Load() == 0 {
			t.Errorf("worker %d had no part in it", i+1)
		}
	}
}

func publishAll(t *testing.T, nsqd string, orders []sluice.Order) {
	t.Helper()
	p, err := queue.NewPublisher(queue.PublisherConfig{Addr: nsqd, Topic: queue.TopicOrders})
	must(t, err)
	for _, o := range orders {
		if !p.Publish(o.ID, queue.AppendOrder(nil, o)) {
			t.Fatal("the publisher is full")
		}
	}
	must(t, p.Stop(t.Context()))
}
