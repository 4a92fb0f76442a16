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
	settleTime = 60 * time.Second // P3: an accepted order reaches its outcome within this time
)

// said is one answer of the service.
type said struct {
	Status
	code       int // 0: the connection broke
	retryAfter time.Duration
	err        error
}

// buyers are a rush of different buyers who want one unit each and do not give up before a final answer.
type buyers struct {
	door, sale  string
	count       int
	concurrency int
	perSecond   int // how fast new ones come; 0: as fast as the workers are
	history     *History
	client      *http.Client

	taken    atomic.Int64
	accepted atomic.Int64
	gaveUp   atomic.Int64

	mu     sync.Mutex // guards marks and orders
	marks  map[int64]chan struct{}
	orders []Event // the answers that promised an order, one for each buyer
}

func newBuyers(door, sale string, count, concurrency, perSecond int) *buyers {
	return &buyers{
		door: "http://" + door, sale: sale, count: count, concurrency: concurrency, perSecond: perSecond,
		history: NewHistory(), marks: map[int64]chan struct{}{},
		client: &http.Client{Transport: &http.Transport{
			MaxIdleConnsPerHost: concurrency, MaxConnsPerHost: concurrency, DisableCompression: true,
		}},
	}
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
				b.buy(ctx, n)
			}
		})
	}
	workers.Wait()
}

// rushOnce lets everybody ask once, whatever the answer.
func (b *buyers) rushOnce(ctx context.Context) {
	var workers sync.WaitGroup
	for range b.concurrency {
		workers.Go(func() {
			for n := b.taken.Add(1); n <= int64(b.count); n = b.taken.Add(1) {
				user, key := fmt.Sprintf("buyer-%06d", n), fmt.Sprintf("key-%06d", n)
				if a := b.place(ctx, user, key); a.code == http.StatusAccepted {
					b.accept(Event{User: user, Key: key, Order: a.Order, State: a.State, Version: a.Version})
				}
			}
		})
	}
	workers.Wait()
}

// buy asks with one key until the answer is final: doubt and shedding both mean to ask again.
func (b *buyers) buy(ctx context.Context, n int64) {
	user, key := fmt.Sprintf("buyer-%06d", n), fmt.Sprintf("key-%06d", n)
	for ctx.Err() == nil {
		a := b.place(ctx, user, key)
		switch {
		case a.code == http.StatusOK || a.code == http.StatusAccepted:
			b.accept(Event{User: user, Key: key, Order: a.Order, State: a.State, Version: a.Version})
			return
		case a.code == 0 || a.code >= 500 || a.code == http.StatusTooManyRequests:
			// Sooner than the door asks for: the fault must meet buyers, not pauses.
			pause(ctx, min(max(a.retryAfter, 100*time.Millisecond), 500*time.Millisecond)+rand.N(50*time.Millisecond))
		default:
			return
		}
	}
	b.gaveUp.Add(1)
}

func (b *buyers) accept(e Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.orders = append(b.orders, e)
	n := b.accepted.Add(1)
	if mark, ok := b.marks[n]; ok {
		close(mark)
	}
}

// place posts one order, between the two lines of the history that belong to it.
func (b *buyers) place(ctx context.Context, user, key string) said {
	e := Event{Event: Ask, Call: Place, User: user, Key: key, Quantity: 1}
	body := fmt.Sprintf(`{"user":%q,"quantity":1}`, user)
	return b.ask(ctx, e, callTime, func(ctx context.Context) (*http.Request, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.door+"/v1/sales/"+b.sale+"/orders", strings.NewReader(body))
		if err != nil {
			return nil, err
		}
		// With GetBody and a key, net/http would send the request again by itself when a connection breaks, and
		// the history would not know.
		req.GetBody = nil
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Idempotency-Key", key)
		return req, nil
	})
}

func (b *buyers) follow(ctx context.Context, user, key, order string, wait time.Duration) said {
	e := Event{Event: Ask, Call: Follow, User: user, Key: key, Order: order}
	return b.ask(ctx, e, callTime+wait, func(ctx context.Context) (*http.Request, error) {
		return http.NewRequestWithContext(ctx, http.MethodGet, b.door+"/v1/orders/"+order+"?wait="+wait.String(), nil)
	})
}

func (b *buyers) ask(ctx context.Context, e Event, most time.Duration, call func(context.Context) (*http.Request, error)) said {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	b.history.Add(e)
	a := b.send(ctx, call)
	e.Event, e.Status, e.Reason, e.Order, e.State, e.Version = Answer, a.code, a.Reason, a.Order, a.State, a.Version
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

// settle follows every accepted order until it is not queued any more, and answers what became of each.
func (b *buyers) settle(t *testing.T) map[string]Status {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), settleTime)
	defer cancel()
	outcomes := make(map[string]Status, len(b.orders))
	var mu sync.Mutex // guards outcomes
	var next atomic.Int64
	var workers sync.WaitGroup
	for range b.concurrency {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(b.orders)); i = next.Add(1) - 1 {
				s := b.untilSettled(ctx, b.orders[i])
				mu.Lock()
				outcomes[b.orders[i].Order] = s
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	return outcomes
}

func (b *buyers) untilSettled(ctx context.Context, e Event) (last Status) {
	for ctx.Err() == nil {
		a := b.follow(ctx, e.User, e.Key, e.Order, 5*time.Second)
		if a.code == http.StatusOK {
			last = a.Status
			if last.State != "queued" {
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
