package queue

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nsqio/nsq/nsqd"

	"sluice/internal/calm"
)

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := probeClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestServer_AnswersTheQuestionsOfAStockNsqdAndNothingElse(t *testing.T) {
	noLeaks(t)
	s := startServer(t, ServerConfig{HTTP: "127.0.0.1:0", Channels: settle})
	base := "http://" + s.HTTPAddr()
	if code, body := get(t, base+"/ping"); code != 200 || body != "OK" {
		t.Errorf("/ping: %d %q", code, body)
	}
	var info infoBody
	code, body := get(t, base+"/info")
	if err := json.Unmarshal([]byte(body), &info); err != nil || code != 200 {
		t.Fatalf("/info: %d %s: %v", code, body, err)
	}
	if info.Version != "1.3.0" || time.Since(time.Unix(info.StartTime, 0)) > time.Minute || info.TCPPort == 0 {
		t.Errorf("/info: %s", body)
	}
	_, body = get(t, base+"/stats?format=json")
	for _, want := range []string{
		`"version":"1.3.0"`, `"health":"OK"`, `"start_time":`, `"topic_name":"orders"`, `"backend_depth":0`,
		`"channel_name":"settle"`, `"in_flight_count":0`, `"deferred_count":0`, `"message_count":0`, `"client_count":0`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("/stats has no %s: %s", want, body)
		}
	}
	if _, body = get(t, base+"/stats?format=json&topic=none"); !strings.Contains(body, `"topics":[]`) {
		t.Errorf("/stats of no topic: %s", body)
	}
	for _, path := range []string{"/debug/pprof/", "/config/log_level", "/topic/empty?topic=orders", "/pub?topic=orders"} {
		if code, _ := get(t, base+path); code != 404 {
			t.Errorf("%s: %d, want 404", path, code)
		}
	}
	if s.nsqd.RealHTTPAddr().String() != ":0" {
		t.Errorf("nsqd's own HTTP listens at %s", s.nsqd.RealHTTPAddr())
	}
}

func TestServer_KeepsTopicsAndMessagesThroughACleanRestart(t *testing.T) {
	noLeaks(t)
	dir := t.TempDir()
	s := startServer(t, ServerConfig{DataDir: dir, Channels: settle})
	fill(t, s, 0, 100)
	stopServer(t, s)
	stopServer(t, s) // twice is once
	within(t, "done", s.Done())
	if err := s.Err(); err != nil {
		t.Errorf("Err() = %v after Stop", err)
	}
	again := startServer(t, ServerConfig{DataDir: dir, HTTP: "127.0.0.1:0"})
	eventually(t, "all 100 messages have survived", func() bool { return totals(t, again) == 100 })
}

func TestServer_FailsWithAnErrorThatNamesWhatIsInTheWay(t *testing.T) {
	noLeaks(t)
	other := startServer(t, ServerConfig{HTTP: "127.0.0.1:0"})
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	locked := t.TempDir()
	startServer(t, ServerConfig{DataDir: locked})
	damaged := t.TempDir()
	if err := os.WriteFile(filepath.Join(damaged, "nsqd.dat"), []byte(`{"topics":[`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		cfg  ServerConfig
		want string
	}{
		{"busy port", ServerConfig{Listen: other.Addr(), DataDir: dir}, other.Addr()},
		{"busy HTTP port", ServerConfig{Listen: "127.0.0.1:0", HTTP: other.HTTPAddr(), DataDir: dir}, other.HTTPAddr()},
		{"no port", ServerConfig{Listen: "localhost", DataDir: dir}, `"localhost"`},
		{"no directory", ServerConfig{Listen: "127.0.0.1:0"}, "data directory"},
		{"a file for a directory", ServerConfig{Listen: "127.0.0.1:0", DataDir: file}, file},
		{"locked directory", ServerConfig{Listen: "127.0.0.1:0", DataDir: locked}, locked},
		{"damaged list of topics", ServerConfig{Listen: "127.0.0.1:0", DataDir: damaged}, "nsqd.dat"},
		{"bad topic", ServerConfig{Listen: "127.0.0.1:0", DataDir: dir, Channels: []Channel{{"a b", "c"}}}, "a b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if s, err := StartServer(c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("StartServer = %v, %v; want an error with %q", s, err, c.want)
			}
		})
	}
	startServer(t, ServerConfig{DataDir: dir}) // no failure above may have kept the lock
}

func TestServer_StopIsBoundByItsContext(t *testing.T) {
	noLeaks(t)
	s := startServer(t, ServerConfig{})
	var dialer net.Dialer
	silent, err := dialer.DialContext(t.Context(), "tcp", s.Addr()) // and says nothing
	if err != nil {
		t.Fatal(err)
	}
	p := startPublisher(t, PublisherConfig{Addr: s.Addr()})
	eventually(t, "a later client served, so that the silent one is accepted", p.Connected)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.Stop(ctx); err == nil {
		t.Error("Stop did not wait for the silent client: the comment on it is out of date")
	}
	_ = silent.Close()
}

func TestServer_PassesOnABoundedNumberOfLines(t *testing.T) {
	var lines strings.Builder
	l := &nsqdLog{log: slog.New(slog.NewTextHandler(&lines, nil))}
	now := time.Unix(100, 0)
	passed := 0
	for range 1000 {
		if _, ok := l.admit(now); ok {
			passed++
		}
	}
	if passed != nsqdLinesPerSecond {
		t.Errorf("%d of 1000 lines passed in one second, want %d", passed, nsqdLinesPerSecond)
	}
	if suppressed, ok := l.admit(now.Add(time.Second)); !ok || suppressed != 990 {
		t.Errorf("the next second: passed %v, %d suppressed", ok, suppressed)
	}
	_ = l.Output(2, "ERROR: client(1) - failed")
	if got := lines.String(); !strings.Contains(got, "level=ERROR msg=nsqd text=\"client(1) - failed\"") {
		t.Errorf("logged %s", got)
	}
}

// stockNsqd is what apps/nsqd would run, its own HTTP included.
func stockNsqd(t *testing.T) (tcp, http string) {
	t.Helper()
	opts := nsqd.NewOptions()
	opts.TCPAddress, opts.HTTPAddress = "127.0.0.1:0", "127.0.0.1:0"
	opts.DataPath = t.TempDir()
	opts.Logger = &nsqdLog{log: slog.New(slog.DiscardHandler)}
	daemon, err := nsqd.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = daemon.Main() })
	t.Cleanup(func() { daemon.Exit(); wg.Wait() })
	return daemon.RealTCPAddr().String(), daemon.RealHTTPAddr().String()
}

func TestProbe_CountsWhatNsqdCarries(t *testing.T) {
	noLeaks(t)
	ours := startServer(t, ServerConfig{HTTP: "127.0.0.1:0"})
	stockTCP, stockHTTP := stockNsqd(t)
	for name, addr := range map[string]struct{ tcp, http string }{
		"embedded": {ours.Addr(), ours.HTTPAddr()},
		"stock":    {stockTCP, stockHTTP},
	} {
		t.Run(name, func(t *testing.T) {
			probe := func() Health {
				t.Helper()
				h, err := Probe(t.Context(), addr.http, nil)
				if err != nil {
					t.Fatal(err)
				}
				return h
			}
			if h := probe(); h.Total != 0 || h.Settle || time.Since(h.StartTime) > time.Minute {
				t.Errorf("a fresh nsqd: %+v", h)
			}
			for range 2 { // making it again is no error
				if err := EnsureChannel(t.Context(), addr.tcp, nil, TopicOrders, ChannelSettle); err != nil {
					t.Fatal(err)
				}
			}
			if h := probe(); !h.Settle || h.Total != 0 {
				t.Errorf("after EnsureChannel: %+v", h)
			}
			p := startPublisher(t, PublisherConfig{Addr: addr.tcp})
			publish(t, p, 0, 100)
			eventually(t, "all counted as waiting", func() bool { return probe().Total == 100 })

			h := holder{release: make(chan struct{})}
			c := startConsumer(t, ConsumerConfig{Addr: addr.tcp, MaxInFlight: 10, Handle: h.handle})
			eventually(t, "some in hand and the window full, so that none is on its way", func() bool {
				return h.given.Load() > 0 && c.InFlight() == 10
			})
			if total := probe().Total; total != 100 {
				t.Errorf("with some in flight the total is %d, want 100", total)
			}
			close(h.release)
			eventually(t, "none", func() bool { return probe().Total == 0 })
			if err := c.Stop(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestProbe_FailsClearlyAndSoon(t *testing.T) {
	noLeaks(t)
	addr := freeAddr(t)
	if _, err := Probe(t.Context(), addr, nil); err == nil || !strings.Contains(err.Error(), addr) {
		t.Errorf("without nsqd: %v", err)
	}
	s := startServer(t, ServerConfig{HTTP: "127.0.0.1:0"})
	px := startProxy(t, s.HTTPAddr())
	px.freeze(true)
	calm.Play(t, probeTimeout/2, func(complain calm.Complain) {
		began := time.Now()
		if _, err := Probe(t.Context(), px.addr(), nil); err == nil {
			t.Error("a frozen nsqd was healthy")
		}
		if d := time.Since(began); d > 2*probeTimeout {
			complain("a frozen nsqd took %v", d)
		}
	})
}

func TestEnsureChannel_RefusesWhatCannotLast(t *testing.T) {
	noLeaks(t)
	s := startServer(t, ServerConfig{})
	for _, c := range []struct{ addr, topic, channel, want string }{
		{s.Addr(), TopicOrders, "door-a#ephemeral", "ephemeral"},
		{s.Addr(), "a b", "c", "a b"},
		{s.Addr(), "t", "c d", "c d"},
		{"nowhere", "t", "c", "nowhere"},
		{freeAddr(t), "t", "c", "refused"},
	} {
		if err := EnsureChannel(t.Context(), c.addr, nil, c.topic, c.channel); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("EnsureChannel(%v) = %v; want an error with %q", c, err, c.want)
		}
	}
}
