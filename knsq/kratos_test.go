package knsq

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-kratos/kratos/v2"
	kerrors "github.com/go-kratos/kratos/v2/errors"
	"github.com/go-kratos/kratos/v2/log"
	"github.com/go-kratos/kratos/v2/metadata"
	"github.com/go-kratos/kratos/v2/middleware/logging"
	mmd "github.com/go-kratos/kratos/v2/middleware/metadata"
	"github.com/go-kratos/kratos/v2/middleware/metrics"
	"github.com/go-kratos/kratos/v2/middleware/recovery"
	"github.com/go-kratos/kratos/v2/middleware/selector"
	"github.com/go-kratos/kratos/v2/middleware/tracing"
	"github.com/go-kratos/kratos/v2/registry"
	"github.com/go-kratos/kratos/v2/transport"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

// kratosLog is a Kratos logger that gathers lines.
type kratosLog struct {
	mu    sync.Mutex
	lines []string
}

func (l *kratosLog) Log(level log.Level, keyvals ...any) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, strings.TrimSpace(fmt.Sprintln(append([]any{level}, keyvals...)...)))
	return nil
}

func (l *kratosLog) has(parts ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		all := true
		for _, part := range parts {
			all = all && strings.Contains(line, part)
		}
		if all {
			return true
		}
	}
	return false
}

func TestTracing_ContinuesFromThePublisherToTheSubscriber(t *testing.T) {
	noLeaks(t)
	nsqd := startNSQD(t)
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	t.Cleanup(func() { _ = provider.Shutdown(context.Background()) })

	s := NewServer(Address(nsqd.Addr()), quiet(), Middleware(tracing.Server(tracing.WithTracerProvider(provider))))
	seen := make(chan trace.SpanContext, 1)
	RegisterSubscriber(s, "events", "points", func(ctx context.Context, _ *event) error {
		seen <- trace.SpanContextFromContext(ctx)
		return nil
	})
	start(t, s)
	b := newBroker(t, nsqd.Addr(), WithMiddleware(tracing.Client(tracing.WithTracerProvider(provider))))
	publish(t, b, "events", event{N: 1})

	handler := within(t, "the handler's span", seen)
	eventually(t, "both spans have ended", func() bool { return len(spans.GetSpans()) == 2 })
	client, server := spans.GetSpans()[0], spans.GetSpans()[1]
	if client.SpanKind != trace.SpanKindClient {
		client, server = server, client
	}
	switch {
	case client.Name != "/events/publish" || server.Name != "/events/points":
		t.Errorf("the spans are %q and %q", client.Name, server.Name)
	case server.SpanContext.TraceID() != client.SpanContext.TraceID() || !server.SpanContext.TraceID().IsValid():
		t.Errorf("trace %v became %v", client.SpanContext.TraceID(), server.SpanContext.TraceID())
	case server.Parent.SpanID() != client.SpanContext.SpanID() || !server.Parent.IsRemote():
		t.Errorf("the subscriber's parent is %v; want the publisher's span %v", server.Parent.SpanID(), client.SpanContext.SpanID())
	case handler.SpanID() != server.SpanContext.SpanID():
		t.Errorf("the handler is in span %v; want %v", handler.SpanID(), server.SpanContext.SpanID())
	}
}

func TestMetrics_CountMessagesOnBothSides(t *testing.T) {
	noLeaks(t)
	nsqd := startNSQD(t)
	reader := sdkmetric.NewManualReader()
	meter := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("test")
	counter := func(name string) metrics.Option {
		c, err := metrics.DefaultRequestsCounter(meter, name)
		if err != nil {
			t.Fatal(err)
		}
		return metrics.WithRequests(c)
	}
	s := NewServer(Address(nsqd.Addr()), quiet(), Middleware(metrics.Server(counter("taken"))))
	done := make(chan bool, 9)
	RegisterSubscriber(s, "events", "points", func(_ context.Context, e *event) error {
		defer func() { done <- true }()
		if e.N == 2 {
			return Permanent(kerrors.Conflict("TWO", "not that one"))
		}
		return nil
	})
	start(t, s)
	b := newBroker(t, nsqd.Addr(), WithMiddleware(metrics.Client(counter("published"))))
	for n := range 4 {
		publish(t, b, "events", event{N: n})
		within(t, "a message", done)
	}
	_ = b.Publish(t.Context(), "no topic", event{})

	for _, want := range []string{
		"published nsq /events/publish 200  4", "published nsq /no topic/publish 400 NSQ_INVALID 1",
		"taken nsq /events/points 200  3", "taken nsq /events/points 409 TWO 1",
	} {
		eventually(t, want, func() bool { return counts(t, reader)[want] })
	}
}

// counts are the points of all counters: name, kind, operation, code, reason and how many.
func counts(t *testing.T, reader sdkmetric.Reader) map[string]bool {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &all); err != nil {
		t.Fatal(err)
	}
	points := map[string]bool{}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			sum, ok := m.Data.(metricdata.Sum[int64])
			if !ok {
				continue
			}
			for _, p := range sum.DataPoints {
				get := func(name string) string {
					v, _ := p.Attributes.Value(attribute.Key(name))
					return v.String()
				}
				points[fmt.Sprint(m.Name, " ", get("kind"), " ", get("operation"), " ", get("code"), " ", get("reason"), " ", p.Value)] = true
			}
		}
	}
	return points
}

func TestLogging_TellsOfEachMessage(t *testing.T) {
	noLeaks(t)
	nsqd := startNSQD(t)
	logger := &kratosLog{}
	s := NewServer(Address(nsqd.Addr()), Logger(logger), Middleware(logging.Server(logger)))
	RegisterSubscriber(s, "events", "points", func(_ context.Context, e *event) error {
		if e.N == 1 {
			return nil
		}
		return Permanent(errors.New("cannot count"))
	})
	RegisterBatch(s, "events", "batches", func(context.Context, []*Delivery[event]) error { return nil })
	start(t, s)
	b := newBroker(t, nsqd.Addr(), WithMiddleware(logging.Client(logger)), WithLogger(logger))
	publish(t, b, "events", event{N: 1})
	publish(t, b, "events", event{N: 2})
	for _, want := range [][]string{
		{"INFO", "kind client component nsq operation /events/publish"},
		{"INFO", "kind server component nsq operation /events/points", "code 200"},
		{"ERROR", "kind server component nsq operation /events/points", "code 500", "cannot count"},
		{"INFO", "operation /events/batches args batch of "},
		{"ERROR", "[NSQ] dead letter", "topic events channel points", "attempts 1", "cannot count"},
		{"INFO", "[NSQ] queue connection up"},
	} {
		eventually(t, "a line with "+strings.Join(want, " … "), func() bool { return logger.has(want...) })
	}
}

func TestRecovery_MakesAPanicAnErrorAndTheMessageComesAgain(t *testing.T) {
	for name, options := range map[string][]ServerOption{
		"with the middleware": {Middleware(recovery.Recovery())},
		"without it":          nil,
	} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			log.SetLogger(log.NewStdLogger(io.Discard))
			t.Cleanup(func() { log.SetLogger(log.DefaultLogger) })
			nsqd := startNSQD(t)
			s := NewServer(append(options, Address(nsqd.Addr()), quiet())...)
			attempts := make(chan int, 9)
			RegisterSubscriber(s, "events", "points", func(ctx context.Context, _ *event) error {
				m, _ := MessageFromContext(ctx)
				attempts <- m.Attempts
				if m.Attempts < 3 {
					panic("no")
				}
				return nil
			}, quick)
			start(t, s)
			publish(t, newBroker(t, nsqd.Addr()), "events", event{N: 1})
			for want := 1; want <= 3; want++ {
				if got := within(t, "an attempt", attempts); got != want {
					t.Errorf("attempt %d is said to be %d", want, got)
				}
			}
			eventually(t, "it is finished", func() bool { return s.subscriptions[0].InFlight() == 0 })
		})
	}
}

func TestMetadata_TravelsAndTheSelectorSeesTheOperation(t *testing.T) {
	noLeaks(t)
	nsqd := startNSQD(t)
	s := NewServer(Address(nsqd.Addr()), quiet(), Middleware(selector.Server(mmd.Server()).Path("/events/points").Build()))
	type sight struct {
		user string
		tr   transport.Transporter
	}
	seen := make(chan sight, 1)
	RegisterSubscriber(s, "events", "points", func(ctx context.Context, _ *event) error {
		md, _ := metadata.FromServerContext(ctx)
		tr, _ := transport.FromServerContext(ctx)
		tr.ReplyHeader().Set("ignored", "yes")
		seen <- sight{md.Get("x-md-global-user"), tr}
		return nil
	})
	start(t, s)
	b := newBroker(t, nsqd.Addr(), WithMiddleware(mmd.Client()))
	ctx := metadata.AppendToClientContext(t.Context(), "x-md-global-user", "u1")
	if err := b.Publish(ctx, "events", event{N: 1}); err != nil {
		t.Fatal(err)
	}
	got := within(t, "the message", seen)
	if got.user != "u1" {
		t.Errorf("the user is %q; want u1", got.user)
	}
	if tr := got.tr; tr.Kind() != KindNSQ || tr.Operation() != "/events/points" || tr.Endpoint() != "nsq://"+nsqd.Addr() {
		t.Errorf("the transport is %s %s %s", tr.Kind(), tr.Operation(), tr.Endpoint())
	}
}

func TestProtobuf_IsReadAndWrittenByTheCodec(t *testing.T) {
	noLeaks(t)
	nsqd := startNSQD(t)
	spans := sdktrace.NewTracerProvider()
	s := NewServer(Address(nsqd.Addr()), quiet())
	seen := make(chan string, 1)
	RegisterSubscriber(s, "events", "points", func(_ context.Context, e *kerrors.Status) error {
		seen <- fmt.Sprint(e.GetCode(), e.GetReason(), e.GetMetadata())
		return nil
	}, Version(3))
	start(t, s)
	b := newBroker(t, nsqd.Addr(), WithVersion(3), WithMiddleware(tracing.Client(tracing.WithTracerProvider(spans))))
	publish(t, b, "events", &kerrors.Status{Code: 7, Reason: "R", Metadata: map[string]string{"k": "x"}})
	if got, want := within(t, "the message", seen), fmt.Sprint(7, "R", map[string]string{"k": "x"}); got != want {
		t.Errorf("the message came as %s; want %s", got, want)
	}
}

// registrar keeps what it is told.
type registrar struct {
	registered chan []string
	gone       chan bool
}

func (r registrar) Register(_ context.Context, i *registry.ServiceInstance) error {
	r.registered <- i.Endpoints
	return nil
}

func (r registrar) Deregister(context.Context, *registry.ServiceInstance) error {
	r.gone <- true
	return nil
}

func TestApp_RegistersTheEndpointAndDrainsBeforeItEnds(t *testing.T) {
	for name, end := range map[string]func(app *kratos.App, cancel context.CancelFunc){
		"by Stop":                     func(app *kratos.App, _ context.CancelFunc) { _ = app.Stop() },
		"by the end of its context":   func(_ *kratos.App, cancel context.CancelFunc) { cancel() },
		"by both, as a signal may do": func(app *kratos.App, cancel context.CancelFunc) { cancel(); _ = app.Stop() },
	} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			nsqd := startNSQD(t)
			var mu sync.Mutex
			var story []string
			tell := func(what string) {
				mu.Lock()
				defer mu.Unlock()
				story = append(story, what)
			}
			s := NewServer(Address(nsqd.Addr()), quiet(), AfterStop(func(context.Context) error { tell("store closed"); return nil }))
			entered, release := make(chan context.Context), make(chan bool)
			sub := RegisterSubscriber(s, "events", "points", func(ctx context.Context, _ *event) error {
				entered <- ctx
				<-release
				tell(fmt.Sprint("handled, context ", ctx.Err()))
				return nil
			})
			reg := registrar{make(chan []string, 1), make(chan bool, 1)}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			app := kratos.New(kratos.Name("points"), kratos.Context(ctx), kratos.Server(s), kratos.Registrar(reg),
				kratos.StopTimeout(patience))
			ended := make(chan error, 1)
			go func() { ended <- app.Run() }()
			if got := within(t, "registered", reg.registered); len(got) != 1 || got[0] != "nsq://"+nsqd.Addr() {
				t.Errorf("the endpoints are %q", got)
			}
			eventually(t, "it is connected", sub.Connected)
			publish(t, newBroker(t, nsqd.Addr()), "events", event{N: 1})
			handler := within(t, "the handler runs", entered)
			if info, ok := kratos.FromContext(handler); !ok || info.Name() != "points" {
				t.Error("the handler does not know its app")
			}
			end(app, cancel)
			eventually(t, "the server is stopping", func() bool {
				s.mu.Lock()
				defer s.mu.Unlock()
				return s.stopped
			})
			close(release)
			if err := within(t, "the app has ended", ended); err != nil {
				t.Errorf("Run = %v", err)
			}
			tell("app ended")
			if got, want := strings.Join(story, "; "), "handled, context <nil>; store closed; app ended"; got != want {
				t.Errorf("it went %q; want %q", got, want)
			}
			if n := depth(t, nsqd, "events", "points"); n != 0 {
				t.Errorf("nsqd still has %d messages: what was handled was not finished", n)
			}
		})
	}
}

func TestStart_TellsOfWhatCannotBeUsed(t *testing.T) {
	for _, test := range []struct {
		name   string
		opts   []ServerOption
		topic  string
		subs   []SubscribeOption
		want   string
		forReg bool // Endpoint says it too
	}{
		{"no address", []ServerOption{Address()}, "t", nil, "no address", true},
		{"no port", []ServerOption{Address("host")}, "t", nil, `"host": want host:port`, true},
		{"a bad topic", nil, "a b", []SubscribeOption{DeadTopic("d")}, `subscribe to /a b/c: consumer: topic "a b"`, false},
		{"a long topic", nil, strings.Repeat("t", 62), nil, "DeadTopic names another", false},
		{"its own dead topic", nil, "t", []SubscribeOption{DeadTopic("t")}, "the one that they come from", false},
		{"no workers", nil, "t", []SubscribeOption{Workers(0)}, "0 workers: want 1 to", false},
		{"a batch of none", nil, "t", []SubscribeOption{Batch(-1)}, "a batch of -1", false},
		{"no window", nil, "t", []SubscribeOption{MaxInFlight(-1)}, "-1 messages in flight", false},
		{"a long message timeout", nil, "t", []SubscribeOption{MsgTimeout(time.Hour)}, "want 1s to 15m", false},
		{"too long a timeout", []ServerOption{Timeout(12 * time.Minute)}, "t", nil, "message timeout 16m0s: want 1s to 15m", false},
		{
			"a timeout beyond the message's", nil, "t",
			[]SubscribeOption{MsgTimeout(time.Minute), HandlerTimeout(time.Minute)},
			"want less than the message timeout of 1m", false,
		},
		{"a flush in the past", nil, "t", []SubscribeOption{Flush(-1)}, "flush -1ns", false},
		{"attempts below none", nil, "t", []SubscribeOption{MaxAttempts(-1)}, "-1 attempts", false},
		{"no backoff", nil, "t", []SubscribeOption{Backoff(0, 1)}, "backoff 0s to 1ns", false},
		{"a backwards backoff", nil, "t", []SubscribeOption{Backoff(2, 1)}, "the shorter one first", false},
	} {
		s := NewServer(append(test.opts, quiet())...)
		sub := RegisterBatch(s, test.topic, "c", func(context.Context, []*Delivery[event]) error { return nil }, test.subs...)
		err := s.Start(t.Context())
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: Start = %v; want an error with %q", test.name, err, test.want)
		}
		if _, err := s.Endpoint(); (err != nil) != test.forReg {
			t.Errorf("%s: Endpoint's error is %v", test.name, err)
		}
		if (sub.Err() == nil) != test.forReg {
			t.Errorf("%s: the subscription's error is %v", test.name, sub.Err())
		}
		_ = s.Stop(t.Context())
	}
	s := NewServer(quiet())
	RegisterSubscriber(s, "t", "c", func(context.Context, *event) error { return nil })
	if err := s.Stop(t.Context()); err != nil {
		t.Errorf("Stop before Start = %v", err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Errorf("Start after Stop = %v", err)
	}
}
