package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/Shopify/toxiproxy/v2/toxics"
)

// Toxics of our own, that count: a fault that nothing met is none.

// tallies are what toxics count, by their names.
var tallies sync.Map // of *atomic.Int64

func tally(name string) *atomic.Int64 {
	n, _ := tallies.LoadOrStore(name, &atomic.Int64{})
	return n.(*atomic.Int64)
}

// swallowing drops whatever comes, and counts its bytes. Who hangs on the connection is cut off when it is taken out.
type swallowing struct {
	Tally string `json:"tally"`
}

// Pipe implements toxics.Toxic.
func (t *swallowing) Pipe(stub *toxics.ToxicStub) {
	for {
		select {
		case <-stub.Interrupt:
			return
		case c := <-stub.Input:
			if c == nil {
				stub.Close()
				return
			}
			tally(t.Tally).Add(int64(len(c.Data)))
		}
	}
}

// Cleanup implements toxics.CleanupToxic.
func (t *swallowing) Cleanup(stub *toxics.ToxicStub) { stub.Close() }

// counting lets everything pass, and counts connections.
type counting struct {
	Tally string `json:"tally"`
}

// Pipe implements toxics.Toxic.
func (t *counting) Pipe(stub *toxics.ToxicStub) {
	tally(t.Tally).Add(1)
	new(toxics.NoopToxic).Pipe(stub)
}

var register = sync.OnceFunc(func() {
	toxics.Register("swallowing", new(swallowing))
	toxics.Register("counting", new(counting))
})

// swallow drops all that goes one way through a connection, and through those that are made meanwhile, until it is healed.
func (s *scene) swallow(l link, way string) (heal func() error, bytes func() int64, err error) {
	name, counted, err := s.toxic(l, "swallowing", way)
	if err != nil {
		return nil, nil, err
	}
	return func() error { return s.proxies[l].Toxics.RemoveToxic(context.Background(), name) }, counted, nil
}

// countConnections counts, from now on, how often a connection is made.
func (s *scene) countConnections(l link) (connections func() int64, err error) {
	_, connections, err = s.toxic(l, "counting", upstream)
	return connections, err
}

// toxic puts a toxic of ours into a connection.
func (s *scene) toxic(l link, kind, way string) (name string, counted func() int64, err error) {
	p, err := s.proxyOf(l)
	if err != nil {
		return "", nil, err
	}
	register()
	name = kind + " " + way
	n := tally(fmt.Sprint(p.Listen, " ", name))
	n.Store(0)
	_, err = p.Toxics.AddToxicJson(strings.NewReader(fmt.Sprintf(`{"name":%q,"type":%q,"stream":%q,"attributes":{"tally":%q}}`,
		name, kind, way, fmt.Sprint(p.Listen, " ", name))))
	return name, n.Load, err
}
