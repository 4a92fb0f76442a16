package knsq

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/internal/calm"
)

func TestSubscriber_TakesBodiesOfAnyOrigin(t *testing.T) {
	noLeaks(t)
	nsqd := startNSQD(t)
	s := NewServer(Address(nsqd.Addr()), quiet())
	typed, raw, text := make(chan event, 9), make(chan string, 9), make(chan string, 9)
	RegisterSubscriber(s, "events", "typed", func(_ context.Context, e *event) error { typed <- *e; return nil })
	RegisterSubscriber(s, "events", "raw", func(_ context.Context, b *[]byte) error { raw <- string(*b); return nil })
	RegisterSubscriber(s, "events", "text", func(_ context.Context, r *json.RawMessage) error { text <- string(*r); return nil })
	start(t, s)
	b := newBroker(t, nsqd.Addr())
	for _, body := range []string{`{"n":1,"name":"x"}`, `{"n":1,"name":"x","later":[1],"trace":7}`} {
		publish(t, b, "events", []byte(body))
		if got, want := within(t, "typed", typed), (event{1, "x"}); got != want {
			t.Errorf("%s came as %+v; want %+v", body, got, want)
		}
		if got := within(t, "raw", raw); got != body {
			t.Errorf("raw, %s came as %s", body, got)
		}
		if got := within(t, "text", text); got != body {
			t.Errorf("as json.RawMessage, %s came as %s", body, got)
		}
	}
	publish(t, b, "events", []byte("\x00no JSON"))
	if got := within(t, "raw", raw); got != "\x00no JSON" {
		t.Errorf("what is no JSON came as %q", got)
	}
}

func TestSubscriber_RetriesThenBuriesInATopicOfItsOwn(t *testing.T) {
	noLeaks(t)
	nsqd := startNSQD(t)
	logs := &logged{}
	s := NewServer(Address(nsqd.Addr()), Slog(slog.New(logs)))
	var attempts atomic.Int32
	RegisterSubscriber(s, "events", "points", func(_ context.Context, e *event) error {
		attempts.Add(1)
		if e.N == 2 {
			return Permanent(errors.New("no such buyer"))
		}
		return errors.New("not now")
	}, quick, MaxAttempts(3), Version(1))
	dead := make(chan string, 9)
	RegisterSubscriber(s, "events.points.dead", "look", func(_ context.Context, b *[]byte) error { dead <- string(*b); return nil })
	start(t, s)
	b := newBroker(t, nsqd.Addr())
	for _, test := range []struct {
		name, body string
		attempts   int32
	}{
		{"a handler that fails", `{"v":1,"n":1}`, 3},
		{"a permanent error", `{"v":1,"n":2}`, 1},
		{"a body that can't be decoded", `{"v":1,"n":"three"}`, 0},
		{"a later version", `{"v":2,"n":4}`, 0},
		{"no version", `{"n":5}`, 0},
		{"no JSON", "no JSON", 0},
	} {
		attempts.Store(0)
		publish(t, b, "events", []byte(test.body))
		if got := within(t, test.name, dead); got != test.body || attempts.Load() != test.attempts {
			t.Errorf("%s: the dead letter is %s after %d attempts; want %s after %d", test.name, got, attempts.Load(), test.body, test.attempts)
		}
	}
	eventually(t, "nothing is left", func() bool { return depth(t, nsqd, "events", "points") == 0 })
	if !logs.has("ERROR dead letter") || !logs.has("WARN a message could not be handled; it comes again") {
		t.Errorf("the log says %q", logs.lines)
	}
}

func TestDeadLetter_IsKeptUntilItsHookHasTakenIt(t *testing.T) {
	noLeaks(t)
	nsqd := startNSQD(t)
	s := NewServer(Address(nsqd.Addr()), quiet())
	letters := make(chan Letter, 9)
	var calls atomic.Int32
	RegisterSubscriber(s, "events", "points", func(context.Context, *event) error { return errors.New("never") },
		quick, MaxAttempts(2), DeadLetter(func(_ context.Context, l Letter) error {
			letters <- l
			switch calls.Add(1) {
			case 1:
				return errors.New("the store is down")
			case 2:
				panic("the hook is broken")
			}
			return nil
		}))
	start(t, s)
	publish(t, newBroker(t, nsqd.Addr()), "events", event{N: 1})
	for want := 2; want <= 4; want++ {
		l := within(t, "a letter", letters)
		if l.Topic != "events" || l.Channel != "points" || len(l.ID) != 16 || string(l.Body) != `{"n":1}` || l.Attempts != want ||
			fmt.Sprint(l.Err) != "never" {
			t.Errorf("the letter is %+v; want one after %d attempts", l, want)
		}
	}
	eventually(t, "nothing is left", func() bool { return depth(t, nsqd, "events", "points") == 0 })
	if n := calls.Load(); n != 3 {
		t.Errorf("the hook was called %d times; want 3", n)
	}
}

func TestSubscriber_OneBadMessageDoesNotSlowTheOthers(t *testing.T) {
	noLeaks(t)
	nsqd := startNSQD(t)
	s := NewServer(Address(nsqd.Addr()), quiet())
	var good sync.Map
	var handled atomic.Int32
	failed := make(chan bool, 1000)
	RegisterSubscriber(s, "events", "points", func(_ context.Context, e *event) error {
		if e.N == 0 {
			failed <- true
			return errors.New("always")
		}
		if _, twice := good.LoadOrStore(e.N, true); !twice {
			handled.Add(1)
		}
		return nil
	}, Backoff(time.Minute, time.Minute), MaxAttempts(0))
	start(t, s)
	b := newBroker(t, nsqd.Addr())
	publish(t, b, "events", event{})
	within(t, "the bad one has failed", failed)
	const others = 300
	for n := 1; n <= others; n++ {
		publish(t, b, "events", event{N: n})
	}
	eventually(t, "the others are handled", func() bool { return handled.Load() == others })
	eventually(t, "nsqd has the bad one alone", func() bool { // what is handled is finished a moment later
		sum, deferred := depths(t, nsqd, "events", "points")
		return sum == 1 && deferred == 1
	})
}

func TestSubscriber_MayAnswerItsMessageItself(t *testing.T) {
	noLeaks(t)
	nsqd := startNSQD(t)
	s := NewServer(Address(nsqd.Addr()), quiet())
	came := make(chan int, 9)
	RegisterSubscriber(s, "events", "points", func(ctx context.Context, e *event) error {
		m, _ := MessageFromContext(ctx)
		came <- m.Attempts
		if e.N == 1 && m.Attempts == 1 {
			m.Requeue(0)
			return nil
		}
		m.Finish()
		return Permanent(errors.New("too late"))
	}, quick, DeadLetter(func(_ context.Context, l Letter) error {
		t.Errorf("a message that its handler has finished is a dead letter: %+v", l)
		return nil
	}))
	start(t, s)
	b := newBroker(t, nsqd.Addr())
	publish(t, b, "events", event{N: 1})
	if first, second := within(t, "the first time", came), within(t, "the second time", came); first != 1 || second != 2 {
		t.Errorf("it came as attempts %d and %d", first, second)
	}
	eventually(t, "nothing is left", func() bool { return depth(t, nsqd, "events", "points") == 0 })
	if len(came) > 0 {
		t.Error("a message that was finished came again")
	}
}

func TestTimeout_EndsTheHandlersContext(t *testing.T) {
	noLeaks(t)
	nsqd := startNSQD(t)
	s := NewServer(Address(nsqd.Addr()), quiet(), Timeout(20*time.Millisecond))
	errs := make(chan error, 9)
	RegisterSubscriber(s, "events", "points", func(ctx context.Context, _ *event) error {
		m, _ := MessageFromContext(ctx)
		if m.Attempts > 1 {
			return nil
		}
		<-ctx.Done()
		errs <- ctx.Err()
		return ctx.Err()
	}, quick)
	free := RegisterSubscriber(s, "events", "free", func(ctx context.Context, _ *event) error {
		if d, ok := ctx.Deadline(); ok {
			t.Errorf("a handler without a timeout has until %v", d)
		}
		return nil
	}, HandlerTimeout(NoTimeout))
	start(t, s)
	publish(t, newBroker(t, nsqd.Addr()), "events", event{N: 1})
	if err := within(t, "the timeout", errs); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the context ended with %v", err)
	}
	eventually(t, "both are finished", func() bool {
		return depth(t, nsqd, "events", "points")+depth(t, nsqd, "events", "free")+free.InFlight() == 0
	})
}

func TestMessages_ThatWaitedForTheirHandlerHaveTheWholeTimeout(t *testing.T) {
	noLeaks(t)
	calm.Play(t, 100*time.Millisecond, func(complain calm.Complain) { handleTwoSlowly(t, complain) })
}

func handleTwoSlowly(t *testing.T, complain calm.Complain) {
	t.Helper()
	nsqd := startNSQD(t)
	s := NewServer(Address(nsqd.Addr()), quiet())
	var mu sync.Mutex
	came := map[int]int{}
	sub := RegisterSubscriber(s, "events", "points", func(_ context.Context, e *event) error {
		time.Sleep(700 * time.Millisecond)
		mu.Lock()
		defer mu.Unlock()
		came[e.N]++
		return nil
	}, MsgTimeout(time.Second), MaxInFlight(2))
	start(t, s)
	b := newBroker(t, nsqd.Addr())
	publish(t, b, "events", event{N: 1})
	publish(t, b, "events", event{N: 2})
	eventually(t, "both are handled", func() bool {
		return depth(t, nsqd, "events", "points") == 0 && sub.InFlight() == 0
	})
	mu.Lock()
	defer mu.Unlock()
	if came[1] != 1 || came[2] != 1 {
		complain("the messages came %v times; want once each", came)
	}
}

func TestBatch_HandlerAnswersEachAndItsErrorTheRest(t *testing.T) {
	noLeaks(t)
	nsqd := startNSQD(t)
	dead := make(chan string, 9)
	s := NewServer(Address(nsqd.Addr()), quiet())
	type sight struct{ n, attempts int }
	var mu sync.Mutex
	seen := map[sight]int{}
	var largest int
	sub := RegisterBatch(s, "events", "points", func(_ context.Context, batch []*Delivery[event]) error {
		mu.Lock()
		defer mu.Unlock()
		largest = max(largest, len(batch))
		failed := false
		for _, d := range batch {
			seen[sight{d.Value.N, d.Attempts}]++
			if d.Header.Get("traceparent") != fmt.Sprint("p", d.Value.N) {
				t.Errorf("message %d has the header %v", d.Value.N, d.Header)
			}
			switch {
			case d.Value.N == 0:
				d.Finish()
			case d.Value.N == 1 && d.Attempts == 1:
				d.Requeue(time.Millisecond)
			default:
				failed = failed || d.Attempts == 1
			}
		}
		if failed {
			return errors.New("the rest")
		}
		return nil
	}, quick, Batch(4), Flush(200*time.Millisecond), MaxInFlight(100), DeadLetter(func(_ context.Context, l Letter) error {
		dead <- string(l.Body)
		return nil
	}))
	sub.SetMaxInFlight(0)
	start(t, s)
	b := newBroker(t, nsqd.Addr())
	publish(t, b, "events", []byte("no JSON"))
	for n := range 7 {
		publish(t, b, "events", []byte(fmt.Sprintf(`{"n":%d,"trace":{"traceparent":"p%d"}}`, n, n)))
	}
	sub.SetMaxInFlight(8)
	if got := within(t, "the dead letter", dead); got != "no JSON" {
		t.Errorf("the dead letter is %s", got)
	}
	eventually(t, "nothing is left", func() bool { return depth(t, nsqd, "events", "points") == 0 })
	mu.Lock()
	defer mu.Unlock()
	if seen[sight{0, 1}] != 1 || seen[sight{0, 2}] != 0 || seen[sight{1, 2}] != 1 || largest > 4 || largest < 2 {
		t.Errorf("in batches of up to %d came %v", largest, seen)
	}
	again := 0
	for n := 2; n < 7; n++ {
		if seen[sight{n, 1}] != 1 {
			t.Errorf("message %d came %d times at first", n, seen[sight{n, 1}])
		}
		again += seen[sight{n, 2}]
	}
	if again == 0 {
		t.Errorf("of the rest none came again: %v", seen)
	}
}

func TestRawBatch_LeavesBodiesAlone(t *testing.T) {
	noLeaks(t)
	nsqd := startNSQD(t)
	s := NewServer(Address(nsqd.Addr()), quiet())
	bodies := make(chan string, 9)
	RegisterRawBatch(s, "events", "points", func(_ context.Context, batch []*Message) error {
		for _, m := range batch {
			bodies <- fmt.Sprint(m.Attempts, " ", string(m.Body))
			if m.Attempts == 1 {
				m.Requeue(0)
			}
		}
		return nil
	})
	start(t, s)
	publish(t, newBroker(t, nsqd.Addr()), "events", []byte("\xff"))
	if first, second := within(t, "it", bodies), within(t, "it again", bodies); first != "1 \xff" || second != "2 \xff" {
		t.Errorf("came %q and %q", first, second)
	}
	eventually(t, "nothing is left", func() bool { return depth(t, nsqd, "events", "points") == 0 })
}

func TestSubscription_ItsWindowChangesWhileItRuns(t *testing.T) {
	noLeaks(t)
	first, second := startNSQD(t), startNSQD(t)
	s := NewServer(Address(first.Addr(), second.Addr()), quiet())
	release := make(chan bool)
	var handled atomic.Int32
	sub := RegisterSubscriber(s, "events", "points", func(ctx context.Context, _ *event) error {
		select {
		case <-release:
		case <-ctx.Done():
		}
		handled.Add(1)
		return nil
	}, Workers(8), MaxInFlight(5))
	start(t, s)
	if n := sub.MaxInFlight(); n != 5 {
		t.Errorf("MaxInFlight() = %d; want 5", n)
	}
	for _, n := range []interface{ Addr() string }{first, second} {
		b := newBroker(t, n.Addr())
		for range 10 {
			publish(t, b, "events", event{N: 1})
		}
	}
	eventually(t, "the window is full", func() bool { return sub.InFlight() == 5 })
	sub.SetMaxInFlight(0)
	if n := sub.MaxInFlight(); n != 0 {
		t.Errorf("MaxInFlight() = %d; want 0", n)
	}
	close(release)
	eventually(t, "nothing is in flight", func() bool { return sub.InFlight() == 0 })
	paused := handled.Load()
	time.Sleep(50 * time.Millisecond)
	if n := handled.Load(); n != paused {
		t.Errorf("a paused subscription went from %d to %d messages", paused, n)
	}
	sub.SetMaxInFlight(1) // one each: neither nsqd may starve
	eventually(t, "all are handled", func() bool { return handled.Load() >= 20 })
}

func TestShare_MakesUpAllOfIt(t *testing.T) {
	for _, test := range []struct {
		all, n int
		want   string
	}{{5, 1, "[5]"}, {5, 2, "[3 2]"}, {6, 3, "[2 2 2]"}, {1, 3, "[1 1 1]"}, {0, 2, "[0 0]"}} {
		shares := make([]int, test.n)
		for i := range shares {
			shares[i] = share(test.all, i, test.n)
		}
		if got := fmt.Sprint(shares); got != test.want {
			t.Errorf("%d shared by %d = %s; want %s", test.all, test.n, got, test.want)
		}
	}
}

func TestBackoff_DoublesUpToItsMost(t *testing.T) {
	r := &route{set: settings{leastBackoff: time.Second, mostBackoff: 10 * time.Second}}
	for attempts, want := range map[int]time.Duration{
		0: time.Second, 1: time.Second, 2: 2 * time.Second, 4: 8 * time.Second, 5: 10 * time.Second, 60_000: 10 * time.Second,
	} {
		for range 100 {
			if got := r.backoff(attempts); got < want/2 || got > want {
				t.Fatalf("backoff(%d) = %v; want %v to %v", attempts, got, want/2, want)
			}
		}
	}
}

func TestStop_PutsBackWhatNobodyHasBegun(t *testing.T) {
	noLeaks(t)
	nsqd := startNSQD(t)
	s := NewServer(Address(nsqd.Addr()), quiet())
	entered, release := make(chan bool, 9), make(chan bool)
	sub := RegisterSubscriber(s, "events", "points", func(context.Context, *event) error {
		entered <- true
		<-release
		return nil
	}, MaxInFlight(5))
	start(t, s)
	b := newBroker(t, nsqd.Addr())
	for range 5 {
		publish(t, b, "events", event{N: 1})
	}
	within(t, "a handler runs", entered)
	eventually(t, "all are taken", func() bool { return sub.InFlight() == 5 })
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop(context.Background()) }()
	eventually(t, "the others are put back", func() bool { return sub.InFlight() == 1 })
	close(release)
	if err := within(t, "Stop", stopped); err != nil {
		t.Errorf("Stop = %v", err)
	}
	if n := depth(t, nsqd, "events", "points"); n != 4 || len(entered) != 0 {
		t.Errorf("nsqd has %d messages; want 4; %d more handlers ran", n, len(entered))
	}
}

func TestStop_HeedsItsDeadlineAndStillClosesTheStore(t *testing.T) {
	noLeaks(t)
	calm.Play(t, 300*time.Millisecond, func(complain calm.Complain) { stopWhileAHandlerRuns(t, complain) })
}

func stopWhileAHandlerRuns(t *testing.T, complain calm.Complain) {
	t.Helper()
	nsqd := startNSQD(t)
	var order []string
	s := NewServer(Address(nsqd.Addr()), quiet(),
		AfterStop(func(context.Context) error { order = append(order, "store"); return errors.New("it would not close") }),
		AfterStop(func(context.Context) error { order = append(order, "cache"); return nil }))
	entered := make(chan bool, 9)
	RegisterSubscriber(s, "events", "points", func(ctx context.Context, _ *event) error {
		entered <- true
		<-ctx.Done()
		return Permanent(ctx.Err())
	}, DeadLetter(func(_ context.Context, l Letter) error {
		t.Errorf("a message that Stop cut short is a dead letter: %+v", l)
		return nil
	}))
	ended := make(chan error, 1)
	go func() { ended <- s.Start(t.Context()) }()
	publish(t, newBroker(t, nsqd.Addr()), "events", event{N: 1})
	within(t, "the handler runs", entered)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if len(ended) > 0 {
		t.Error("Start has returned before Stop was called")
	}
	began := time.Now()
	err := s.Stop(ctx)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(fmt.Sprint(err), "it would not close") {
		t.Errorf("Stop = %v; want the deadline and what AfterStop said", err)
	}
	if took := time.Since(began); took > 2*time.Second {
		complain("Stop took %v", took)
	}
	if got := strings.Join(order, " "); got != "cache store" {
		t.Errorf("closed: %s", got)
	}
	if err := within(t, "Start has returned", ended); err != nil {
		t.Errorf("Start = %v", err)
	}
	eventually(t, "nsqd has it back", func() bool { return depth(t, nsqd, "events", "points") == 1 })
	if err := s.Stop(t.Context()); err != nil {
		t.Errorf("Stop again = %v", err)
	}
}

func TestRegister_AfterStartIsSaidToBeUseless(t *testing.T) {
	noLeaks(t)
	nsqd := startNSQD(t)
	logs := &logged{}
	s := NewServer(Address(nsqd.Addr()), Slog(slog.New(logs)))
	RegisterSubscriber(s, "events", "points", func(context.Context, *event) error { return nil })
	start(t, s)
	sub := RegisterSubscriber(s, "events", "late", func(context.Context, *event) error { return nil })
	if !logs.has("ERROR registered after Start: it takes no messages") || sub.Connected() {
		t.Errorf("the log says %q", logs.lines)
	}
}
