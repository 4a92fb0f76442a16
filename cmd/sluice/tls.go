package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"sluice/config"
)

// certificate is what a door shows to browsers. It follows its files: whoever renews it need not restart anything.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger
	current           atomic.Pointer[tls.Certificate]

	// Of the one who watches.
	read   []byte // both files as they were read last
	failed bool   // they made no certificate
	told   bool   // and that was logged
}

const certificateLook = 3 * time.Second // between two looks at the files

// loadCertificate reads the certificate that is configured; nil where none is.
func loadCertificate(cfg config.Config, log *slog.Logger) (*certificate, error) {
	if cfg.TLSCert == "" && cfg.TLSKey == "" {
		return nil, nil
	}
	if cfg.TLSCert == "" || cfg.TLSKey == "" {
		return nil, &usageError{errors.New("tls-cert and tls-key: want both files or neither")}
	}
	c := &certificate{certFile: cfg.TLSCert, keyFile: cfg.TLSKey, log: log}
	pair, err := c.load()
	if err != nil {
		return nil, err
	}
	c.current.Store(pair)
	return c, nil
}

// config is for a listener of browsers: HTTP/1.1 is what the door speaks.
func (c *certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil },
	}
}

// load reads the files; nil without an error where they are as they were.
func (c *certificate) load() (*tls.Certificate, error) {
	cert, err := os.ReadFile(c.certFile)
	if err != nil {
		return nil, fmt.Errorf("tls-cert: %w", err)
	}
	key, err := os.ReadFile(c.keyFile)
	if err != nil {
		return nil, fmt.Errorf("tls-key: %w", err)
	}
	both := bytes.Join([][]byte{cert, key}, []byte{0})
	if bytes.Equal(both, c.read) && !c.failed {
		return nil, nil
	}
	c.read = both
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("tls-cert %s, tls-key %s: %w", c.certFile, c.keyFile, err)
	}
	return &pair, nil
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
