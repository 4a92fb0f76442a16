package loadtest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// teller is a process with metrics, as far as a test needs them.
type teller struct {
	asked atomic.Int64
	tell  func(n int64) string // the n-th time, from 1 on; empty: it can't
	token string
	hangs atomic.Bool
}

func (m *teller) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/metrics" || (m.token != "" && r.Header.Get("Authorization") != "Bearer "+m.token) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if m.hangs.Load() {
		<-r.Context().Done()
		return
	}
	text := m.tell(m.asked.Add(1))
	if text == "" {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, _ = fmt.Fprint(w, text)
}

func (m *teller) serve(t *testing.T) (url string) {
	t.Helper()
	s := httptest.NewServer(m)
	t.Cleanup(s.Close)
	return s.URL
}

func doorText(outstanding, bound int64) string {
	return fmt.Sprintf("sluice_door_outstanding_orders %d\nsluice_door_bound_orders %d\nprocess_cpu_seconds_total 1\n", outstanding, bound)
}

func workerText(settled int64) string {
	return fmt.Sprintf("sluice_worker_store_up 1\nsluice_worker_orders_total{state=\"paid\"} %d\nsluice_worker_pool_window{pool=\"main\"} 8\n", settled)
}

func doorWith(outstanding, bound int64) *teller {
	return &teller{tell: func(int64) string { return doorText(outstanding, bound) }}
}

// watched is a watch that a test runs.
type watched struct {
	*watch
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// watchOf prepares a watch that looks often.
func watchOf(s *Service) *watched {
	w := &watched{watch: newWatch(s)}
	w.every, w.patience = 20*time.Millisecond, 10*time.Second
	return w
}

func (w *watched) start(t *testing.T, began time.Time) {
	t.Helper()
	var ctx context.Context
	ctx, w.cancel = context.WithCancel(t.Context())
	w.done.Go(func() { w.run(ctx, began) })
	t.Cleanup(w.stop)
}

func (w *watched) stop() {
	w.cancel()
	w.done.Wait()
}

func (w *watched) until(t *testing.T, looks int) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); w.looks() < looks; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d looks, want %d", w.looks(), looks)
		}
	}
}

func (w *watched) looks() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.points)
}

func TestWatch_SeesADoorsAndAWorkersFigures(t *testing.T) {
	one, two := doorWith(3, 50), doorWith(4, 30)
	worker := &teller{token: "secret", tell: func(n int64) string { return workerText(1000 + 10*n) }}
	w := watchOf(&Service{Metrics: []string{one.serve(t) + "/metrics", two.serve(t) + "/metrics"}, Admin: worker.serve(t) + "/", Token: "secret"})
	w.start(t, time.Now())
	w.until(t, 10)
	w.stop()
	if notes := w.notes(); len(notes) != 0 {
		t.Errorf("notes: %q", notes)
	}
	if first := w.points[0]; first.Outstanding != 7 || first.Settled != 0 || first.At > 1 {
		t.Errorf("at the beginning: got %+v", first)
	}
	var settled float64
	for i, p := range w.fill([]Point{{At: w.every.Seconds(), Sent: 5}}) {
		settled += p.Settled
		if p.Outstanding != 7 || p.Bound != 80 || p.Window != 8 || (p.Sent == 5) != (i == 0) {
			t.Errorf("point %d: got %+v", i, p)
		}
	}
	if want := w.last.told[workerName].settled - 1010 - 7; settled != want || want < 80 { // seven were the warm-up's
		t.Errorf("settled: got %v in all, want %v", settled, want)
	}
	if cpu := w.points[9].CPU; len(cpu) != 3 || cpu["door-1"] != 0 {
		t.Errorf("processor time: got %v, want of two doors and the generator", cpu)
	}
}

func TestWatch_LooksForTheFirstTimeWhenTheRoundBegins(t *testing.T) {
	d, worker := doorWith(0, 1), &teller{tell: workerText}
	s := &Service{Metrics: []string{d.serve(t) + "/metrics"}, Admin: worker.serve(t)}
	early := watchOf(s)
	early.start(t, time.Now().Add(time.Hour))
	if early.stop(); worker.asked.Load() != 0 || early.looks() != 0 {
		t.Errorf("%d looks before the round", worker.asked.Load())
	}
	w := watchOf(s)
	w.every = time.Hour
	w.start(t, time.Now())
	w.until(t, 1)
}

func TestWatch_GoesOnWhereSomebodyDoesNotAnswerForAMoment(t *testing.T) {
	flaky := &teller{tell: func(n int64) string {
		if n == 3 || n == 5 {
			return ""
		}
		return doorText(n, 10)
	}}
	steady, worker := doorWith(100, 10), &teller{tell: workerText}
	w := watchOf(&Service{Metrics: []string{flaky.serve(t) + "/metrics", steady.serve(t) + "/metrics"}, Admin: worker.serve(t)})
	w.start(t, time.Now())
	w.until(t, 6)
	w.stop()
	notes := w.notes()
	if len(notes) != 1 || !strings.HasPrefix(notes[0], fmt.Sprintf("door-1 did not tell its metrics 2 of %d times, first: GET ", w.looks())) ||
		!strings.HasSuffix(notes[0], "503 Service Unavailable") {
		t.Errorf("notes: %q", notes)
	}
	for i, want := range []float64{101, 102, 102, 104, 104, 106} {
		if p := w.points[i]; p.Outstanding != want || p.Gap != (i == 2 || i == 4) {
			t.Errorf("look %d: got %v outstanding, gap %v; want %v", i+1, p.Outstanding, p.Gap, want)
		}
	}
}

func TestWatch_IsNotKeptByAProcessThatHangs(t *testing.T) {
	stuck, worker := doorWith(1, 1), &teller{tell: workerText}
	stuck.hangs.Store(true)
	w := watchOf(&Service{Metrics: []string{stuck.serve(t) + "/metrics", doorWith(5, 1).serve(t) + "/metrics"}, Admin: worker.serve(t)})
	w.patience = 300 * time.Millisecond
	w.start(t, time.Now())
	w.until(t, 2)
	w.stop()
	if notes := w.notes(); len(notes) != 1 || !strings.HasPrefix(notes[0], "door-1 did not tell") {
		t.Errorf("notes: %q", notes)
	}
	if p := w.points[0]; !p.Gap || p.Window != 8 || p.Outstanding != 5 {
		t.Errorf("got %+v, want the others' figures and a gap", p)
	}
}

func TestWatch_SaysWhereAnAddressIsNoDoors(t *testing.T) {
	url := (&teller{tell: workerText}).serve(t)
	w := watchOf(&Service{Metrics: []string{url + "/metrics"}, Admin: url})
	w.start(t, time.Now())
	w.until(t, 1)
	w.stop()
	if notes := w.notes(); len(notes) != 1 || !strings.Contains(notes[0], "no sluice_door_outstanding_orders among its metrics") {
		t.Errorf("notes: %q", notes)
	}
}

// fakeProcess runs on one core until it ends.
type fakeProcess struct {
	name string

	mu    sync.Mutex // guards what follows
	cpu   time.Duration
	ended bool
}

func (p *fakeProcess) Name() string { return p.name }

func (p *fakeProcess) CPU() (time.Duration, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return 0, errors.New("no such process")
	}
	p.cpu += time.Second
	return p.cpu, nil
}

func (p *fakeProcess) Memory() (int64, error) { return 5e6, nil }

func (p *fakeProcess) end() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	return p.cpu
}

func TestWatch_KeepsTheProcessorTimeOfAProcessThatEnded(t *testing.T) {
	d, worker := doorWith(0, 1), &teller{tell: workerText}
	w := watchOf(&Service{Metrics: []string{d.serve(t) + "/metrics"}, Admin: worker.serve(t)})
	queue := &fakeProcess{name: "nsqd"}
	w.processes = []process{queue, &fakeProcess{name: "door-1"}}
	w.start(t, time.Now())
	w.until(t, 3)
	used := queue.end().Seconds()
	w.until(t, w.looks()+3)
	cpu := w.cpuAt()
	w.stop()
	if cpu["nsqd"] != used || cpu["door-1"] < 5 || cpu[generator] <= 0 {
		t.Errorf("got %v, want %v s of nsqd, and more of the door's than it tells of itself", cpu, used)
	}
	first, last := w.points[1], w.points[len(w.points)-1]
	if first.CPU["nsqd"] <= 0 || first.Memory["nsqd"] != 5 || first.Memory[generator] <= 0 {
		t.Errorf("while it ran: got %+v", first)
	}
	if _, ok := last.CPU["nsqd"]; ok || last.Memory["nsqd"] != 0 {
		t.Errorf("after its end: got %+v", last)
	}
}

func TestWatch_AsksForeignProcessesForTheirProcessorTime(t *testing.T) {
	d := &teller{tell: func(n int64) string {
		return fmt.Sprintf("sluice_door_outstanding_orders 0\nprocess_cpu_seconds_total %d\n", 100*n)
	}}
	w := newWatch(&Service{Metrics: []string{d.serve(t) + "/metrics"}, Admin: (&teller{tell: workerText}).serve(t)})
	defer w.client.CloseIdleConnections()
	if a, b := w.cpuAt(), w.cpuAt(); a["door-1"] != 100 || b["door-1"] != 200 {
		t.Errorf("got %v and %v, want 100 and 200 s", a, b)
	}
}

func TestWatch_LooksOnceMoreAtItsEnd(t *testing.T) {
	worker := &teller{tell: workerText}
	w := watchOf(&Service{Admin: worker.serve(t)})
	w.every = time.Minute
	w.start(t, time.Now().Add(-20*time.Second))
	w.until(t, 1)
	if w.stop(); w.looks() != 1 {
		t.Errorf("%d looks, a moment after the first one", w.looks())
	}
	w = watchOf(&Service{Admin: worker.serve(t)})
	w.every = 400 * time.Millisecond
	w.start(t, time.Now())
	w.until(t, 1)
	for time.Since(w.began) < 150*time.Millisecond { // more than a quarter, less than a whole interval
		time.Sleep(time.Millisecond)
	}
	if w.stop(); w.looks() < 2 {
		t.Errorf("%d looks, want the first and the last", w.looks())
	}
}

func TestEndpoints_HaveTheNamesOfTheProcesses(t *testing.T) {
	s := &Service{Metrics: []string{"http://a/metrics", "http://b/metrics"}, Admin: "http://c/"}
	for names, want := range map[string]string{
		"":                        "door-1 door-2",
		"nsqd worker door":        "door-1 door-2",
		"nsqd worker door2 door1": "door2 door1",
	} {
		doors, worker := endpointsOf(s, strings.Fields(names))
		if got := doors[0].process + " " + doors[1].process; got != want || worker.url != "http://c/metrics" {
			t.Errorf("%q: got %s and %+v, want %s", names, got, worker, want)
		}
	}
}

func TestWatch_CountsOneProcessOnceThatIsDoorAndWorker(t *testing.T) {
	both := &teller{token: "secret", tell: func(n int64) string { return doorText(2, 9) + workerText(n) }}
	url := both.serve(t)
	w := watchOf(&Service{Metrics: []string{url + "/metrics"}, Admin: url, Token: "secret"})
	w.start(t, time.Now())
	w.until(t, 2)
	w.stop()
	if p := w.points[1]; p.Outstanding != 2 || p.Window != 8 || len(p.CPU) != 2 || len(w.notes()) != 0 {
		t.Errorf("got %+v and %q, want processor time of a worker and the generator", p, w.notes())
	}
}

func TestWaitIdle_IsWhenNoDoorHasAnOutstandingOrder(t *testing.T) {
	left := func(from int64) *teller {
		return &teller{tell: func(n int64) string { return doorText(max(0, from-n), 10) }}
	}
	one, two := left(2), left(4)
	w := newWatch(&Service{Metrics: []string{one.serve(t) + "/metrics", two.serve(t) + "/metrics"}})
	defer w.client.CloseIdleConnections()
	began := time.Now()
	at, ok := w.waitIdle(t.Context(), time.Minute, nil, 0)
	if !ok || two.asked.Load() != 4 || at.Sub(began) < 3*idleInterval || at.After(time.Now()) {
		t.Errorf("got %v %v after %d looks, want the 4th", at.Sub(began), ok, two.asked.Load())
	}
}

func TestWaitIdle_IsNotWhileADoorIsSilent(t *testing.T) {
	silent := &teller{tell: func(int64) string { return "" }}
	w := newWatch(&Service{Metrics: []string{doorWith(0, 1).serve(t) + "/metrics", silent.serve(t) + "/metrics"}})
	defer w.client.CloseIdleConnections()
	if at, ok := w.waitIdle(t.Context(), 3*idleInterval, nil, 0); ok || !at.IsZero() {
		t.Errorf("got %v %v, want not idle", at, ok)
	}
}

// A token goes to nobody who could be overheard.
func TestEndpointsOf_ShowTheTokenWhereNobodyElseHearsIt(t *testing.T) {
	for at, token := range map[string]string{
		"https://door.example:9100/metrics": "secret", "http://127.0.0.1:9100/metrics": "secret", "http://[::1]:9100/metrics": "secret",
		"http://localhost:9100/metrics": "secret", "http://10.0.0.7:9100/metrics": "", "http://door.example/metrics": "", "http://127.0.0.1.example/": "",
	} {
		doors, worker := endpointsOf(&Service{Metrics: []string{at}, Admin: "https://worker.example", Token: "secret"}, nil)
		if doors[0].token != token || worker.token != "secret" {
			t.Errorf("%s is shown %q, want %q; the worker %q", at, doors[0].token, token, worker.token)
		}
	}
}
