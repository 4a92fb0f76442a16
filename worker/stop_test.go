package worker

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-kratos/kratos/v2"
	"github.com/go-kratos/kratos/v2/registry"
	"github.com/prometheus/client_golang/prometheus"

	"sluice/inventory/sqlite"
)

// deaf is a registrar that takes instances and lets none go.
type deaf struct {
	registered chan struct{}
	err        error
}

func (s deaf) Register(context.Context, *registry.ServiceInstance) error {
	close(s.registered)
	return nil
}

func (s deaf) Deregister(context.Context, *registry.ServiceInstance) error { return s.err }

// A registry that is down must not keep a worker from stopping: Kratos itself would go on.
func TestRun_EndsTheWorkerWhereItCantBeDeregistered(t *testing.T) {
	w := lonely(t)
	r := deaf{make(chan struct{}), errors.New("the registry is down")}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, w, kratos.Registrar(r)) }()
	<-r.registered
	cancel()
	select {
	case err := <-ended:
		if !errors.Is(err, r.err) {
			t.Errorf("error %v, want %v", err, r.err)
		}
	case <-time.After(10 * time.Second):
		t.Error("it still runs")
		must(t, w.Stop(t.Context()))
		t.Log(<-ended)
	}
	letsGo(t, w)
}

// Kratos calls Start and Stop in goroutines of their own, so a signal at once may stop what has not begun.
func TestWorker_ThatIsStoppedBeforeItsStartLeavesNothingBehind(t *testing.T) {
	w := lonely(t)
	must(t, w.Stop(t.Context()))
	must(t, w.Start(t.Context()))
	if w.outcomes != nil {
		t.Error("it has begun to work")
	}
	letsGo(t, w)
}

func TestWorker_IsStoppedOnceBySeveral(t *testing.T) {
	w := lonely(t)
	ended := make(chan error, 1)
	go func() { ended <- w.Start(t.Context()) }()
	var stops sync.WaitGroup
	for range 3 {
		stops.Go(func() { must(t, w.Stop(t.Context())) })
	}
	stops.Wait()
	must(t, <-ended)
	letsGo(t, w)
}

// lonely is a worker whose nsqd is not there.
func lonely(t *testing.T) *Worker {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "inventory.db"))
	must(t, err)
	t.Cleanup(func() { must(t, store.Close()) })
	cfg := DefaultConfig()
	cfg.NSQD = l.Addr().String() // nobody there speaks NSQ
	w, err := New(cfg, Parts{Store: store, Listener: l, Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry()})
	must(t, err)
	return w
}

// letsGo fails where a worker that has ended keeps its port.
func letsGo(t *testing.T, w *Worker) {
	t.Helper()
	var lc net.ListenConfig
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		again, err := lc.Listen(t.Context(), "tcp", w.Listener.Addr().String())
		if err == nil {
			_ = again.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("its port is still taken: %v", err)
		}
	}
}
