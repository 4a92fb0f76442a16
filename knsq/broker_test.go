package knsq

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	kerrors "github.com/go-kratos/kratos/v2/errors"
	"github.com/go-kratos/kratos/v2/middleware"
)

func TestBroker_DefersADelivery(t *testing.T) {
	noLeaks(t)
	nsqd := startNSQD(t)
	s := NewServer(Address(nsqd.Addr()), quiet())
	came := make(chan time.Time, 9)
	RegisterSubscriber(s, "events", "points", func(context.Context, *event) error { came <- time.Now(); return nil })
	start(t, s)
	b := newBroker(t, nsqd.Addr())
	const delay = 300 * time.Millisecond
	began := time.Now()
	if err := b.PublishDeferred(t.Context(), "events", event{N: 1}, delay); err != nil {
		t.Fatal(err)
	}
	if took := within(t, "the message", came).Sub(began); took < delay {
		t.Errorf("deferred by %v, it came after %v", delay, took)
	}
}

func TestBroker_ErrorsSayWhetherAnythingWasSent(t *testing.T) {
	noLeaks(t)
	nsqd := startNSQD(t)
	ok, nobody := newBroker(t, nsqd.Addr()), newBroker(t, freeAddr(t), WithTimeout(50*time.Millisecond))
	silentAddr, untilHeard := startSilentNSQD(t)
	silent, err := NewBroker(WithEndpoint(silentAddr), WithTimeout(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		silent.timeout = 50 * time.Millisecond // until now it had the time to reach the wire
		if err := silent.Close(context.Background()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close while an answer is missing = %v; want the deadline", err)
		}
	}()
	for _, test := range []struct {
		name   string
		b      *Broker
		topic  string
		v      any
		delay  time.Duration
		kind   error
		code   int
		reason string
	}{
		{"a bad topic", ok, "a b", event{}, 0, ErrInvalid, 400, "NSQ_INVALID"},
		{"no body", ok, "t", []byte{}, 0, ErrInvalid, 400, "NSQ_INVALID"},
		{"too long a body", ok, "t", strings.Repeat("x", 1<<20), 0, ErrInvalid, 400, "NSQ_INVALID"},
		{"what is no JSON", ok, "t", func() {}, 0, ErrInvalid, 400, "NSQ_INVALID"},
		{"too long a deferral", ok, "t", event{}, MaxDefer + 1, ErrInvalid, 400, "NSQ_INVALID"},
		{"nobody there", nobody, "t", event{}, 0, ErrNotSent, 503, "NSQ_NOT_SENT"},
		{"no answer", silent, "t", event{}, 0, ErrAmbiguous, 504, "NSQ_AMBIGUOUS"},
	} {
		ctx := t.Context()
		if test.b == silent {
			ctx = untilHeard
		}
		err := test.b.PublishDeferred(ctx, test.topic, test.v, test.delay)
		if !errors.Is(err, test.kind) || kerrors.Code(err) != test.code || kerrors.Reason(err) != test.reason {
			t.Errorf("%s: %v; want %d %s", test.name, err, test.code, test.reason)
		}
		for _, other := range []error{ErrInvalid, ErrNotSent, ErrAmbiguous} {
			if errors.Is(err, other) && !errors.Is(other, test.kind) {
				t.Errorf("%s: it is %v too", test.name, other)
			}
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := nobody.Publish(ctx, "t", event{}); !errors.Is(err, ErrNotSent) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with a short context: %v", err)
	}
	for _, opt := range []BrokerOption{WithEndpoint("nowhere"), WithTimeout(0)} {
		if _, err := NewBroker(opt); err == nil || !strings.Contains(err.Error(), "want") {
			t.Errorf("NewBroker = %v; want an error that says what is wanted", err)
		}
	}
}

// startSilentNSQD greets whoever comes, and then says nothing any more. The context ends when it has heard something else.
func startSilentNSQD(t *testing.T) (addr string, untilHeard context.Context) {
	t.Helper()
	untilHeard, heard := context.WithCancel(t.Context())
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // closed by the test
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer func() { _ = conn.Close() }()
				r := greet(conn)
				_, _ = r.ReadByte()
				heard()
				_, _ = io.Copy(io.Discard, r) // until the client goes
			})
		}
	})
	t.Cleanup(conns.Wait)
	t.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().String(), untilHeard
}

func greet(conn net.Conn) *bufio.Reader {
	r := bufio.NewReader(conn)
	_, _ = r.ReadString('\n') // "  V2IDENTIFY\n"
	var size uint32
	_ = binary.Read(r, binary.BigEndian, &size)
	_, _ = r.Discard(int(size))
	answer := []byte("\x00\x00\x00\x00{}")
	_ = binary.Write(conn, binary.BigEndian, uint32(len(answer)))
	_, _ = conn.Write(answer)
	return r
}

func TestBroker_RunsItsMiddlewaresInOrder(t *testing.T) {
	noLeaks(t)
	nsqd := startNSQD(t)
	var order []string
	note := func(name string) middleware.Middleware {
		return func(next middleware.Handler) middleware.Handler {
			return func(ctx context.Context, req any) (any, error) {
				order = append(order, name)
				return next(ctx, req)
			}
		}
	}
	publish(t, newBroker(t, nsqd.Addr(), WithMiddleware(note("a"), note("b"))), "events", event{N: 1})
	if got := strings.Join(order, " "); got != "a b" {
		t.Errorf("they ran as %q", got)
	}
}
