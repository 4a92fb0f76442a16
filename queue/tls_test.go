package queue

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/internal/testcert"
)

// roots is a client that trusts ca, and shows the certificates given.
func roots(ca *testcert.CA, shows ...testcert.Leaf) *tls.Config {
	cfg := &tls.Config{RootCAs: ca.Pool}
	for _, l := range shows {
		cfg.Certificates = append(cfg.Certificates, l.TLS)
	}
	return cfg
}

func TestTLS_CarriesOrdersAndFigures(t *testing.T) {
	noLeaks(t)
	ca := testcert.New(t)
	leaf, client := ca.Issue(t), ca.Issue(t, "a-door")
	for name, c := range map[string]struct {
		clientCA string
		secure   *tls.Config
	}{
		"server shows a certificate": {"", roots(ca)},
		"both show one":              {ca.File, roots(ca, client)},
	} {
		t.Run(name, func(t *testing.T) {
			s := startServer(t, ServerConfig{HTTP: "127.0.0.1:0", TLSCert: leaf.CertFile, TLSKey: leaf.KeyFile, ClientCA: c.clientCA, Channels: settle})
			var sent reports
			var in inbox
			p := startPublisher(t, PublisherConfig{Addr: s.Addr(), TLS: c.secure, Report: sent.report})
			publish(t, p, 0, 3000)
			consumer := startConsumer(t, ConsumerConfig{Addr: s.Addr(), TLS: c.secure, Handle: in.finish})
			eventually(t, "all come out", func() bool { return in.distinct() == 3000 })
			eventually(t, "all are reported sent", func() bool { return sent.count(Sent) == 3000 })
			eventually(t, "nsqd has none left", func() bool {
				h, err := Probe(t.Context(), s.HTTPAddr(), c.secure)
				return err == nil && h.Total == 0 && h.Settle
			})
			if n := sent.count(Ambiguous); n != 0 || p.Epoch() != 1 || consumer.Epoch() != 1 {
				t.Errorf("%d ambiguous, %d and %d connections; want 0, 1, 1", n, p.Epoch(), consumer.Epoch())
			}

			if err := EnsureChannel(t.Context(), s.Addr(), c.secure, TopicEvents, "points"); err != nil {
				t.Error(err)
			}
			release, err := HoldChannel(t.Context(), s.Addr(), c.secure, TopicEvents, "tail#ephemeral")
			if err != nil {
				t.Fatal(err)
			}
			defer release()
			b, err := DialBatches(t.Context(), s.Addr(), c.secure, patience)
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			if err := b.Publish(t.Context(), TopicEvents, numbered(0, 2500)); err != nil {
				t.Error(err)
			}
			sender := NewSender(SenderConfig{Addr: s.Addr(), TLS: c.secure})
			defer func() { _ = sender.Stop(t.Context()) }()
			if err := sender.Send(t.Context(), TopicEvents, []byte("one more"), 0); err != nil {
				t.Error(err)
			}
			eventually(t, "2501 events are there", func() bool {
				topic, err := ProbeTopic(t.Context(), s.HTTPAddr(), c.secure, TopicEvents)
				return err == nil && topic.Channels["points"] == 2501
			})
			if name, _, err := Identify(t.Context(), s.HTTPAddr(), c.secure); err != nil || name == "" {
				t.Errorf("Identify = %q, %v", name, err)
			}
		})
	}
}

// Who is not who it should be hears nothing, and the error names what was wrong.
func TestTLS_RefusesWhoeverIsNotWhoItShouldBe(t *testing.T) {
	noLeaks(t)
	ca, stranger := testcert.New(t), testcert.New(t)
	good := ca.Issue(t)
	for name, c := range map[string]struct {
		shows  testcert.Leaf // the server
		asks   string        // the server's authorities of clients
		secure *tls.Config   // the client
		says   string
	}{
		"another authority":               {good, "", roots(stranger), "signed by unknown authority"},
		"a certificate that has expired":  {ca.IssueExpired(t), "", roots(ca), "expired"},
		"the certificate of another name": {ca.Issue(t, "127.0.0.9", "nsqd.example"), "", roots(ca), "127.0.0.9, not 127.0.0.1"},
		"no certificate of the client":    {good, ca.File, roots(ca), "certificate required"},
		"a client of another authority":   {good, ca.File, roots(ca, stranger.Issue(t, "a-door")), "tls: "},
		"a client whose time is over":     {good, ca.File, roots(ca, ca.IssueExpired(t, "a-door")), "expired certificate"},
		"a client that speaks plain text": {good, "", nil, "it wants TLS, and this end is not told to speak it"},
		"plain text where both show one":  {good, ca.File, nil, "it wants TLS"},
	} {
		t.Run(name, func(t *testing.T) {
			s := startServer(t, ServerConfig{HTTP: "127.0.0.1:0", TLSCert: c.shows.CertFile, TLSKey: c.shows.KeyFile, ClientCA: c.asks, Channels: settle})
			err := EnsureChannel(t.Context(), s.Addr(), c.secure, TopicOrders, ChannelSettle)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("EnsureChannel = %v; want an error with %q", err, c.says)
			}
			if _, err := Probe(t.Context(), s.HTTPAddr(), c.secure); err == nil {
				t.Error("the port for figures answers")
			}
			var sent reports
			p := startPublisher(t, PublisherConfig{Addr: s.Addr(), TLS: c.secure, Report: sent.report})
			publish(t, p, 0, 1)
			sender := NewSender(SenderConfig{Addr: s.Addr(), TLS: c.secure, Deadline: 200 * time.Millisecond})
			defer func() { _ = sender.Stop(t.Context()) }()
			if err := sender.Send(t.Context(), TopicEvents, []byte("x"), 0); !errors.Is(err, ErrNotSent) {
				t.Errorf("Send = %v; want ErrNotSent", err)
			}
			if n := sent.count(Sent); n != 0 {
				t.Errorf("%d messages were sent", n)
			}
		})
	}
}

// TLS 1.0 and 1.1 are not spoken by either port.
func TestTLS_IsNotOutdated(t *testing.T) {
	ca := testcert.New(t)
	leaf := ca.Issue(t)
	s := startServer(t, ServerConfig{HTTP: "127.0.0.1:0", TLSCert: leaf.CertFile, TLSKey: leaf.KeyFile})
	old := roots(ca)
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if c, err := (&tls.Dialer{Config: old}).DialContext(t.Context(), "tcp", s.HTTPAddr()); err == nil {
		_ = c.Close()
		t.Error("the port for figures speaks TLS 1.1")
	}
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, "  V2IDENTIFY\n"+frame(`{"feature_negotiation":true,"tls_v1":true}`)); err != nil {
		t.Fatal(err)
	}
	w := &wire{conn: conn}
	w.reader = bufio.NewReader(conn)
	if _, err := w.readResponse(); err != nil {
		t.Fatal(err)
	}
	old.ServerName = "127.0.0.1"
	if err := tls.Client(conn, old).HandshakeContext(t.Context()); err == nil {
		t.Error("nsqd speaks TLS 1.1")
	}
}

func frame(body string) string {
	return string(binary.BigEndian.AppendUint32(nil, uint32(len(body)))) + body
}

// liar is an nsqd that answers IDENTIFY with whatever it is told to, and notes what it hears after it.
func liar(t *testing.T, answer func(net.Conn)) (addr string, heard <-chan string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	said := make(chan string, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		_ = c.SetDeadline(time.Now().Add(patience))
		head := make([]byte, len("  V2IDENTIFY\n")+4)
		if _, err := io.ReadFull(c, head); err != nil {
			return
		}
		if _, err := io.CopyN(io.Discard, c, int64(binary.BigEndian.Uint32(head[len(head)-4:]))); err != nil {
			return
		}
		answer(c)
		rest, _ := io.ReadAll(c)
		said <- string(rest)
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String(), said
}

func respond(c net.Conn, body string) {
	out := binary.BigEndian.AppendUint32(nil, uint32(len(body)+4))
	out = binary.BigEndian.AppendUint32(out, 0)
	_, _ = c.Write(append(out, body...))
}

// Somebody on the way strikes out that nsqd offers TLS, or slips words of their own in before it begins.
func TestTLS_IsNeverGivenUp(t *testing.T) {
	noLeaks(t)
	ca := testcert.New(t)
	features := func(secure bool) string {
		b, _ := json.Marshal(map[string]any{"max_rdy_count": 2500, "version": "1.3.0", "tls_v1": secure})
		return string(b)
	}
	for name, c := range map[string]struct {
		answer func(net.Conn)
		is     error
		says   string
	}{
		"it does not offer TLS":    {func(c net.Conn) { respond(c, features(false)) }, ErrNoTLS, "does not offer TLS"},
		"it knows no features":     {func(c net.Conn) { respond(c, "OK") }, nil, "it is no nsqd"},
		"words before TLS begins":  {func(c net.Conn) { respond(c, features(true)); respond(c, "OK") }, nil, "TLS"},
		"it goes on in plain text": {func(c net.Conn) { respond(c, features(true)); time.Sleep(50 * time.Millisecond); respond(c, "OK") }, nil, "TLS"},
	} {
		t.Run(name, func(t *testing.T) {
			addr, heard := liar(t, c.answer)
			err := EnsureChannel(t.Context(), addr, roots(ca), TopicOrders, ChannelSettle)
			if err == nil || !strings.Contains(err.Error(), c.says) || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("EnsureChannel = %v; want an error with %q", err, c.says)
			}
			if said := within(t, "it hangs up", heard); strings.Contains(said, "SUB") {
				t.Errorf("it was told in plain text: %q", said)
			}
		})
	}

	s := startServer(t, ServerConfig{HTTP: "127.0.0.1:0"}) // an nsqd without TLS
	if err := EnsureChannel(t.Context(), s.Addr(), roots(ca), TopicOrders, ChannelSettle); !errors.Is(err, ErrNoTLS) {
		t.Errorf("EnsureChannel = %v; want ErrNoTLS", err)
	}
	if _, err := Probe(t.Context(), "http://"+s.HTTPAddr(), roots(ca)); !errors.Is(err, ErrNoTLS) {
		t.Errorf("Probe of http:// = %v; want ErrNoTLS", err)
	}
	if _, err := Probe(t.Context(), s.HTTPAddr(), roots(ca)); err == nil || !strings.Contains(err.Error(), "HTTP response to HTTPS") {
		t.Errorf("Probe = %v; want it to say that plain HTTP answered", err)
	}
}

func TestTLS_TheFiguresOfAServerThatAsksForCertificatesAreForNobodyElse(t *testing.T) {
	ca := testcert.New(t)
	leaf := ca.Issue(t)
	s := startServer(t, ServerConfig{HTTP: "127.0.0.1:0", TLSCert: leaf.CertFile, TLSKey: leaf.KeyFile, ClientCA: ca.File})
	for scheme, cfg := range map[string]*tls.Config{"http": nil, "https": roots(ca)} {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}}
		for _, path := range []string{"/ping", "/info", "/stats"} {
			res, err := client.Get(scheme + "://" + s.HTTPAddr() + path) //nolint:noctx // refused at once
			if err == nil {
				_ = res.Body.Close()
				if res.StatusCode == http.StatusOK {
					t.Errorf("%s of %s: %s", scheme, path, res.Status)
				}
			}
		}
	}
}

func TestStartServer_SaysWhatIsWrongWithItsCertificates(t *testing.T) {
	ca := testcert.New(t)
	leaf, other := ca.Issue(t), ca.Issue(t)
	none := filepath.Join(t.TempDir(), "none.pem")
	dir := t.TempDir()
	for _, c := range []struct {
		cfg  ServerConfig
		says string
	}{
		{ServerConfig{TLSCert: leaf.CertFile}, "both or neither"},
		{ServerConfig{TLSKey: leaf.KeyFile}, "both or neither"},
		{ServerConfig{ClientCA: ca.File}, "client certificates need both"},
		{ServerConfig{TLSCert: none, TLSKey: leaf.KeyFile}, none},
		{ServerConfig{TLSCert: leaf.CertFile, TLSKey: other.KeyFile}, "does not match"},
		{ServerConfig{TLSCert: leaf.CertFile, TLSKey: leaf.KeyFile, ClientCA: none}, none},
		{ServerConfig{TLSCert: leaf.CertFile, TLSKey: leaf.KeyFile, ClientCA: leaf.KeyFile}, "no certificate in PEM"},
	} {
		c.cfg.Listen, c.cfg.DataDir = "127.0.0.1:0", dir
		s, err := StartServer(c.cfg)
		if err == nil {
			stopServer(t, s)
		}
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v; want an error with %q", c.cfg, err, c.says)
		}
	}
	startServer(t, ServerConfig{DataDir: dir, TLSCert: leaf.CertFile, TLSKey: leaf.KeyFile}) // its folder was not left locked
}
