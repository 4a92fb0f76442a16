package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"sluice"
)

const (
	attemptTimeout = 15 * time.Second // a whole attempt
	dialTimeout    = 5 * time.Second
	answerTimeout  = 12 * time.Second // from the request to the answer's header
	maxAnswerBytes = 4 << 10          // of an answer; what follows is not read
	maxErrorBytes  = 300
)

// verdict is how an attempt went.
type verdict struct {
	outcome    outcome
	err        string        // why it failed, in words that show nothing secret
	retryAfter time.Duration // that the receiver asked for; zero: it did not
	took       time.Duration // zero: nothing was sent
}

// outcome says what an attempt means.
type outcome string

const (
	delivered outcome = "delivered" // any 2xx
	failed    outcome = "failed"
	gone      outcome = "gone"   // 410: the receiver wants nothing more, as Standard Webhooks has it
	undone    outcome = "undone" // it was cut off by this side, and says nothing of the receiver
)

// sender posts to one endpoint.
type sender struct {
	endpoint Endpoint
	client   *http.Client
}

func newSender(e Endpoint) *sender {
	return newSenderOver(e, &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSClientConfig:        &tls.Config{RootCAs: e.roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    dialTimeout,
		ResponseHeaderTimeout:  answerTimeout,
		MaxResponseHeaderBytes: 64 << 10,
		MaxConnsPerHost:        e.MaxInFlight,
		MaxIdleConnsPerHost:    e.MaxInFlight,
		IdleConnTimeout:        90 * time.Second,
		DisableCompression:     true, // nobody unpacks what nobody reads
		ForceAttemptHTTP2:      true,
	})
}

func newSenderOver(e Endpoint, transport http.RoundTripper) *sender {
	return &sender{e, &http.Client{
		Transport: transport, Timeout: attemptTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (s *sender) close() { s.client.CloseIdleConnections() }

// post makes one attempt. The id is the same in each, so that a receiver can tell a repeat.
func (s *sender) post(ctx context.Context, id string, body []byte) (v verdict) {
	began := time.Now()
	defer func() { v.took = time.Since(began) }()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.endpoint.url.String(), bytes.NewReader(body))
	if err != nil {
		return verdict{outcome: failed, err: "the request can't be made"} // err has the URL in it
	}
	s.sign(req.Header, id, began, body)
	res, err := s.client.Do(req)
	switch {
	case err != nil && ctx.Err() != nil:
		return verdict{outcome: undone}
	case err != nil:
		return verdict{outcome: failed, err: plainError(err)}
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(res.Body, maxAnswerBytes)) // only for the operator
	return judge(res, text, began)
}

func (s *sender) sign(h http.Header, id string, at time.Time, body []byte) {
	signatures := make([]string, len(s.endpoint.signers))
	for i, signer := range s.endpoint.signers {
		signatures[i], _ = signer.Sign(id, at, body) // it never fails
	}
	h.Set("Content-Type", "application/json")
	h.Set("User-Agent", "sluice")
	h.Set(standardwebhooks.HeaderWebhookID, id)
	h.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(at.Unix(), 10))
	h.Set(standardwebhooks.HeaderWebhookSignature, strings.Join(signatures, " "))
}

// judge says what an answer means.
func judge(res *http.Response, text []byte, now time.Time) verdict {
	switch {
	case res.StatusCode >= 200 && res.StatusCode < 300:
		return verdict{outcome: delivered}
	case res.StatusCode == http.StatusGone:
		return verdict{outcome: gone, err: plainText("410 Gone: " + string(text))}
	}
	v := verdict{outcome: failed, err: fmt.Sprintf("%d %s", res.StatusCode, http.StatusText(res.StatusCode))}
	switch {
	case res.StatusCode >= 300 && res.StatusCode < 400:
		v.err += ": redirects are not followed"
	case len(text) > 0:
		v.err = plainText(v.err + ": " + string(text))
	}
	if res.StatusCode == http.StatusTooManyRequests || res.StatusCode == http.StatusServiceUnavailable {
		v.retryAfter = retryAfter(res.Header.Get("Retry-After"), now)
	}
	return v
}

// retryAfter reads the header: seconds or a date (RFC 9110, section 10.2.3); zero where it says neither.
func retryAfter(text string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

// plainError leaves the URL out, which may be a secret.
func plainError(err error) string {
	if e, ok := errors.AsType[*url.Error](err); ok {
		if e.Timeout() {
			return "no answer in time"
		}
		err = e.Err
	}
	return plainText(err.Error())
}

// plainText is one short line.
func plainText(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s[:min(len(s), maxErrorBytes)], "")) // a cut may fall within a character
	return strings.TrimSpace(s)
}

// envelope is the body of every request.
type envelope struct {
	Type      sluice.EventType `json:"type"`
	Timestamp time.Time        `json:"timestamp"` // of the event
	Data      any              `json:"data"`
}

// EventPing is what Ping sends. Nothing has happened.
const EventPing sluice.EventType = "ping"

// Ping sends a signed event that means nothing to the endpoint, once. An error says why it was not taken.
func Ping(ctx context.Context, e Endpoint) error {
	body, err := json.Marshal(envelope{EventPing, time.Now().UTC(), map[string]string{"endpoint": e.Name}})
	if err != nil {
		return fmt.Errorf("write the event: %w", err)
	}
	s := newSender(e)
	defer s.close()
	v := s.post(ctx, "ping_"+randomName(), body)
	switch v.outcome {
	case delivered:
		return nil
	case undone:
		return context.Cause(ctx)
	default:
		return fmt.Errorf("%s did not take it: %s", e.address(), v.err)
	}
}
