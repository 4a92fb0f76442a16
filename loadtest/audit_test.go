package loadtest

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice"
	"sluice/api"
)

var noon = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

// books are a fake operations API.
type books struct {
	mu     sync.Mutex // guards what follows
	ledger sluice.Audit
	orders map[string][]api.Order // by sale
	pages  map[string]int         // that were read, by sale
	asked  int                    // for the ledger
	next   func(asked int, a sluice.Audit) sluice.Audit
}

// serve makes a service of it.
func (b *books) serve(t *testing.T) *Service {
	t.Helper()
	b.pages = map[string]int{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+api.PathAudit, b.audit)
	mux.HandleFunc("GET "+api.PathOrders, b.list)
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return &Service{Admin: s.URL}
}

func reply(w http.ResponseWriter, body any) {
	w.Header().Set(api.HeaderAPI, api.Operations)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(body)
}

func (b *books) audit(w http.ResponseWriter, _ *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.asked++; b.next != nil {
		b.ledger = b.next(b.asked, b.ledger)
	}
	reply(w, b.ledger)
}

// list pages by position: after is an id that has it.
func (b *books) list(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := r.URL.Query()
	limit, _ := strconv.Atoi(q.Get("limit"))
	all, from := b.orders[q.Get("sale")], 0
	if after := q.Get("after"); after != "" {
		from = slices.IndexFunc(all, func(o api.Order) bool { return o.Order.String() == after }) + 1
	}
	b.pages[q.Get("sale")]++
	page := api.Orders{Orders: all[from:min(from+limit, len(all))]}
	if from+limit < len(all) {
		page.Next = all[from+limit-1].Order.String()
	}
	reply(w, page)
}

// settledAfter are orders that were admitted one millisecond apart, and settled so much later.
func settledAfter(sale string, n int, sojourn func(i int) time.Duration) (orders []api.Order) {
	for i := range n {
		o := api.Order{AcceptedAt: noon.Add(time.Duration(i) * time.Millisecond)}
		o.Order = sluice.OrderID{0: byte(i >> 16), 1: byte(i >> 8), 2: byte(i), 6: 0x80, 8: 0x80}
		o.Sale, o.State, o.SettledAt = sale, sluice.Paid, o.AcceptedAt.Add(sojourn(i))
		orders = append(orders, o)
	}
	return orders
}

func always(d time.Duration) func(int) time.Duration { return func(int) time.Duration { return d } }

func lineOf(sale string, stock, sold int64, orders map[sluice.State]int64) sluice.SaleAudit {
	return sluice.SaleAudit{ID: sale, Stock: stock, Sold: sold, Free: stock - sold, Orders: orders}
}

func TestAudit_IsOfTheNamedSales(t *testing.T) {
	foreign := lineOf("foreign", 1, 9, map[sluice.State]int64{sluice.Paid: 9})
	foreign.Differences = []string{"somebody else's trouble"}
	held := lineOf("b", 20, 3, map[sluice.State]int64{sluice.Paid: 3, sluice.Held: 2})
	held.Held, held.TopUps = 4, 5
	b := &books{
		ledger: sluice.Audit{Sales: []sluice.SaleAudit{lineOf("a", 10, 10, map[sluice.State]int64{sluice.Paid: 10, sluice.Rejected: 7}), held, foreign}},
		orders: map[string][]api.Order{
			"a":       settledAfter("a", 17, always(20*time.Millisecond)),
			"b":       settledAfter("b", 5, func(i int) time.Duration { return time.Duration(i) * 30 * time.Millisecond }),
			"foreign": settledAfter("foreign", 9, always(time.Hour)),
		},
	}
	a, last, err := audit(t.Context(), b.serve(t), []string{"a", "b"}, 22, 0)
	if err != nil {
		t.Fatal(err)
	}
	sojourn := a.Sojourn
	a.Sojourn = Latency{}
	want := Audit{
		Balanced: true, Promised: 22, Settled: 22, States: map[string]int64{"paid": 13, "held": 2, "rejected": 7}, Sold: 17, Stock: 35,
		Read: 22, Sampled: 22, Wrong: []string{},
	}
	if !reflect.DeepEqual(a, want) {
		t.Errorf("got %+v, want %+v", a, want)
	}
	if sojourn.Count != 22 || sojourn.P50 < 20 || sojourn.P50 > 20.1 || sojourn.Max < 120 || sojourn.Max > 120.2 || sojourn.Curve[0].MS != 0.001 {
		t.Errorf("sojourn: got %+v, want 22 of 0, 20 and up to 120 ms", sojourn)
	}
	if want := noon.Add(124 * time.Millisecond); !last.Equal(want) {
		t.Errorf("last settlement: got %v, want %v", last, want)
	}
	if b.pages["foreign"] != 0 {
		t.Error("it read orders of somebody else's sale")
	}
}

// A percentile of those that are known flatters where others are left out, or where clocks differ.
func TestAudit_KnowsSojournsOnlyWhereOrdersHaveThem(t *testing.T) {
	for _, c := range []struct {
		without, negative int
		known             bool
	}{{0, 0, true}, {2, 0, true}, {0, 2, true}, {3, 0, false}, {0, 3, false}, {2, 1, false}, {200, 0, false}} {
		b := &books{
			ledger: sluice.Audit{Sales: []sluice.SaleAudit{lineOf("a", 200, 200, map[sluice.State]int64{sluice.Paid: 200})}},
			orders: map[string][]api.Order{"a": settledAfter("a", 200, always(20*time.Millisecond))},
		}
		for i := range c.without {
			b.orders["a"][i].AcceptedAt = time.Time{} // its door did not know the time
		}
		for i := range c.negative {
			b.orders["a"][199-i].SettledAt = noon.Add(-time.Minute) // by another clock
		}
		a, _, err := audit(t.Context(), b.serve(t), []string{"a"}, 200, 0)
		if err != nil {
			t.Fatal(err)
		}
		if a.Read != 200 || a.Sampled != int64(200-c.without) || a.Negative != int64(c.negative) || (a.Sojourn.Count > 0) != c.known {
			t.Errorf("%+v: read %d, sampled %d, negative %d, sojourn of %d", c, a.Read, a.Sampled, a.Negative, a.Sojourn.Count)
		}
	}
}

func TestAudit_SaysWhichPromisesWereNotKept(t *testing.T) {
	paid := func(n int64) map[sluice.State]int64 { return map[sluice.State]int64{sluice.Paid: n} }
	torn := lineOf("a", 10, 4, paid(5))
	torn.Differences = []string{"sold is 4, not 5"}
	five := []sluice.SaleAudit{lineOf("a", 10, 5, paid(5))}
	masked := []sluice.SaleAudit{lineOf("a", 10, 0, paid(0)), lineOf("b", 10, 11, paid(11))}
	cases := map[string]struct {
		sales             []string
		lines             []sluice.SaleAudit
		promised, unknown int64
		want              []string
	}{
		"all kept":                   {[]string{"a"}, five, 5, 0, nil},
		"an unknown one was settled": {[]string{"a"}, five, 4, 1, nil},
		"an unknown one was not":     {[]string{"a"}, []sluice.SaleAudit{lineOf("a", 10, 4, paid(4))}, 4, 1, nil},
		"lost":                       {[]string{"a"}, five, 7, 3, []string{"P3: 2 of 7 promised orders are not settled"}},
		"invented": {[]string{"a"}, five, 3, 1, []string{
			"P5: 1 orders were settled that nobody sent: 3 were promised, and of 1 the answer is unknown",
		}},
		"oversold, though not in sum": {[]string{"a", "b"}, masked, 11, 0, []string{"P1: b has 11 units held or sold, of 10"}},
		"unbalanced":                  {[]string{"a"}, []sluice.SaleAudit{torn}, 5, 0, []string{"P8: a does not balance: sold is 4, not 5"}},
		"no such sale":                {[]string{"a", "c"}, five, 5, 0, []string{"P8: the ledger has no sale c"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			a := linesOf(sluice.Audit{Sales: c.lines}, c.sales).audit(c.sales, c.promised, c.unknown)
			if !slices.Equal(a.Wrong, c.want) {
				t.Errorf("got %q, want %q", a.Wrong, c.want)
			}
			if unbalanced := strings.Contains(strings.Join(c.want, " "), "P8"); a.Balanced == unbalanced {
				t.Errorf("balanced is %v", a.Balanced)
			}
		})
	}
}

func TestAudit_SamplesAFairShareOfEachSale(t *testing.T) {
	b := &books{
		ledger: sluice.Audit{Sales: []sluice.SaleAudit{
			lineOf("a", 1, 1, map[sluice.State]int64{sluice.Paid: 1, sluice.Rejected: 89_999}),
			lineOf("b", 1, 1, map[sluice.State]int64{sluice.Paid: 10_000}),
		}},
		orders: map[string][]api.Order{"a": settledAfter("a", 90_000, always(time.Second)), "b": settledAfter("b", 10_000, always(time.Second))},
	}
	a, _, err := audit(t.Context(), b.serve(t), []string{"a", "b"}, 100_000, 0)
	if err != nil || a.Settled != 100_000 || a.Sampled != mostSampled {
		t.Errorf("got %d settled, %d sampled, %v; want 100000, %d", a.Settled, a.Sampled, err, mostSampled)
	}
	if want := map[string]int{"a": 45, "b": 5}; !maps.Equal(b.pages, want) {
		t.Errorf("pages read: got %v, want %v", b.pages, want)
	}
}

func TestAudit_SaysWhereNobodyAnswers(t *testing.T) {
	s := (&books{}).serve(t)
	s.Admin += "/elsewhere"
	if _, _, err := audit(t.Context(), s, []string{"a"}, 1, 0); err == nil || !strings.Contains(err.Error(), "audit: ") {
		t.Errorf("got %v", err)
	}
}

func TestWaitIdle_WithoutDoorsWaitsForThePromisedOrdersAndThoseAfterThem(t *testing.T) {
	settled := []int64{3, 5, 6, 6, 7} // promised are 5; nobody had the answer to one more
	b := &books{next: func(asked int, _ sluice.Audit) sluice.Audit {
		n := settled[min(asked, len(settled))-1]
		return sluice.Audit{Sales: []sluice.SaleAudit{lineOf("a", 10, n, map[sluice.State]int64{sluice.Paid: n})}}
	}}
	w := &watch{service: b.serve(t)}
	at, ok := w.waitIdle(t.Context(), time.Minute, []string{"a"}, 5)
	if !ok || b.asked != 4 || time.Since(at) > time.Minute {
		t.Errorf("got %v %v after %d looks, want the third's time after 4", at, ok, b.asked)
	}
}

func TestWaitIdle_WithoutDoorsIsNotIdleWhilePromisedOrdersAreMissing(t *testing.T) {
	b := &books{ledger: sluice.Audit{Sales: []sluice.SaleAudit{lineOf("a", 10, 4, map[sluice.State]int64{sluice.Paid: 4})}}}
	w := &watch{service: b.serve(t)}
	if at, ok := w.waitIdle(t.Context(), 1200*time.Millisecond, []string{"a"}, 5); ok || !at.IsZero() {
		t.Errorf("got %v %v with 4 of 5 orders settled", at, ok)
	}
	if b.asked < 2 {
		t.Errorf("it asked %d times", b.asked)
	}
}
