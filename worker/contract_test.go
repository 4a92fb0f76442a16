package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	khttp "github.com/go-kratos/kratos/v2/transport/http"
	"github.com/prometheus/client_golang/prometheus"

	"sluice"
	"sluice/api"
	"sluice/internal/contract"
	"sluice/inventory"
)

// documented holds an answer of the operations API against the published contract. Its body was read already, and so was
// the request's.
func documented(t *testing.T, req *http.Request, sent string, res *http.Response, body []byte) {
	t.Helper()
	asked := req.Clone(t.Context())
	asked.Body = io.NopCloser(strings.NewReader(sent))
	if sent != "" {
		asked.Header.Set("Content-Type", "application/json") // which nobody looks at
	}
	answer := *res
	answer.Body = io.NopCloser(bytes.NewReader(body))
	if err := contract.Operations(t).Check(asked, &answer); err != nil {
		t.Error("not as documented:", err)
	}
}

// anyMethod are paths that are no routes of Kratos' and answer every method alike.
var anyMethod = []string{"/metrics", "/livez", "/readyz"}

func TestContract_IsWhatTheWorkerServes(t *testing.T) {
	documented := contract.Operations(t).Calls()
	w := &Worker{Parts: Parts{Registry: prometheus.NewRegistry()}}
	srv := khttp.NewServer()
	must(t, w.routes(srv, nil))
	var served []contract.Call
	must(t, srv.WalkRoute(func(r khttp.RouteInfo) error {
		served = append(served, contract.Call{Method: r.Method, Path: r.Path})
		return nil
	}))
	if len(served) < 10 {
		t.Fatalf("only %v were found", served)
	}
	for _, c := range served {
		if !slices.Contains(documented, c) {
			t.Errorf("%v is served, but not documented", c)
		}
	}
	for _, c := range documented {
		if !slices.Contains(served, c) && !slices.Contains(anyMethod, c.Path) {
			t.Errorf("%v is documented, but not served", c)
		}
	}
}

// Every answer that a shop gives in any test is held against the document; here are calls that others do not make.
func TestContract_OfGoodAnswers(t *testing.T) {
	s := newShop(t, nil)
	s.open(`{"id":"spring","sku":"boots-42","stock":1,"per_user_limit":2,"starts_at":"2020-03-01T18:00:00Z","ends_at":"2099-03-01T18:00:00+01:00",
		"payment_window":"15m","max_age":"2m","checkout_url":"https://shop.example/pay?o={order}","over_admission":2}`)
	s.open(`{"id":"demo","stock":1}`)
	s.place("a")
	s.settled("a", sluice.Held)
	s.place("b")
	s.settled("b", sluice.Rejected)
	a, b := s.order("a").ID.String(), s.order("b").ID.String()
	for _, c := range []struct{ method, path, body string }{
		{"GET", "/v1/sales", ""},
		{"GET", "/v1/sales/spring", ""},
		{"GET", "/v1/sales/demo", ""}, // with next_release
		{"GET", "/v1/orders/" + b, ""},
		{"GET", "/v1/orders/" + strings.ToUpper(a), ""},
		{"POST", "/v1/doors/facts", `{"door":"north","bound":100}`},
		{"POST", "/v1/doors/facts", ""},
		{"POST", "/v1/doors/statuses", fmt.Sprintf(`{"orders":[%q,%q]}`, a, b)},
		{"POST", "/v1/doors/statuses", `{"orders":[]}`},
		{"GET", "/v1/audit", ""},
		{"GET", "/livez", ""},
		{"GET", api.PathDocument, ""},
		{"GET", api.PathDoorDocument, ""},
	} {
		if status, out := s.call(c.method, c.path, c.body, testToken); status != 200 {
			t.Errorf("%s %s = %d %v", c.method, c.path, status, out)
		}
	}
}

func TestContract_OfAnEmptyShop(t *testing.T) {
	s := newShop(t, nil)
	for _, path := range []string{"/v1/sales", "/v1/audit"} {
		if status, out := s.call("GET", path, "", testToken); status != 200 {
			t.Errorf("GET %s = %d %v", path, status, out)
		}
	}
}

func TestOperations_ServeThePublishedDocuments(t *testing.T) {
	s := newShop(t, nil)
	for path, want := range map[string]string{api.PathDocument: api.OperationsDocument, api.PathDoorDocument: api.DoorDocument} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+path, http.NoBody)
		must(t, err)
		req.Header.Set("Authorization", "Bearer "+testToken)
		res, err := http.DefaultClient.Do(req)
		must(t, err)
		got, err := io.ReadAll(res.Body)
		must(t, err)
		must(t, res.Body.Close())
		if string(got) != want || res.Header.Get("Content-Type") != api.ContentYAML {
			t.Errorf("GET %s: %d bytes of %s, want %d", path, len(got), res.Header.Get("Content-Type"), len(want))
		}
	}
}

// Sales fails, and so does Ping, where the store is ill.
func (s *troubled) Sales(ctx context.Context, ids ...string) (sluice.Changes, error) {
	if err := s.illness(); err != nil {
		return sluice.Changes{}, err
	}
	return s.Store.Sales(ctx, ids...)
}

func (s *troubled) illness() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ill
}

// Every call of the document refuses as documented, whatever the reason lies in.
func TestContract_OfRefusalsOfEveryCall(t *testing.T) {
	s := newShop(t, nil)
	fill := strings.NewReplacer("{name}", "points", "{seq}", "1", "/sales/{id}", "/sales/demo", "/orders/{id}", "/orders/"+s.order("a").ID.String(), "/refunds/{id}", "/refunds/1", "{message}", "0a1b2c3d4e5f6071")
	for _, c := range contract.Operations(t).Calls() {
		path := fill.Replace(c.Path)
		open := path == "/livez" || path == "/readyz"
		if status, _ := s.call(c.Method, path, "", "a wrong token for tests"); (status == 401) == open {
			t.Errorf("%s %s with a wrong token = %d", c.Method, path, status)
		}
		if slices.Contains(anyMethod, path) {
			continue
		}
		if status, _ := s.call("BREW", path, "", testToken); status != 405 {
			t.Errorf("BREW %s = %d", path, status)
		}
		if strings.HasSuffix(path, ".yaml") {
			continue // these read no body
		}
		if status, out := s.call(c.Method, path, `{"colour":"red"}`, testToken); status != 400 {
			t.Errorf("%s %s with an unknown field = %d %v", c.Method, path, status, out)
		}
		if status, out := s.call(c.Method, path, `"`+strings.Repeat("x", maxBodyBytes)+`"`, testToken); status != 413 {
			t.Errorf("%s %s with a huge body = %d %v", c.Method, path, status, out)
		}
	}
}

func TestContract_OfAStoreThatFails(t *testing.T) {
	s := newShop(t, nil)
	for _, c := range []struct {
		err    error
		status int
	}{{fmt.Errorf("connect: %w", inventory.ErrUnavailable), 503}, {errors.New("a defect"), 500}} {
		s.store.set(func(s *troubled) { s.ill = c.err })
		for _, path := range []string{"/v1/sales", "/v1/sales/demo"} {
			if status, out := s.call("GET", path, "", testToken); status != c.status {
				t.Errorf("GET %s while %v = %d %v; want %d", path, c.err, status, out, c.status)
			}
		}
		if status, out := s.call("GET", "/readyz", "", testToken); status != 503 {
			t.Errorf("GET /readyz while %v = %d %v; want 503", c.err, status, out)
		}
	}
}

// While the store is waited for, every call hears so.
func TestContract_OfAWorkerThatWaits(t *testing.T) {
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	stop := ServeWaiting(l, 10, nil, slog.New(slog.DiscardHandler))
	defer stop()
	s := &shop{t: t, url: "http://" + l.Addr().String()}
	fill := strings.NewReplacer("{id}", "x", "{name}", "x", "{seq}", "1", "{message}", "x")
	for _, c := range append(contract.Operations(t).Calls(), contract.Call{Method: "GET", Path: "/nothing"}) {
		if status, out := s.call(c.Method, fill.Replace(c.Path), "", ""); status != 503 {
			t.Errorf("%v = %d %v", c, status, out)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}
