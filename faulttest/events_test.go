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
	wrong := Events(events, orders, sales[0])
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
