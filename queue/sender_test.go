package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/internal/calm"
)

func startSender(t *testing.T, cfg SenderConfig) *Sender {
	t.Helper()
	s := NewSender(cfg)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = s.Stop(ctx)
	})
	return s
}

func TestSender_SendsForManyCallersAtOnce(t *testing.T) {
	noLeaks(t)
	server := startServer(t, ServerConfig{Channels: settle})
	s := startSender(t, SenderConfig{Addr: server.Addr(), MaxPending: 7})
	const callers, each = 20, 50
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for n := range each {
				if err := s.Send(t.Context(), TopicOrders, fmt.Appendf(nil, "%d/%d", c, n), 0); err != nil {
					t.Errorf("Send: %v", err)
				}
			}
		})
	}
	wg.Wait()
	var in inbox
	startConsumer(t, ConsumerConfig{Addr: server.Addr(), Handle: in.finish})
	eventually(t, "every message has come", func() bool { return in.distinct() == callers*each })
}

func TestSender_DefersADelivery(t *testing.T) {
	noLeaks(t)
	server := startServer(t, ServerConfig{Channels: settle})
	s := startSender(t, SenderConfig{Addr: server.Addr()})
	came := make(chan time.Time, 2)
	startConsumer(t, ConsumerConfig{Addr: server.Addr(), Handle: func(_ context.Context, batch []*Message) {
		for _, m := range batch {
			came <- m.Received
			m.Finish()
		}
	}})
	const delay = 300 * time.Millisecond
	began := time.Now()
	if err := s.Send(t.Context(), TopicOrders, []byte("later"), delay); err != nil {
		t.Fatal(err)
	}
	if took := within(t, "the deferred message", came).Sub(began); took < delay {
		t.Errorf("deferred by %v, it came after %v", delay, took)
	}
}

func TestSender_RefusesWhatNsqdWouldNotTake(t *testing.T) {
	noLeaks(t)
	server := startServer(t, ServerConfig{Channels: settle})
	s := startSender(t, SenderConfig{Addr: server.Addr()})
	for _, test := range []struct {
		name, topic string
		body        []byte
		delay       time.Duration
		want        string
	}{
		{"no topic", "", []byte("x"), 0, `topic ""`},
		{"a bad topic", "a b", []byte("x"), 0, `topic "a b"`},
		{"no body", "t", nil, 0, "empty"},
		{"too long a body", "t", bytes.Repeat([]byte("x"), MaxMessageBytes+1), 0, "at most 1048576"},
		{"a delay in the past", "t", []byte("x"), -1, "want 0 to 1h"},
		{"too long a delay", "t", []byte("x"), MaxDefer + 1, "want 0 to 1h"},
	} {
		err := s.Send(t.Context(), test.topic, test.body, test.delay)
		if !errors.Is(err, ErrInvalid) || !strings.Contains(fmt.Sprint(err), test.want) {
			t.Errorf("%s: Send = %v; want ErrInvalid that says %q", test.name, err, test.want)
		}
	}
	if err := s.Send(t.Context(), "t", []byte("x"), MaxDefer); err != nil {
		t.Errorf("the longest delay: %v", err)
	}
}

func TestSender_SaysNotSentWhereNobodyListens(t *testing.T) {
	noLeaks(t)
	s := startSender(t, SenderConfig{Addr: freeAddr(t), Deadline: 50 * time.Millisecond})
	err := s.Send(t.Context(), TopicOrders, []byte("x"), 0)
	if !errors.Is(err, ErrNotSent) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Send = %v; want ErrNotSent for the deadline", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Send(ctx, TopicOrders, []byte("x"), 0); !errors.Is(err, ErrNotSent) || !errors.Is(err, context.Canceled) {
		t.Errorf("Send with a context that has ended = %v; want ErrNotSent", err)
	}
}

func TestSender_SaysAmbiguousWhereNsqdFreezesOrDies(t *testing.T) {
	noLeaks(t)
	server := startServer(t, ServerConfig{Channels: settle})
	proxy := startProxy(t, server.Addr())
	s := startSender(t, SenderConfig{Addr: proxy.addr(), MaxPending: 2, Deadline: time.Minute})
	if err := s.Send(t.Context(), TopicOrders, []byte("before"), 0); err != nil {
		t.Fatal(err)
	}

	proxy.freeze(true)
	first, second := make(chan error, 1), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { first <- s.Send(ctx, TopicOrders, []byte("frozen"), 0) }()
	eventually(t, "it is on the wire", func() bool { return proxy.heard("frozen") })
	cancel()
	if err := within(t, "the result", first); !errors.Is(err, ErrAmbiguous) {
		t.Errorf("Send to a frozen nsqd = %v; want ErrAmbiguous", err)
	}
	go func() { second <- s.Send(t.Context(), TopicOrders, []byte("frozen too"), 0) }()
	eventually(t, "it is on the wire", func() bool { return proxy.heard("frozen too") })
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.Send(ctx, TopicOrders, []byte("beyond the bound"), 0); !errors.Is(err, ErrNotSent) {
		t.Errorf("Send beyond MaxPending = %v; want ErrNotSent", err)
	}

	select {
	case err := <-second:
		t.Fatalf("Send to a frozen nsqd = %v before it was cut", err)
	default:
	}
	proxy.cut()
	if err := within(t, "the result of what was under way", second); !errors.Is(err, ErrAmbiguous) {
		t.Errorf("Send that was cut = %v; want ErrAmbiguous", err)
	}
	proxy.freeze(false)
	if err := s.Send(t.Context(), TopicOrders, []byte("after"), 0); err != nil {
		t.Errorf("Send after the cut: %v", err)
	}
}

func TestSender_StopWaitsForAnswersAndTakesNoMore(t *testing.T) {
	noLeaks(t)
	server := startServer(t, ServerConfig{Channels: settle})
	proxy := startProxy(t, server.Addr())
	s := startSender(t, SenderConfig{Addr: proxy.addr()})
	eventually(t, "there is a connection", s.Connected)
	proxy.freeze(true)
	sent := make(chan error, 1)
	go func() { sent <- s.Send(t.Context(), TopicOrders, []byte("on the wire"), 0) }()
	eventually(t, "it is on the wire", func() bool { return proxy.heard("on the wire") })
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop(t.Context()) }()
	<-s.stopping
	if err := s.Send(t.Context(), TopicOrders, []byte("x"), 0); !errors.Is(err, ErrNotSent) {
		t.Errorf("Send after Stop = %v; want ErrNotSent", err)
	}
	proxy.freeze(false)
	if err := within(t, "the answer", sent); err != nil {
		t.Errorf("Send before Stop = %v", err)
	}
	if err := within(t, "the end", stopped); err != nil {
		t.Errorf("Stop = %v", err)
	}
}

func TestSender_StopHeedsItsDeadline(t *testing.T) {
	noLeaks(t)
	server := startServer(t, ServerConfig{Channels: settle})
	proxy := startProxy(t, server.Addr())
	s := startSender(t, SenderConfig{Addr: proxy.addr()})
	eventually(t, "there is a connection", s.Connected)
	proxy.freeze(true)
	sent := make(chan error, 1)
	go func() { sent <- s.Send(t.Context(), TopicOrders, []byte("on the wire"), 0) }()
	eventually(t, "it is on the wire", func() bool { return proxy.heard("on the wire") })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := s.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Stop = %v; want the deadline", err)
	}
	if err := within(t, "the result", sent); !errors.Is(err, ErrAmbiguous) {
		t.Errorf("Send that Stop cut = %v; want ErrAmbiguous", err)
	}
}

func TestMessage_TouchKeepsItFromComingAgain(t *testing.T) {
	noLeaks(t)
	calm.Play(t, 200*time.Millisecond, func(complain calm.Complain) { touchAMessage(t, complain) })
}

func touchAMessage(t *testing.T, complain calm.Complain) {
	t.Helper()
	server := startServer(t, ServerConfig{Channels: settle})
	publish(t, startPublisher(t, PublisherConfig{Addr: server.Addr()}), 0, 1)
	const timeout = time.Second
	var in inbox
	done := make(chan bool, 9)
	c := startConsumer(t, ConsumerConfig{
		Addr: server.Addr(), MsgTimeout: timeout, Workers: 2, // one for a message that comes again
		Handle: func(_ context.Context, batch []*Message) {
			in.keep(batch)
			for range 6 {
				time.Sleep(timeout / 3)
				batch[0].Touch()
			}
			batch[0].Finish()
			done <- batch[0].Answered()
		},
	})
	eventually(t, "a message is in flight", func() bool { return c.InFlight() > 0 })
	if !within(t, "the message", done) {
		t.Error("Answered() = false after Finish")
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if n := len(in.all); n != 1 || c.InFlight() != 0 {
		complain("the message came %d times, and %d are in flight", n, c.InFlight())
	}
}
