package queue

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nsqio/go-nsq"
)

// script is a connection whose other end says something and hangs up; it takes whatever it is told.
type script struct {
	net.Conn
	said *bytes.Reader
	told int
}

func (s *script) Read(p []byte) (int, error)       { return s.said.Read(p) }
func (s *script) Write(p []byte) (int, error)      { s.told += len(p); return len(p), nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) Close() error                     { return nil }

func asFrame(kind int32, data string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(data)+4))
	b = binary.BigEndian.AppendUint32(b, uint32(kind))
	return append(b, data...)
}

// Whatever a hostile nsqd sends, a frame is what it says it is or an error, and one length field never makes room for more
// than maxFrameBytes (P9).
func FuzzFrames(f *testing.F) {
	f.Add(asFrame(nsq.FrameTypeResponse, "OK"))
	f.Add(asFrame(nsq.FrameTypeResponse, "_heartbeat_"))
	f.Add(asFrame(nsq.FrameTypeError, "E_INVALID cannot SUB in current state (TLS required)"))
	f.Add(asFrame(nsq.FrameTypeMessage, "12345678\x00\x010123456789abcdefbody"))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0})
	f.Add([]byte{0, 0, 0, 3, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, said []byte) {
		conn := &script{said: bytes.NewReader(said)}
		w := &wire{conn: conn}
		w.reader = bufio.NewReader(patientReader{w})
		taken := 0
		for {
			kind, data, err := w.readFrame()
			if err != nil {
				break
			}
			taken += len(data) + 8
			if taken > len(said) {
				t.Fatalf("%d bytes of frames are read from %d", taken, len(said))
			}
			if kind == nsq.FrameTypeMessage {
				if m, err := nsq.DecodeMessage(data); err == nil && len(m.Body) > len(data) {
					t.Fatalf("a body of %d bytes in %d", len(m.Body), len(data))
				}
			}
			_ = meaning(kind, data)
		}
		if beats := conn.told / len(nop); beats > len(said)/(8+len("_heartbeat_")) {
			t.Errorf("%d heartbeats are answered", beats)
		}
	})
}

// Whatever answers the greeting, there is a connection or an error, and over TLS never a connection to who does not speak it.
func FuzzGreeting(f *testing.F) {
	f.Add(asFrame(nsq.FrameTypeResponse, `{"max_rdy_count":2500,"tls_v1":true}`), true)
	f.Add(asFrame(nsq.FrameTypeResponse, `{"max_rdy_count":2500}`), false)
	f.Add(append(asFrame(nsq.FrameTypeResponse, `{"tls_v1":true}`), asFrame(nsq.FrameTypeResponse, "OK")...), true)
	f.Add(asFrame(nsq.FrameTypeResponse, `{"max_rdy_count":-1,"auth_required":true}`), false)
	f.Fuzz(func(t *testing.T, said []byte, secure bool) {
		w := &wire{conn: &script{said: bytes.NewReader(said)}}
		w.reader = bufio.NewReader(patientReader{w})
		cfg := dialConfig{addr: "127.0.0.1:4150", timeout: time.Second, heartbeat: defaultHeartbeat}
		if secure {
			cfg.tls = &tls.Config{RootCAs: x509.NewCertPool()}
		}
		err := w.identify(t.Context(), cfg)
		if secure && err == nil {
			t.Fatalf("%q is taken for an nsqd that speaks TLS", said)
		}
		if err == nil && w.secured {
			t.Fatalf("%q: TLS that nobody asked for", said)
		}
	})
}

// Whatever an nsqd says of itself over HTTP, it is an error or has a start and figures.
func FuzzFigures(f *testing.F) {
	f.Add([]byte(`{"start_time":1,"topics":[{"topic_name":"orders","depth":3,"channels":[{"channel_name":"settle","depth":1}]}]}`))
	f.Add([]byte(`{"start_time":-9223372036854775808}`))
	f.Add([]byte(`[`))
	var said atomic.Pointer[[]byte]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(*said.Load()) }))
	defer server.Close()
	f.Fuzz(func(t *testing.T, body []byte) {
		said.Store(&body)
		if h, err := Probe(t.Context(), server.URL, nil); err == nil && h.StartTime.Unix() == 0 {
			t.Errorf("%q: it has no start, and is taken for an nsqd", body)
		}
		if topic, err := ProbeTopic(t.Context(), server.URL, nil, TopicEvents); err == nil {
			topic.Deepest()
		}
		if name, _, err := Identify(t.Context(), server.URL, nil); err == nil && (name == "" || len(name) > 300) {
			t.Errorf("%q: a name of %d bytes", body, len(name))
		}
	})
}
