package worker

import (
	"context"
	"testing"

	"sluice"
	"sluice/knsq"
	"sluice/queue"
)

// What a subscriber does with the event of a settlement continues the trace of the buyer who placed the order.
func TestTrace_GoesFromTheOrderToTheEventOfItsSettlement(t *testing.T) {
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	s := newShop(t, func(c *Config) { c.EventChannels = []string{"points"} })
	s.open(`{"id":"demo","stock":1,"payment_window":"10m"}`)
	events := make(chan sluice.Event, 10)
	c, err := queue.NewConsumer(queue.ConsumerConfig{
		Addr: s.nsqd, Topic: queue.TopicEvents, Channel: "points",
		Handle: func(_ context.Context, batch []*queue.Message) {
			for _, m := range batch {
				e, err := queue.DecodeEvent(m.Body)
				if got := knsq.ReadHeader(m.Body).Get("traceparent"); err != nil || got != e.Trace.Parent {
					t.Errorf("%s: the header says %q, %v", m.Body, got, err)
				}
				events <- e
				m.Finish()
			}
		},
	})
	must(t, err)
	c.Start(t.Context())
	defer func() { must(t, c.Stop(t.Context())) }()

	o := s.order("a")
	o.Trace.Parent = parent
	s.orders.Publish(o.ID, queue.AppendOrder(nil, o))
	s.settled("a", sluice.Held)
	status, out := s.call("POST", "/v1/orders/"+o.ID.String()+"/pay", `{"payment_ref":"p-1"}`, testToken)
	if status != 200 {
		t.Fatalf("pay: %d %v", status, out)
	}
	for want := map[sluice.EventType]string{sluice.EventHeld: parent, sluice.EventPaid: ""}; len(want) > 0; {
		e := <-events
		if trace, ok := want[e.Type]; ok && e.Trace.Parent != trace {
			t.Errorf("%s has the trace %q, want %q", e.Type, e.Trace.Parent, trace)
		}
		delete(want, e.Type)
	}
}
