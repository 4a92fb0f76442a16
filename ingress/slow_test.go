package ingress

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"sluice"
	"sluice/internal/testcert"
)

const (
	shortRead  = 800 * time.Millisecond
	shortWrite = 300 * time.Millisecond
	shortIdle  = 2 * time.Second
)

// drip sends a byte each few milliseconds until it is cut off, and says how long that took.
func drip(t *testing.T, c net.Conn, raw string) time.Duration {
	t.Helper()
	began := time.Now()
	for i := 0; ; i++ {
		if _, err := c.Write([]byte{raw[i%len(raw)]}); err != nil || time.Since(began) > 10*time.Second {
			return time.Since(began)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// hears reads one answer.
func hears(t *testing.T, r *bufio.Reader, status int, reason sluice.Refusal) {
	t.Helper()
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Errorf("no answer: %v", err)
		return
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err != nil || res.StatusCode != status || !strings.Contains(string(body), string(reason)) {
		t.Errorf("answer %d %s, %v; want %d %s", res.StatusCode, body, err, status, reason)
	}
}

// ends waits for the server to close, and says how long that took.
func ends(t *testing.T, r io.Reader) time.Duration {
	t.Helper()
	began := time.Now()
	rest, err := io.ReadAll(r)
	if len(rest) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read %q, %v; want the end", rest, err)
	}
	return time.Since(began)
}

func between(t *testing.T, what string, got, least, most time.Duration) {
	t.Helper()
	if got < least-50*time.Millisecond || got > most {
		t.Errorf("%s took %v, want %v to %v", what, got, least, most)
	}
}

// P9: a client that is slow, or says nothing, or does not listen, is cut off in time, and hears why where it can.
func TestSlow_ClientsAreCutOff(t *testing.T) {
	const slack = 4 * time.Second // others use this machine too
	const get = getting + "\r\n"
	for what, speak := range map[string]func(t *testing.T, c *net.TCPConn, r *bufio.Reader){
		"nothing at all": func(t *testing.T, _ *net.TCPConn, r *bufio.Reader) {
			t.Helper()
			between(t, "silence", ends(t, r), shortRead, shortRead+slack)
		},
		"nothing for a while, then a request in pieces": func(t *testing.T, c *net.TCPConn, r *bufio.Reader) {
			t.Helper()
			for _, piece := range []string{get[:9], get[9:]} {
				time.Sleep(shortRead * 3 / 5)
				_, _ = io.WriteString(c, piece)
			}
			hears(t, r, 200, "")
		},
		"headers byte by byte": func(t *testing.T, c *net.TCPConn, r *bufio.Reader) {
			t.Helper()
			between(t, "dripping", drip(t, c, getting+strings.Repeat("X: y\r\n", 1000)), shortRead, shortRead+slack)
			hears(t, r, 408, sluice.TooSlowRequest)
		},
		"headers byte by byte, after another request and a while": func(t *testing.T, c *net.TCPConn, r *bufio.Reader) {
			t.Helper()
			_, _ = io.WriteString(c, get)
			hears(t, r, 200, "")
			time.Sleep(shortIdle / 2)
			between(t, "dripping", drip(t, c, getting+strings.Repeat("X: y\r\n", 1000)), shortRead, shortRead+slack)
			hears(t, r, 408, sluice.TooSlowRequest)
		},
		"a body byte by byte": func(t *testing.T, c *net.TCPConn, r *bufio.Reader) {
			t.Helper()
			_, _ = io.WriteString(c, placing+"Content-Length: 8000\r\n\r\n")
			between(t, "dripping", drip(t, c, " "), shortRead, shortRead+slack)
			hears(t, r, 408, sluice.TooSlowRequest)
		},
		"chunks byte by byte": func(t *testing.T, c *net.TCPConn, r *bufio.Reader) {
			t.Helper()
			_, _ = io.WriteString(c, inChunks)
			between(t, "dripping", drip(t, c, "1\r\n \r\n"), shortRead, shortRead+slack)
			res, err := http.ReadResponse(r, nil)
			if err != nil || res.StatusCode != 408 && res.StatusCode != 400 { // 400 where the cut is in the middle of a CRLF
				t.Fatalf("answer %v, %v", res, err)
			}
			_ = res.Body.Close()
		},
		"a trailer byte by byte": func(t *testing.T, c *net.TCPConn, r *bufio.Reader) {
			t.Helper()
			_, _ = io.WriteString(c, inChunks+"d\r\n"+anOrder+"\r\n0\r\n")
			between(t, "dripping", drip(t, c, strings.Repeat("X: y\r\n", 1000)), shortRead, shortRead+slack)
			hears(t, r, 408, sluice.TooSlowRequest)
		},
		"chunks and no end": func(t *testing.T, c *net.TCPConn, r *bufio.Reader) {
			t.Helper()
			_, _ = io.WriteString(c, inChunks+"d\r\n"+anOrder+"\r\n0\r\n")
			hears(t, r, 408, sluice.TooSlowRequest)
			ends(t, r)
		},
		"a length and no body": func(t *testing.T, c *net.TCPConn, r *bufio.Reader) {
			t.Helper()
			_, _ = io.WriteString(c, placing+"Content-Length: 13\r\n\r\n")
			hears(t, r, 408, sluice.TooSlowRequest)
			ends(t, r)
		},
		"a body that it asks leave for, and keeps": func(t *testing.T, c *net.TCPConn, r *bufio.Reader) {
			t.Helper()
			_, _ = io.WriteString(c, placing+"Content-Length: 13\r\nExpect: 100-continue\r\n\r\n")
			hears(t, r, 100, "")
			hears(t, r, 408, sluice.TooSlowRequest)
			ends(t, r)
		},
		"a body that it asks leave for, after another request and a while": func(t *testing.T, c *net.TCPConn, r *bufio.Reader) {
			t.Helper()
			_, _ = io.WriteString(c, get)
			hears(t, r, 200, "")
			time.Sleep(2 * shortWrite)
			_, _ = io.WriteString(c, placing+"Content-Length: 13\r\nExpect: 100-continue\r\n\r\n")
			hears(t, r, 100, "")
			_, _ = io.WriteString(c, anOrder)
			hears(t, r, 202, "")
		},
		"no HTTP, after another request and a while": func(t *testing.T, c *net.TCPConn, r *bufio.Reader) {
			t.Helper()
			_, _ = io.WriteString(c, get)
			hears(t, r, 200, "")
			time.Sleep(2 * shortWrite)
			_, _ = io.WriteString(c, "hello\r\n\r\n")
			hears(t, r, 400, sluice.BadRequest)
			ends(t, r)
		},
		"nothing more": func(t *testing.T, c *net.TCPConn, r *bufio.Reader) {
			t.Helper()
			_, _ = io.WriteString(c, get)
			hears(t, r, 200, "")
			between(t, "idling", ends(t, r), shortIdle, shortIdle+slack)
		},
		"requests, and never reads": func(t *testing.T, c *net.TCPConn, _ *bufio.Reader) {
			t.Helper()
			if err := c.SetReadBuffer(4 << 10); err != nil {
				t.Fatal(err)
			}
			many := strings.Repeat(get, 100)
			for { // until the server, which can't write, does not read either, and then has enough
				if _, err := io.WriteString(c, many); errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error("it is still open")
					return
				} else if err != nil {
					return
				}
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := newStand(t, testConfig(), nil, sale("demo", nil))
			address := s.serveOn(s.Connections.Listen(loopback(t), false), func(server *fasthttp.Server) {
				server.ReadTimeout, server.WriteTimeout, server.IdleTimeout = shortRead, shortWrite, shortIdle
				server.MaxRequestsPerConn = 1 << 30
			})
			c := dialFrom(t, "127.0.0.1", address).(*net.TCPConn)
			speak(t, c, bufio.NewReader(c))
			_ = c.Close()
			s.eventually("its place is free", func() bool { return s.Connections.Open() == 0 })
		})
	}
}

func TestServer_HasTheLimitsOfTheContract(t *testing.T) {
	s := newStand(t, testConfig(), nil).Server()
	if s.ReadTimeout != 10*time.Second || s.WriteTimeout != 10*time.Second || s.IdleTimeout != 75*time.Second ||
		s.MaxIdleWorkerDuration != 3*time.Second || s.ReadBufferSize != 8192 || s.MaxRequestBodySize != 8192 || s.MaxRequestsPerConn != 10_000 {
		t.Errorf("read %v, write %v, idle %v, header %d, body %d, requests %d; want 10s, 10s, 1m15s, 8192, 8192, 10000",
			s.ReadTimeout, s.WriteTimeout, s.IdleTimeout, s.ReadBufferSize, s.MaxRequestBodySize, s.MaxRequestsPerConn)
	}
}

func TestConnection_EndsAfterItsRequests(t *testing.T) {
	s := newStand(t, testConfig(), nil, sale("demo", nil))
	address := s.serveOn(s.Connections.Listen(loopback(t), false), func(server *fasthttp.Server) { server.MaxRequestsPerConn = 3 })
	answers, closed := converse(t, address, strings.Repeat(getting+"\r\n", 5), 5*time.Second)
	if len(answers) != 3 || !closed {
		t.Errorf("%d answers, closed: %t; want 3, closed", len(answers), closed)
	}
}

// Whatever is too large is refused as that, before it is read, and ends the connection.
func TestLarge_RequestsAreRefused(t *testing.T) {
	s := newStand(t, testConfig(), nil, sale("demo", nil))
	address := s.serve(2 * time.Second)
	spaces := strings.Repeat(" ", maxBodyBytes-len(anOrder))
	for _, c := range []struct {
		what, raw string
		status    int
	}{
		{"the largest body", placing + "Content-Length: 8192\r\nConnection: close\r\n\r\n" + anOrder + spaces, 202},
		{"a byte more", placing + "Content-Length: 8193\r\n\r\n" + anOrder + spaces + " ", 413},
		{"a length alone", placing + "Content-Length: 9223372036854775807\r\n\r\n", 413},
		{"a length that asks leave", placing + "Content-Length: 8193\r\nExpect: 100-continue\r\n\r\n", 413},
		{"the largest body in chunks", inChunks + "d\r\n" + anOrder + "\r\n1ff3\r\n" + spaces + "\r\n0\r\n\r\n", 200},
		{"a byte more in chunks", inChunks + "d\r\n" + anOrder + "\r\n1ff4\r\n" + spaces + " \r\n0\r\n\r\n", 413},
		{"a huge chunk", inChunks + "fffffffffffffff\r\n", 413},
		{"a target", "GET /" + strings.Repeat("x", headerBytes) + " HTTP/1.1\r\n", 413},
		{"a header", getting + "X: " + strings.Repeat("x", headerBytes) + "\r\n", 413},
		{"a name", getting + strings.Repeat("x", headerBytes), 413},
		{"many headers", getting + strings.Repeat("X: y\r\n", headerBytes/6), 413},
		{"a trailer", inChunks + "0\r\nX: " + strings.Repeat("x", headerBytes) + "\r\n", 413},
	} {
		t.Run(c.what, func(t *testing.T) {
			answers, closed := converse(t, address, c.raw, 5*time.Second)
			if len(answers) > 1 && answers[0].status == 100 {
				answers = answers[1:]
			}
			if len(answers) != 1 || answers[0].status != c.status || !closed {
				t.Errorf("answered %+v, closed: %t; want %d, closed", answers, closed, c.status)
			}
		})
	}
}

// Who hung up before the request had its turn is not served: a later ask of the same buyer may have been refused meanwhile. Behind TLS the
// last that comes is a record which says so.
func TestSlow_WhoHungUpOrdersNothing(t *testing.T) {
	ca := testcert.New(t)
	leaf := ca.Issue(t, "127.0.0.1")
	const ask = placing + "Content-Length: 13\r\n\r\n" + anOrder
	tcp := func(c net.Conn) *net.TCPConn { return c.(*net.TCPConn) }
	for what, one := range map[string]struct {
		secret bool
		say    string
		leave  func(c net.Conn) error
	}{
		"closed":                          {false, ask, net.Conn.Close},
		"half closed":                     {false, ask, func(c net.Conn) error { return tcp(c).CloseWrite() }},
		"reset":                           {false, ask, func(c net.Conn) error { return errors.Join(tcp(c).SetLinger(0), c.Close()) }},
		"closed with more on its way":     {false, ask + getting + "\r\n", net.Conn.Close},
		"closed behind TLS":               {true, ask, net.Conn.Close},
		"closed behind TLS, without word": {true, ask, func(c net.Conn) error { return c.(*tls.Conn).NetConn().Close() }},
	} {
		t.Run(what, func(t *testing.T) {
			s := newStand(t, testConfig(), nil, sale("demo", nil))
			turn, read := make(chan struct{}), make(chan struct{}, 2)
			l := s.Connections.Listen(loopback(t), false)
			if one.secret {
				l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{leaf.TLS}, MinVersion: tls.VersionTLS13})
			}
			address := s.serveOn(l, func(server *fasthttp.Server) {
				handle := server.Handler
				server.Handler = func(ctx *fasthttp.RequestCtx) {
					read <- struct{}{}
					<-turn
					handle(ctx)
				}
			})
			conn, err := net.Dial("tcp", address) //nolint:noctx // loopback
			if err != nil {
				t.Fatal(err)
			}
			c := conn
			if one.secret {
				c = tls.Client(conn, &tls.Config{RootCAs: ca.Pool, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS13})
			}
			defer c.Close() //nolint:errcheck // most have closed it by then
			if _, err := io.WriteString(c, one.say); err != nil {
				t.Fatal(err)
			}
			<-read
			if err := one.leave(c); err != nil {
				t.Fatal(err)
			}
			time.Sleep(50 * time.Millisecond) // until the kernel has told the other end
			close(turn)
			if what == "half closed" {
				hears(t, bufio.NewReader(c), 400, sluice.BadRequest)
			}
			s.eventually("the connection is given up", func() bool { return s.Connections.Open() == 0 || what == "half closed" })
			if n := s.credits.Outstanding(); n != 0 {
				t.Errorf("%d orders are outstanding, want none", n)
			}
		})
	}
}

// The kernel keeps no more of a client that does not read than it was told: what it says is twice what it was asked for (socket(7)).
func TestConnection_KeepsFewUnreadBytes(t *testing.T) {
	c := NewConnections(10, 0, nil)
	l := c.Listen(loopback(t), false)
	defer l.Close()                                    //nolint:errcheck // the test is over
	dialled, err := net.Dial("tcp", l.Addr().String()) //nolint:noctx // loopback
	if err != nil {
		t.Fatal(err)
	}
	defer dialled.Close() //nolint:errcheck // likewise
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close() //nolint:errcheck // likewise
	size, sizeErr := 0, error(nil)
	err = accepted.(*connection).raw.Control(func(fd uintptr) {
		size, sizeErr = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF)
	})
	if err != nil || sizeErr != nil || size > 2*unread || size < unread/2 {
		t.Errorf("%d bytes, %v, %v; want %d at most", size, err, sizeErr, 2*unread)
	}
}
