package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// fakeShop is a service in memory that keeps the contract, unless a fault is planted.
type fakeShop struct {
	stock int
	fault string

	mu     sync.Mutex // guards everything below
	orders map[string]*fakeOrder
	byKey  map[string]*fakeOrder
	calls  int
	states map[string]int64
}

type fakeOrder struct {
	Order   string `json:"order"`
	Status  string `json:"status"`
	Reason  string `json:"reason,omitempty"`
	Version int    `json:"version"`
}

func newFake(t *testing.T, stock int, fault string) (door, admin string) {
	t.Helper()
	f := &fakeShop{
		stock: stock, fault: fault,
		orders: map[string]*fakeOrder{}, byKey: map[string]*fakeOrder{}, states: map[string]int64{},
	}
	doors := http.NewServeMux()
	doors.HandleFunc("POST /v1/sales/demo/orders", f.place)
	doors.HandleFunc("GET /v1/orders/{order}", f.status)
	doors.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, "ready") })
	books := http.NewServeMux()
	books.HandleFunc("GET /v1/audit", f.audit)
	books.HandleFunc("GET /v1/sales/demo", f.sale)
	for _, at := range []struct {
		mux *http.ServeMux
		url *string
	}{{doors, &door}, {books, &admin}} {
		s := httptest.NewServer(at.mux)
		t.Cleanup(s.Close)
		*at.url = s.URL
	}
	return door, admin
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// place sheds every third request and cuts every fifth connection after admitting, as a crash would.
func (f *fakeShop) place(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := r.Header.Get("Idempotency-Key")
	if o := f.byKey[key]; o != nil {
		reply(w, http.StatusOK, o)
		return
	}
	f.calls++
	if f.calls%3 == 0 {
		w.Header().Set("Retry-After", "1")
		reply(w, http.StatusServiceUnavailable, map[string]any{"status": 503, "reason": "queue-full", "retry_after_ms": 5})
		return
	}
	o := &fakeOrder{Order: fmt.Sprint("order-", f.calls), Status: "queued", Version: 1}
	if f.fault == "shared" && f.calls == 8 {
		o.Order = "order-1"
	}
	if f.fault != "lost" || f.calls != 7 {
		f.orders[o.Order] = o
		f.byKey[key] = o
	}
	if f.calls%5 == 0 {
		panic(http.ErrAbortHandler) // a broken connection; the order exists
	}
	reply(w, http.StatusAccepted, o)
}

func (f *fakeShop) settle(o *fakeOrder) {
	if o.Status != "queued" {
		return
	}
	limit := int64(f.stock)
	if f.fault == "oversell" {
		limit++
	}
	o.Version = 2
	if f.states["paid"] < limit {
		o.Status = "paid"
	} else {
		o.Status, o.Reason = "rejected", "sold_out"
	}
	f.states[o.Status]++
}

func (f *fakeShop) status(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.orders[r.PathValue("order")]
	switch {
	case o == nil && f.fault == "lost":
		reply(w, http.StatusOK, fakeOrder{Order: r.PathValue("order"), Status: "queued", Version: 1})
	case o == nil:
		reply(w, http.StatusNotFound, map[string]any{"status": 404, "reason": "unknown-order"})
	default:
		f.settle(o)
		reply(w, http.StatusOK, o)
	}
}

func (f *fakeShop) books() map[string]any {
	sold := f.states["paid"]
	free := int64(f.stock) - sold
	if f.fault == "unbalanced" && f.calls > 0 {
		free++
	}
	return map[string]any{
		"id": "demo", "stock": f.stock, "topups": 0, "free": free, "held": 0, "sold": sold,
		"orders": maps.Clone(f.states),
	}
}

func (f *fakeShop) audit(w http.ResponseWriter, _ *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	reply(w, http.StatusOK, map[string]any{"balanced": true, "sales": []any{f.books()}})
}

func (f *fakeShop) sale(w http.ResponseWriter, _ *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	reply(w, http.StatusOK, f.books())
}
