package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"sluice/loadtest/lab"
)

// madeUp is a story of users whom somebody makes up, each of whom orders once from a sale of their own, as fast as they can. Their sale
// allows a unit each, so that half of them need no key; the driver itself counts what became of them.
func madeUp(name string, users int64, within time.Duration) story {
	return story{
		name:   name,
		holds:  fmt.Sprintf("%d users who are made up, with keys and without, are answered from a fixed room, and buyers get through when a credit is free.", users),
		length: within + 5*time.Second, plenty: true, labour: 4,
		inject: func(ctx context.Context, s *scene) error {
			sale := map[string]any{"id": madeUpSale, "sku": "other", "stock": 10_000_000, "per_user_limit": 1, "payment_window": "0s"}
			if _, err := post(ctx, "http://"+s.admin+"/v1/sales", sale); err != nil {
				return err
			}
			err := lab.Eventually(ctx, startTime, "the door knows the other sale", func() error {
				return status(ctx, http.MethodGet, "http://"+s.doorList[0].Address+"/v1/sales/"+madeUpSale)
			})
			if err != nil {
				return err
			}
			return s.makeUp(ctx, &flood{to: s.doorList[0].Address, seed: s.seed, users: users, within: within})
		},
	}
}

const (
	madeUpSale = "other"
	floodLines = 4  // connections
	floodDepth = 50 // requests at once on each; a connection's 10,000 are a multiple
)

// makeUp lets the flood come, and holds what it counted against the database.
func (s *scene) makeUp(ctx context.Context, f *flood) error {
	fault := s.suffers(0, "users", fmt.Sprintf("%d are made up", f.users))
	accepted, began := s.buyers.accepted.Load(), time.Now()
	err := f.come(ctx)
	took := time.Since(began)
	s.healed(fault)
	if err != nil {
		return err
	}
	s.say("%d made-up users in %v: %d accepted, %d refused, %d left in doubt", f.sent.Load(), took, f.accepted.Load(), f.refused.Load(), f.doubtful.Load())
	s.must(f.sent.Load() >= f.users, "%d of %d users were made up in %v", f.sent.Load(), f.users, f.within)
	s.must(f.refused.Load() > f.accepted.Load(), "the door was not full: %d accepted, %d refused", f.accepted.Load(), f.refused.Load())
	if s.buyers.accepted.Load() == accepted {
		return fmt.Errorf("no buyer got through in %v of made-up users", took.Round(time.Second))
	}
	return lab.Eventually(ctx, settleTime, "every made-up user has what was promised", func() error {
		n, err := s.count(ctx, "SELECT count(*) FROM sluice_orders WHERE sale = '"+madeUpSale+"'")
		if least, most := f.accepted.Load(), f.accepted.Load()+f.doubtful.Load(); err == nil && (n < least || n > most) {
			err = fmt.Errorf("P3: %d orders, and %d to %d were promised", n, least, most)
		}
		return err
	})
}

// flood is requests of users of whom nobody has heard, many at once on few connections, without waiting for answers one by one.
type flood struct {
	to     string
	seed   uint64
	users  int64
	within time.Duration

	next                              atomic.Int64
	sent, accepted, refused, doubtful atomic.Int64
}

// come returns when all users have come, or the time is over.
func (f *flood) come(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, f.within)
	defer cancel()
	errs := make([]error, floodLines)
	var lines sync.WaitGroup
	for i := range floodLines {
		lines.Go(func() {
			for ctx.Err() == nil && errs[i] == nil && f.next.Load() < f.users {
				errs[i] = f.line(ctx, i)
			}
		})
	}
	lines.Wait()
	return errors.Join(errs...)
}

// line is one connection, for as long as it lasts.
func (f *flood) line(ctx context.Context, n int) error {
	conn, err := dialAs(ctx, n*perAddress, f.to)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer conn.Close() //nolint:errcheck // nothing is lost with it
	in, out := bufio.NewReaderSize(conn, 64<<10), []byte(nil)
	for ctx.Err() == nil {
		first := f.next.Add(floodDepth) - floodDepth
		if first >= f.users {
			return nil
		}
		out = out[:0]
		for i := range int64(floodDepth) {
			out = appendMadeUp(out, f.seed, first+i)
		}
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second)) // of a whole batch, also when the time is over: what was sent is counted
		if _, err := conn.Write(out); err != nil {
			f.doubtful.Add(floodDepth)
			return nil //nolint:nilerr // the door ends connections now and then; the next one goes on
		}
		f.sent.Add(floodDepth)
		for i := range int64(floodDepth) {
			status, reason, err := readAnswer(in)
			if err != nil {
				f.doubtful.Add(floodDepth - i)
				return nil //nolint:nilerr // likewise
			}
			if err := f.count(status, reason); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *flood) count(status int, reason []byte) error {
	switch {
	case status == http.StatusAccepted:
		f.accepted.Add(1)
	case status == http.StatusServiceUnavailable && bytes.Contains(reason, []byte(`"unavailable"`)), status == http.StatusInternalServerError:
		f.doubtful.Add(1)
	case status == http.StatusServiceUnavailable, status == http.StatusTooManyRequests:
		f.refused.Add(1)
	default:
		return fmt.Errorf("P7: a made-up user heard %d %.200s", status, reason)
	}
	return nil
}

// appendMadeUp appends the request of a user, who has a key where the number is odd.
func appendMadeUp(b []byte, seed uint64, n int64) []byte {
	b = append(b, "POST /v1/sales/"+madeUpSale+"/orders HTTP/1.1\r\nHost: door\r\nContent-Type: application/json\r\n"...)
	if n%2 != 0 {
		b = fmt.Appendf(b, "Idempotency-Key: k%d\r\n", n)
	}
	body := fmt.Appendf(nil, `{"user":"nobody-%d-%d"}`, seed, n)
	b = fmt.Appendf(b, "Content-Length: %d\r\n\r\n", len(body))
	return append(b, body...)
}

// readAnswer reads an answer with a length, as all of these have. The body is valid until the next call.
func readAnswer(in *bufio.Reader) (status int, body []byte, err error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return 0, nil, err
	}
	if len(line) < 12 {
		return 0, nil, fmt.Errorf("no status line: %.40q", line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, nil, fmt.Errorf("no status line: %.40q", line)
	}
	length := 0
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return 0, nil, err
		}
		if line = bytes.TrimRight(line, "\r\n"); len(line) == 0 {
			break
		}
		if name, value, ok := bytes.Cut(line, []byte(": ")); ok && bytes.EqualFold(name, []byte("Content-Length")) {
			if length, err = strconv.Atoi(string(value)); err != nil {
				return 0, nil, err
			}
		}
	}
	if body, err = in.Peek(length); err == nil {
		_, err = in.Discard(length)
	}
	return status, body, err
}
