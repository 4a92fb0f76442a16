package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// load is a closed loop: each connection sends one whole request, reads the whole answer and sends the next. It shares the
// processors with the side that it loads, so it serves to compare costs, not to find rates or latencies.
type load struct {
	addresses   []string // connections take turns
	connections int
	request     func(b []byte, n int64) []byte                   // appends request n
	judge       func(n int64, a answer) (kind string, err error) // an error makes the window void
	clients     []*client
	next        atomic.Int64 // request to be sent
}

// client is one connection; one goroutine at a time owns it.
type client struct {
	conn     net.Conn
	patience time.Duration // with one answer; 0: answerTime
	out, in  []byte
	seen     *hdrhistogram.Histogram // microseconds
	answers  map[string]int64
}

// answer is what came back for one request. Its bytes live until the next one.
type answer struct {
	status     int
	body       []byte
	sent, came time.Time
}

const answerTime = 10 * time.Second

// dial opens connections that are missing. A server does not wait for long for the first request.
func (l *load) dial(ctx context.Context) error {
	var d net.Dialer
	for len(l.clients) < l.connections {
		conn, err := d.DialContext(ctx, "tcp", l.addresses[len(l.clients)%len(l.addresses)])
		if err != nil {
			return err
		}
		l.clients = append(l.clients, &client{conn: conn, in: make([]byte, 16<<10)})
	}
	return nil
}

// close is for the end: what it could tell nobody needs.
func (l *load) close() {
	for _, c := range l.clients {
		_ = c.conn.Close()
	}
	l.clients = nil
}

// tally is what all connections saw.
type tally struct {
	answers map[string]int64
	total   int64
	took    time.Duration
	seen    *hdrhistogram.Histogram
}

// run sends until the time is over, or until request stop has been sent; 0: none.
func (l *load) run(ctx context.Context, most time.Duration, stop int64) (tally, error) {
	if err := l.dial(ctx); err != nil {
		return tally{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	began := time.Now()
	errs := make([]error, len(l.clients))
	var all sync.WaitGroup
	for i, c := range l.clients {
		all.Go(func() {
			if errs[i] = l.loop(ctx, c, stop); errs[i] != nil {
				cancel() // the others need not go on
			}
		})
	}
	all.Wait()
	t := tally{answers: map[string]int64{}, took: time.Since(began), seen: newHistogram()}
	for _, c := range l.clients {
		for kind, n := range c.answers {
			t.answers[kind] += n
			t.total += n
		}
		t.seen.Merge(c.seen)
	}
	if err := errors.Join(errs...); err != nil {
		return t, err
	}
	if t.total == 0 {
		return t, errors.New("no answer at all")
	}
	return t, nil
}

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, answerTime.Microseconds(), 3)
}

func (l *load) loop(ctx context.Context, c *client, stop int64) error {
	c.answers, c.seen = map[string]int64{}, newHistogram()
	for ctx.Err() == nil {
		n := l.next.Add(1) - 1
		if stop > 0 && n >= stop {
			return nil
		}
		c.out = l.request(c.out[:0], n)
		a, err := c.ask()
		if err != nil {
			return fmt.Errorf("request %d: %w", n, err)
		}
		kind, err := l.judge(n, a)
		if err != nil {
			return fmt.Errorf("request %d: %w", n, err)
		}
		c.answers[kind]++
		_ = c.seen.RecordValue(a.came.Sub(a.sent).Microseconds()) // an answer is never later than what it can hold
	}
	return nil
}

var errAnswer = errors.New("this is not an HTTP answer that can be read")

// ask sends what is in out and reads one answer.
func (c *client) ask() (a answer, err error) {
	a.sent = time.Now()
	if err := c.conn.SetDeadline(a.sent.Add(cmp.Or(c.patience, answerTime))); err != nil {
		return a, err
	}
	if _, err := c.conn.Write(c.out); err != nil {
		return a, err
	}
	have := 0
	for {
		n, err := c.conn.Read(c.in[have:])
		if err != nil {
			return a, err
		}
		have += n
		status, body, whole, err := readAnswer(c.in[:have])
		if err == nil && !whole && have == len(c.in) {
			err = errAnswer
		}
		if err != nil {
			return a, fmt.Errorf("%w: %.200q", err, c.in[:have])
		}
		if whole {
			a.status, a.body, a.came = status, body, time.Now()
			return a, nil
		}
	}
}

var (
	endOfHead     = []byte("\r\n\r\n")
	contentLength = []byte("\r\nContent-Length: ")
	version       = []byte("HTTP/1.1 ")
)

// readAnswer reads an answer with a Content-Length; whole is false while it has not all arrived.
func readAnswer(b []byte) (status int, body []byte, whole bool, err error) {
	head, rest, whole := bytes.Cut(b, endOfHead)
	if !whole {
		return 0, nil, false, nil
	}
	line, ok := bytes.CutPrefix(head, version)
	if !ok || len(line) < 3 {
		return 0, nil, false, errAnswer
	}
	if status, err = strconv.Atoi(string(line[:3])); err != nil {
		return 0, nil, false, errAnswer
	}
	_, length, ok := bytes.Cut(head, contentLength)
	if !ok {
		return 0, nil, false, errAnswer
	}
	length, _, _ = bytes.Cut(length, []byte("\r"))
	n, err := strconv.Atoi(string(length))
	if err != nil || n < 0 || len(rest) > n {
		return 0, nil, false, errAnswer
	}
	return status, rest, len(rest) == n, nil
}

// orderRequest appends an order as a shop's page sends it: a buyer of its own for each n.
func orderRequest(b []byte, host, sale string, n int64) []byte {
	b = append(b, "POST /v1/sales/"...)
	b = append(b, sale...)
	b = append(b, "/orders HTTP/1.1\r\nHost: "...)
	b = append(b, host...)
	b = append(b, "\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n"+
		"Accept: application/json\r\nAccept-Encoding: gzip, deflate, br\r\nContent-Type: application/json\r\n"+
		"Idempotency-Key: 6b1f7c1e-54f2-4b6f-9a3e-"...)
	b = appendNumber(b, n)
	b = append(b, "\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(len(bodyBegin)+numberDigits+len(bodyEnd)), 10)
	b = append(b, "\r\n\r\n"+bodyBegin...)
	b = appendNumber(b, n)
	return append(b, bodyEnd...)
}

const (
	bodyBegin    = `{"user":"buyer-`
	bodyEnd      = `","quantity":1}`
	numberDigits = 12
)

// appendNumber appends n with all its digits.
func appendNumber(b []byte, n int64) []byte {
	var digits [numberDigits]byte
	for i := range digits {
		digits[len(digits)-1-i] = byte('0' + n%10)
		n /= 10
	}
	return append(b, digits[:]...)
}
