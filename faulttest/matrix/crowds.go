package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// crowds are stories of clients that a door must bear, and serve buyers meanwhile.
var crowds = []story{
	{
		name:   "slow-clients",
		holds:  "5,000 clients that send a byte a second, or headers alone, or never read, cost a bounded room, and buyers get their answers in time.",
		length: 20 * time.Second,
		crowd:  slowClients,
		labour: 2,
		inject: func(ctx context.Context, s *scene) error {
			s.wait(ctx, time.Second, 2*time.Second)
			door := s.parts["door-1"]
			return s.bear(ctx, &throng{size: slowClients, to: door.address, visit: slowly}, 13*time.Second, slowClients*8/10)
		},
	},
	{
		name:   "endless-bodies",
		holds:  "Bodies that never end, fast or slow, with a length or in chunks, are refused, and buyers get their answers in time.",
		length: 18 * time.Second,
		crowd:  endlessBodies,
		labour: 1,
		inject: func(ctx context.Context, s *scene) error {
			s.wait(ctx, time.Second, 2*time.Second)
			var refused refusals
			t := &throng{size: endlessBodies, to: s.parts["door-1"].address, visit: refused.endlessly}
			err := s.bear(ctx, t, 13*time.Second, endlessBodies/2)
			s.must(refused.large.Load() > 0, "no body was refused as too large (413)")
			s.must(refused.slow.Load() > 0, "no body was refused as too slow (408)")
			return err
		},
	},
	madeUp("made-up-users", 200_000, 20*time.Second),
	func() story {
		s := madeUp("made-up-users-long", 10_000_000, 15*time.Minute)
		s.long, s.takes, s.loads, s.stores = true, 30*time.Minute, []load{calm}, []string{"sqlite"}
		return s
	}(),
}

const (
	slowClients   = 5000
	endlessBodies = 200
)

// bear lets a throng stay, and finds out whether buyers were answered meanwhile and the door is its old self afterwards.
func (s *scene) bear(ctx context.Context, t *throng, length time.Duration, atOnce int64) error {
	fault := s.suffers(0, "clients", fmt.Sprintf("%d of them mean no good", t.size))
	answered, began := s.buyers.answered(), time.Now()
	most := s.mostConnections(ctx, 0, func() { t.stay(ctx, length, s.seed) })
	s.healed(fault)
	s.must(most >= atOnce, "the door had %d connections at once at most, and %d were to be there", most, atOnce)
	if n := s.buyers.answered() - answered; n < int64(s.rate()*time.Since(began).Seconds()/2) {
		return fmt.Errorf("P7: %d buyers were answered in %v, less than half of those who came", n, time.Since(began).Round(time.Second))
	}
	return s.ready(ctx)
}

// slowly is a client that takes its time.
func slowly(ctx context.Context, conn net.Conn, n int) {
	order := "POST /v1/sales/" + saleID + "/orders HTTP/1.1\r\nHost: door\r\nContent-Type: application/json\r\nContent-Length: 30\r\n\r\n"
	switch n % 3 {
	case 0:
		for i := 0; ctx.Err() == nil; i++ {
			if _, err := conn.Write([]byte{order[i%len(order)]}); err != nil {
				return
			}
			pause(ctx, time.Second)
		}
	case 1: // headers alone
		if _, err := io.WriteString(conn, order); err == nil {
			_, _ = io.Copy(io.Discard, conn) // until the door has had enough
		}
	case 2: // it asks for pages, one after the other, and never reads
		_ = conn.(*net.TCPConn).SetReadBuffer(1 << 10)
		for ctx.Err() == nil {
			if _, err := io.WriteString(conn, "GET /v1/orders/none HTTP/1.1\r\nHost: door\r\nAccept: text/html\r\n\r\n"); err != nil {
				return
			}
			pause(ctx, 400*time.Millisecond)
		}
	}
}

// refusals counts what senders of endless bodies hear.
type refusals struct{ large, slow atomic.Int64 }

// endlessly is a client whose body does not end.
func (r *refusals) endlessly(ctx context.Context, conn net.Conn, n int) {
	head := "POST /v1/sales/" + saleID + "/orders HTTP/1.1\r\nHost: door\r\nContent-Type: application/json\r\n"
	chunked, slow := n%2 == 0, n/2%2 == 0
	framing, piece, rest := "Content-Length: 1099511627776\r\n\r\n", strings.Repeat(" ", 4096), 10*time.Millisecond
	if slow {
		framing, piece, rest = "Content-Length: 8000\r\n\r\n", " ", 500*time.Millisecond // short enough to be waited for
	}
	if chunked {
		framing, piece = "Transfer-Encoding: chunked\r\n\r\n", fmt.Sprintf("%x\r\n%s\r\n", len(piece), piece)
	}
	heard := make(chan struct{})
	go func() { // ends with the connection, which visit's caller closes after heard
		defer close(heard)
		if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err == nil {
			r.count(resp)
		}
	}()
	_, err := io.WriteString(conn, head+framing)
	for err == nil && ctx.Err() == nil {
		select {
		case <-heard:
			err = errors.New("it has answered")
		default:
			_, err = io.WriteString(conn, piece)
			pause(ctx, rest)
		}
	}
	_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond)) // the answer may still be on its way
	<-heard
}

func (r *refusals) count(resp *http.Response) {
	_ = resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusRequestEntityTooLarge:
		r.large.Add(1)
	case http.StatusRequestTimeout:
		r.slow.Add(1)
	}
}
