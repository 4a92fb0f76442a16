package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"sluice/config"
)

// certificate is what a door shows to browsers, or the operations API to operators. It follows its files: whoever renews it
// need not restart anything.
type certificate struct {
	key               string // of the configuration, before -cert and -key
	certFile, keyFile string
	log               *slog.Logger
	current           atomic.Pointer[tls.Certificate]

	// Of the one who watches.
	read   []byte // both files as they were read last
	failed bool   // they made no certificate
	told   bool   // and that was logged
}

const certificateLook = 3 * time.Second // between two looks at the files

// loadCertificate reads the certificate of a door that is configured; nil where none is.
func loadCertificate(cfg config.Config, log *slog.Logger) (*certificate, error) {
	return readCertificate("tls", cfg.TLSCert, cfg.TLSKey, log)
}

// loadAdminCertificate reads that of the operations API, and of a door's metrics; nil where none is.
func loadAdminCertificate(cfg config.Config, log *slog.Logger) (*certificate, error) {
	return readCertificate("admin-tls", cfg.AdminTLSCert, cfg.AdminTLSKey, log)
}

func readCertificate(key, certFile, keyFile string, log *slog.Logger) (*certificate, error) {
	if certFile == "" && keyFile == "" {
		return nil, nil
	}
	if certFile == "" || keyFile == "" {
		return nil, &usageError{fmt.Errorf("%s-cert and %[1]s-key: want both files or neither", key)}
	}
	c := &certificate{key: key, certFile: certFile, keyFile: keyFile, log: log}
	pair, err := c.load()
	if err != nil {
		return nil, err
	}
	c.current.Store(pair)
	return c, nil
}

// config is for a listener that speaks the protocols; none: whatever net/http adds. A nil certificate is no TLS.
func (c *certificate) config(protocols ...string) *tls.Config {
	if c == nil {
		return nil
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     protocols,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil },
	}
}

// load reads the files; nil without an error where they are as they were.
func (c *certificate) load() (*tls.Certificate, error) {
	cert, err := os.ReadFile(c.certFile)
	if err != nil {
		return nil, fmt.Errorf("%s-cert: %w", c.key, err)
	}
	key, err := os.ReadFile(c.keyFile)
	if err != nil {
		return nil, fmt.Errorf("%s-key: %w", c.key, err)
	}
	both := bytes.Join([][]byte{cert, key}, []byte{0})
	if bytes.Equal(both, c.read) && !c.failed {
		return nil, nil
	}
	c.read = both
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("%s-cert %s, %[1]s-key %[3]s: %[4]w", c.key, c.certFile, c.keyFile, err)
	}
	return &pair, nil
}

// following watches the files until ctx ends and the function that it answers is called. A nil certificate has none.
func (c *certificate) following(ctx context.Context) (stop func()) {
	if c == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { c.watch(ctx, certificateLook) })
	return func() {
		cancel()
		wg.Wait()
	}
}

// watch follows the files until ctx ends.
func (c *certificate) watch(ctx context.Context, every time.Duration) {
	for pause(ctx, every); ctx.Err() == nil; pause(ctx, every) {
		c.look()
	}
}

// look takes a new certificate over. Files that make none keep the old one; that is logged once, and only when it is so
// twice in a row: who replaces two files leaves them apart for a moment.
func (c *certificate) look() {
	pair, err := c.load()
	switch {
	case err != nil && !c.failed:
		c.failed = true
	case err != nil && !c.told:
		c.told = true
		c.log.Error("the new certificate is not good; the old one stays", "error", err)
	case err == nil:
		c.failed, c.told = false, false
		if pair != nil {
			c.current.Store(pair)
			c.log.Info("new certificate", "not_after", pair.Leaf.NotAfter)
		}
	}
}
