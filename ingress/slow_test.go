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
	shortRead  = 1500 * time.Millisecond
	shortWrite = time.Second
	shortIdle  = 2 * time.Second
)

// slowClient is the client's end of a connection.
type slowClient struct {
	*net.TCPConn
	r       *bufio.Reader
	dialled time.Time // when it began to
}

// drip sends a byte each few milliseconds until it is cut off.
func drip(t *testing.T, c net.Conn, raw string) {
	t.Helper()
	began := time.Now()
	for i := 0; ; i++ {
		if _, err := c.Write([]byte{raw[i%len(raw)]}); err != nil || time.Since(began) > 10*time.Second {
			return
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

// ends waits for the server to close.
func ends(t *testing.T, r io.Reader) {
	t.Helper()
	rest, err := io.ReadAll(r)
	if len(rest) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read %q, %v; want the end", rest, err)
	}
}

// between takes the time since began, which is before whatever the server counts from: so it waits exactly that long at least.
func between(t *testing.T, what string, began time.Time, least, most time.Duration) {
	t.Helper()
	if got := time.Since(began); got < least || got > most {
		t.Errorf("%s took %v, want %v to %v", what, got, least, most)
	}
}

// P9: a client that is slow, or says nothing, or does not listen, is cut off in time, and hears why where it can.
func TestSlow_ClientsAreCutOff(t *testing.T) {
	const slack = 4 * time.Second // others use this machine too
	const get = getting + "\r\n"
	const rest = shortRead * 5 / 4 // the time of an earlier request is over by then, and that of an idle connection is not
	for what, speak := range map[string]func(t *testing.T, c slowClient){
		"nothing at all": func(t *testing.T, c slowClient) {
			t.Helper()
			ends(t, c.r)
			between(t, "silence", c.dialled, shortRead, shortRead+slack)
		},
		"headers byte by byte": func(t *testing.T, c slowClient) {
			t.Helper()
			began := time.Now()
			drip(t, c, getting+strings.Repeat("X: y\r\n", 1000))
			between(t, "dripping", began, shortRead, shortRead+slack)
			hears(t, c.r, 408, sluice.TooSlowRequest)
		},
		"headers byte by byte, after another request and a while": func(t *testing.T, c slowClient) {
			t.Helper()
			_, _ = io.WriteString(c, get)
			hears(t, c.r, 200, "")
			time.Sleep(rest)
			began := time.Now()
			drip(t, c, getting+strings.Repeat("X: y\r\n", 1000))
			between(t, "dripping", began, shortRead, shortRead+slack)
			hears(t, c.r, 408, sluice.TooSlowRequest)
		},
		"a body byte by byte": func(t *testing.T, c slowClient) {
			t.Helper()
			began := time.Now()
			_, _ = io.WriteString(c, placing+"Content-Length: 8000\r\n\r\n")
			drip(t, c, " ")
			between(t, "dripping", began, shortRead, shortRead+slack)
			hears(t, c.r, 408, sluice.TooSlowRequest)
		},
		"chunks byte by byte": func(t *testing.T, c slowClient) {
			t.Helper()
			began := time.Now()
			_, _ = io.WriteString(c, inChunks)
			drip(t, c, "1\r\n \r\n")
			between(t, "dripping", began, shortRead, shortRead+slack)
			res, err := http.ReadResponse(c.r, nil)
			if err != nil || res.StatusCode != 408 && res.StatusCode != 400 { // 400 where the cut is in the middle of a CRLF
				t.Fatalf("answer %v, %v", res, err)
			}
			_ = res.Body.Close()
		},
		"a trailer byte by byte": func(t *testing.T, c slowClient) {
			t.Helper()
			began := time.Now()
			_, _ = io.WriteString(c, inChunks+"d\r\n"+anOrder+"\r\n0\r\n")
			drip(t, c, strings.Repeat("X: y\r\n", 1000))
			between(t, "dripping", began, shortRead, shortRead+slack)
			hears(t, c.r, 408, sluice.TooSlowRequest)
		},
		"chunks and no end": func(t *testing.T, c slowClient) {
			t.Helper()
			_, _ = io.WriteString(c, inChunks+"d\r\n"+anOrder+"\r\n0\r\n")
			hears(t, c.r, 408, sluice.TooSlowRequest)
			ends(t, c.r)
		},
		"a length and no body": func(t *testing.T, c slowClient) {
			t.Helper()
			_, _ = io.WriteString(c, placing+"Content-Length: 13\r\n\r\n")
			hears(t, c.r, 408, sluice.TooSlowRequest)
			ends(t, c.r)
		},
		"a body that it asks leave for, and keeps": func(t *testing.T, c slowClient) {
			t.Helper()
			_, _ = io.WriteString(c, placing+"Content-Length: 13\r\nExpect: 100-continue\r\n\r\n")
			hears(t, c.r, 100, "")
			hears(t, c.r, 408, sluice.TooSlowRequest)
			ends(t, c.r)
		},
		"a body that it asks leave for, after another request and a while": func(t *testing.T, c slowClient) {
			t.Helper()
			_, _ = io.WriteString(c, get)
			hears(t, c.r, 200, "")
			time.Sleep(2 * shortWrite)
			_, _ = io.WriteString(c, placing+"Content-Length: 13\r\nExpect: 100-continue\r\n\r\n")
			hears(t, c.r, 100, "")
			_, _ = io.WriteString(c, anOrder)
			hears(t, c.r, 202, "")
		},
		"no HTTP, after another request and a while": func(t *testing.T, c slowClient) {
			t.Helper()
			_, _ = io.WriteString(c, get)
			hears(t, c.r, 200, "")
			time.Sleep(2 * shortWrite)
			_, _ = io.WriteString(c, "hello\r\n\r\n")
			hears(t, c.r, 400, sluice.BadRequest)
			ends(t, c.r)
		},
		"nothing more": func(t *testing.T, c slowClient) {
			t.Helper()
			began := time.Now()
			_, _ = io.WriteString(c, get)
			hears(t, c.r, 200, "")
			ends(t, c.r)
			between(t, "idling", began, shortIdle, shortIdle+slack)
		},
		"requests, and never reads": func(t *testing.T, c slowClient) {
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
				server.ReadTimeout, server.WriteTimeout = shortRead, shortWrite
				if what == "nothing more" { // others rest as well, and are served
					server.IdleTimeout = shortIdle
				}
				server.MaxRequestsPerConn = 1 << 30
			})
			dialled := time.Now()
			c := dialFrom(t, "127.0.0.1", address).(*net.TCPConn)
			speak(t, slowClient{c, bufio.NewReader(c), dialled})
			_ = c.Close()
			s.eventually("its place is free", func() bool { return s.Connections.Open() == 0 })
		})
	}
}

// The time in which a connection's first request must arrive begins with its first byte, however old the connection is by then.
func TestSlow_AFirstRequestHasItsTimeFromItsFirstByte(t *testing.T) {
	for range 20 {
		if inPieces(t) || t.Failed() {
			return
		}
	}
	t.Error("in each of 20 attempts the machine was too slow to tell")
}

// inPieces is silent for a while and then sends a request in two pieces, the second when the connection is older than a request may
// take. It says nothing, false, where the server saw the first too late or had reason to cut the second off.
func inPieces(t *testing.T) (told bool) {
	t.Helper()
	const get = getting + "\r\n"
	s := newStand(t, testConfig(), nil, sale("demo", nil))
	spoke := make(chan time.Time, 1) // just before the server begins to count
	address := s.serveOn(s.Connections.Listen(loopback(t), false), func(server *fasthttp.Server) {
		server.ReadTimeout = shortRead
		count := server.ConnState
		server.ConnState = func(c net.Conn, state fasthttp.ConnState) {
			if state == fasthttp.StateActive {
				spoke <- time.Now()
			}
			if count != nil {
				count(c, state)
			}
		}
	})
	c := dialFrom(t, "127.0.0.1", address)
	defer c.Close() //nolint:errcheck // whatever came of it
	time.Sleep(shortRead * 3 / 5)
	_, _ = io.WriteString(c, get[:9])
	var began time.Time
	select {
	case began = <-spoke:
	case <-time.After(shortRead):
		return false
	}
	time.Sleep(shortRead * 3 / 5)
	_, _ = io.WriteString(c, get[9:])
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	took := time.Since(began)
	if err == nil {
		_ = res.Body.Close()
	}
	served := err == nil && res.StatusCode == 200
	if !served && took < shortRead {
		t.Errorf("it is cut off %v after its first byte: %v, %v; want it served, as it has %v", took, res, err, shortRead)
	}
	return served
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
			turn, read := make(chan struct{}), make(chan *connection, 2)
			l := s.Connections.Listen(loopback(t), false)
			if one.secret {
				l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{leaf.TLS}, MinVersion: tls.VersionTLS13})
			}
			address := s.serveOn(l, func(server *fasthttp.Server) {
				handle := server.Handler
				server.Handler = func(ctx *fasthttp.RequestCtx) {
					read <- connectionOf(ctx.Conn())
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
			theirs := <-read
			if err := one.leave(c); err != nil {
				t.Fatal(err)
			}
			s.eventually("the kernel has told the other end", theirs.gone)
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
