package knsq

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sluice/queue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// noLeaks fails the test when a goroutine outlives everything that the test cleans up. Call it first.
func noLeaks(t *testing.T) {
	t.Helper()
	t.Cleanup(func() { goleak.VerifyNone(t) })
}

const patience = 10 * time.Second // of a test, for what should take milliseconds

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("after %v still not: %s", patience, what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func within[T any](t *testing.T, what string, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatalf("after %v still not: %s", patience, what)
		panic("unreachable")
	}
}

// startNSQD starts a real one.
func startNSQD(t *testing.T) *queue.Server {
	t.Helper()
	n, err := queue.StartServer(queue.ServerConfig{Listen: "127.0.0.1:0", HTTP: "127.0.0.1:0", DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := n.Stop(ctx); err != nil {
			t.Errorf("stop nsqd: %v", err)
		}
	})
	return n
}

// start runs s until the test ends, and waits for its subscriptions, so that nothing is published past them.
func start(t *testing.T, s *Server) {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- s.Start(t.Context()) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Errorf("Stop: %v", err)
		}
		if err := within(t, "Start has returned", ended); err != nil {
			t.Errorf("Start: %v", err)
		}
	})
	for _, sub := range s.subscriptions {
		eventually(t, sub.operation+" is connected", func() bool {
			if len(ended) > 0 {
				t.Fatalf("Start: %v", <-ended)
			}
			return sub.Connected()
		})
	}
}

func newBroker(t *testing.T, addr string, opts ...BrokerOption) *Broker {
	t.Helper()
	b, err := NewBroker(append([]BrokerOption{WithEndpoint(addr)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(context.Background()); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return b
}

func publish(t *testing.T, b *Broker, topic string, v any) {
	t.Helper()
	if err := b.Publish(t.Context(), topic, v); err != nil {
		t.Fatalf("Publish(%v): %v", v, err)
	}
}

// event is what most tests send.
type event struct {
	N    int    `json:"n"`
	Name string `json:"name,omitempty"`
}

// quick makes failures come again at once.
var quick = Backoff(time.Millisecond, 5*time.Millisecond)

// logged gathers what a server logs.
type logged struct {
	slog.Handler // nil: for the methods that nobody calls
	mu           sync.Mutex
	lines        []string
}

func (l *logged) Enabled(context.Context, slog.Level) bool { return true }
func (l *logged) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *logged) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, r.Level.String()+" "+r.Message)
	return nil
}

func (l *logged) has(line string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Contains(l.lines, line)
}

func quiet() ServerOption { return Slog(slog.New(slog.DiscardHandler)) }

// freeAddr is an address where nobody listens, and where nobody begins to: on Linux it is on a host of this process alone.
func freeAddr(t *testing.T) string {
	t.Helper()
	host := "127.0.0.1"
	if pid := os.Getpid(); runtime.GOOS == "linux" { // where all of 127.0.0.0/8 is this machine, and a pid has 22 bits
		host = net.IPv4(127, byte(64+pid>>16), byte(pid>>8), byte(pid)).String()
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(host, "0")) //nolint:noctx // closed at once
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

func toJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(err)
	}
	return string(text)
}

// depth is how many messages nsqd holds for a channel: waiting, in flight and deferred.
func depth(t *testing.T, n *queue.Server, topic, channel string) int {
	t.Helper()
	sum, _ := depths(t, n, topic, channel)
	return sum
}

func depths(t *testing.T, n *queue.Server, topic, channel string) (sum, deferred int) {
	t.Helper()
	//nolint:noctx // of a test
	resp, err := http.Get("http://" + n.HTTPAddr() + "/stats?format=json")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var stats struct {
		Topics []struct {
			Name     string `json:"topic_name"`
			Depth    int    `json:"depth"`
			Channels []struct {
				Name     string `json:"channel_name"`
				Depth    int    `json:"depth"`
				InFlight int    `json:"in_flight_count"`
				Deferred int    `json:"deferred_count"`
			} `json:"channels"`
		} `json:"topics"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&stats); err != nil {
		t.Fatal(err)
	}
	for _, topicStats := range stats.Topics {
		if topicStats.Name != topic {
			continue
		}
		sum += topicStats.Depth
		for _, c := range topicStats.Channels {
			if c.Name == channel {
				sum += c.Depth + c.InFlight + c.Deferred
				deferred += c.Deferred
			}
		}
	}
	http.DefaultClient.CloseIdleConnections()
	return sum, deferred
}
