// Package webhook tells the shop's own services what happens, by HTTPS requests that they can verify (Standard Webhooks). Every
// event arrives at least once, those of one order in their order; it never holds more in memory than its bounds say, and a
// receiver that is down costs the others nothing.
package webhook

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice"
)

// Store is what webhooks need of the inventory: the events, a lease for whoever serves an endpoint, and a place for
// what an endpoint did not take. inventory.Outbox and inventory.Deliveries have the contracts.
type Store interface {
	Events(ctx context.Context, after int64, limit int) (sluice.Events, error)
	Claim(ctx context.Context, reader, owner string, ttl time.Duration) (position int64, held bool, err error)
	Advance(ctx context.Context, reader, owner string, position int64) (held bool, err error)

	AddWebhook(ctx context.Context, name, address string) (source string, disabled bool, err error)
	NoteWebhook(ctx context.Context, name string, health sluice.WebhookHealth, disable bool) error
	SaveDeliveries(ctx context.Context, endpoint string, put []sluice.Delivery, done []int64, keep int) (forgotten int, err error)
	ListDeliveries(ctx context.Context, endpoint string, state sluice.DeliveryState, after int64, limit int) ([]sluice.Delivery, error)
	Delivery(ctx context.Context, endpoint string, seq int64) (sluice.Delivery, error)
}

// Dispatcher serves endpoints. Any number of processes may run one on the same store: one of them serves an endpoint at a
// time, and another one takes over within half a minute where it dies.
type Dispatcher struct{ runners []*runner }

// New makes a dispatcher. It does nothing before Run.
func New(store Store, endpoints []Endpoint, log *slog.Logger, registry prometheus.Registerer) *Dispatcher {
	m := newMetrics(registry)
	d := &Dispatcher{}
	for _, e := range endpoints {
		d.runners = append(d.runners, newRunner(store, e, newSender(e), m, log.With("endpoint", e.Name)))
	}
	return d
}

// Run delivers until ctx ends, and returns when what was in flight is noted, seconds later at most.
func (d *Dispatcher) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, r := range d.runners {
		wg.Go(func() { r.run(ctx) })
	}
	wg.Wait()
}

// randomName is a name that nobody else has.
func randomName() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}
