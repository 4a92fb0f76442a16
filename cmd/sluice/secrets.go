package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"sluice"
	"sluice/config"
)

// loadIDKey reads the key of order ids. Without --id-key one is made in the data folder and kept there.
func loadIDKey(cfg config.Config) (*sluice.IDKey, error) {
	file := cfg.IDKey
	if file == "" {
		file = inData(cfg, "id.key")
		if err := makeIDKey(cfg.Data, file); err != nil {
			return nil, err
		}
	}
	secret, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("id-key: %w", err)
	}
	key, err := sluice.NewIDKey([]byte(strings.TrimSpace(string(secret))))
	if err != nil {
		return nil, &usageError{fmt.Errorf("id-key %s: %w", file, err)}
	}
	return key, nil
}

// needIDKey refuses a part that runs alone without the key that all parts share: with keys of their own, two doors would
// take a repeat for two orders.
func needIDKey(cfg config.Config) error {
	if cfg.IDKey == "" {
		return &usageError{fmt.Errorf("id-key: it is missing; want the file that all doors and workers share, with at least %d random bytes", sluice.MinIDKeyBytes)}
	}
	return nil
}

// makeIDKey writes a new key unless there is one. The key appears whole or not at all, whoever else makes one now.
func makeIDKey(dir, file string) error {
	if _, err := os.Stat(file); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the data folder: %w", err)
	}
	var secret [sluice.MinIDKeyBytes]byte
	_, _ = rand.Read(secret[:]) // never fails (crypto/rand)
	tmp, err := os.CreateTemp(dir, "id.key.*")
	if err != nil {
		return fmt.Errorf("make an id key: %w", err)
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	_, err = tmp.WriteString(hex.EncodeToString(secret[:]) + "\n")
	if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return fmt.Errorf("make an id key: %w", err)
	}
	if err := os.Link(tmp.Name(), file); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make an id key: %w", err)
	}
	return nil
}

// readToken reads the bearer token of the operations API; empty where none is set.
func readToken(cfg config.Config) (string, error) {
	if cfg.TokenFile == "" {
		return "", nil
	}
	b, err := os.ReadFile(cfg.TokenFile)
	if err != nil {
		return "", fmt.Errorf("admin-token-file: %w", err)
	}
	token := strings.TrimSpace(string(b))
	if len(token) < 16 {
		return "", &usageError{fmt.Errorf("admin-token-file %s: the token has %d characters; want at least 16", cfg.TokenFile, len(token))}
	}
	return token, nil
}

func newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}
