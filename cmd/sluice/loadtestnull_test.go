package main

import (
	"bytes"
	"context"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice"
	"sluice/internal/calm"
)

// nullServer runs the verb, and answers where it serves and what ends it.
func nullServer(t *testing.T, args ...string) (url string, end func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	url = "http://" + freePort(t)
	cmd, done := loadtestNullCommand(), make(chan error, 1)
	cmd.SetArgs(append(args, "--listen", strings.TrimPrefix(url, "http://")))
	cmd.SetErr(&bytes.Buffer{})
	go func() { done <- cmd.ExecuteContext(ctx) }()
	end = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() { _ = end() })
	eventually(t, "the null server is ready", func() bool { status, _ := call(t, "GET", url+"/readyz", ""); return status == 200 })
	return url, end
}

func TestLoadtestNull_AnswersLikeADoor(t *testing.T) {
	url, end := nullServer(t)
	seen := map[any]bool{}
	for range 3 {
		status, order := call(t, "POST", url+"/v1/sales/demo/orders", `{"user":"alice","quantity":1}`)
		id, _ := order["order"].(string)
		if _, err := sluice.ParseOrderID(id); status != 202 || err != nil || !regexp.MustCompile(`^.{14}8.{4}[89ab]`).MatchString(id) || order["status"] != "queued" ||
			order["version"] != 1.0 || order["href"] != "/v1/orders/"+id {
			t.Errorf("%d %v, %v", status, order, err)
		}
		seen[id] = true
	}
	if len(seen) != 3 {
		t.Errorf("three orders have %d ids", len(seen))
	}
	if status, sale := call(t, "GET", url+"/v1/sales/demo", ""); status != 200 || sale["open"] != true {
		t.Errorf("sale: %d %v", status, sale)
	}
	if status, _ := call(t, "DELETE", url+"/v1/sales/demo", ""); status != 405 {
		t.Errorf("DELETE: %d", status)
	}
	if err := end(); err != nil {
		t.Errorf("it ends with %v", err)
	}
	if status, _ := call(t, "GET", url+"/readyz", ""); status != 0 {
		t.Errorf("it answers %d after its end", status)
	}
}

func TestLoadtestNull_HoldsEverythingBackInAStall(t *testing.T) {
	calm.Play(t, 50*time.Millisecond, func(complain calm.Complain) { holdBack(t, complain) })
}

func holdBack(t *testing.T, complain calm.Complain) {
	t.Helper()
	const after, length = 200 * time.Millisecond, 400 * time.Millisecond
	url, _ := nullServer(t, "--stall-after", after.String(), "--stall", length.String())
	first := time.Now()
	for {
		began := time.Now()
		if status, _ := call(t, "POST", url+"/v1/sales/demo/orders", `{}`); status != 202 {
			t.Fatalf("POST: %d", status)
		}
		if time.Since(began) >= length/2 {
			break // held back
		}
		if time.Since(first) > 10*time.Second {
			complain("no stall")
			return
		}
	}
	if over := time.Since(first); over < after+length {
		complain("it answers again after %v, want %v", over, after+length)
	}
	began := time.Now()
	for range 20 {
		call(t, "GET", url+"/readyz", "")
	}
	if took := time.Since(began); took > 20*length/2 {
		complain("it is slow after the stall, too: %v", took)
	}
}

func TestLoadtestNull_EndsInTheMiddleOfAStall(t *testing.T) {
	calm.Play(t, 50*time.Millisecond, func(complain calm.Complain) {
		url, end := nullServer(t, "--stall", "1h")
		answered := make(chan int, 2)
		for _, method := range []string{"POST", "GET"} {
			go func() {
				status, _ := call(t, method, url+"/v1/sales/demo/orders", `{}`)
				answered <- status
			}()
			time.Sleep(100 * time.Millisecond) // the order is there before the other request is sent
		}
		if len(answered) > 0 {
			complain("%d of two are answered in a stall", len(answered))
		}
		if err := end(); err != nil {
			t.Errorf("it ends with %v", err)
		}
		for range 2 {
			<-answered
		}
	})
}

func TestStall_LastsFromItsBeginToItsEnd(t *testing.T) {
	s := stall{after: 10 * time.Second, length: time.Second}
	for since, want := range map[time.Duration]time.Duration{
		0: 0, 9_999 * time.Millisecond: 0, 10 * time.Second: time.Second, 10_750 * time.Millisecond: 250 * time.Millisecond, 11 * time.Second: 0,
	} {
		if got := s.left(since); got != want {
			t.Errorf("after %v: %v, want %v", since, got, want)
		}
	}
	if got := (stall{}).left(0); got != 0 {
		t.Errorf("without a stall: %v", got)
	}
}

func TestLoadtestNull_RefusesImpossibleStalls(t *testing.T) {
	for _, c := range []struct{ args, says string }{
		{"--stall-after 1s", "stall-after without --stall"},
		{"--stall -1s", "stall -1s: want 0s to 1h0m0s"},
		{"--stall 1s --stall-after 2h", "stall-after 2h0m0s: want 0s to 1h0m0s"},
		{"--listen nowhere", "--listen"},
		{"now", "unknown command"},
	} {
		cmd := loadtestNullCommand()
		cmd.SilenceUsage, cmd.SilenceErrors = true, true
		cmd.SetArgs(strings.Fields(c.args))
		if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v; want %q", c.args, err, c.says)
		}
	}
}
