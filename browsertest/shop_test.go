package browsertest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// shop is a sluice with a web site around it: the site's own pages, and the door below /sluice/, as a proxy has it.
type shop struct {
	t     *testing.T
	door  string // the door's own address
	admin string
	site  *httptest.Server // the shop: its origin is the door's for browsers
	other *httptest.Server // a site of somebody else
	guest *httptest.Server // another origin, which is listed
}

func startShop(t *testing.T, args ...string) *shop {
	t.Helper()
	s := &shop{t: t, door: freePort(t), admin: freePort(t)}
	s.site = serve(t, s.pages)
	s.other = serve(t, s.pages)
	s.guest = serve(t, s.pages)
	args = append([]string{
		"up", "--listen", s.door, "--admin", s.admin, "--data", t.TempDir(), "--base-path", "/sluice", "--cors-origins", s.guest.URL,
	}, args...)
	cmd := exec.CommandContext(context.Background(), sluice, args...)
	var said syncBuffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+t.TempDir())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Logf("sluice ended: %v; it said:\n%s", err, said.String())
		}
	})
	s.eventually("the door is ready", func() bool { status, _ := s.call("GET", "http://"+s.door+"/readyz", ""); return status == 200 })
	return s
}

// pages is a site with the door below /sluice/, and a form for its sale at /; with ?door= it orders at another one.
func (s *shop) pages(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/sluice/") {
		proxy := &httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(&url.URL{Scheme: "http", Host: s.door})
			p.Out.Host = p.In.Host
		}}
		proxy.ServeHTTP(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprintf(w, `<!doctype html><title>Shop</title><h1>Shop</h1><form method="post" action="%s/sluice/v1/sales/%s/orders">
		<input name="user" value="%s"><input type="hidden" name="quantity" value="1"><button>Buy</button></form>`,
		r.FormValue("door"), r.FormValue("sale"), r.FormValue("user"))
}

func serve(t *testing.T, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server
}

// call talks to the door or the operations API as a program does.
func (s *shop) call(method, url, body string) (int, map[string]any) {
	req, err := http.NewRequestWithContext(s.t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil
	}
	defer func() { _ = res.Body.Close() }()
	b, _ := io.ReadAll(res.Body)
	var answer map[string]any
	_ = json.Unmarshal(b, &answer)
	return res.StatusCode, answer
}

// sale opens a sale and waits until the door knows it.
func (s *shop) sale(id, with string) {
	s.t.Helper()
	if status, answer := s.call("POST", "http://"+s.admin+"/v1/sales", `{"id":"`+id+`",`+with+`}`); status != 201 {
		s.t.Fatalf("create %s: %d %v", id, status, answer)
	}
	s.eventually("the door knows "+id, func() bool {
		status, _ := s.call("GET", "http://"+s.door+"/sluice/v1/sales/"+id, "")
		return status == 200
	})
}

func (s *shop) buy(sale, user string) (int, map[string]any) {
	return s.call("POST", "http://"+s.door+"/sluice/v1/sales/"+sale+"/orders", `{"user":"`+user+`"}`)
}

func (s *shop) eventually(what string, ok func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("never: %s", what)
		}
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // loopback
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
