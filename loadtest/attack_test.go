package loadtest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice"
	"sluice/internal/calm"
)

// shop is a front door that a test tells what to answer.
type shop struct {
	*httptest.Server
	mu     sync.Mutex // guards what follows
	n      int
	orders []string // bodies
	keys   []string
	answer func(n int, w http.ResponseWriter)
	until  time.Time // nobody is answered before
}

func newShop(t *testing.T, answer func(n int, w http.ResponseWriter)) *shop {
	t.Helper()
	s := &shop{answer: answer}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			_, _ = io.WriteString(w, `{"id":"rush","open":true}`)
			return
		}
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		if strings.HasPrefix(r.URL.Path, "/v1/sales/warmup/") { // it may come beside the first of the others
			s.mu.Unlock()
			accept(0, w)
			return
		}
		s.n++
		n, until := s.n, s.until
		s.orders, s.keys = append(s.orders, string(body)), append(s.keys, r.Header.Get("Idempotency-Key"))
		s.mu.Unlock()
		time.Sleep(time.Until(until))
		s.answer(n, w)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *shop) stall(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.until = time.Now().Add(d)
}

func accept(n int, w http.ResponseWriter) {
	w.WriteHeader(http.StatusAccepted)
	fmt.Fprintf(w, `{"order":"order-%d","status":"queued"}`, n)
}

func refuse(reason string, ms int) func(int, http.ResponseWriter) {
	return func(_ int, w http.ResponseWriter) {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintf(w, `{"type":"about:blank","reason":%q,"retry_after_ms":%d}`, reason, ms)
	}
}

func steady(rate float64, length time.Duration) *Scenario {
	return &Scenario{
		Name: "steady", Seed: 1, Connections: 64, Timeout: sluice.Duration(10 * time.Second),
		Sales: []Sale{{Name: "rush", Stock: 1}}, Crowd: Crowd{Quantity: 1, Keyed: 1, Tries: 1},
		Phases: []Phase{{Name: "only", For: sluice.Duration(length), Orders: Arrivals{Rate: rate}}},
	}
}

// play attacks a door with a scenario, and answers the books.
func play(ctx context.Context, t *testing.T, s *Scenario, door string) *tally {
	t.Helper()
	p := newPlan(s)
	a, err := newAttack(ctx, s, p, []string{door}, []string{"rush"}, "warmup")
	if err != nil {
		t.Fatal(err)
	}
	books := newTally(s, p, a.schedule)
	a.run(books.see)
	books.end(p.end)
	return books
}

// A server that stands still for a second at 1,000 requests a second keeps 1,000 requests waiting, the first for the whole second.
// Whoever counts from the sending of requests that wait for a free worker sees a few late ones only.
func TestAttack_SeesAStallAsThoseDoWhoWouldHaveCome(t *testing.T) {
	calm.Play(t, 100*time.Millisecond, func(complain calm.Complain) {
		s := newShop(t, accept)
		time.AfterFunc(2*time.Second, func() { s.stall(time.Second) })
		books := play(t.Context(), t, steady(1000, 5*time.Second), s.URL)
		f := books.all.figures("", 0, 5*time.Second, false)
		if l := f.Latency[Accepted]; l.P99 < 900 || l.P99 > 1200 || l.Max < 950 {
			complain("p99 is %v ms and the longest %v ms, want about 950 and 1000", l.P99, l.Max)
		}
		if f.Sent != 5000 || f.Planned != 5000 || f.Accepted != 5000 {
			t.Errorf("planned %d, sent %d and accepted %d, want 5000 each", f.Planned, f.Sent, f.Accepted)
		}
		if f.Lag.P50 > 5 {
			complain("half of the requests left %v ms late: they waited for answers", f.Lag.P50)
		}
	})
}

func TestAttack_BuyersComeAgainWhenToldTo(t *testing.T) {
	calm.Play(t, 20*time.Millisecond, func(complain calm.Complain) { comeAgain(t, complain) })
}

func comeAgain(t *testing.T, complain calm.Complain) {
	t.Helper()
	s := newShop(t, refuse("queue-full", 200))
	story := steady(100, time.Second)
	story.Crowd.Retry, story.Crowd.Tries = 1, 3
	books := play(t.Context(), t, story, s.URL)
	// Of those refused, all come 0.2 s later and once more, unless the sale has closed by then.
	if n := books.all.sent; n < 220 || n > 260 {
		complain("%d requests, want 100, about 80 of them again, and about 60 of these", n)
	}
	if books.firstShed < 0 || books.firstShed > 500*time.Millisecond {
		complain("first shed after %v", books.firstShed)
	}
	if n := books.all.refused["queue-full"]; n != books.all.sent {
		t.Errorf("%d of %d refusals are counted by their reason", n, books.all.sent)
	}
	perKey := map[string]int{}
	for _, key := range s.keys {
		perKey[key]++
	}
	if len(perKey) != 100 {
		t.Errorf("%d different keys, want 100: who comes again has the key that he had", len(perKey))
	}
	for key, n := range perKey {
		if n > 3 {
			t.Errorf("%s came %d times, want 3 at most", key, n)
		}
	}
}

func TestAttack_KeepsKindsOfAnswersApart(t *testing.T) {
	s := newShop(t, func(n int, w http.ResponseWriter) {
		switch n % 4 {
		case 0:
			accept(n, w)
		case 1:
			fmt.Fprintf(w, `{"order":"order-44","status":"held"}`)
		case 2:
			refuse("sold-out", 0)(n, w)
		case 3:
			refuse("unavailable", 100)(n, w)
		}
	})
	story := steady(200, time.Second)
	story.Crowd.Retry, story.Crowd.Tries = 1, 5
	story.Phases[0].Pages.Rate = 100
	story.Warmup = Warmup{For: sluice.Duration(500 * time.Millisecond), Rate: 80}
	books := play(t.Context(), t, story, s.URL)
	f := books.all.figures("", 0, time.Second, false)
	if f.Accepted != 50 || f.Repeated != 50 || f.Pages != 100 || f.Refused["sold-out"] != 50 || f.Failed["unavailable"] != 50 {
		t.Errorf("got %+v; want 50 of each, and 100 pages", f)
	}
	if f.Sent != 300 || f.Orders != 200 || f.Planned != 300 {
		t.Errorf("planned %d, sent %d, of these %d orders; the warm-up does not count", f.Planned, f.Sent, f.Orders)
	}
	if len(books.promised) != 50 || books.lost != 50 {
		t.Errorf("%d different orders are promised and %d are unknown, want 50 and 50", len(books.promised), books.lost)
	}
	var body struct {
		User     string
		Quantity int
	}
	if err := json.Unmarshal([]byte(s.orders[0]), &body); err != nil || body.User == "" || body.Quantity != 1 {
		t.Errorf("an order says %s (%v)", s.orders[0], err)
	}
}

func TestAttack_CountsWhatItDidNotSendWhenItIsEnded(t *testing.T) {
	calm.Play(t, 20*time.Millisecond, func(complain calm.Complain) {
		s := newShop(t, accept)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(500*time.Millisecond, cancel)
		began := time.Now()
		books := play(ctx, t, steady(100, time.Minute), s.URL)
		if took := time.Since(began); took > 5*time.Second {
			complain("it went on for %v", took)
		}
		if n := books.all.planned; n < 40 || n > 60 {
			complain("%d requests were due in half a second, want 50", n)
		}
	})
}

func TestAttack_NobodyAnswers(t *testing.T) {
	s := newShop(t, accept)
	s.Close()
	books := play(t.Context(), t, steady(100, 500*time.Millisecond), s.URL)
	if n := books.all.failed["connection refused"]; n != 50 {
		t.Errorf("failed: %v; want 50 times connection refused", books.all.failed)
	}
}
