package knsq

import (
	"context"
	"sync/atomic"
	"testing"

	"sluice/queue"
)

// BenchmarkTake compares what it costs to take messages raw, typed and one by one with a bare queue.Consumer.
func BenchmarkTake(b *testing.B) {
	body := []byte(`{"v":1,"n":1,"name":"somebody","trace":{"traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}}`)
	const together = 256
	run := func(b *testing.B, consume func(addr string, took func(n int)) (stop func())) {
		b.Helper()
		dir := b.TempDir()
		nsqd, err := queue.StartServer(queue.ServerConfig{
			Listen: "127.0.0.1:0", DataDir: dir, MemQueueSize: 10_000_000,
			Channels: []queue.Channel{{Topic: "events", Name: "points"}},
		})
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = nsqd.Stop(context.Background()) }()
		p, err := queue.NewPublisher(queue.PublisherConfig{Addr: nsqd.Addr(), Topic: "events", MaxPending: 10_000_000, MaxPendingBytes: 1 << 30})
		if err != nil {
			b.Fatal(err)
		}
		for range b.N {
			p.Publish([16]byte{}, body)
		}
		if err := p.Stop(context.Background()); err != nil {
			b.Fatal(err)
		}
		var taken atomic.Int64
		done := make(chan bool)
		b.ReportAllocs()
		b.ResetTimer()
		stop := consume(nsqd.Addr(), func(n int) {
			if taken.Add(int64(n)) == int64(b.N) {
				close(done)
			}
		})
		<-done
		b.StopTimer()
		stop()
	}
	server := func(addr string, register func(s *Server)) func() {
		s := NewServer(Address(addr), quiet())
		register(s)
		go func() { _ = s.Start(context.Background()) }()
		return func() { _ = s.Stop(context.Background()) }
	}
	b.Run("consumer", func(b *testing.B) {
		run(b, func(addr string, took func(int)) func() {
			c, err := queue.NewConsumer(queue.ConsumerConfig{
				Addr: addr, Topic: "events", Channel: "points",
				MaxInFlight: 2 * together, MaxBatch: together, Handle: func(_ context.Context, batch []*queue.Message) {
					for _, m := range batch {
						m.Finish()
					}
					took(len(batch))
				},
			})
			if err != nil {
				b.Fatal(err)
			}
			c.Start(context.Background())
			return func() { _ = c.Stop(context.Background()) }
		})
	})
	b.Run("raw batch", func(b *testing.B) {
		run(b, func(addr string, took func(int)) func() {
			return server(addr, func(s *Server) {
				RegisterRawBatch(s, "events", "points", func(_ context.Context, batch []*Message) error {
					for _, m := range batch {
						m.Finish()
					}
					took(len(batch))
					return nil
				})
			})
		})
	})
	b.Run("batch", func(b *testing.B) {
		run(b, func(addr string, took func(int)) func() {
			return server(addr, func(s *Server) {
				RegisterBatch(s, "events", "points", func(_ context.Context, batch []*Delivery[event]) error {
					took(len(batch))
					return nil
				})
			})
		})
	})
	b.Run("one by one", func(b *testing.B) {
		run(b, func(addr string, took func(int)) func() {
			return server(addr, func(s *Server) {
				RegisterSubscriber(s, "events", "points", func(context.Context, *event) error {
					took(1)
					return nil
				}, MaxInFlight(2*together))
			})
		})
	})
}
