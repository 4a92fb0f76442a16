package queue

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func dialBatches(t *testing.T, addr string, deadline time.Duration) *Batches {
	t.Helper()
	b, err := DialBatches(t.Context(), addr, nil, deadline)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func numbered(from, to int) [][]byte {
	var bodies [][]byte
	for n := from; n < to; n++ {
		bodies = append(bodies, fmt.Appendf(nil, "%06d", n))
	}
	return bodies
}

func TestBatches_ArriveInOrder(t *testing.T) {
	noLeaks(t)
	server := startServer(t, ServerConfig{Channels: settle})
	b := dialBatches(t, server.Addr(), patience)
	for from := 0; from < 5000; from += 2500 { // more than one MPUB each
		if err := b.Publish(t.Context(), TopicOrders, numbered(from, from+2500)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Publish(t.Context(), TopicOrders, nil); err != nil {
		t.Errorf("a batch of none: %v", err)
	}
	var in inbox
	startConsumer(t, ConsumerConfig{Addr: server.Addr(), Workers: 1, Handle: in.finish})
	eventually(t, "all have come", func() bool { return in.distinct() == 5000 })
	if !slices.IsSortedFunc(in.all, func(a, b *Message) int { return bytes.Compare(a.Body, b.Body) }) {
		t.Error("they came in another order")
	}
}

func TestBatches_SayWhatIsWrong(t *testing.T) {
	noLeaks(t)
	server := startServer(t, ServerConfig{Channels: settle})
	for _, test := range []struct {
		name, topic string
		bodies      [][]byte
		want        string
	}{
		{"a bad topic", "a b", numbered(0, 1), `topic "a b"`},
		{"an empty body", "t", [][]byte{[]byte("x"), nil}, "0 bytes"},
		{"too long a body", "t", [][]byte{make([]byte, MaxMessageBytes+1)}, "1048577 bytes"},
	} {
		b := dialBatches(t, server.Addr(), patience)
		if err := b.Publish(t.Context(), test.topic, test.bodies); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v; want %q", test.name, err, test.want)
		}
		within(t, "the end of the connection", b.Broken())
		if err := b.Publish(t.Context(), "t", numbered(0, 1)); err == nil {
			t.Errorf("%s: a broken connection publishes", test.name)
		}
	}
	if _, err := DialBatches(t.Context(), freeAddr(t), nil, time.Second); err == nil {
		t.Error("nobody listens, and it is dialled")
	}
}

func TestBatches_WaitNoLongerThanTheirDeadlineOrContext(t *testing.T) {
	noLeaks(t)
	server := startServer(t, ServerConfig{Channels: settle})
	proxy := startProxy(t, server.Addr())
	for name, limit := range map[string]struct{ deadline, context time.Duration }{
		"deadline": {50 * time.Millisecond, patience}, "context": {patience, 50 * time.Millisecond},
	} {
		b := dialBatches(t, proxy.addr(), patience)
		b.deadline = limit.deadline // of the batch, not of the handshake before
		proxy.freeze(true)
		ctx, cancel := context.WithTimeout(t.Context(), limit.context)
		began := time.Now()
		if err := b.Publish(ctx, TopicOrders, numbered(0, 1)); err == nil {
			t.Errorf("%s: a frozen nsqd took it", name)
		}
		if took := time.Since(began); took > patience/2 {
			t.Errorf("%s: it took %v", name, took)
		}
		cancel()
		within(t, "the end of the connection", b.Broken())
		proxy.freeze(false)
	}
	b := dialBatches(t, proxy.addr(), patience)
	proxy.cut()
	within(t, "the news that nsqd is gone", b.Broken())
}

func TestProbeTopic_TellsHowDeepItsChannelsAre(t *testing.T) {
	noLeaks(t)
	server := startServer(t, ServerConfig{HTTP: "127.0.0.1:0"})
	probe := func() Topic {
		topic, err := ProbeTopic(t.Context(), server.HTTPAddr(), nil, TopicEvents)
		if err != nil {
			t.Fatal(err)
		}
		return topic
	}
	if topic := probe(); len(topic.Channels) != 0 {
		t.Errorf("a topic that does not exist: %+v", topic)
	}
	b := dialBatches(t, server.Addr(), patience)
	if err := b.Publish(t.Context(), TopicEvents, numbered(0, 3)); err != nil {
		t.Fatal(err)
	}
	if topic := probe(); topic.Depth != 3 {
		t.Errorf("without a channel: %+v", topic)
	}
	for _, channel := range []string{"a", "b"} {
		if err := EnsureChannel(t.Context(), server.Addr(), nil, TopicEvents, channel); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "both have it all", func() bool { topic := probe(); return topic.Depth == 0 && topic.Channels["a"] > 0 })
	startConsumer(t, ConsumerConfig{Addr: server.Addr(), Topic: TopicEvents, Channel: "b", Handle: (&inbox{}).finish})
	if err := b.Publish(t.Context(), TopicEvents, numbered(3, 10)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "b is read", func() bool { topic := probe(); return topic.Channels["b"] == 0 && topic.Channels["a"] >= 7 })
	if name, n := probe().Deepest(); name != "a" || n < 7 {
		t.Errorf("deepest is %s with %d", name, n)
	}
	if _, err := ProbeTopic(t.Context(), freeAddr(t), nil, TopicEvents); err == nil {
		t.Error("nobody answers, and that is no error")
	}
}

func TestIdentify_NamesALifeOfAnNsqd(t *testing.T) {
	noLeaks(t)
	dir := t.TempDir()
	names := map[string]bool{}
	for range 2 {
		server := startServer(t, ServerConfig{HTTP: "127.0.0.1:0", DataDir: dir})
		name, started, err := Identify(t.Context(), server.HTTPAddr(), nil)
		if again, _, _ := Identify(t.Context(), server.HTTPAddr(), nil); err != nil || name != again || time.Since(started) > patience {
			t.Errorf("%q, then %q, started %v, %v", name, again, started, err)
		}
		names[name] = true
		stopServer(t, server)
		time.Sleep(time.Until(started.Add(time.Second))) // its start is told in whole seconds
	}
	if len(names) != 2 {
		t.Errorf("two lives have the names %v", names)
	}
	if _, _, err := Identify(t.Context(), freeAddr(t), nil); err == nil {
		t.Error("nobody answers, and that is no error")
	}
}

func TestHoldChannel_KeepsAnEphemeralOneAlive(t *testing.T) {
	noLeaks(t)
	server := startServer(t, ServerConfig{HTTP: "127.0.0.1:0"})
	there := func() bool {
		topic, err := ProbeTopic(t.Context(), server.HTTPAddr(), nil, TopicEvents)
		if err != nil {
			t.Fatal(err)
		}
		_, ok := topic.Channels["a#ephemeral"]
		return ok
	}
	release, err := HoldChannel(t.Context(), server.Addr(), nil, TopicEvents, "a#ephemeral")
	if err != nil {
		t.Fatal(err)
	}
	b := dialBatches(t, server.Addr(), patience)
	if err := b.Publish(t.Context(), TopicEvents, numbered(0, 10)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the first consumer leaves again
		var in inbox
		c := startConsumer(t, ConsumerConfig{Addr: server.Addr(), Topic: TopicEvents, Channel: "a#ephemeral", Handle: in.finish})
		eventually(t, "it is read", func() bool { return in.distinct() == 10 })
		if err := c.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := b.Publish(t.Context(), TopicEvents, numbered(10, 20)); err != nil || !there() {
			t.Fatalf("publish: %v; the channel is there: %v", err, there())
		}
	}
	release()
	eventually(t, "it is gone", func() bool { return !there() })
	for _, bad := range []string{"", "a b", strings.Repeat("x", 65)} {
		if _, err := HoldChannel(t.Context(), server.Addr(), nil, TopicEvents, bad); err == nil {
			t.Errorf("channel %q is made", bad)
		}
	}
}
