package faulttest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	callTime   = 10 * time.Second // for one request, beyond what it asked to wait
	settleTime = 40 * time.Second // P3: an accepted order reaches its outcome within this time
	agreeTime  = 15 * time.Second // within which every door knows an outcome that one door knows
)

// said is one answer of the service.
type said struct {
	Status
	code       int // 0: the connection broke
	retryAfter time.Duration
	err        error
}

// in says whether the buyer has an order.
func (a said) in() bool { return a.code == http.StatusOK || a.code == http.StatusAccepted }

// front is a door that buyers can ask.
type front struct{ name, url string }

// buyers are a rush of different buyers who want one unit each and do not give up before a final answer.
type buyers struct {
	doors       []front // one at least
	sale        string
	count       int
	concurrency int
	perSecond   int                                // how fast new ones come; 0: as fast as the workers are
	each        func(ctx context.Context, n int64) // what buyer n does; buy unless told otherwise
	history     *History
	client      *http.Client

	taken    atomic.Int64
	accepted atomic.Int64
	gaveUp   atomic.Int64

	mu     sync.Mutex // guards what follows
	marks  map[int64]chan struct{}
	orders []Event // who was promised which order, one for each key
	known  map[asker]bool
}

func newBuyers(door, sale string, count, concurrency, perSecond int) *buyers {
	b := &buyers{
		doors: []front{{"door", "http://" + door}}, sale: sale, count: count, concurrency: concurrency, perSecond: perSecond,
		history: NewHistory(), marks: map[int64]chan struct{}{}, known: map[asker]bool{},
		client: &http.Client{Transport: &http.Transport{
			MaxIdleConnsPerHost: concurrency, MaxConnsPerHost: concurrency, DisableCompression: true,
		}},
	}
	b.each = b.buy
	return b
}

// whenAccepted is closed when n orders have been accepted. Ask before the rush begins.
func (b *buyers) whenAccepted(n int64) <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	mark := make(chan struct{})
	b.marks[n] = mark
	return mark
}

// rush lets everybody buy until all have a final answer or ctx ends.
func (b *buyers) rush(ctx context.Context) {
	began := time.Now()
	var workers sync.WaitGroup
	for range b.concurrency {
		workers.Go(func() {
			for n := b.taken.Add(1); n <= int64(b.count); n = b.taken.Add(1) {
				if b.perSecond > 0 {
					pause(ctx, time.Until(began.Add(time.Duration(n)*time.Second/time.Duration(b.perSecond))))
				}
				b.each(ctx, n)
			}
		})
	}
	workers.Wait()
}

// rushOnce lets everybody ask until there is a yes or a no; the doors take turns.
func (b *buyers) rushOnce(ctx context.Context) {
	var workers sync.WaitGroup
	for range b.concurrency {
		workers.Go(func() {
			for n := b.taken.Add(1); n <= int64(b.count); n = b.taken.Add(1) {
				user, key := fmt.Sprintf("buyer-%06d", n), fmt.Sprintf("key-%06d", n)
				door := b.doors[n%int64(len(b.doors))]
				if a := b.definite(ctx, door, user, key); a.in() {
					b.accept(Event{Door: door.name, User: user, Key: key, Order: a.Order})
				}
			}
		})
	}
	workers.Wait()
}

// unavailable is what a door says that can't tell, as where the disk stands still for a second: neither yes nor no.
const unavailable = "unavailable"

// definite asks with one key until there is a yes or a no.
func (b *buyers) definite(ctx context.Context, door front, user, key string) said {
	for {
		a := b.placeAt(ctx, door, user, key, 1)
		if a.Reason != unavailable || ctx.Err() != nil {
			return a
		}
		pause(ctx, 100*time.Millisecond)
	}
}

// buy asks with one key until the answer is final.
func (b *buyers) buy(ctx context.Context, n int64) {
	user, key := fmt.Sprintf("buyer-%06d", n), fmt.Sprintf("key-%06d", n)
	b.insist(ctx, b.doors[0], user, key, 1)
}

// insist asks one door with one key until the answer is final, doubt and shedding both mean to ask again. It answers the
// order, or nothing where the buyer was turned away.
func (b *buyers) insist(ctx context.Context, door front, user, key string, quantity int64) (order string) {
	for ctx.Err() == nil {
		a := b.placeAt(ctx, door, user, key, quantity)
		switch {
		case a.in():
			b.accept(Event{User: user, Key: key, Order: a.Order})
			return a.Order
		case a.code == 0 || a.code >= 500 || a.code == http.StatusTooManyRequests:
			// Sooner than the door asks for: the fault must meet buyers, not pauses.
			pause(ctx, min(max(a.retryAfter, 100*time.Millisecond), 500*time.Millisecond)+rand.N(50*time.Millisecond))
		default:
			return ""
		}
	}
	b.gaveUp.Add(1)
	return ""
}

func (b *buyers) accept(e Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	who := asker{User: e.User, Key: e.Key}
	if b.known[who] {
		return // another door said so before
	}
	b.known[who] = true
	b.orders = append(b.orders, e)
	n := b.accepted.Add(1)
	if mark, ok := b.marks[n]; ok {
		close(mark)
	}
}

// place asks the first door for one unit, once.
func (b *buyers) place(ctx context.Context, user, key string) said {
	return b.placeAt(ctx, b.doors[0], user, key, 1)
}

// placeAt posts one order, between the two lines of the history that belong to it.
func (b *buyers) placeAt(ctx context.Context, door front, user, key string, quantity int64) said {
	e := Event{Call: Place, Door: door.name, User: user, Key: key, Quantity: quantity}
	body := fmt.Sprintf(`{"user":%q,"quantity":%d}`, user, quantity)
	return b.ask(ctx, e, callTime, func(ctx context.Context) (*http.Request, error) {
		req, err := post(ctx, door.url+"/v1/sales/"+b.sale+"/orders", body)
		if err == nil {
			req.Header.Set("Idempotency-Key", key)
		}
		return req, err
	})
}

// post is a request that net/http sends once: with GetBody and a key it would send it again by itself when a connection
// breaks, and the history would not know.
func post(ctx context.Context, url, body string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.GetBody = nil
	req.Header.Set("Content-Type", "application/json")
	return req, nil
}

func (b *buyers) follow(ctx context.Context, door front, e Event, wait time.Duration) said {
	e = Event{Call: Follow, Door: door.name, User: e.User, Key: e.Key, Order: e.Order}
	return b.ask(ctx, e, callTime+wait, func(ctx context.Context) (*http.Request, error) {
		return http.NewRequestWithContext(ctx, http.MethodGet, door.url+"/v1/orders/"+e.Order+"?wait="+wait.String(), nil)
	})
}

func (b *buyers) ask(ctx context.Context, e Event, most time.Duration, call func(context.Context) (*http.Request, error)) said {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	e.Event = Ask
	e.Asked = b.history.Add(e)
	a := b.send(ctx, call)
	e.Event, e.Status, e.Reason, e.State, e.Version = Answer, a.code, a.Reason, a.State, a.Version
	if a.Order != "" {
		e.Order = a.Order
	}
	if a.err != nil {
		e.Error = a.err.Error()
	}
	b.history.Add(e)
	return a
}

func (b *buyers) send(ctx context.Context, call func(context.Context) (*http.Request, error)) said {
	req, err := call(ctx)
	if err != nil {
		return said{err: err}
	}
	resp, err := b.client.Do(req)
	if err != nil {
		return said{err: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return said{err: err}
	}
	a := said{code: resp.StatusCode}
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
		a.retryAfter = time.Duration(seconds) * time.Second
	}
	if a.code < 300 {
		err = json.Unmarshal(body, &a.Status)
	} else {
		var problem struct{ Reason string }
		err = json.Unmarshal(body, &problem)
		a.Reason = problem.Reason
	}
	if err != nil {
		return said{code: a.code, err: fmt.Errorf("HTTP %d: %.200s: %w", a.code, body, err)}
	}
	return a
}

// settle follows every accepted order until it is final, each at one of the doors in turn, and answers by door what
// became of it. With several doors, some orders are followed at every one of them.
func (b *buyers) settle(t *testing.T) map[string]map[string]Status {
	t.Helper()
	outcomes := make(map[string]map[string]Status, len(b.doors))
	for _, d := range b.doors {
		outcomes[d.name] = make(map[string]Status, len(b.orders))
	}
	var mu sync.Mutex // guards outcomes
	follow := func(within time.Duration, orders []Event, door func(i int) front) {
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		var next atomic.Int64
		var workers sync.WaitGroup
		for range b.concurrency {
			workers.Go(func() {
				for i := next.Add(1) - 1; i < int64(len(orders)); i = next.Add(1) - 1 {
					d := door(int(i))
					s := b.until(ctx, d, orders[i], Status.Final)
					mu.Lock()
					outcomes[d.name][orders[i].Order] = s
					mu.Unlock()
				}
			})
		}
		workers.Wait()
	}
	follow(settleTime, b.orders, func(i int) front { return b.doors[i%len(b.doors)] })
	if len(b.doors) > 1 {
		sample := b.sample(200)
		for _, d := range b.doors {
			follow(agreeTime, sample, func(int) front { return d })
		}
	}
	return outcomes
}

// sample is about n of the accepted orders, spread over the rush.
func (b *buyers) sample(n int) (orders []Event) {
	for i := 0; i < len(b.orders); i += max(1, len(b.orders)/n) {
		orders = append(orders, b.orders[i])
	}
	return orders
}

// until follows an order at one door until its status is what is waited for, or ctx ends, and answers the last one.
func (b *buyers) until(ctx context.Context, door front, e Event, reached func(Status) bool) (last Status) {
	for ctx.Err() == nil {
		a := b.follow(ctx, door, e, 5*time.Second)
		if a.code == http.StatusOK {
			last = a.Status
			if reached(last) {
				return last
			}
		}
		pause(ctx, 20*time.Millisecond)
	}
	return last
}

// keep writes the history beside the logs, for whoever looks at a run that SLUICE_FAULT_DIR kept.
func (b *buyers) keep(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "history.jsonl"))
	if err == nil {
		err = errors.Join(b.history.Write(f), f.Close())
	}
	if err != nil {
		t.Errorf("keep the history: %v", err)
	}
}

func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
