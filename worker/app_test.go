package worker

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-kratos/kratos/v2"
	"github.com/go-kratos/kratos/v2/registry"
	"github.com/prometheus/client_golang/prometheus"

	"sluice/inventory/sqlite"
)

// registrar is one in memory.
type registrar struct {
	mu    sync.Mutex
	there []registry.ServiceInstance
	fails error
}

func (r *registrar) Register(_ context.Context, i *registry.ServiceInstance) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.there = append(r.there, *i)
	return r.fails
}

func (r *registrar) Deregister(_ context.Context, i *registry.ServiceInstance) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.there = slices.DeleteFunc(r.there, func(o registry.ServiceInstance) bool { return o.ID == i.ID })
	return nil
}

func (r *registrar) instances() []registry.ServiceInstance {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.there)
}

func TestRun_TellsARegistrarOfBothTransports(t *testing.T) {
	s := newShop(t, nil)
	s.eventually("the worker is registered", func() bool { return len(s.registrar.instances()) == 1 })
	i := s.registrar.instances()[0]
	want := []string{s.url, strings.Replace(s.url, "http", "grpc", 1)}
	if i.Name != "sluice-worker" || !slices.Equal(i.Endpoints, want) {
		t.Errorf("registered as %+v, want sluice-worker at %v", i, want)
	}
	s.stop()
	s.eventually("it is not any more", func() bool { return len(s.registrar.instances()) == 0 })
}

// Kratos itself would leave the port and the drain behind.
func TestRun_EndsTheWorkerWhereItCantBeRegistered(t *testing.T) {
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "inventory.db"))
	must(t, err)
	defer func() { must(t, store.Close()) }()
	cfg := DefaultConfig()
	cfg.NSQD = l.Addr().String() // nobody there speaks NSQ
	w, err := New(cfg, Parts{Store: store, Listener: l, Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry()})
	must(t, err)
	down := errors.New("the registry is down")
	if err := Run(t.Context(), w, kratos.Registrar(&registrar{fails: down})); !errors.Is(err, down) {
		t.Errorf("error %v, want %v", err, down)
	}
	eventually(t, "its port is free", func() bool { // a server that is stopped before it serves lets go a moment later
		again, err := lc.Listen(t.Context(), "tcp", l.Addr().String())
		if err == nil {
			_ = again.Close()
		}
		return err == nil
	})
}
