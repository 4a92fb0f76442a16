package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"sluice/api"
	"sluice/config"
	"sluice/queue"
)

// The other parts that a part asks, and how it knows that they are who they say.

// nsqdPeer is the nsqd that a door or a worker asks.
type nsqdPeer struct {
	tcp, http string
	secure    *tls.Config // nil: plain text
}

// nsqdOf is the nsqd of the configuration. With --nsqd-ca it is spoken to over TLS or not at all.
func nsqdOf(cfg config.Config) (nsqdPeer, error) {
	p := nsqdPeer{tcp: cfg.NSQD, http: nsqdHTTP(cfg.NSQDHTTP, cfg.NSQD)}
	shows, err := shownToNSQD(cfg)
	if err != nil {
		return p, err
	}
	if cfg.NSQDCA == "" {
		if shows != nil {
			return p, &usageError{errors.New("nsqd-client-cert: a certificate is shown over TLS only; want --nsqd-ca too")}
		}
		return p, nil
	}
	pool, err := authorities("nsqd-ca", cfg.NSQDCA)
	if err != nil {
		return p, err
	}
	p.secure = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, GetClientCertificate: shows}
	return p, nil
}

// ownNSQD is the nsqd of this very process: over TLS it is known by its certificate, whatever name that has.
func ownNSQD(cfg config.Config, server *queue.Server) (nsqdPeer, error) {
	p := nsqdPeer{tcp: server.Addr(), http: server.HTTPAddr()}
	if cfg.NSQDTLSCert == "" {
		return p, nil
	}
	shows, err := shownToNSQD(cfg)
	if err != nil {
		return p, err
	}
	if cfg.NSQDClientCA != "" && shows == nil {
		return p, &usageError{errors.New("nsqd-client-ca: then this process needs a certificate of its own too; want --nsqd-client-cert and --nsqd-client-key")}
	}
	pair, err := tls.LoadX509KeyPair(cfg.NSQDTLSCert, cfg.NSQDTLSKey)
	if err != nil {
		return p, fmt.Errorf("nsqd-tls-cert %s, nsqd-tls-key %s: %w", cfg.NSQDTLSCert, cfg.NSQDTLSKey, err)
	}
	p.secure = pinned(func() *tls.Certificate { return &pair })
	p.secure.GetClientCertificate = shows
	return p, nil
}

// clientCertificate answers what is shown to a server that asks for a certificate.
type clientCertificate func(*tls.CertificateRequestInfo) (*tls.Certificate, error)

// shownToNSQD reads the certificate once now, so that a mistake is told at the start, and then again for each connection:
// whoever renews it need not restart anything. Nil where none is configured.
func shownToNSQD(cfg config.Config) (clientCertificate, error) {
	if cfg.NSQDClientCert == "" && cfg.NSQDClientKey == "" {
		return nil, nil
	}
	if cfg.NSQDClientCert == "" || cfg.NSQDClientKey == "" {
		return nil, &usageError{errors.New("nsqd-client-cert and nsqd-client-key: want both files or neither")}
	}
	read := func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(cfg.NSQDClientCert, cfg.NSQDClientKey)
		if err != nil {
			return nil, fmt.Errorf("nsqd-client-cert %s, nsqd-client-key %s: %w", cfg.NSQDClientCert, cfg.NSQDClientKey, err)
		}
		return &pair, nil
	}
	if _, err := read(); err != nil {
		return nil, err
	}
	return func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return read() }, nil
}

// pinned knows a server of this process by the certificate that it has just now. Names and authorities say nothing more.
func pinned(own func() *tls.Certificate) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, //nolint:gosec // it is verified below, and more strictly
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 || !bytes.Equal(s.PeerCertificates[0].Raw, own().Certificate[0]) {
				return errors.New("it shows another certificate than this process has")
			}
			return nil
		},
	}
}

// authorities are those of a file, and no others.
func authorities(key, file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, &usageError{fmt.Errorf("%s %s: it holds no certificate in PEM", key, file)}
	}
	return pool, nil
}

// operationsPeer is the operations API that a door or an operator asks.
type operationsPeer struct {
	address string
	secure  *tls.Config // nil: the system's authorities, where the address begins with https://
}

// operationsAt is the operations API at an address of the configuration, under that key. With --admin-ca it is spoken to
// over TLS or not at all.
func operationsAt(cfg config.Config, key, address string) (operationsPeer, error) {
	p := operationsPeer{address: address}
	if cfg.AdminCA == "" {
		return p, nil
	}
	if strings.HasPrefix(address, "http://") {
		return p, &usageError{fmt.Errorf("%s %s: with --admin-ca it is asked over TLS only; want https:// before it, or nothing", key, address)}
	}
	pool, err := authorities("admin-ca", cfg.AdminCA)
	if err != nil {
		return p, err
	}
	p.secure = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
	return p, nil
}

// url has a scheme where the address has none.
func (p operationsPeer) url() string {
	switch {
	case strings.Contains(p.address, "://"):
		return p.address
	case p.secure != nil:
		return "https://" + p.address
	default:
		return "http://" + p.address
	}
}

// client shows the token to p; empty: none.
func (p operationsPeer) client(token string) *api.Client {
	return api.NewSecureClient(p.address, token, p.secure)
}

// adminPort is where a worker serves the operations API.
type adminPort struct {
	net.Listener
	cert *certificate // nil: no TLS
}

func (a adminPort) url() string {
	if a.cert != nil {
		return "https://" + a.Addr().String()
	}
	return "http://" + a.Addr().String()
}

// own is the operations API of this very process.
func (a adminPort) own() operationsPeer {
	p := operationsPeer{address: a.url()}
	if a.cert != nil {
		p.secure = pinned(a.cert.current.Load)
	}
	return p
}
