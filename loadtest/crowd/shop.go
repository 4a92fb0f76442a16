package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	requestTimeout = 15 * time.Second // beyond what a request asked to wait for
	maxBody        = 1 << 20
)

// shop speaks the public contract over HTTP and writes the history.
type shop struct {
	client  *http.Client
	url     string
	admin   string
	sale    string
	history *history
}

// answer is what a buyer got to hear. Status 0 means that the connection broke.
type answer struct {
	status  int
	reason  string
	order   string
	state   string
	version int64
	retry   time.Duration // zero: not told to come back
	err     error
	took    time.Duration
}

// accepted says that the service has promised an order (P3): newly, or as a repeat.
func (a answer) accepted() bool { return a.status == http.StatusAccepted || a.status == http.StatusOK }

// doubtful says that an order may exist all the same; only asking again with the same key tells.
func (a answer) doubtful() bool {
	return a.status == 0 || a.status >= 500 && a.status != http.StatusServiceUnavailable ||
		a.status == http.StatusServiceUnavailable && a.reason == "unavailable"
}

func newShop(o options, h *history) *shop {
	return &shop{
		client: &http.Client{Transport: &http.Transport{
			Proxy:               nil, // a proxy would be measured with the service
			MaxIdleConns:        o.concurrency + 1,
			MaxIdleConnsPerHost: o.concurrency + 1,
			MaxConnsPerHost:     o.concurrency + 1,
			IdleConnTimeout:     time.Minute,
			DisableCompression:  true,
		}},
		url:     strings.TrimRight(o.url, "/"),
		admin:   strings.TrimRight(o.admin, "/"),
		sale:    o.sale,
		history: h,
	}
}

// place posts one order.
func (s *shop) place(ctx context.Context, user, key string) answer {
	body, err := json.Marshal(map[string]any{"user": user, "quantity": 1})
	if err != nil {
		return answer{err: err}
	}
	call := func(ctx context.Context) (*http.Request, error) {
		target := s.url + "/v1/sales/" + url.PathEscape(s.sale) + "/orders"
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, strings.NewReader(string(body)))
		if err != nil {
			return nil, err
		}
		// net/http sends a request with an Idempotency-Key again by itself when the connection breaks. Without
		// GetBody it cannot: every request must be one that the history knows.
		req.GetBody = nil
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Idempotency-Key", key)
		return req, nil
	}
	return s.ask(ctx, event{Call: "place", User: user, Key: key}, requestTimeout, call)
}

// follow asks for an order's status and lets the door wait for a change.
func (s *shop) follow(ctx context.Context, user, key, order string, wait time.Duration) answer {
	call := func(ctx context.Context) (*http.Request, error) {
		target := fmt.Sprintf("%s/v1/orders/%s?wait=%dms", s.url, url.PathEscape(order), wait.Milliseconds())
		return http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	}
	return s.ask(ctx, event{Call: "follow", User: user, Key: key, Order: order}, wait+requestTimeout, call)
}

// ask sends one request between the two lines of the history that belong to it.
func (s *shop) ask(ctx context.Context, e event, most time.Duration, call func(context.Context) (*http.Request, error)) answer {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	e.Event = "ask"
	s.history.add(e)
	began := time.Now()
	a := s.send(ctx, call)
	a.took = time.Since(began)
	e.Event, e.Status, e.Reason, e.Order, e.State, e.Version = "answer", a.status, a.reason, a.order, a.state, a.version
	if a.err != nil {
		e.Error = a.err.Error()
	}
	s.history.add(e)
	return a
}

func (s *shop) send(ctx context.Context, call func(context.Context) (*http.Request, error)) answer {
	req, err := call(ctx)
	if err != nil {
		return answer{err: err}
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return answer{err: err}
	}
	return read(resp.StatusCode, resp.Header, body)
}

// read understands a status, a problem, or neither.
func read(status int, header http.Header, body []byte) answer {
	var said struct {
		Order      string `json:"order"`
		Status     any    `json:"status"` // a state in a status, a number in a problem
		Version    int64  `json:"version"`
		Reason     string `json:"reason"`
		RetryAfter int64  `json:"retry_after_ms"`
	}
	if err := json.Unmarshal(body, &said); err != nil && status < 300 {
		return answer{err: fmt.Errorf("HTTP %d with a body that is not JSON: %w", status, err)}
	}
	a := answer{status: status, reason: said.Reason, order: said.Order, version: said.Version}
	a.state, _ = said.Status.(string)
	a.retry = time.Duration(said.RetryAfter) * time.Millisecond
	if seconds, err := strconv.Atoi(header.Get("Retry-After")); err == nil && a.retry == 0 {
		a.retry = time.Duration(seconds) * time.Second
	}
	if a.accepted() && (a.order == "" || a.state == "") {
		return answer{err: fmt.Errorf("HTTP %d without an order and its status: %.200s", status, body)}
	}
	if !a.accepted() && a.reason == "" {
		a.reason = "http-" + strconv.Itoa(status)
	}
	return a
}

// ledger is what the shop's own books say of one sale.
type ledger struct {
	Balanced    bool
	ID          string           `json:"id"`
	Stock       int64            `json:"stock"`
	TopUps      int64            `json:"topups"`
	Free        int64            `json:"free"`
	Held        int64            `json:"held"`
	Sold        int64            `json:"sold"`
	Orders      map[string]int64 `json:"orders"`
	Differences []string         `json:"differences"`
	Shown       saleFacts        `json:"-"` // GET /v1/sales/{id}, which must agree
}

type saleFacts struct {
	Stock  int64 `json:"stock"`
	TopUps int64 `json:"topups"`
	Free   int64 `json:"free"`
	Held   int64 `json:"held"`
	Sold   int64 `json:"sold"`
}

func (l ledger) facts() saleFacts {
	return saleFacts{Stock: l.Stock, TopUps: l.TopUps, Free: l.Free, Held: l.Held, Sold: l.Sold}
}

// ledger reads the audit and the sale from the operations API.
func (s *shop) ledger(ctx context.Context) (ledger, error) {
	var audit struct {
		Balanced bool     `json:"balanced"`
		Sales    []ledger `json:"sales"`
	}
	if err := s.get(ctx, s.admin+"/v1/audit", &audit); err != nil {
		return ledger{}, err
	}
	for _, l := range audit.Sales {
		if l.ID == s.sale {
			l.Balanced = audit.Balanced
			return l, s.get(ctx, s.admin+"/v1/sales/"+url.PathEscape(s.sale), &l.Shown)
		}
	}
	return ledger{}, fmt.Errorf("the audit has no sale %q", s.sale)
}

// awaitReady waits until the door can promise something and the books are open, and answers what is in them.
func (s *shop) awaitReady(ctx context.Context, within time.Duration) (l ledger, err error) {
	for end := time.Now().Add(within); ; sleep(ctx, 100*time.Millisecond) {
		err = s.get(ctx, s.url+"/readyz", nil)
		if err == nil {
			l, err = s.ledger(ctx)
		}
		if err == nil || time.Now().After(end) || ctx.Err() != nil {
			return l, err
		}
	}
}

// get reads a JSON answer; into may be nil.
func (s *shop) get(ctx context.Context, from string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err = errors.Join(err, ctx.Err()); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: HTTP %d: %.200s", from, resp.StatusCode, body)
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("GET %s: %w", from, err)
	}
	return nil
}
