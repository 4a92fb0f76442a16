package queue

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/nsqio/go-nsq"
)

// ErrNoTLS says that an nsqd does not offer the TLS that this end is told to speak. There is no way down to plain text:
// whoever stands between the two could otherwise have it by striking out a word.
var ErrNoTLS = errors.New("it does not offer TLS, and this end speaks nothing else")

// secureFor is cfg for a connection to addr. The server's name is checked: addr's host, unless cfg names another.
func secureFor(cfg *tls.Config, addr string) *tls.Config {
	cfg = cfg.Clone()
	if cfg.ServerName == "" {
		cfg.ServerName = addr
		if host, _, err := net.SplitHostPort(addr); err == nil {
			cfg.ServerName = host
		}
	}
	cfg.MinVersion = max(cfg.MinVersion, tls.VersionTLS12)
	return cfg
}

// upgrade makes the connection one of TLS, as nsqd does after an IDENTIFY that asked for it.
func (w *wire) upgrade(ctx context.Context, cfg dialConfig) error {
	if n := w.reader.Buffered(); n > 0 { // somebody on the way put words into nsqd's mouth, to be taken for secured ones
		return fmt.Errorf("%d bytes came in plain text after its answer, where TLS begins", n)
	}
	secured := tls.Client(w.conn, secureFor(cfg.tls, cfg.addr))
	if err := secured.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	w.conn, w.secured = secured, true
	// With TLS 1.3 a refused client certificate is told only in what follows the handshake.
	answer, err := w.readResponse()
	if err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	if string(answer) != "OK" {
		return fmt.Errorf("TLS: it answered %.40q instead of OK", answer)
	}
	return nil
}

// tlsRequired is how an nsqd that wants TLS refuses whatever comes in plain text.
const tlsRequired = "(TLS required)"

// protocolError is what nsqd refused, in words that say what to mend.
func protocolError(reason []byte) error {
	err := nsq.ErrProtocol{Reason: string(reason)}
	if strings.Contains(err.Reason, tlsRequired) {
		return fmt.Errorf("it wants TLS, and this end is not told to speak it: %w", err)
	}
	return err
}

// serverTLS is what the port for figures shows, and asks for. nsqd itself makes its own of the same files: read here
// first, since an nsqd that fails on them keeps the lock on its directory.
func (c ServerConfig) serverTLS() (*tls.Config, error) {
	if c.TLSCert == "" && c.TLSKey == "" && c.ClientCA == "" {
		return nil, nil //nolint:nilnil // no TLS is not an error
	}
	if c.TLSCert == "" || c.TLSKey == "" {
		return nil, errors.New("TLS: want a certificate and its key, both or neither; client certificates need both")
	}
	pair, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
	if err != nil {
		return nil, fmt.Errorf("TLS certificate %s, key %s: %w", c.TLSCert, c.TLSKey, err)
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
	if c.ClientCA != "" {
		text, err := os.ReadFile(c.ClientCA)
		if err != nil {
			return nil, fmt.Errorf("TLS client CA: %w", err)
		}
		cfg.ClientCAs = x509.NewCertPool()
		if !cfg.ClientCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("TLS client CA %s: it holds no certificate in PEM", c.ClientCA)
		}
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return cfg, nil
}
