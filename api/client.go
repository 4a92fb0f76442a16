package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"sluice"
)

// Client talks to the operations API. Refusals come back as *sluice.Error; any other error means that nobody answered.
type Client struct {
	base  string
	token string
	http  *http.Client
}

// maxAnswerBytes bounds what the client reads of an answer.
const maxAnswerBytes = 64 << 20

// NewClient makes a client for an address such as 127.0.0.1:8081 or https://sluice.example. token may be empty.
// Requests end with their context alone: give every call one with a deadline.
func NewClient(address, token string) *Client {
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	transport.MaxIdleConnsPerHost = 8
	return &Client{base: strings.TrimSuffix(address, "/"), token: token, http: &http.Client{Transport: transport}}
}

// Close lets the client's connections go.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// CreateSale opens a sale.
func (c *Client) CreateSale(ctx context.Context, n NewSale) (sale sluice.Sale, err error) {
	return sale, c.do(ctx, http.MethodPost, PathSales, n, &sale)
}

// Sale reads a sale.
func (c *Client) Sale(ctx context.Context, id string) (sale sluice.Sale, err error) {
	return sale, c.do(ctx, http.MethodGet, salePath(id), nil, &sale)
}

// TopUp adds units to a sale.
func (c *Client) TopUp(ctx context.Context, id string, units int64) (sale sluice.Sale, err error) {
	return sale, c.do(ctx, http.MethodPost, salePath(id)+"/topup", TopUp{units}, &sale)
}

// EndSale closes a sale's admission.
func (c *Client) EndSale(ctx context.Context, id string) (sale sluice.Sale, err error) {
	return sale, c.do(ctx, http.MethodPost, salePath(id)+"/end", nil, &sale)
}

// Audit reads the ledger.
func (c *Client) Audit(ctx context.Context) (audit sluice.Audit, err error) {
	return audit, c.do(ctx, http.MethodGet, PathAudit, nil, &audit)
}

// Limits reads what operators set.
func (c *Client) Limits(ctx context.Context) (limits sluice.Limits, err error) {
	return limits, c.do(ctx, http.MethodGet, PathLimits, nil, &limits)
}

// PatchLimits sets limits by their names in JSON. nil leaves doors what they were started with, and so does nil for one
// door of bounds.
func (c *Client) PatchLimits(ctx context.Context, patch map[string]any) (limits sluice.Limits, err error) {
	return limits, c.do(ctx, http.MethodPatch, PathLimits, patch, &limits)
}

// Pools reads what operators set of the workers' pools, and how those of the worker that answers are.
func (c *Client) Pools(ctx context.Context) (pools Pools, err error) {
	return pools, c.do(ctx, http.MethodGet, PathPools, nil, &pools)
}

// PatchPool sets a pool's rate and window by their names in JSON. nil leaves workers what they were started with.
func (c *Client) PatchPool(ctx context.Context, name string, patch map[string]any) (pools Pools, err error) {
	body := map[string]any{"pools": map[string]any{name: patch}}
	return pools, c.do(ctx, http.MethodPatch, PathPools, body, &pools)
}

// AddBlock turns a buyer or a network away. A block of the same is replaced.
func (c *Client) AddBlock(ctx context.Context, n NewBlock) (change BlockChange, err error) {
	return change, c.do(ctx, http.MethodPost, PathBlocks, n, &change)
}

// LiftBlock lifts the block of a user or of a network; the other one is empty.
func (c *Client) LiftBlock(ctx context.Context, user, network string) (change BlockChange, err error) {
	q := url.Values{}
	for name, value := range map[string]string{"user": user, "network": network} {
		if value != "" {
			q.Set(name, value)
		}
	}
	return change, c.do(ctx, http.MethodDelete, PathBlocks+"?"+q.Encode(), nil, &change)
}

// Facts reads what doors poll. A door says its name and its bound, so that each can know its share, and which limits it
// has, so that it hears of new ones only.
func (c *Client) Facts(ctx context.Context, door Door) (facts Facts, err error) {
	return facts, c.do(ctx, http.MethodPost, PathFacts, door, &facts)
}

// Statuses reads the settled orders among ids, MaxStatuses at most.
func (c *Client) Statuses(ctx context.Context, ids []sluice.OrderID) (changes sluice.Changes, err error) {
	return changes, c.do(ctx, http.MethodPost, PathStatuses, Statuses{ids}, &changes)
}

func salePath(id string) string { return PathSales + "/" + url.PathEscape(id) }

func (c *Client) do(ctx context.Context, method, path string, body, answer any) (err error) {
	req, err := c.request(ctx, method, path, body)
	if err != nil {
		return err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("ask the worker: %w", err)
	}
	defer func() { err = errors.Join(err, res.Body.Close()) }()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswerBytes))
	if err != nil {
		return fmt.Errorf("read the worker's answer to %s %s: %w", method, path, err)
	}
	if res.StatusCode >= http.StatusMultipleChoices {
		return problemError(res, b)
	}
	if err := json.Unmarshal(b, answer); err != nil {
		return fmt.Errorf("read the worker's answer to %s %s: %w", method, path, err)
	}
	return nil
}

func (c *Client) request(ctx context.Context, method, path string, body any) (*http.Request, error) {
	var in io.Reader = http.NoBody
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		in = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, in)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", c.base, err)
	}
	req.Header.Set("Content-Type", "application/json")
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	return req, nil
}

func problemError(res *http.Response, body []byte) error {
	var p Problem
	if err := json.Unmarshal(body, &p); err != nil || p.Reason == "" {
		return fmt.Errorf("the worker answered %s", res.Status)
	}
	return &sluice.Error{Refusal: p.Reason, Detail: p.Detail}
}
