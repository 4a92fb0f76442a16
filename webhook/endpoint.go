package webhook

import (
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"sluice"
)

// Endpoint is where events are sent. Load makes them.
type Endpoint struct {
	Name        string
	MaxInFlight int           // most requests at once
	MaxAge      time.Duration // how long an event is tried before it is given up

	url     *url.URL
	signers []*standardwebhooks.Webhook // the secret that is in force first; all sign, so that a receiver can change over
	events  []string                    // types, or families such as "order.*"; none: all
	roots   *x509.CertPool              // whom to trust; nil: whom the system does
}

const (
	defaultInFlight = 16
	maxInFlight     = 256
	defaultMaxAge   = 4 * 24 * time.Hour // all attempts of the schedule
	maxSecrets      = 4
)

// address is the URL without what may be a secret in it.
func (e *Endpoint) address() string { return e.url.Scheme + "://" + e.url.Host }

// wants reports whether the endpoint is told of a type.
func (e *Endpoint) wants(t sluice.EventType) bool {
	return len(e.events) == 0 || slices.ContainsFunc(e.events, func(pattern string) bool { return matches(pattern, t) })
}

func matches(pattern string, t sluice.EventType) bool {
	family, wild := strings.CutSuffix(pattern, "*")
	if wild {
		return strings.HasPrefix(string(t), family)
	}
	return pattern == string(t)
}

func checkEvents(patterns []string) error {
	var types []string
	for _, t := range sluice.EventTypes() {
		types = append(types, string(t))
	}
	for _, p := range patterns {
		if p != "order.*" && p != "sale.*" && !slices.Contains(types, p) {
			return fmt.Errorf("events: %.80q: want order.*, sale.* or some of %s", p, strings.Join(types, ", "))
		}
	}
	return nil
}

// parseURL takes https, and http where it does not leave the machine. Errors tell nothing of a URL but scheme and host.
func parseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, errors.New("url: it can't be read; want https://host/path")
	case u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.Opaque != "":
		return nil, fmt.Errorf("url: %.80q: want https://host/path", u.Scheme+"://"+u.Host)
	case u.User != nil:
		return nil, fmt.Errorf("url: %s://%s: it has a name or password in it; the signature says who sends", u.Scheme, u.Host)
	case u.Fragment != "":
		return nil, fmt.Errorf("url: %s://%s: nobody would see what follows the #", u.Scheme, u.Host)
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return nil, fmt.Errorf("url: %s://%s: want https; http only to this machine, by its loopback address", u.Scheme, u.Host)
	}
	return u, nil
}

func isLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback() || host == "localhost"
}

const (
	secretPrefix   = "whsec_"
	minSecretBytes = 24 // as Standard Webhooks has it
	maxSecretBytes = 64
)

// parseSecret makes a signer. No error tells the secret.
func parseSecret(text string) (*standardwebhooks.Webhook, error) {
	encoded, ok := strings.CutPrefix(text, secretPrefix)
	if !ok {
		return nil, fmt.Errorf("want %s and the secret in base64", secretPrefix)
	}
	secret, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, fmt.Errorf("what follows %s is no base64", secretPrefix)
	}
	if n := len(secret); n < minSecretBytes || n > maxSecretBytes {
		return nil, fmt.Errorf("it has %d bytes; want %d to %d random ones", n, minSecretBytes, maxSecretBytes)
	}
	return standardwebhooks.NewWebhookRaw(secret) //nolint:wrapcheck // it never fails
}
