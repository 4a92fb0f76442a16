package worker

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/health/grpc_health_v1"

	"sluice"
	"sluice/api"
	apiv1 "sluice/api/v1"
)

// fewConnections are those of a shop here: 16, two of them for doors.
func fewConnections(c *Config) { c.Connections = 16 }

// figure is one of the worker's metrics without labels.
func (s *shop) figure(name string) (value float64) {
	s.t.Helper()
	families, err := s.registry.Gather()
	must(s.t, err)
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue() + f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	s.t.Fatalf("no %s", name)
	return 0
}

// alone waits until nobody has a connection.
func (s *shop) alone() {
	s.t.Helper()
	http.DefaultClient.CloseIdleConnections()
	s.eventually("nobody is connected", func() bool { return s.figure("sluice_worker_connections") == 0 })
}

// connected makes clients with a connection each, that they keep.
func (s *shop) connected(n int) []*http.Client {
	s.t.Helper()
	clients := make([]*http.Client, n)
	for i := range clients {
		transport := &http.Transport{MaxConnsPerHost: 1}
		s.t.Cleanup(transport.CloseIdleConnections)
		clients[i] = &http.Client{Transport: transport}
		if status, _ := s.ask(s.t.Context(), clients[i], http.MethodGet, "/v1/sales", testToken); status != 200 {
			s.t.Fatalf("client %d: %d", i, status)
		}
	}
	return clients
}

// ask makes a call, and reports whether the connection ends with the answer; status 0: there was none.
func (s *shop) ask(ctx context.Context, c *http.Client, method, path, token string) (status int, ends bool) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, s.url+path, http.NoBody)
	must(s.t, err)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := c.Do(req)
	if err != nil {
		return 0, false
	}
	defer func() { _ = res.Body.Close() }()
	_, _ = io.Copy(io.Discard, res.Body)
	if res.StatusCode == 503 && res.Header.Get("Retry-After") == "" {
		s.t.Errorf("%s %s: 503 without Retry-After", method, path)
	}
	return res.StatusCode, res.Close
}

// Who takes all connections and says nothing keeps them for ten seconds; whoever waits for one is served then. P9
func TestOperations_ASilentCrowdDoesNotLast(t *testing.T) {
	s := newShop(t, fewConnections)
	s.alone()
	for range 40 { // those beyond the sixteenth wait in the kernel, as the call does
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.url, "http://"))
		must(t, err)
		defer c.Close() //nolint:errcheck // a test's own
	}
	s.eventually("all are taken", func() bool { return s.figure("sluice_worker_connections") == 16 })
	began := time.Now()
	status := make(chan int, 1)
	go func() { status <- s.get("/v1/sales") }()
	for most := 0.0; ; time.Sleep(10 * time.Millisecond) {
		most = max(most, s.figure("sluice_worker_connections"))
		select {
		case got := <-status:
			if took := time.Since(began); got != 200 || took < 5*time.Second || most > 16 {
				t.Errorf("%d after %v, with %v connections at most", got, took, most)
			}
			return
		default:
		}
	}
}

// Whose calls show no token keeps no connection either.
func TestOperations_StrangersKeepNoConnection(t *testing.T) {
	s := newShop(t, nil)
	for _, c := range []struct {
		path, token string
		status      int
		ends        bool
	}{
		{"/v1/sales", testToken, 200, false},
		{"/livez", testToken, 200, false},
		{"/v1/sales", "", 401, true},
		{"/v1/sales", "a wrong token for tests", 401, true},
		{"/livez", "", 200, true},
		{"/readyz", "", 200, true},
	} {
		if status, ends := s.ask(t.Context(), http.DefaultClient, http.MethodGet, c.path, c.token); status != c.status || ends != c.ends {
			t.Errorf("GET %s with %q: %d, the connection ends: %t; want %d, %t", c.path, c.token, status, ends, c.status, c.ends)
		}
	}
}

// Nor do they keep the calls: health checks that never say what they ask have an eighth of their own.
func TestOperations_StrangersHaveCallsOfTheirOwn(t *testing.T) {
	s := newShop(t, fewConnections)
	var many http.Protocols
	many.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: &many}
	defer transport.CloseIdleConnections()
	ctx, enough := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	for range 2 {
		silent, never := io.Pipe()
		defer never.Close() //nolint:errcheck // a test's own
		waiting.Go(func() {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+grpc_health_v1.Health_Check_FullMethodName, silent)
			if err != nil {
				t.Error(err)
				return
			}
			req.Header.Set("Content-Type", "application/grpc")
			res, err := transport.RoundTrip(req)
			if err == nil {
				_, _ = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
			}
		})
	}
	s.eventually("both wait", func() bool { return s.figure("sluice_worker_calls") == 2 })
	for token, want := range map[string]int{"": 503, testToken: 200} {
		if status, _ := s.ask(t.Context(), http.DefaultClient, http.MethodGet, "/readyz", token); status != want {
			t.Errorf("/readyz with %q: %d, want %d", token, status, want)
		}
	}
	enough()
	waiting.Wait()
	transport.CloseIdleConnections()
	s.alone() // connections of HTTP/2 are counted as they close, too
}

// However busy a crowd keeps its connections, it makes room for doors, whose connections stay.
func TestOperations_ABusyCrowdMakesRoomForDoors(t *testing.T) {
	s := newShop(t, fewConnections)
	s.alone()
	clients := s.connected(14)
	if _, ends := s.ask(t.Context(), clients[0], http.MethodGet, "/v1/sales", testToken); ends {
		t.Error("a connection ends while there is room")
	}
	doors := make([]*http.Client, 2)
	for i := range doors {
		transport := &http.Transport{}
		defer transport.CloseIdleConnections()
		doors[i] = &http.Client{Transport: transport}
		if status, ends := s.ask(t.Context(), doors[i], http.MethodPost, api.PathFacts, testToken); status != 200 || ends {
			t.Errorf("door %d: %d, its connection ends: %t", i, status, ends)
		}
	}
	var crowd sync.WaitGroup
	for range 40 { // come anew for each call, or hold on to what they have
		crowd.Go(func() {
			transport := &http.Transport{}
			defer transport.CloseIdleConnections()
			for range 5 {
				if status, _ := s.ask(t.Context(), &http.Client{Transport: transport}, http.MethodGet, "/v1/sales", testToken); status != 200 && status != 503 {
					t.Errorf("one of a crowd: %d", status)
				}
			}
		})
	}
	for _, c := range clients { // theirs end, being busy, and the crowd has its turn
		s.ask(t.Context(), c, http.MethodGet, "/v1/sales", testToken)
	}
	for i := range 20 {
		if status, ends := s.ask(t.Context(), doors[i%2], http.MethodPost, api.PathFacts, testToken); status != 200 || ends {
			t.Errorf("door %d among a crowd: %d, its connection ends: %t", i%2, status, ends)
		}
	}
	crowd.Wait()
}

// One connection of HTTP/2 carries many calls. Those that are too many are refused at once; doors and whoever looks at the figures are not. P9
func TestOperations_RefuseCallsBeyondTheirBound(t *testing.T) {
	s := newShop(t, fewConnections)
	var many http.Protocols
	many.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: &many}
	defer transport.CloseIdleConnections()
	c := &http.Client{Transport: transport}
	ctx, enough := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	for range 14 {
		waiting.Go(func() { s.ask(ctx, c, http.MethodGet, "/v1/events?wait=30s", testToken) })
	}
	s.eventually("fourteen calls run", func() bool { return s.figure("sluice_worker_calls") == 14 })
	began := time.Now()
	for _, call := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/v1/sales", 503},
		{"POST", "/v1/orders/" + s.order("a").ID.String() + "/pay", 503},
		{"GET", "/readyz", 503},
		{"GET", "/livez", 200},
		{"POST", api.PathFacts, 200},
		{"POST", api.PathStatuses, 200},
		{"GET", "/metrics", 200},
	} {
		if status, _ := s.ask(t.Context(), c, call.method, call.path, testToken); status != call.status {
			t.Errorf("%s %s while all calls are taken: %d, want %d", call.method, call.path, status, call.status)
		}
	}
	if status, out := s.call("GET", "/v1/sales", "", testToken); status != 503 || out["reason"] != "unavailable" || out["retry_after_ms"] != 1000.0 {
		t.Errorf("over HTTP/1.1: %d %v", status, out)
	}
	if _, err := apiv1.NewOperationsClient(s.dial()).GetSale(operator(t.Context()), &apiv1.SaleName{Id: "demo"}); reasonOf(err) != sluice.Unavailable {
		t.Errorf("over gRPC: %v", err)
	}
	if took := time.Since(began); took > 10*time.Second || s.figure("sluice_worker_calls_refused_total") != 5 {
		t.Errorf("%v after %v", s.figure("sluice_worker_calls_refused_total"), took)
	}
	enough()
	waiting.Wait()
	s.eventually("there is room again", func() bool { return s.get("/v1/sales") == 200 })
}

func TestNew_WantsConnections(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Connections = 0
	if _, err := New(cfg, Parts{}); err == nil || !strings.Contains(err.Error(), "want 1 at least") {
		t.Error(err)
	}
}
