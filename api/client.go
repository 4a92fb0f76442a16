package api

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"time"

	"sluice"
	"sluice/inventory"
)

// Client talks to the operations API. Refusals come back as *sluice.Error; any other error means that no worker answered,
// or not as it should.
type Client struct {
	base  string
	token string
	http  *http.Client
}

// maxAnswerBytes bounds what the client reads of an answer.
const maxAnswerBytes = 64 << 20

// NewClient makes a client for an address such as 127.0.0.1:8081 or https://sluice.example. token may be empty.
// Requests end with their context alone: give every call one with a deadline.
func NewClient(address, token string) *Client { return NewSecureClient(address, token, nil) }

// NewSecureClient is NewClient with authorities and a certificate of its own, for https://. With a secure that is not nil,
// an address without a scheme is of HTTPS.
func NewSecureClient(address, token string, secure *tls.Config) *Client {
	if !strings.Contains(address, "://") {
		address = map[bool]string{false: "http://", true: "https://"}[secure != nil] + address
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	transport.MaxIdleConnsPerHost = 8
	if secure != nil {
		transport.TLSClientConfig = secure.Clone()
	}
	return &Client{base: strings.TrimSuffix(address, "/"), token: token, http: &http.Client{
		Transport: transport,
		// The API redirects nobody: whoever does is another, and a token is not for them.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
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

// Sales reads a page of all sales, those after the one named after; limit 0: DefaultPage.
func (c *Client) Sales(ctx context.Context, after string, limit int) (page Sales, err error) {
	q := url.Values{}
	set(q, "after", after)
	set(q, "limit", limit)
	return page, c.do(ctx, http.MethodGet, PathSales+"?"+q.Encode(), nil, &page)
}

// PatchSale changes a sale. What is nil stays.
func (c *Client) PatchSale(ctx context.Context, id string, patch sluice.SalePatch) (sale sluice.Sale, err error) {
	return sale, c.do(ctx, http.MethodPatch, salePath(id), patch, &sale)
}

// PauseSale stops a sale's admission for a while.
func (c *Client) PauseSale(ctx context.Context, id string) (sale sluice.Sale, err error) {
	return sale, c.do(ctx, http.MethodPost, salePath(id)+"/pause", nil, &sale)
}

// ResumeSale lets buyers in again.
func (c *Client) ResumeSale(ctx context.Context, id string) (sale sluice.Sale, err error) {
	return sale, c.do(ctx, http.MethodPost, salePath(id)+"/resume", nil, &sale)
}

// EndSale closes a sale's admission.
func (c *Client) EndSale(ctx context.Context, id string) (sale sluice.Sale, err error) {
	return sale, c.do(ctx, http.MethodPost, salePath(id)+"/end", nil, &sale)
}

// ExtendHolds sees to it that no hold of a sale falls due earlier than in d.
func (c *Client) ExtendHolds(ctx context.Context, id string, d time.Duration) (answer Extended, err error) {
	return answer, c.do(ctx, http.MethodPost, salePath(id)+"/extend-holds", Extension{sluice.Duration(d)}, &answer)
}

// Order reads an order's status. A genuine order that the store does not know is queued.
func (c *Client) Order(ctx context.Context, id sluice.OrderID) (status sluice.Status, err error) {
	return status, c.do(ctx, http.MethodGet, orderPath(id), nil, &status)
}

// TraceOrder reads all that is known of an order.
func (c *Client) TraceOrder(ctx context.Context, id sluice.OrderID) (trace Trace, err error) {
	return trace, c.do(ctx, http.MethodGet, orderPath(id)+"/trace", nil, &trace)
}

// PayOrder says that an order was paid. Idempotent by ref.
func (c *Client) PayOrder(ctx context.Context, id sluice.OrderID, ref string) (status sluice.Status, err error) {
	return status, c.do(ctx, http.MethodPost, orderPath(id)+"/pay", Pay{ref}, &status)
}

// CancelOrder gives a held order's units back.
func (c *Client) CancelOrder(ctx context.Context, id sluice.OrderID) (status sluice.Status, err error) {
	return status, c.do(ctx, http.MethodPost, orderPath(id)+"/cancel", nil, &status)
}

// Orders reads a page of settled orders.
func (c *Client) Orders(ctx context.Context, query OrderQuery) (page Orders, err error) {
	q := url.Values{}
	set(q, "sale", query.Sale)
	set(q, "user", query.User)
	set(q, "state", string(query.State))
	set(q, "after", query.After)
	set(q, "limit", query.Limit)
	return page, c.do(ctx, http.MethodGet, PathOrders+"?"+q.Encode(), nil, &page)
}

// AllOrders reads all pages from query on, and yields their orders. It ends with the first error. However long all of them
// take, each page has pageTimeout.
func (c *Client) AllOrders(ctx context.Context, query OrderQuery) iter.Seq2[Order, error] {
	return func(yield func(Order, error) bool) {
		for {
			limited, cancel := context.WithTimeout(ctx, pageTimeout)
			page, err := c.Orders(limited, query)
			cancel()
			if err != nil {
				yield(Order{}, err)
				return
			}
			for i := range page.Orders {
				if !yield(page.Orders[i], nil) {
					return
				}
			}
			if query.After = page.Next; page.Next == "" {
				return
			}
		}
	}
}

const pageTimeout = time.Minute

// Audit reads the ledger.
func (c *Client) Audit(ctx context.Context) (audit sluice.Audit, err error) {
	return audit, c.do(ctx, http.MethodGet, PathAudit, nil, &audit)
}

// Events reads the events after the one numbered after. Where there are none it waits for one, up to wait; ctx must allow
// for that.
func (c *Client) Events(ctx context.Context, after int64, limit int, wait time.Duration) (events sluice.Events, err error) {
	q := url.Values{}
	set(q, "after", after)
	set(q, "limit", limit)
	set(q, "wait", wait)
	return events, c.do(ctx, http.MethodGet, PathEvents+"?"+q.Encode(), nil, &events)
}

// Refunds reads a page of refunds due; all: those that were given as well.
func (c *Client) Refunds(ctx context.Context, after int64, limit int, all bool) (page Refunds, err error) {
	return page, c.do(ctx, http.MethodGet, PathRefunds+"?"+backlog(after, limit, all), nil, &page)
}

// GiveRefund notes that a refund was given.
func (c *Client) GiveRefund(ctx context.Context, id int64) (refund inventory.Refund, err error) {
	return refund, c.do(ctx, http.MethodPost, fmt.Sprintf("%s/%d/given", PathRefunds, id), nil, &refund)
}

// DeadLetters reads a page of dead letters, without their bodies; all: those that were replayed as well.
func (c *Client) DeadLetters(ctx context.Context, after int64, limit int, all bool) (page DeadLetters, err error) {
	return page, c.do(ctx, http.MethodGet, PathLetters+"?"+backlog(after, limit, all), nil, &page)
}

// DeadLetter reads one dead letter by the queue's id of it.
func (c *Client) DeadLetter(ctx context.Context, message string) (letter DeadLetter, err error) {
	return letter, c.do(ctx, http.MethodGet, letterPath(message), nil, &letter)
}

// ReplayDeadLetter settles the order of a dead letter after all, under a new id.
func (c *Client) ReplayDeadLetter(ctx context.Context, message string) (status sluice.Status, err error) {
	return status, c.do(ctx, http.MethodPost, letterPath(message)+"/replay", nil, &status)
}

// DropDeadLetter forgets a dead letter. Its order stays failed.
func (c *Client) DropDeadLetter(ctx context.Context, message string) error {
	return c.do(ctx, http.MethodDelete, letterPath(message), nil, &struct{}{})
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
	set(q, "user", user)
	set(q, "network", network)
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

func salePath(id string) string          { return PathSales + "/" + url.PathEscape(id) }
func orderPath(id sluice.OrderID) string { return PathOrders + "/" + id.String() }
func letterPath(message string) string   { return PathLetters + "/" + url.PathEscape(message) }

// backlog is the query of a page of what waits for an operator.
func backlog(after int64, limit int, all bool) string {
	q := url.Values{}
	set(q, "after", after)
	set(q, "limit", limit)
	set(q, "all", all)
	return q.Encode()
}

// set puts a parameter into a query, unless it is its default.
func set[T comparable](q url.Values, name string, value T) {
	if value != *new(T) {
		q.Set(name, fmt.Sprint(value))
	}
}

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
	if res.Header.Get(HeaderAPI) != Operations {
		return fmt.Errorf("%s %s%s: what answered (%s) is no worker's operations API; is it the address of a front door?",
			method, c.base, path, res.Status)
	}
	if res.StatusCode >= http.StatusMultipleChoices {
		return problemError(method, path, res, b)
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

// problemError is what an answer refuses, with what was asked where the answer itself says nothing.
func problemError(method, path string, res *http.Response, body []byte) error {
	var p Problem
	err := json.Unmarshal(body, &p)
	asked := fmt.Sprintf("the worker answered %s to %s %s", res.Status, method, path)
	if err != nil || p.Reason == "" {
		return errors.New(asked)
	}
	return &sluice.Error{Refusal: p.Reason, Detail: cmp.Or(p.Detail, asked)}
}
