package faulttest

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nsqio/go-nsq"
)

// nsqd is killed while the relay publishes, killed and robbed of its data directory, and killed once more when all is
// published and one of three subscribers has yet to come. In the end each has every event of every order and of the sale,
// and GET /v1/events has the same without a gap.
func TestKill_NSQDAfterTheRelayPublished(t *testing.T) {
	everywhere(t, func(s scene) {
		t := s.t
		const stock, count = 350, 450
		p := launchParts(t, s, "5000", "--drain-rate", "800", "--events-channels", "points,coupons,latecomer")
		openSaleWith(t, p.admin, saleID, stock, payLimit, payWindow, p.door)
		points, coupons := subscribe(t, p.nsqdAddress, "points"), subscribe(t, p.nsqdAddress, "coupons")

		b := newShoppers(newBuyers(p.door, saleID, count, 300, 150), p.admin, payWindow, s.random)
		defer b.keep(t, s.dir)
		at := []int64{between(s.random, 60, 150), between(s.random, 200, 320)}
		marks := []<-chan struct{}{b.whenAccepted(at[0]), b.whenAccepted(at[1])}
		rushWith(t, b.buyers, func(ctx context.Context) {
			for i, robbed := range []bool{false, true} {
				await(ctx, t, b.buyers, marks[i])
				published := points.hears(ctx, t)
				p.killNSQD(t, robbed)
				t.Logf("nsqd killed after %d accepted orders and %d events, its data deleted: %v", at[i], published, robbed)
			}
		})
		ready(t, p.door)
		b.judge(t, s.store)
		endSale(t, p.admin)

		kept := allEvents(t, p.admin)
		points.waitFor(t, kept)
		p.killNSQD(t, false) // with it goes all that the latecomer's channel held
		latecomer := subscribe(t, p.nsqdAddress, "latecomer")
		for _, s := range []*subscriber{latecomer, points, coupons} {
			s.waitFor(t, kept)
			s.compare(t, kept)
			t.Logf("%s: %d events in %d messages", s.name, len(kept), s.messages)
		}
		judgeEvents(t, kept, s.store)
	})
}

func (p parts) killNSQD(t *testing.T, robbed bool) {
	t.Helper()
	p.nsqd.kill(t)
	if robbed {
		if err := os.RemoveAll(p.nsqdDir); err != nil {
			t.Error(err)
		}
	}
	p.nsqd.start(t)
}

func endSale(t *testing.T, admin string) {
	t.Helper()
	if _, err := call(t.Context(), http.MethodPost, "http://"+admin+"/v1/sales/"+saleID+"/end", nil, nil); err != nil {
		t.Fatalf("end the sale: %v", err)
	}
	eventually(t, 10*time.Second, "the end is an event", func() error {
		if kept := allEvents(t, admin); !strings.Contains(string(kept[len(kept)-1]), "sale.ended") {
			return fmt.Errorf("the newest event is %s", kept[len(kept)-1])
		}
		return nil
	})
}

// allEvents reads all events from the operations API, page by page.
func allEvents(t *testing.T, admin string) (all []json.RawMessage) {
	t.Helper()
	for after := int64(0); ; {
		var page struct {
			Events         []json.RawMessage
			Oldest, Newest int64
		}
		if err := get(t.Context(), fmt.Sprintf("http://%s/v1/events?after=%d&limit=100", admin, after), &page); err != nil {
			t.Fatalf("read the events: %v", err)
		}
		if page.Oldest != 1 {
			t.Fatalf("the oldest event that is kept is %d; want 1", page.Oldest)
		}
		if len(page.Events) == 0 {
			if after != page.Newest {
				t.Fatalf("there is nothing after event %d, and the newest is %d", after, page.Newest)
			}
			return all
		}
		all = append(all, page.Events...)
		after = happening(t, all[len(all)-1]).Seq
	}
}

func happening(t *testing.T, body []byte) (h Happening) {
	t.Helper()
	if err := json.Unmarshal(body, &h); err != nil {
		t.Fatalf("event %s: %v", body, err)
	}
	return h
}

func judgeEvents(t *testing.T, kept []json.RawMessage, s store) {
	t.Helper()
	orders, sales := s.views(t)
	if len(sales) != 1 {
		t.Fatalf("want one sale, got %v", sales)
	}
	types := map[string]int{}
	events := make([]Happening, len(kept))
	for i, body := range kept {
		events[i] = happening(t, body)
		types[events[i].Type]++
	}
	wrong := CheckEvents(events, orders, sales[0])
	for _, w := range wrong[:min(len(wrong), 20)] {
		t.Error(w)
	}
	t.Logf("events: %v", types)
	for _, want := range []string{"order.held", "order.paid", "order.expired", "order.cancelled", "order.rejected", "sale.sold_out"} {
		if types[want] == 0 {
			t.Errorf("there was no %s: the story tests less than it says", want)
		}
	}
}

// subscriber reads a channel of the events, with go-nsq's commands and frames over a connection of its own: go-nsq's Consumer may take
// half a minute to stop after its nsqd was killed.
type subscriber struct {
	name string

	mu       sync.Mutex
	events   map[int64]string // by number; the message as it came
	messages int
	wrong    []string
}

// subscribe listens until the test is over, to whichever nsqd is at that address.
func subscribe(t *testing.T, nsqd, channel string) *subscriber {
	t.Helper()
	s := &subscriber{name: channel, events: map[int64]string{}}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for ctx.Err() == nil {
			s.listen(ctx, nsqd)
			pause(ctx, 50*time.Millisecond)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return s
}

// listen reads until the connection ends.
func (s *subscriber) listen(ctx context.Context, nsqd string) {
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", nsqd)
	if err != nil {
		return
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	defer conn.Close() //nolint:errcheck // whatever was answered is answered
	_, err = conn.Write(nsq.MagicV2)
	for _, cmd := range []*nsq.Command{nsq.Subscribe("events", s.name), nsq.Ready(200)} {
		if err == nil {
			_, err = cmd.WriteTo(conn)
		}
	}
	for err == nil {
		var kind int32
		var data []byte
		if kind, data, err = nsq.ReadUnpackedResponse(conn); err != nil {
			return
		}
		switch {
		case kind == nsq.FrameTypeMessage:
			var m *nsq.Message
			if m, err = nsq.DecodeMessage(data); err == nil {
				s.keep(m.Body)
				_, err = nsq.Finish(m.ID).WriteTo(conn)
			}
		case string(data) == "_heartbeat_":
			_, err = nsq.Nop().WriteTo(conn)
		case kind == nsq.FrameTypeError:
			s.complain("nsqd says %s", data)
		}
	}
}

// keep keeps an event. One that comes again must be the same.
func (s *subscriber) keep(body []byte) {
	var h Happening
	if err := json.Unmarshal(body, &h); err != nil {
		s.complain("message %s: %v", body, err)
	}
	s.mu.Lock()
	before, again := s.events[h.Seq]
	s.messages++
	s.events[h.Seq] = string(body)
	s.mu.Unlock()
	if again && before != string(body) {
		s.complain("event %d came as %s and as %s", h.Seq, before, body)
	}
}

func (s *subscriber) complain(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrong = append(s.wrong, fmt.Sprintf(format, args...))
}

func (s *subscriber) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.events)
}

// hears waits for the next event, so that the relay is in the middle of its work, and answers how many there were.
func (s *subscriber) hears(ctx context.Context, t *testing.T) int {
	t.Helper()
	from := s.count()
	eventually(t, 20*time.Second, s.name+" hears of something", func() error {
		if s.count() == from && ctx.Err() == nil {
			return fmt.Errorf("still %d events", from)
		}
		return nil
	})
	return s.count()
}

// waitFor waits until the subscriber has as many events as are kept.
func (s *subscriber) waitFor(t *testing.T, kept []json.RawMessage) {
	t.Helper()
	eventually(t, 30*time.Second, s.name+" has every event", func() error {
		if n := s.count(); n != len(kept) {
			return fmt.Errorf("it has %d of %d", n, len(kept))
		}
		return nil
	})
}

// compare fails the test where a message is not the event that is kept, with "v" before it.
func (s *subscriber) compare(t *testing.T, kept []json.RawMessage) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.wrong {
		t.Errorf("%s: %s", s.name, w)
	}
	for _, body := range kept {
		var want, got map[string]any
		if err := json.Unmarshal(body, &want); err != nil {
			t.Fatal(err)
		}
		message := s.events[happening(t, body).Seq]
		if err := json.Unmarshal([]byte(message), &got); err != nil {
			t.Errorf("%s: event %s came as %q: %v", s.name, body, message, err)
			continue
		}
		if want["v"] = 1.0; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: event %s came as %s", s.name, body, message)
		}
	}
}

// An order that was paid and one that was rejected, in a sale of one unit that is sold and over.
func honestEvents() ([]Happening, []OrderRow, SaleRow) {
	return []Happening{
			{1, "sale.opened", "s", "", 1},
			{2, "order.held", "s", "a", 2},
			{3, "order.paid", "s", "a", 3},
			{4, "sale.sold_out", "s", "", 3},
			{5, "order.rejected", "s", "b", 2},
			{6, "order.refund_due", "s", "a", 3},
			{7, "sale.ended", "s", "", 4},
		},
		[]OrderRow{{ID: "a", State: "paid", Version: 3}, {ID: "b", State: "rejected", Version: 2}},
		SaleRow{ID: "s", Stock: 1, Sold: 1}
}

func TestCheckEvents_PassesAnHonestSale(t *testing.T) {
	if wrong := CheckEvents(honestEvents()); len(wrong) > 0 {
		t.Errorf("violations where there are none: %q", wrong)
	}
}

func TestCheckEvents_CatchesEveryPlantedFault(t *testing.T) {
	without := func(i int) func(*[]Happening, *[]OrderRow) {
		return func(e *[]Happening, _ *[]OrderRow) {
			*e = append((*e)[:i:i], (*e)[i+1:]...)
			for i := range *e {
				(*e)[i].Seq = int64(i) + 1
			}
		}
	}
	for fault, c := range map[string]struct {
		plant func(e *[]Happening, o *[]OrderRow)
		says  string
	}{
		"a gap":                      {func(e *[]Happening, _ *[]OrderRow) { (*e)[6].Seq = 8 }, "event 7 is numbered 8"},
		"a hold without event":       {without(1), "version 2 of order a, which is paid, has no event"},
		"a payment without event":    {without(2), "version 3 of order a, which is paid, has no event"},
		"a refund of no version":     {func(e *[]Happening, _ *[]OrderRow) { (*e)[5].Version = 4 }, "is due at version 4, which has no event"},
		"a rejection without event":  {without(4), "version 2 of order b, which is rejected, has no event"},
		"a version told twice":       {func(e *[]Happening, _ *[]OrderRow) { (*e)[2].Version = 2 }, "version 2 of order a has two events"},
		"an event that is not true":  {func(e *[]Happening, _ *[]OrderRow) { (*e)[2].Type = "order.expired" }, `order a is paid, and the last event of its state is "order.expired"`},
		"a step that was not taken":  {func(_ *[]Happening, o *[]OrderRow) { (*o)[0].Version = 2 }, "order a has 2 events and version 2"},
		"an order that nobody has":   {func(_ *[]Happening, o *[]OrderRow) { *o = (*o)[:1] }, "order b has events and is not in the database"},
		"a sale that does not open":  {without(0), "want sale.opened first"},
		"a sale that does not end":   {without(6), "sale.ended last"},
		"a sale that is not sold":    {without(3), "0 units are free and 0 held"},
		"a sale that is sold twice":  {func(e *[]Happening, _ *[]OrderRow) { (*e)[4] = Happening{5, "sale.sold_out", "s", "", 4} }, "number 3 is in the wrong place"},
		"a sale that opens for good": {func(e *[]Happening, _ *[]OrderRow) { (*e)[4] = Happening{5, "sale.reopened", "s", "", 4} }, "0 units are free"},
	} {
		t.Run(fault, func(t *testing.T) {
			events, orders, sale := honestEvents()
			c.plant(&events, &orders)
			if got := strings.Join(CheckEvents(events, orders, sale), "\n"); !strings.Contains(got, c.says) {
				t.Errorf("want %q, got:\n%s", c.says, got)
			}
		})
	}
}
