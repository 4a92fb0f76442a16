package examples

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// client calls the services as a shop and its buyers do.
var client = &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 32}}

// call sends one request, and reads the answer into into where it is a good one.
func call(ctx context.Context, method, url string, body, into any) (status int, err error) {
	var sent io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return 0, err
		}
		sent = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, sent)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 8<<20))
	switch {
	case err != nil:
		return res.StatusCode, err
	case res.StatusCode >= 300:
		return res.StatusCode, fmt.Errorf("%s %s: HTTP %d: %.300s", method, url, res.StatusCode, b)
	case into == nil:
		return res.StatusCode, nil
	}
	return res.StatusCode, json.Unmarshal(b, into)
}

func get(ctx context.Context, url string, into any) error {
	_, err := call(ctx, http.MethodGet, url, nil, into)
	return err
}

func post(ctx context.Context, url string, body, into any) (status int, err error) {
	return call(ctx, http.MethodPost, url, body, into)
}

// crowd is buyers who want one unit each. Most pay what they hold, some cancel it. All report how it went.
type crowd struct {
	door, admin, report string // URLs
	sale                string
	asked               atomic.Int64

	mu         sync.Mutex
	outcomes   map[string]string // by order: paid, cancelled or rejected
	turnedAway int
	err        error
}

// come lets buyers come, 16 at a time, numbered from first up to but without end.
func (c *crowd) come(ctx context.Context, first, end int) {
	var together sync.WaitGroup
	numbers := make(chan int)
	for range 16 {
		together.Go(func() {
			for n := range numbers {
				if err := c.buy(ctx, n); err != nil {
					c.mu.Lock()
					c.err = errors.Join(c.err, fmt.Errorf("buyer %d: %w", n, err))
					c.mu.Unlock()
				}
				c.asked.Add(1)
			}
		})
	}
	for n := first; n < end; n++ {
		numbers <- n
	}
	close(numbers)
	together.Wait()
}

func (c *crowd) buy(ctx context.Context, n int) error {
	began := time.Now()
	user := fmt.Sprintf("buyer-%04d", n)
	outcome, err := c.order(ctx, n, user)
	if err != nil {
		return err
	}
	// The id is the report's own: sent again it is the same report.
	return eventually(ctx, 10*time.Second, "report", func(ctx context.Context) error {
		_, err := post(ctx, c.report+"/v1/reports", map[string]any{
			"id": "visit-" + user, "user": user, "outcome": outcome, "took_ms": time.Since(began).Milliseconds(),
		}, nil)
		return err
	})
}

// order places an order, waits for its hold and decides.
func (c *crowd) order(ctx context.Context, n int, user string) (outcome string, err error) {
	var order struct{ Order, Status string }
	status, err := post(ctx, c.door+"/v1/sales/"+c.sale+"/orders", map[string]any{"user": user}, &order)
	if status == http.StatusConflict || status == http.StatusServiceUnavailable { // all sold, or spoken for
		c.mu.Lock()
		c.turnedAway++
		c.mu.Unlock()
		return "turned-away", nil
	}
	if err != nil {
		return "", err
	}
	if err := get(ctx, c.door+"/v1/orders/"+order.Order+"?wait=10s", &order); err != nil {
		return "", err
	}
	switch {
	case order.Status == "rejected":
		outcome = order.Status
	case order.Status != "held":
		return "", fmt.Errorf("order %s is %s", order.Order, order.Status)
	case n%8 == 0:
		outcome = "cancelled"
		_, err = post(ctx, c.admin+"/v1/orders/"+order.Order+"/cancel", nil, nil)
	default:
		outcome = "paid"
		_, err = post(ctx, c.admin+"/v1/orders/"+order.Order+"/pay", map[string]any{"payment_ref": "visa-" + user}, nil)
	}
	if err != nil {
		return "", err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outcomes[order.Order] = outcome
	return outcome, nil
}
