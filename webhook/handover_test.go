package webhook

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice"
)

// watched tells when a lease is let go.
type watched struct {
	*memory
	letGo func()
}

func (w watched) Claim(ctx context.Context, reader, owner string, ttl time.Duration) (int64, bool, error) {
	if ttl < time.Second {
		w.letGo()
	}
	return w.memory.Claim(ctx, reader, owner, ttl)
}

// Or the next process would send while this one still does.
func TestRun_NothingIsUnderWayWhenTheLeaseIsLetGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, shop, let := newMemory(), newReceiver(), 0
		shop.delay = func() time.Duration { return 12 * time.Second }
		e := testEndpoint(t)
		store := watched{m, func() {
			let++
			shop.mu.Lock()
			defer shop.mu.Unlock()
			if shop.now > 0 {
				t.Errorf("%d requests are under way", shop.now)
			}
		}}
		r := newRunner(store, e, newSenderOver(e, shop), newMetrics(prometheus.NewRegistry()), slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { r.run(ctx) })
		m.emit(1, sluice.EventHeld)
		m.emit(2, sluice.EventHeld)
		time.Sleep(2 * time.Second)
		began := time.Now()
		cancel()
		running.Wait()
		if took := time.Since(began); let != 1 || took > stopWithin+time.Second {
			t.Errorf("let go %d times, after %v", let, took)
		}
		if m.read("points") != 0 {
			t.Errorf("read to %d, though nothing was taken in time", m.read("points"))
		}
	})
}
