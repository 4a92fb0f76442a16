package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5" //nolint:depguard // an outsider who asks the server whom it speaks TLS with
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"

	apiv1 "sluice/api/v1"
	"sluice/internal/pgcluster"
	"sluice/internal/testcert"
)

const operatorToken = "a-token-of-operators-1"

// secureShop is a shop whose parts are processes of their own that speak TLS and nothing else to each other.
type secureShop struct {
	ca                  *testcert.CA
	nsqd, admin, door   string
	metrics, store      string
	nsqdHTTP            string
	token, idKey, data  string
	server, client      testcert.Leaf // of nsqd
	operations          testcert.Leaf // of the operations API and the door's metrics
	common, nsqdClients []string
}

func newSecureShop(t *testing.T) *secureShop {
	t.Helper()
	ca := testcert.New(t)
	s := &secureShop{
		ca: ca, nsqd: freePort(t), nsqdHTTP: freePort(t), admin: freePort(t), door: freePort(t), metrics: freePort(t), data: t.TempDir(), store: "sqlite",
		server: ca.Issue(t), client: ca.Issue(t, "a part of the shop"), operations: ca.Issue(t),
	}
	s.token, s.idKey = filepath.Join(s.data, "token"), filepath.Join(s.data, "id.key")
	write(t, s.token, []byte(operatorToken+"\n"))
	write(t, s.idKey, []byte(strings.Repeat("k", 64)))
	s.common = []string{"--id-key", s.idKey, "--admin-token-file", s.token, "--nsqd", s.nsqd, "--nsqd-http", s.nsqdHTTP}
	s.nsqdClients = []string{"--nsqd-ca", ca.File, "--nsqd-client-cert", s.client.CertFile, "--nsqd-client-key", s.client.KeyFile}
	return s
}

func (s *secureShop) startNSQD(t *testing.T) *process {
	t.Helper()
	return launch(t, "nsqd", "--listen", s.nsqd, "--nsqd-http", s.nsqdHTTP, "--data", filepath.Join(s.data, "nsqd"),
		"--nsqd-tls-cert", s.server.CertFile, "--nsqd-tls-key", s.server.KeyFile, "--nsqd-client-ca", s.ca.File)
}

func (s *secureShop) startWorker(t *testing.T, more ...string) *process {
	t.Helper()
	return launch(t, s.args("worker", append([]string{
		"--admin", s.admin, "--store", s.store, "--data", filepath.Join(s.data, "worker"),
		"--admin-tls-cert", s.operations.CertFile, "--admin-tls-key", s.operations.KeyFile,
	}, more...)...)...)
}

func (s *secureShop) startDoor(t *testing.T, more ...string) *process {
	t.Helper()
	return launch(t, s.args("ingress", append([]string{
		"--listen", s.door, "--worker", "https://" + s.admin, "--admin-ca", s.ca.File,
		"--data", filepath.Join(s.data, "door"), "--metrics", s.metrics,
		"--admin-tls-cert", s.operations.CertFile, "--admin-tls-key", s.operations.KeyFile,
	}, more...)...)...)
}

// args are a verb's, of which later ones win.
func (s *secureShop) args(verb string, more ...string) []string {
	args := append([]string{verb}, s.common...)
	return append(append(args, s.nsqdClients...), more...)
}

// sluice runs a verb of operators.
func (s *secureShop) sluice(t *testing.T, words string, more ...string) *process {
	t.Helper()
	return launch(t, append(strings.Fields(words), append([]string{"--admin", s.admin, "--admin-ca", s.ca.File, "--admin-token-file", s.token}, more...)...)...)
}

// client is an HTTP client that trusts the shop's authority.
func (s *secureShop) trusting(t *testing.T) *http.Client {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.ca.Pool}, ForceAttemptHTTP2: true}, Timeout: 10 * time.Second}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// An order is placed and settled, and everything that the parts say to each other goes over TLS: nsqd with certificates of
// both ends, its figures, the operations API over HTTP and gRPC, the door's metrics, and PostgreSQL.
func TestTLS_SettlesAnOrderWithTLSEverywhere(t *testing.T) {
	s := newSecureShop(t)
	s.store = securePostgres(t, s.ca)
	s.startNSQD(t)
	w := s.startWorker(t)
	d := s.startDoor(t)
	eventually(t, "the sale is made", func() bool {
		return s.sluice(t, "sale create demo --stock 10 --payment-window 0s").exit() == 0
	})
	eventually(t, "the door is up", func() bool { return strings.Contains(d.said(), "the front door is up") })
	var order map[string]any
	eventually(t, "the order comes in", func() bool {
		var status int
		status, order = call(t, "POST", "http://"+s.door+"/v1/sales/demo/orders", `{"user":"alice"}`)
		return status == 202 || status == 200
	})
	if status, answer := call(t, "GET", fmt.Sprintf("http://%s%s?wait=20s", s.door, order["href"]), ""); status != 200 || answer["status"] != "paid" {
		t.Errorf("the order: %d %v; want paid", status, answer)
	}
	if p := s.sluice(t, "audit"); p.exit() != 0 || !strings.Contains(p.said(), "balanced: true") {
		t.Errorf("audit says %s", p.said())
	}

	conn, err := grpc.NewClient(s.admin, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: s.ca.Pool})))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+operatorToken)
	if sale, err := apiv1.NewOperationsClient(conn).GetSale(ctx, &apiv1.SaleName{Id: "demo"}); err != nil || sale.GetSold() != 1 {
		t.Errorf("the sale over gRPC: %v, %v; want 1 sold", sale, err)
	}
	if _, err := apiv1.NewOperationsClient(conn).GetSale(t.Context(), &apiv1.SaleName{Id: "demo"}); err == nil || !strings.Contains(err.Error(), "Unauthenticated") {
		t.Errorf("gRPC without a token: %v", err)
	}

	client := s.trusting(t)
	for _, url := range []string{"https://" + s.admin + "/metrics", "https://" + s.metrics + "/metrics"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+operatorToken)
		res, err := client.Do(req)
		if err != nil {
			t.Error(err)
			continue
		}
		text, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if res.StatusCode != 200 || !strings.Contains(string(text), "go_goroutines") || res.TLS == nil {
			t.Errorf("%s: %s", url, res.Status)
		}
		plain, err := http.Get(strings.Replace(url, "https", "http", 1)) //nolint:noctx // refused at once
		if err == nil {
			_ = plain.Body.Close()
			if plain.StatusCode == 200 {
				t.Errorf("%s is served in plain text", url)
			}
		}
	}
	if strings.Contains(w.said(), "plain text") {
		t.Errorf("the worker warns of plain text: %s", w.said())
	}
}

// securePostgres is the URL of a database whose server lets a shop in over TLS only.
func securePostgres(t *testing.T, ca *testcert.CA) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	cluster, err := pgcluster.Start(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Stop(); err != nil {
			t.Error(err)
		}
	})
	conn, err := pgx.Connect(ctx, cluster.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	for _, statement := range []string{"CREATE ROLE shop LOGIN PASSWORD '" + plantedPassword + "'", "CREATE DATABASE shop OWNER shop"} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			t.Fatal(err)
		}
	}
	public, err := pgx.Connect(ctx, cluster.URL("shop"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = public.Close(ctx) }()
	if _, err := public.Exec(ctx, "GRANT CREATE ON SCHEMA public TO shop"); err != nil {
		t.Fatal(err)
	}
	leaf := ca.Issue(t)
	if err := cluster.SpeakTLS(ctx, leaf.Cert, leaf.Key, "hostssl shop shop 127.0.0.1/32 scram-sha-256\nhost all sluice 127.0.0.1/32 trust\n"); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(cluster.URL("shop"))
	if err != nil {
		t.Fatal(err)
	}
	u.User, u.RawQuery = url.UserPassword("shop", plantedPassword), "sslmode=verify-full&sslrootcert="+url.QueryEscape(ca.File)
	return u.String()
}

// Who is not who it should be is refused by every part, in words that say what was wrong.
func TestTLS_PartsRefuseWhoeverIsNotWhoItShouldBe(t *testing.T) {
	s := newSecureShop(t)
	stranger := testcert.New(t)
	s.startNSQD(t)
	s.startWorker(t)
	eventually(t, "the worker serves", func() bool { return s.sluice(t, "sale create demo --stock 10 --payment-window 0s").exit() == 0 })

	foreign := stranger.Issue(t, "a part of another shop")
	for name, c := range map[string]struct{ args, says string }{
		"nsqd of another authority":       {"--nsqd-ca " + stranger.File, "unknown authority"},
		"a client of another authority":   {"--nsqd-client-cert " + foreign.CertFile + " --nsqd-client-key " + foreign.KeyFile, "tls: "},
		"a client without a certificate":  {"--nsqd-client-cert= --nsqd-client-key=", "certificate required"},
		"a client in plain text":          {"--nsqd-ca= --nsqd-client-cert= --nsqd-client-key=", "it wants TLS"},
		"a name that nsqd does not have":  {"--nsqd " + strings.Replace(s.nsqd, "127.0.0.1", "127.0.0.2", 1), "refused"},
		"a worker of another authority":   {"--admin-ca " + stranger.File, "unknown authority"},
		"a worker that is asked in plain": {"--worker http://" + s.admin + " --admin-ca=", "400 Bad Request"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := launch(t, s.args("ingress", append([]string{
				"--listen", freePort(t), "--worker", "https://" + s.admin, "--admin-ca", s.ca.File,
				"--data", t.TempDir(), "--id", strings.ReplaceAll(name, " ", "-"),
			}, strings.Fields(c.args)...)...)...)
			eventually(t, "it says "+c.says, func() bool { return strings.Contains(d.said(), c.says) })
			if strings.Contains(d.said(), "the front door is up") {
				t.Errorf("the door opened: %s", d.said())
			}
		})
	}
	for name, c := range map[string]struct {
		args []string
		says string
		code int
	}{
		"another authority":    {[]string{"--admin-ca", stranger.File}, "unknown authority", 1},
		"the system's":         {[]string{"--admin", "https://" + s.admin, "--admin-ca="}, "unknown authority", 1},
		"plain text":           {[]string{"--admin-ca="}, "400 Bad Request", 1},
		"plain text after all": {[]string{"--admin", "http://" + s.admin}, "over TLS only", 2},
		"no authority":         {[]string{"--admin-ca", s.token}, "no certificate in PEM", 2},
	} {
		if p := s.sluice(t, "audit", c.args...); p.exit() != c.code || !strings.Contains(p.said(), c.says) {
			t.Errorf("audit with %s says %s; want %q", name, p.said(), c.says)
		}
	}
}

// The worker's certificate is followed as its files change, and one of the wrong name or time is refused.
func TestTLS_OperationsFollowTheirCertificate(t *testing.T) {
	s := newSecureShop(t)
	s.startNSQD(t)
	w := s.startWorker(t)
	audit := func() string {
		p := s.sluice(t, "audit")
		p.exit()
		return p.said()
	}
	eventually(t, "the worker serves", func() bool { return strings.Contains(audit(), "balanced: true") })
	for _, c := range []struct {
		next testcert.Leaf
		says string
	}{
		{s.ca.Issue(t, "127.0.0.9", "other.example"), "127.0.0.9, not 127.0.0.1"},
		{s.ca.IssueExpired(t), "expired"},
		{s.ca.Issue(t), "balanced: true"},
	} {
		write(t, s.operations.CertFile, c.next.Cert)
		write(t, s.operations.KeyFile, c.next.Key)
		eventually(t, "operators hear "+c.says, func() bool { return strings.Contains(audit(), c.says) })
	}
	logged := func() int { return strings.Count(w.said(), "new certificate") }
	eventually(t, "three new certificates are logged", func() bool { return logged() >= 3 })
	if n := logged(); n != 3 {
		t.Errorf("%d new certificates were logged; want 3", n)
	}
}

// Everything in one process, and still TLS on the ports that others may reach.
func TestUp_SpeaksTLSToItself(t *testing.T) {
	s := newSecureShop(t)
	elsewhere := s.ca.Issue(t, "sluice.example") // the parts know each other all the same
	up := launch(t, "up", "--demo", "--listen", s.door, "--admin", s.admin, "--nsqd", s.nsqd, "--data", s.data, "--admin-token-file", s.token,
		"--nsqd-tls-cert", elsewhere.CertFile, "--nsqd-tls-key", elsewhere.KeyFile, "--nsqd-client-ca", s.ca.File,
		"--nsqd-client-cert", s.client.CertFile, "--nsqd-client-key", s.client.KeyFile,
		"--admin-tls-cert", s.operations.CertFile, "--admin-tls-key", s.operations.KeyFile)
	eventually(t, "the demo text", func() bool { return strings.Contains(up.said(), "curl -s http://"+s.door) })
	status, order := place(t, "", "http://"+s.door+"/v1/sales/demo/orders", `{"user":"alice"}`)
	if status != 202 {
		t.Fatalf("buy: %d %v", status, order)
	}
	if status, order = call(t, "GET", fmt.Sprintf("http://%s%s?wait=10s", s.door, order["href"]), ""); order["status"] != "paid" {
		t.Errorf("status: %d %v", status, order)
	}
	if p := s.sluice(t, "audit"); p.exit() != 0 {
		t.Errorf("audit says %s", p.said())
	}
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.nsqd)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, _ = io.WriteString(conn, "  V2SUB orders settle\n")
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	if answer, _ := io.ReadAll(conn); !strings.Contains(string(answer), "TLS required") {
		t.Errorf("SUB in plain text is answered %q", answer)
	}
	if code := up.terminate(); code != 0 {
		t.Errorf("SIGTERM: exit %d", code)
	}
}

func TestTLS_SettingsThatDoNotFitAreToldAtTheStart(t *testing.T) {
	ca := testcert.New(t)
	a, b := ca.Issue(t), ca.Issue(t)
	key := filepath.Join(t.TempDir(), "id.key")
	write(t, key, []byte(strings.Repeat("k", 64)))
	away := []string{"--data", t.TempDir(), "--id-key", key, "--admin", "127.0.0.1:0"}
	worker := func(more ...string) []string { return append(append([]string{"worker"}, away...), more...) }
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{worker("--admin-tls-cert", a.CertFile), 2, "admin-tls-cert and admin-tls-key: want both"},
		{worker("--admin-tls-cert", a.CertFile, "--admin-tls-key", b.KeyFile), 1, "does not match"},
		{worker("--nsqd-client-cert", a.CertFile, "--nsqd-client-key", a.KeyFile), 2, "want --nsqd-ca too"},
		{worker("--nsqd-ca", ca.File, "--nsqd-client-cert", a.CertFile), 2, "want both files or neither"},
		{worker("--nsqd-ca", ca.File, "--nsqd-client-cert", a.CertFile, "--nsqd-client-key", b.KeyFile), 1, "nsqd-client-key " + b.KeyFile},
		{worker("--nsqd-ca", a.KeyFile), 2, "no certificate in PEM"},
		{worker("--nsqd-ca", key+".none"), 1, "no such file"},
		{worker("--store", "postgres://u:hunter2@192.0.2.1/db"), 2, "192.0.2.1 is beyond loopback"},
		{worker("--store", "postgres://u:hunter2@192.0.2.1/db?sslmode=prefer"), 2, "--trust-store-network"},
		{[]string{"nsqd", "--data", t.TempDir(), "--nsqd-tls-cert", a.CertFile}, 2, "want both"},
		{[]string{"nsqd", "--data", t.TempDir(), "--nsqd-client-ca", ca.File}, 2, "--nsqd-tls-cert"},
		{[]string{"up", "--data", t.TempDir(), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--nsqd-tls-cert", a.CertFile, "--nsqd-tls-key", a.KeyFile, "--nsqd-client-ca", ca.File}, 2, "--nsqd-client-cert"},
		{[]string{"ingress", "--data", t.TempDir(), "--id-key", key, "--worker", "http://127.0.0.1:1", "--admin-ca", ca.File}, 2, "over TLS only"},
		{[]string{"ingress", "--data", t.TempDir(), "--id-key", key, "--listen", "127.0.0.1:0", "--metrics", "0.0.0.0:0"}, 2, "--admin-token-file"},
	} {
		p := launch(t, c.args...)
		if code := p.exit(); code != c.code || !strings.Contains(p.said(), c.says) || strings.Contains(p.said(), "hunter2") {
			t.Errorf("sluice %v: exit %d, says %s; want %d, %q", c.args, code, p.said(), c.code, c.says)
		}
	}
}

// In plain text to a database beyond loopback only where somebody has said so; that somebody is waited for as ever.
func TestWorker_SpeaksPlainTextToADatabaseElsewhereWhereToldTo(t *testing.T) {
	key := filepath.Join(t.TempDir(), "id.key")
	write(t, key, []byte(strings.Repeat("k", 64)))
	args := []string{"worker", "--data", t.TempDir(), "--id-key", key, "--admin", "127.0.0.1:0", "--nsqd", freePort(t)}
	for query, more := range map[string][]string{
		"sslmode=disable": {"--trust-store-network"},
		"sslmode=require": nil,
	} {
		// A name of this machine that does not look like loopback. Nothing leaves it: nobody listens on that port.
		host, err := os.Hostname()
		if err != nil {
			t.Fatal(err)
		}
		p := launch(t, append(append(args, "--store", "postgres://u@"+host+":1/db?"+query), more...)...)
		eventually(t, "it waits", func() bool { return strings.Contains(p.said(), "waiting for the store") })
		if warns := strings.Contains(p.said(), "need not prove who it is"); warns != (query == "sslmode=require") {
			t.Errorf("%s: warned %t: %s", query, warns, p.said())
		}
	}
}

// A door's figures are for operators beyond loopback, and for programs of the machine, not pages, on it.
func TestMetrics_AreGuarded(t *testing.T) {
	s := newSecureShop(t)
	outside := "0.0.0.0:" + s.metrics[strings.LastIndex(s.metrics, ":")+1:]
	for name, address := range map[string]string{"loopback": s.metrics, "beyond": outside} {
		d := launch(t, "ingress", "--listen", freePort(t), "--nsqd", freePort(t), "--worker", freePort(t), "--id-key", s.idKey, "--data", t.TempDir(),
			"--admin-token-file", s.token, "--metrics", address)
		ask := func(header, value, host string) int {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.metrics+"/metrics", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set(header, value)
			if host != "" {
				req.Host = host
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				return 0
			}
			defer func() { _ = res.Body.Close() }()
			var problem map[string]any
			_ = json.NewDecoder(res.Body).Decode(&problem)
			return res.StatusCode
		}
		eventually(t, "it answers", func() bool { return ask("X", "y", "") != 0 })
		want := map[string][]int{"loopback": {200, 403, 403, 200}, "beyond": {401, 401, 401, 200}}[name]
		got := []int{ask("X", "y", ""), ask("Origin", "http://evil.example", ""), ask("X", "y", "evil.example"), ask("Authorization", "Bearer "+operatorToken, "")}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: without a token, from a page, by another name, with a token: %v; want %v", name, got, want)
		}
		d.terminate()
	}
}
