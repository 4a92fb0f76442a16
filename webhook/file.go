package webhook

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.yaml.in/yaml/v3"
)

// entry is one endpoint as the file has it.
type entry struct {
	Name        string         `yaml:"name"`
	URL         string         `yaml:"url"`
	Secret      string         `yaml:"secret"`
	SecretFile  string         `yaml:"secret_file"`
	Events      []string       `yaml:"events"`
	MaxInFlight *int           `yaml:"max_in_flight"`
	MaxAge      *time.Duration `yaml:"max_age"`
	CAFile      string         `yaml:"ca_file"`
}

const (
	maxEndpoints = 100
	maxFileBytes = 1 << 20
	minMaxAge    = time.Minute
	maxMaxAge    = 30 * 24 * time.Hour
)

var nameFormat = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// Load reads the endpoints of a file: a list in YAML or JSON. The files that it names lie relative to it.
func Load(file string) ([]Endpoint, error) {
	content, err := readFile(file)
	if err != nil {
		return nil, err
	}
	var entries []entry
	d := yaml.NewDecoder(bytes.NewReader(content))
	d.KnownFields(true)
	if err := d.Decode(&entries); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("it can't be read; want a list of {name, url, secret_file or secret, events, max_in_flight, max_age, ca_file}: %w", err)
	}
	if err := d.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the list")
	}
	if len(entries) > maxEndpoints {
		return nil, fmt.Errorf("it has %d endpoints; want at most %d", len(entries), maxEndpoints)
	}
	endpoints := make([]Endpoint, len(entries))
	names := map[string]bool{}
	for i, e := range entries {
		if !nameFormat.MatchString(e.Name) {
			if strings.HasPrefix(e.Name, secretPrefix) {
				return nil, fmt.Errorf("endpoint %d: its name is a secret, which is not told here; want it as the member secret", i+1)
			}
			return nil, fmt.Errorf("endpoint %d: name %.80q: want 1 to 64 of a-z, 0-9, dot, dash and underscore", i+1, e.Name)
		}
		if names[e.Name] {
			return nil, fmt.Errorf("endpoint %d: there is a %q already; want a name of its own for each", i+1, e.Name)
		}
		names[e.Name] = true
		if endpoints[i], err = e.endpoint(file); err != nil {
			return nil, fmt.Errorf("endpoint %s: %w", e.Name, err)
		}
	}
	return endpoints, nil
}

func (e *entry) endpoint(file string) (_ Endpoint, err error) {
	out := Endpoint{Name: e.Name, events: e.Events, MaxInFlight: defaultInFlight, MaxAge: defaultMaxAge}
	if out.url, err = parseURL(e.URL); err != nil {
		return out, err
	}
	if err := checkEvents(e.Events); err != nil {
		return out, err
	}
	if e.MaxInFlight != nil {
		if out.MaxInFlight = *e.MaxInFlight; out.MaxInFlight < 1 || out.MaxInFlight > maxInFlight {
			return out, fmt.Errorf("max_in_flight %d: want 1 to %d", out.MaxInFlight, maxInFlight)
		}
	}
	if e.MaxAge != nil {
		if out.MaxAge = *e.MaxAge; out.MaxAge < minMaxAge || out.MaxAge > maxMaxAge {
			return out, fmt.Errorf("max_age %v: want %v to %v", out.MaxAge, minMaxAge, maxMaxAge)
		}
	}
	if out.signers, err = e.secrets(file); err != nil {
		return out, err
	}
	out.roots, err = e.authorities(file)
	return out, err
}

// secrets reads what signs: one in the file itself, or one a line in a file of their own.
func (e *entry) secrets(file string) ([]*standardwebhooks.Webhook, error) {
	text, key := e.Secret, "secret"
	switch {
	case (e.Secret == "") == (e.SecretFile == ""):
		return nil, errors.New("want either secret_file or secret")
	case e.Secret != "":
		if err := checkPrivate(file); err != nil {
			return nil, err
		}
	default:
		content, err := readFile(beside(file, e.SecretFile))
		if err != nil {
			return nil, fmt.Errorf("secret_file: %w", err)
		}
		text, key = string(content), "secret_file"
	}
	var signers []*standardwebhooks.Webhook
	for line := range strings.FieldsSeq(text) {
		signer, err := parseSecret(line)
		if err != nil {
			return nil, fmt.Errorf("%s: secret %d: %w", key, len(signers)+1, err)
		}
		signers = append(signers, signer)
	}
	if n := len(signers); n < 1 || n > maxSecrets {
		return nil, fmt.Errorf("%s: it has %d secrets; want 1 to %d, a line for each", key, n, maxSecrets)
	}
	return signers, nil
}

// checkPrivate refuses a file with a secret in it that everybody on the machine may read.
func checkPrivate(file string) error {
	info, err := os.Stat(file)
	if err != nil {
		return fmt.Errorf("secret: %w", err)
	}
	if info.Mode().Perm()&0o004 != 0 {
		return fmt.Errorf("secret: everybody may read %s (mode %04o); take that away, or use secret_file", file, info.Mode().Perm())
	}
	return nil
}

// authorities are those of the system and the file's.
func (e *entry) authorities(file string) (*x509.CertPool, error) {
	if e.CAFile == "" {
		return nil, nil
	}
	content, err := readFile(beside(file, e.CAFile))
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(content) {
		return nil, fmt.Errorf("ca_file %s: it holds no certificate in PEM", e.CAFile)
	}
	return pool, nil
}

func beside(file, name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(filepath.Dir(file), name)
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err //nolint:wrapcheck // it names the file
	}
	defer f.Close() //nolint:errcheck // it was read only
	content, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err == nil && len(content) > maxFileBytes {
		err = fmt.Errorf("%s has over %d bytes", name, maxFileBytes)
	}
	return content, err
}
