package webhook

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// server starts a receiver on a real socket, and answers the endpoint that leads to it.
func server(t *testing.T, answer http.HandlerFunc, change ...string) Endpoint {
	t.Helper()
	s := httptest.NewUnstartedServer(answer)
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // of clients that trust nobody
	s.StartTLS()
	t.Cleanup(s.Close)
	dir := t.TempDir()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	must(t, os.WriteFile(filepath.Join(dir, "ca.pem"), ca, 0o600))
	file := filepath.Join(dir, "hooks.yaml")
	text := fmt.Sprintf("- {name: points, url: '%s/hook?key=s3cret', secret: %s, ca_file: ca.pem}", s.URL, testSecret)
	for i := 0; i < len(change); i += 2 {
		text = strings.Replace(text, change[i], change[i+1], 1)
	}
	must(t, os.WriteFile(file, []byte(text), 0o600))
	endpoints, err := Load(file)
	must(t, err)
	return endpoints[0]
}

func post(t *testing.T, e Endpoint) verdict {
	t.Helper()
	s := newSender(e)
	defer s.close()
	v := s.post(t.Context(), "evt_c0ffee_7", []byte(`{"type":"order.held"}`))
	if strings.Contains(v.err, "s3cret") {
		t.Errorf("the error tells the secret: %s", v.err)
	}
	return v
}

func TestPost_IsVerifiedByTheStandardsLibrary(t *testing.T) {
	const second = "whsec_c2Vjb25kc2VjcmV0c2Vjb25kc2VjcmV0" // while a receiver changes over, both sign
	var header http.Header
	var body []byte
	e := server(t, func(_ http.ResponseWriter, r *http.Request) {
		header = r.Header
		body, _ = io.ReadAll(r.Body)
	})
	signer, err := parseSecret(second)
	must(t, err)
	e.signers = append(e.signers, signer)
	if v := post(t, e); v.outcome != delivered || v.took <= 0 {
		t.Fatalf("got %+v", v)
	}
	for _, secret := range []string{testSecret, second} {
		wh, err := standardwebhooks.NewWebhook(secret)
		must(t, err)
		must(t, wh.Verify(body, header))
		if wh.Verify(append(bytes.Clone(body), ' '), header) == nil {
			t.Error("another body is verified")
		}
	}
	if header.Get("webhook-id") != "evt_c0ffee_7" || header.Get("Content-Type") != "application/json" {
		t.Errorf("header %v", header)
	}
}

func TestPost_JudgesAnswers(t *testing.T) {
	var elsewhere int
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		want   outcome
		err    string
	}{
		{"200", func(http.ResponseWriter, *http.Request) {}, delivered, ""},
		{"204", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, delivered, ""},
		{"410", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(410) }, gone, "410 Gone"},
		{"500", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no\x00 \xffdatabase", 500) }, failed, "500 Internal Server Error: no"},
		{"302", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/elsewhere" {
				elsewhere++
			}
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		}, failed, "302 Found: redirects are not followed"},
		{"307", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/elsewhere" {
				elsewhere++
			}
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}, failed, "redirects are not followed"},
		{"torn", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, failed, "EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := server(t, c.answer)
			if v := post(t, e); v.outcome != c.want || !strings.Contains(v.err, c.err) || (c.err == "") != (v.err == "") || !utf8.ValidString(v.err) || strings.ContainsAny(v.err, "\x00\n") {
				t.Errorf("got %+v, want %s %q", v, c.want, c.err)
			}
		})
	}
	if elsewhere > 0 {
		t.Error("a redirect was followed")
	}
}

// An answer without end neither fills the memory nor holds the attempt up.
func TestPost_CutsLongAnswers(t *testing.T) {
	written := make(chan int, 1)
	e := server(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(500)
		n, chunk := 0, bytes.Repeat([]byte("x"), 64<<10)
		for n < 1<<30 {
			m, err := w.Write(chunk)
			if n += m; err != nil {
				break
			}
		}
		written <- n
	})
	v := post(t, e)
	if v.outcome != failed || len(v.err) > maxErrorBytes {
		t.Errorf("got %s and %d bytes of text", v.outcome, len(v.err))
	}
	if n := <-written; n > 64<<20 {
		t.Errorf("%d bytes were read", n)
	}
}

func TestPost_TrustsNobodyElse(t *testing.T) {
	e := server(t, func(http.ResponseWriter, *http.Request) { t.Error("a stranger was told") }, ", ca_file: ca.pem", "")
	if v := post(t, e); v.outcome != failed || !strings.Contains(v.err, "certificate") {
		t.Errorf("got %+v", v)
	}
}

func TestPost_EndsWithItsContextWithoutBlame(t *testing.T) {
	e := server(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	s := newSender(e)
	defer s.close()
	ctx, cancel := contextWithin(t, 50*time.Millisecond)
	defer cancel()
	if v := s.post(ctx, "evt", nil); v.outcome != undone {
		t.Errorf("got %+v", v)
	}
}

func TestPing_SaysWhetherItWasTaken(t *testing.T) {
	status := 200
	e := server(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		wh, _ := standardwebhooks.NewWebhook(testSecret)
		if err := wh.Verify(body, r.Header); err != nil || !strings.Contains(string(body), `"type":"ping"`) {
			t.Errorf("%s: %v", body, err)
		}
		w.WriteHeader(status)
	})
	must(t, Ping(t.Context(), e))
	status = 503
	if err := Ping(t.Context(), e); err == nil || !strings.Contains(err.Error(), "503") || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("got %v", err)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2027, 3, 1, 18, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "0": 0, "7": 7 * time.Second, "-1": 0, "soon": 0, "99999999999": 0,
		now.Add(time.Minute).Format(http.TimeFormat): time.Minute, now.Add(-time.Minute).Format(http.TimeFormat): 0,
	} {
		if got := retryAfter(text, now); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
}
