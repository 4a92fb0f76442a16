package main

import (
	"context"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"sluice/faulttest/check"
)

// throng is a number of clients that mean no good, each with one connection at a time, until its time is over.
type throng struct {
	size int
	to   string // address
	// visit is one connection; it returns when that is of no more use.
	visit func(ctx context.Context, conn net.Conn, n int)

	connected atomic.Int64 // connections that were made
}

// between connections a client waits so long, at random up to twice that.
const reconnect = 300 * time.Millisecond

// stay returns when the time is over and every client has gone.
func (t *throng) stay(ctx context.Context, length time.Duration, seed uint64) {
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	var clients sync.WaitGroup
	for n := range t.size {
		random := rand.New(rand.NewPCG(seed, uint64(n)))
		clients.Go(func() {
			pause(ctx, time.Duration(random.Int64N(int64(time.Second)))) // they do not all come at once
			for ctx.Err() == nil {
				t.once(ctx, n)
				pause(ctx, time.Duration(random.Int64N(int64(2*reconnect))))
			}
		})
	}
	clients.Wait()
}

func (t *throng) once(ctx context.Context, n int) {
	conn, err := dialAs(ctx, n, t.to)
	if err != nil {
		return
	}
	t.connected.Add(1)
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	t.visit(ctx, conn, n)
	_ = conn.(*net.TCPConn).SetLinger(0) // whatever is under way is dropped
	_ = conn.Close()
}

// perAddress is how many clients share an address: few enough for the door's limit of connections of one.
const perAddress = 100

// dialAs connects from the address of a client, which is none of the buyers'.
func dialAs(ctx context.Context, n int, to string) (net.Conn, error) {
	from := net.IPv4(127, 77, byte(n/perAddress/200), byte(1+n/perAddress%200)) //nolint:gosec // small numbers
	return (&net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: from}}).DialContext(ctx, "tcp", to)
}

// mostConnections is the most that a door has had open while do ran.
func (s *scene) mostConnections(ctx context.Context, door int, do func()) (most int64) {
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		for ; ctx.Err() == nil; pause(ctx, 200*time.Millisecond) {
			if n, err := check.Metric(ctx, s.doorList[door].Metrics, "sluice_door_connections"); err == nil {
				most = max(most, n)
			}
		}
	})
	do()
	cancel()
	watching.Wait()
	return most
}
