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
	"sluice/worker"
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

// readToken reads the token that this process presents to the operations API: the first of the file; empty where none
// is set.
func readToken(cfg config.Config) (string, error) {
	operators, err := readOperators(cfg)
	if err != nil || len(operators) == 0 {
		return "", err
	}
	return operators[0].Token, nil
}

const (
	minToken     = 16  // characters
	maxOperators = 100 // lines of a token file
	maxOperator  = 64  // bytes of a name
)

// readOperators reads who may use the operations API, one NAME TOKEN a line. A file that holds a token alone has one
// operator, whose name is "operator". No error tells a token.
func readOperators(cfg config.Config) ([]worker.Operator, error) {
	if cfg.TokenFile == "" {
		return nil, nil
	}
	b, err := os.ReadFile(cfg.TokenFile)
	if err != nil {
		return nil, fmt.Errorf("admin-token-file: %w", err)
	}
	operators, err := parseOperators(strings.TrimSpace(string(b)))
	if err != nil {
		return nil, &usageError{fmt.Errorf("admin-token-file %s: %w", cfg.TokenFile, err)}
	}
	return operators, nil
}

func parseOperators(text string) ([]worker.Operator, error) {
	if !strings.Contains(text, "\n") && len(strings.Fields(text)) != 2 {
		return []worker.Operator{{Name: "operator", Token: text}}, checkToken(text)
	}
	var operators []worker.Operator
	for n, line := range strings.Split(text, "\n") {
		if n >= maxOperators {
			return nil, fmt.Errorf("it has more than %d lines; want at most so many", maxOperators)
		}
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if len(fields) != 2 || !sluice.PlainText([]byte(fields[0]), maxOperator) {
			return nil, fmt.Errorf("line %d: want NAME TOKEN, a name of at most %d bytes and its token, without spaces in either", n+1, maxOperator)
		}
		if err := checkToken(fields[1]); err != nil {
			return nil, fmt.Errorf("line %d: %w", n+1, err)
		}
		for _, o := range operators {
			if o.Name == fields[0] {
				return nil, fmt.Errorf("line %d: there is a %q already; want a name of its own for each token", n+1, o.Name)
			}
			if o.Token == fields[1] {
				return nil, fmt.Errorf("line %d: it has the token of %q; want one of its own", n+1, o.Name)
			}
		}
		operators = append(operators, worker.Operator{Name: fields[0], Token: fields[1]})
	}
	return operators, nil
}

func checkToken(token string) error {
	if len(token) < minToken {
		return fmt.Errorf("the token has %d characters; want at least %d", len(token), minToken)
	}
	return nil
}

func newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}
