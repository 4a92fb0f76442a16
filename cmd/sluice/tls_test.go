package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/config"
)

// newCertificate makes a self-signed certificate with a number, as the two files of it.
func newCertificate(t *testing.T, number int64) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(number), Subject: pkix.Name{CommonName: "door"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
}

func write(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// shown is the number of the certificate that a door shows to a client, and what was agreed on.
func shown(t *testing.T, address string, client *tls.Config) (int64, tls.ConnectionState, error) {
	t.Helper()
	client.InsecureSkipVerify = true //nolint:gosec // the number is what is looked at
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: 5 * time.Second}, Config: client}
	c, err := d.DialContext(t.Context(), "tcp", address)
	if err != nil {
		return 0, tls.ConnectionState{}, err
	}
	defer func() { _ = c.Close() }()
	state := c.(*tls.Conn).ConnectionState()
	return state.PeerCertificates[0].SerialNumber.Int64(), state, nil
}

func TestTLS_FollowsItsFilesAndOutlivesBrokenOnes(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "door.crt"), filepath.Join(dir, "door.key")
	cert, key := newCertificate(t, 1)
	write(t, certFile, cert)
	write(t, keyFile, key)
	door := freePort(t)
	p := launch(t, "up", "--demo", "--listen", door, "--admin", freePort(t), "--data", t.TempDir(), "--tls-cert", certFile, "--tls-key", keyFile, "--base-path", "/sluice")
	eventually(t, "the demo text", func() bool { return strings.Contains(p.said(), "front door   https://"+door+"/sluice") })

	stalled, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", door) // says nothing, and must not keep others waiting
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stalled.Close() }()
	began := time.Now()

	n, state, err := shown(t, door, &tls.Config{NextProtos: []string{"h2", "http/1.1"}})
	if err != nil || n != 1 || state.NegotiatedProtocol != "http/1.1" || state.Version != tls.VersionTLS13 {
		t.Errorf("certificate %d, %q, %x, %v", n, state.NegotiatedProtocol, state.Version, err)
	}
	if _, _, err := shown(t, door, &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // self-signed
	defer client.CloseIdleConnections()
	var href string
	eventually(t, "an order over TLS", func() bool {
		res, err := client.Post("https://"+door+"/sluice/v1/sales/demo/orders", "application/json", strings.NewReader(`{"user":"alice"}`)) //nolint:noctx // the test has a time-out
		if err != nil {
			return false
		}
		defer func() { _ = res.Body.Close() }()
		href = res.Header.Get("Location")
		return res.StatusCode == 202
	})
	res, err := client.Get("https://" + door + href + "/events") //nolint:noctx // it ends with the order
	if err != nil {
		t.Fatal(err)
	}
	events, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err != nil || !strings.Contains(string(events), `"status":"paid"`) {
		t.Errorf("events over TLS: %v, %s", err, events)
	}

	for scheme, status := range map[string]int{"https": 202, "http": 403} { // a page without TLS may be anybody's on the way
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+door+"/sluice/v1/sales/demo/orders", strings.NewReader("user=bob"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Origin", scheme+"://"+door)
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != status {
			t.Errorf("a form of %s://%s: %d, want %d", scheme, door, res.StatusCode, status)
		}
	}

	other, otherKey := newCertificate(t, 2)
	write(t, certFile, other) // does not fit the old key
	eventually(t, "it is said once that the files are not good", func() bool { return strings.Contains(p.said(), "the old one stays") })
	if n, _, err := shown(t, door, &tls.Config{}); err != nil || n != 1 {
		t.Errorf("with broken files: certificate %d, %v; want 1", n, err)
	}
	write(t, keyFile, otherKey)
	eventually(t, "the new certificate is shown", func() bool { n, _, err := shown(t, door, &tls.Config{}); return err == nil && n == 2 })
	if n := strings.Count(p.said(), "the old one stays"); n != 1 {
		t.Errorf("it was said %d times", n)
	}

	if err := stalled.SetReadDeadline(began.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, stalled); err != nil || n > 0 {
		t.Errorf("a client that does not shake hands is not cut in time: %d bytes, %v", n, err)
	}
	if code := p.terminate(); code != 0 {
		t.Errorf("SIGTERM: exit %d", code)
	}
}

func TestCertificate_SaysOnceThatFilesAreNotGood(t *testing.T) {
	dir := t.TempDir()
	cfg := config.Config{TLSCert: filepath.Join(dir, "door.crt"), TLSKey: filepath.Join(dir, "door.key")}
	cert, key := newCertificate(t, 1)
	write(t, cfg.TLSCert, cert)
	write(t, cfg.TLSKey, key)
	var said bytes.Buffer
	c, err := loadCertificate(cfg, slog.New(slog.NewTextHandler(&said, nil)))
	if err != nil {
		t.Fatal(err)
	}
	number := func() int64 { return c.current.Load().Leaf.SerialNumber.Int64() }
	for n := int64(2); n <= 4; n++ {
		said.Reset()
		cert, key := newCertificate(t, n)
		write(t, cfg.TLSCert, cert)
		if n == 3 {
			if err := os.Remove(cfg.TLSKey); err != nil {
				t.Fatal(err)
			}
		}
		c.look()
		if said.Len() > 0 || number() != n-1 {
			t.Errorf("between the two files: certificate %d, said %s", number(), &said)
		}
		for range 5 {
			c.look()
		}
		if strings.Count(said.String(), "the old one stays") != 1 || number() != n-1 {
			t.Errorf("with broken files: certificate %d, said %s", number(), &said)
		}
		write(t, cfg.TLSKey, key)
		c.look()
		c.look()
		if number() != n || strings.Count(said.String(), "new certificate") != 2 {
			t.Errorf("with both files: certificate %d, said %s", number(), &said)
		}
	}
}

func TestTLS_BadFilesAreToldAtTheStart(t *testing.T) {
	dir := t.TempDir()
	cert, _ := newCertificate(t, 1)
	_, key := newCertificate(t, 2)
	certFile, keyFile := filepath.Join(dir, "door.crt"), filepath.Join(dir, "door.key")
	write(t, certFile, cert)
	write(t, keyFile, key)
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--tls-cert", certFile}, 2, "both files or neither"},
		{[]string{"--tls-cert", certFile, "--tls-key", filepath.Join(dir, "none")}, 1, "tls-key: open"},
		{[]string{"--tls-cert", certFile, "--tls-key", keyFile}, 1, "does not match"},
	} {
		p := launch(t, append([]string{"up", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data", t.TempDir()}, c.args...)...)
		if code := p.exit(); code != c.code || !strings.Contains(p.said(), c.says) {
			t.Errorf("%v: exit %d, says %s; want %d, %q", c.args, code, p.said(), c.code, c.says)
		}
	}
}
