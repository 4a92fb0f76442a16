package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/valyala/fasthttp"

	"sluice"
)

// loadtestNullCommand answers like a front door and does nothing else. A load test against it measures the load generator; with a
// stall, whether the test sees one.
func loadtestNullCommand() *cobra.Command {
	var address string
	var s stall
	cmd := &cobra.Command{
		Use: "null", Hidden: true, Short: "Answer every order at once with 202 and do nothing else: what a load test reaches here is its own ceiling",
		Example: "  sluice loadtest null --listen 127.0.0.1:8090\n  sluice loadtest null --stall-after 10s --stall 1s",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := s.check(c.Flags().Changed("stall-after")); err != nil {
				return &usageError{err}
			}
			l, err := listen(address, "listen")
			if err != nil {
				return err
			}
			fmt.Fprintf(c.ErrOrStderr(), "the null server is up: http://%s\n", l.Addr())
			return newNullDoor(c.Context(), s).serve(c.Context(), l)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&address, "listen", "127.0.0.1:8090", "address to serve")
	f.DurationVar(&s.after, "stall-after", 0, "hold everything back so long after the first order, for as long as --stall says")
	f.DurationVar(&s.length, "stall", 0, "how long to hold everything back; 0s: never")
	return cmd
}

// stall is a time in which nothing is answered, since the first order.
type stall struct{ after, length time.Duration }

const mostStall = time.Hour

func (s stall) check(afterGiven bool) error {
	switch {
	case s.after < 0 || s.after > mostStall:
		return fmt.Errorf("stall-after %v: want 0s to %v", s.after, mostStall)
	case s.length < 0 || s.length > mostStall:
		return fmt.Errorf("stall %v: want 0s to %v", s.length, mostStall)
	case afterGiven && s.length == 0:
		return errors.New("stall-after without --stall: how long is it to last?")
	}
	return nil
}

// left is how long a request must wait that comes so long after the first order.
func (s stall) left(since time.Duration) time.Duration {
	if since < s.after || since >= s.after+s.length {
		return 0
	}
	return s.after + s.length - since
}

// nullDoor answers without looking. All its state is how many orders there were, and when the first.
type nullDoor struct {
	stall stall
	over  <-chan struct{} // nobody is held back any longer
	began time.Time
	first atomic.Int64 // order, in nanoseconds since began; 0: none yet

	run    uint32 // tells the order ids of one server from those of another
	orders atomic.Uint64
	sale   []byte
}

func newNullDoor(ctx context.Context, s stall) *nullDoor {
	now := time.Now()
	return &nullDoor{
		stall: s, over: ctx.Done(), began: now, run: rand.Uint32(),
		sale: fmt.Appendf(nil, `{"sale":"null","open":true,"per_user_limit":1,"now":%q}`, now.UTC().Format(time.RFC3339Nano)),
	}
}

// serve answers until ctx ends.
func (d *nullDoor) serve(ctx context.Context, l net.Listener) error {
	server := &fasthttp.Server{ // as the door's, where it matters to speed
		Name: "null", Handler: d.handle, ReadBufferSize: 8 << 10, MaxRequestBodySize: 8 << 10, Concurrency: sluice.MaxBound,
		ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: 75 * time.Second,
		CloseOnShutdown: true, NoDefaultContentType: true, SecureErrorLogMessage: true, Logger: silent{},
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(patientListener{l}) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	_ = server.ShutdownWithContext(limited) // connections that are cut then belong to nobody's order
	_ = l.Close()                           // Serve may not have had it yet when it was told to stop
	return <-failed
}

// silent keeps broken connections to itself.
type silent struct{}

func (silent) Printf(string, ...any) {}

func (d *nullDoor) handle(ctx *fasthttp.RequestCtx) {
	d.hold(ctx.IsPost())
	h := &ctx.Response.Header
	switch {
	case ctx.IsPost():
		ctx.SetStatusCode(fasthttp.StatusAccepted)
		h.SetContentType("application/json")
		h.Set(fasthttp.HeaderCacheControl, "no-store")
		ctx.Response.SwapBody(d.appendOrder(ctx.Response.SwapBody(nil)[:0]))
	case !ctx.IsGet():
		ctx.SetStatusCode(fasthttp.StatusMethodNotAllowed)
		h.Set(fasthttp.HeaderAllow, "GET, POST")
	case string(ctx.Path()) == "/readyz":
		h.SetContentType("text/plain; charset=utf-8")
		ctx.SetBodyString("ready\n")
	default:
		h.SetContentType("application/json")
		ctx.SetBody(d.sale)
	}
}

// hold returns when the stall is over, if there is one now.
func (d *nullDoor) hold(order bool) {
	if d.stall.length == 0 {
		return
	}
	now := time.Since(d.began)
	if order {
		d.first.CompareAndSwap(0, int64(max(1, now)))
	}
	first := d.first.Load()
	if first == 0 {
		return
	}
	if wait := d.stall.left(max(0, now-time.Duration(first))); wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-t.C:
		case <-d.over:
		}
	}
}

// appendOrder writes an order as a door does, with an id that no other order has.
func (d *nullDoor) appendOrder(b []byte) []byte {
	var id sluice.OrderID
	binary.BigEndian.PutUint32(id[:4], d.run)
	binary.BigEndian.PutUint64(id[8:], d.orders.Add(1))
	id[6], id[8] = 0x80, id[8]|0x80 // the marks of a UUIDv8
	b = append(b, `{"order":"`...)
	b = id.AppendTo(b)
	b = append(b, `","status":"queued","version":1,"sale":"null","units":1,"position":1,"eta_ms":0,"href":"/v1/orders/`...)
	b = id.AppendTo(b)
	return append(b, `"}`...)
}
