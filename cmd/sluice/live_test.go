package main

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/internal/calm"
)

// Limits and blocks change at every door within a second, and no request is dropped meanwhile.
func TestLimits_ReachEveryDoorWithoutADroppedRequest(t *testing.T) {
	shop := startRush(t, 2)
	if status, answer := call(t, "POST", "http://"+shop.admin+"/v1/sales", `{"id":"demo","stock":1000000}`); status != 201 {
		t.Fatalf("create the sale: %d %v", status, answer)
	}
	s := startStream(t, shop.doors)
	calm.Play(t, 500*time.Millisecond, func(complain calm.Complain) { changeThem(t, shop, s, complain) })
	s.end()
	if n := s.dropped.Load(); n > 0 {
		t.Errorf("%d requests had no answer", n)
	}
}

func changeThem(t *testing.T, shop *rush, s *stream, complain calm.Complain) {
	t.Helper()
	for _, c := range []struct{ args, want string }{
		{"limits set --bound door-0=0 --bound door-1=0", "queue-full"},
		{"limits set --reset bound.door-0,bound.door-1", ""},
		{"limits set --address-rate 0.001", "rate-limited"},
		{"limits set --reset address-rate", ""},
		{"block network 127.0.0.0/8 --note test", "blocked"},
		{"unblock network 127.0.0.0/8", ""},
	} {
		p := launch(t, append(strings.Fields(c.args), "--admin", shop.admin)...)
		if code := p.exit(); code != 0 {
			t.Fatalf("sluice %s: exit %d: %s", c.args, code, p.said())
		}
		began := time.Now()
		eventually(t, "every door answers "+c.want, func() bool { return s.all(c.want) })
		took := time.Since(began)
		t.Logf("sluice %s: in force after %v", c.args, took)
		if took > 3*time.Second { // a poll each 400 ms: less than a second where the machine is not busy with other tests
			complain("sluice %s: in force only after %v", c.args, took)
		}
	}
}

// stream asks every door for new orders again and again, and keeps what each said last.
type stream struct {
	said    []atomic.Value // string: the reason, empty for an order that came in
	dropped atomic.Int64
	over    atomic.Bool
	wg      sync.WaitGroup
}

func startStream(t *testing.T, doors []string) *stream {
	t.Helper()
	s := &stream{said: make([]atomic.Value, len(doors))}
	for n, door := range doors {
		s.said[n].Store("nothing")
		s.wg.Go(func() {
			for buyer := 0; !s.over.Load(); buyer++ {
				status, answer := call(t, "POST", "http://"+door+"/v1/sales/demo/orders", fmt.Sprintf(`{"user":"buyer-%d-%d"}`, n, buyer))
				if status == 0 {
					s.dropped.Add(1)
				}
				reason, _ := answer["reason"].(string)
				s.said[n].Store(reason)
				time.Sleep(2 * time.Millisecond)
			}
		})
	}
	return s
}

func (s *stream) all(want string) bool {
	for n := range s.said {
		if s.said[n].Load() != want {
			return false
		}
	}
	return true
}

func (s *stream) end() {
	s.over.Store(true)
	s.wg.Wait()
}
