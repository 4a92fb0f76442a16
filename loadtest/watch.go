package loadtest

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"
)

// watchInterval is between two looks; mostPoints bounds how many are kept, for two hours. A scenario ends before.
const (
	watchInterval = time.Second
	mostPoints    = int(2 * time.Hour / watchInterval)
)

// watch looks at a service while it is under load, and at the load test itself. What does not answer leaves a gap, and never ends it.
type watch struct {
	service   *Service
	processes []process
	doors     []endpoint
	worker    endpoint
	client    *http.Client
	self      func() (reading, error)
	every     time.Duration
	patience  time.Duration // the longest wait for metrics
	began     time.Time     // the round; run owns it

	mu     sync.Mutex // guards what follows
	last   moment
	points []Point            // the first is of the beginning; each tells of the time since the one before
	gaps   map[string]*gap    // by process
	used   map[string]float64 // seconds of processor time, by process, as last seen
}

// process is what the system tells of one that was started here. One that has ended answers errors.
type process interface {
	Name() string
	CPU() (time.Duration, error)
	Memory() (int64, error)
}

// gap is how often a process was asked in vain.
type gap struct {
	looks int
	first error
}

func newWatch(s *Service) *watch {
	// To compress answers would cost processor time that is measured.
	transport := &http.Transport{MaxIdleConnsPerHost: 4, IdleConnTimeout: 5 * time.Second, DisableCompression: true, TLSClientConfig: s.Secure.Clone()}
	w := &watch{
		service: s, client: &http.Client{Transport: transport, CheckRedirect: noRedirect}, self: newSelf(), every: watchInterval, patience: watchInterval * 4 / 5,
		gaps: map[string]*gap{}, used: map[string]float64{},
	}
	var names []string
	for _, p := range s.Processes {
		w.processes, names = append(w.processes, p), append(names, p.Name())
	}
	if s.store.Server != nil {
		w.processes = append(w.processes, s.store.Server)
	}
	w.doors, w.worker = endpointsOf(s, names)
	return w
}

// noRedirect: who is asked redirects nobody, and the token is not for others.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// run looks for the first time when a round begins, then at equal intervals, and once more when its context ends.
func (w *watch) run(ctx context.Context, began time.Time) {
	defer w.client.CloseIdleConnections()
	w.began = began
	for n := 0; n < mostPoints; n++ {
		if sleep(ctx, time.Until(began.Add(time.Duration(n)*w.every))) != nil {
			break
		}
		w.look(ctx)
		n = max(n, int(time.Since(began)/w.every)) // after a slow look the next one is on time
	}
	if time.Since(began) > 0 {
		w.look(context.WithoutCancel(ctx))
	}
}

// sleep ends early with its context, and answers why.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (w *watch) look(ctx context.Context) {
	now, errs := w.see(ctx)
	if ctx.Err() != nil {
		return // it was cut off; the last look follows
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, err := range errs {
		if w.gaps[name] == nil {
			w.gaps[name] = &gap{first: err}
		}
		w.gaps[name].looks++
	}
	now = now.after(w.last)
	p := pointOf(w.last, now)
	w.remember(now.cpu)
	if n := len(w.points); n > 0 && now.at-w.last.at <= w.every/4 { // over so little time no rate can be reckoned; but orders count
		w.points[n-1].Settled += p.Settled
		w.last.told = now.told
		return
	}
	w.points, w.last = append(w.points, p), now
}

// see asks everybody at once, and no longer than most of an interval: a process that hangs keeps nothing from the others.
func (w *watch) see(ctx context.Context) (m moment, errs map[string]error) {
	ctx, cancel := context.WithTimeout(ctx, w.patience)
	defer cancel()
	m = newMoment(time.Since(w.began), w.doors)
	own := w.own()
	for name, r := range own {
		m.uses(name, r)
	}
	m.told, errs = w.ask(ctx, append([]endpoint{w.worker}, w.doors...))
	m.told[generator], _ = w.self() // what can't be read of it is 0
	for name, r := range m.told {
		m.gc[name] = count{r.gc, m.at}
		if _, known := own[name]; !known {
			m.uses(name, r)
		}
	}
	m.gap = len(errs) > 0
	return m, errs
}

// ask reads endpoints at the same time.
func (w *watch) ask(ctx context.Context, endpoints []endpoint) (told map[string]reading, errs map[string]error) {
	readings, failed := make([]reading, len(endpoints)), make([]error, len(endpoints))
	var all sync.WaitGroup
	for i, e := range endpoints {
		all.Go(func() { readings[i], failed[i] = e.ask(ctx, w.client) })
	}
	all.Wait()
	told, errs = map[string]reading{}, map[string]error{}
	for i, e := range endpoints {
		if failed[i] != nil {
			errs[e.process] = failed[i]
			continue
		}
		told[e.process] = readings[i]
	}
	return told, errs
}

// own are the service's processes that this machine knows. One that has ended is missing, and so are all where the system does not tell.
func (w *watch) own() map[string]reading {
	own := map[string]reading{}
	for _, p := range w.processes {
		cpu, err1 := p.CPU()
		memory, err2 := p.Memory()
		if err1 == nil && err2 == nil {
			own[p.Name()] = reading{cpu: cpu.Seconds(), memory: float64(memory)}
		}
	}
	return own
}

// cpuAt is the processor time in seconds that each process has used so far. One that can't be asked now has what it had last.
func (w *watch) cpuAt() map[string]float64 {
	ctx, cancel := context.WithTimeout(context.Background(), w.patience) // also when the round was interrupted
	defer cancel()
	m := newMoment(0, w.doors)
	for name, r := range w.own() {
		m.uses(name, r)
	}
	others := slices.DeleteFunc(append([]endpoint{w.worker}, w.doors...), func(e endpoint) bool {
		_, known := m.cpu[e.process]
		return known
	})
	m.told, _ = w.ask(ctx, others)
	m.told[generator], _ = w.self()
	for name, r := range m.told {
		m.uses(name, r)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.remember(m.cpu)
	return maps.Clone(w.used)
}

// remember keeps processor times. Of two looks at the same time the later one counts.
func (w *watch) remember(cpu map[string]count) {
	for name, c := range cpu {
		w.used[name] = max(w.used[name], c.value)
	}
}

// fill puts what was seen into the points of a round, each of one interval. Intervals after the last point get points of their own.
func (w *watch) fill(points []Point) []Point {
	w.mu.Lock()
	defer w.mu.Unlock()
	return merge(points, w.points, w.every)
}

// notes say, when it has ended, what could not be seen.
func (w *watch) notes() (notes []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(w.gaps)) {
		g := w.gaps[name]
		notes = append(notes, fmt.Sprintf("%s did not tell its metrics %d of %d times, first: %v", name, g.looks, len(w.points), g.first))
	}
	return notes
}
