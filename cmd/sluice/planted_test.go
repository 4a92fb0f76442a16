package main

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"

	apiv1 "sluice/api/v1"
)

// What is planted is found wherever it comes to light, in whatever base64 or hexadecimal.
const (
	plantedPassword = "planted-password-of-the-store"
	plantedWrong    = "planted-other-password"
	plantedToken    = "planted-token-of-an-operator"
	plantedGuess    = "planted-token-that-is-nobodys"
	plantedIDKey    = "planted-id-key-planted-id-key-planted-id-key"
	plantedTicket   = "planted-ticket-secret-planted-ticket-secret"
	plantedHook     = "planted-webhook-secret-planted"
	plantedPath     = "planted-path-of-a-webhook"
	plantedCookie   = "planted-cookie-with-a-ticket"
)

// whiff begins what is planted; a part of a secret is one too.
const whiff = "planted-"

// evidence is everything that the program told anybody.
type evidence struct {
	t *testing.T

	mu   sync.Mutex
	told map[string]string
}

func (e *evidence) keep(where, what string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.told[where] += what
}

// search fails the test for every place in which a secret is told. Something must have been told in each.
func (e *evidence) search() {
	e.t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	looks := []string{whiff}
	for _, secret := range []string{
		plantedPassword, plantedWrong, plantedToken, plantedGuess, plantedIDKey, plantedTicket, plantedHook, plantedPath, plantedCookie,
	} {
		text := base64.StdEncoding.EncodeToString([]byte(secret))
		looks = append(looks, fmt.Sprintf("%x", secret), strings.TrimRight(text, "="), base64.RawURLEncoding.EncodeToString([]byte(secret)))
	}
	for where, what := range e.told {
		if what == "" {
			e.t.Errorf("%s: nothing was told, so nothing was looked at", where)
		}
		for _, secret := range looks {
			if i := strings.Index(what, secret); i >= 0 {
				e.t.Errorf("%s tells a secret: …%s…", where, what[max(0, i-200):min(len(what), i+100)])
			}
		}
	}
}

// start runs the program with secrets in its environment.
func (e *evidence) start(env map[string]string, args ...string) *process {
	e.t.Helper()
	cmd := exec.CommandContext(context.Background(), os.Args[0], args...)
	p := &process{t: e.t, cmd: cmd, done: make(chan error, 1)}
	cmd.Env = append(os.Environ(), asSluice+"=1", "XDG_CONFIG_HOME="+e.t.TempDir(), "XDG_DATA_HOME="+e.t.TempDir())
	for key, value := range env {
		cmd.Env = append(cmd.Env, key+"="+value)
	}
	cmd.Stdout, cmd.Stderr = p, p
	if err := cmd.Start(); err != nil {
		e.t.Fatal(err)
	}
	go func() { p.done <- cmd.Wait() }()
	e.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		if e.t.Failed() {
			e.t.Logf("%v said:\n%.3000s", args, p.said())
		}
	})
	return p
}

// run runs it to its end, which is not a good one.
func (e *evidence) run(name string, env map[string]string, args ...string) {
	e.t.Helper()
	p := e.start(env, args...)
	select {
	case err := <-p.done:
		if err == nil {
			e.t.Errorf("%s: it succeeds: %s", name, p.said())
		}
	case <-time.After(10 * time.Second):
		e.t.Errorf("%s: it does not end; it said %s", name, p.said())
		_ = p.cmd.Process.Kill()
	}
	e.keep(name, p.said())
}

// ask keeps an answer, headers and all.
func (e *evidence) ask(client *http.Client, method, url, body string, header ...string) int {
	e.t.Helper()
	req, err := http.NewRequestWithContext(e.t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		e.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := client.Do(req)
	if err != nil {
		e.keep("answers of "+method+" "+url, err.Error())
		return 0
	}
	defer func() { _ = res.Body.Close() }()
	text, _ := io.ReadAll(res.Body)
	headers, _ := json.Marshal(res.Header)
	e.keep("answers of "+method+" "+url, res.Status+string(headers)+string(text))
	return res.StatusCode
}

// Secrets are planted wherever the program takes some, everything that can go wrong with them does, and neither logs nor
// answers, metrics, command lines nor a dump of all goroutines tell one.
func TestSecrets_AreNeverTold(t *testing.T) {
	e := &evidence{t: t, told: map[string]string{}}
	s := newSecureShop(t)
	s.common = append(s.common, "--log-verbose", "--log-format", "json")
	write(t, s.token, []byte("door "+plantedToken+"\nalice "+plantedToken+"-2\n"))
	write(t, s.idKey, []byte(plantedIDKey))
	file := func(name, text string) string {
		path := filepath.Join(s.data, name)
		write(t, path, []byte(text))
		return path
	}
	tickets, guess := file("tickets.key", plantedTicket), file("guess", plantedGuess)
	hook := "whsec_" + base64.StdEncoding.EncodeToString([]byte(plantedHook))
	file("hook.key", hook)
	hooks := file("hooks.yaml", "- {name: away, url: 'http://127.0.0.1:1/"+plantedPath+"?key="+plantedPath+"', secret_file: hook.key}\n")
	url := securePostgres(t, s.ca)
	wrong := strings.Replace(url, plantedPassword, plantedWrong, 1)

	t.Run("mistakes", func(*testing.T) {
		secretsInMistakes(e, s, url, file, hook)
	})

	// A database that does not let the worker in, and one that is not there.
	e.run("a wrong password", map[string]string{"SLUICE_STORE": wrong}, s.args("worker", "--admin", freePort(t), "--data", t.TempDir())...)
	waits := e.start(map[string]string{"SLUICE_STORE": "postgres://u:" + plantedPassword + "@127.0.0.1:1/db"}, s.args("worker", "--admin", freePort(t), "--data", t.TempDir())...)
	eventually(t, "it waits for the store", func() bool { return strings.Contains(waits.said(), "waiting for the store") })
	keepDump(e, "a worker that waits", waits)

	// A shop in which everything is right, but not whoever asks.
	settings := file("worker.yaml", fmt.Sprintf("store: %q\n", url))
	nsqd := s.startNSQD(t)
	w := e.start(nil, s.args("worker", "--config", settings, "--admin", s.admin, "--data", filepath.Join(s.data, "worker"), "--webhooks-file", hooks,
		"--admin-tls-cert", s.operations.CertFile, "--admin-tls-key", s.operations.KeyFile)...)
	d := s.startDoor(t, "--identity", "ticket", "--ticket-key", tickets)
	client := s.trusting(t)
	admin, door := "https://"+s.admin, "http://"+s.door
	operator := []string{"Authorization", "Bearer " + plantedToken}
	eventually(t, "the sale is made", func() bool {
		return e.ask(client, "POST", admin+"/v1/sales", `{"id":"demo","stock":10,"payment_window":"0s"}`, operator...) == 201
	})
	issued := launch(t, "ticket", "issue", "--ticket-key", tickets, "--buyer", "alice")
	issued.exit()
	ticket := strings.TrimSpace(issued.said())
	eventually(t, "alice buys", func() bool {
		status := e.ask(http.DefaultClient, "POST", door+"/v1/sales/demo/orders", `{}`, "Authorization", "Bearer "+ticket)
		return status == 202 || status == 200
	})
	middle := strings.Split(ticket, ".")
	for _, bad := range []string{plantedGuess, ticket[:len(ticket)-4] + "AAAA", middle[0] + "." + middle[1] + "." + plantedGuess, "a." + plantedGuess + ".c"} {
		if status := e.ask(http.DefaultClient, "POST", door+"/v1/sales/demo/orders", `{}`, "Authorization", "Bearer "+bad); status != 401 {
			t.Errorf("a bad ticket: %d; want 401", status)
		}
	}
	e.ask(http.DefaultClient, "POST", door+"/v1/sales/demo/orders", `{}`, "Cookie", "sluice_ticket="+plantedCookie)
	e.ask(http.DefaultClient, "GET", door+"/v1/orders/0", "", "Authorization", "Bearer "+plantedGuess)
	for _, path := range []string{"/v1/audit", "/v1/sales/demo", "/v1/orders", "/v1/events?after=0", "/v1/webhooks", "/v1/limits", "/v1/pools", "/metrics", "/v1/none", "/debug/pprof/cmdline", "/debug/vars", "/readyz"} {
		e.ask(client, "GET", admin+path, "", operator...)
		if status := e.ask(client, "GET", admin+path, "", "Authorization", "Bearer "+plantedGuess); status != 401 && path != "/readyz" {
			t.Errorf("%s with nobody's token: %d; want 401", path, status)
		}
		e.ask(client, "GET", admin+path, "", "Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("u:"+plantedGuess)))
	}
	e.ask(client, "GET", "https://"+s.metrics+"/metrics", "")
	e.ask(http.DefaultClient, "GET", door+"/metrics", "")
	askOverGRPC(e, s)
	eventually(t, "the webhook has failed", func() bool {
		e.ask(client, "GET", admin+"/v1/webhooks", "", operator...)
		e.mu.Lock()
		defer e.mu.Unlock()
		return strings.Contains(e.told["answers of GET "+admin+"/v1/webhooks"], "refused")
	})
	p := s.sluice(t, "audit", "--admin-token-file", guess)
	if p.exit() == 0 {
		t.Error("audit with nobody's token succeeds")
	}
	e.keep("audit with nobody's token", p.said())
	for name, p := range map[string]*process{"nsqd": nsqd, "the worker": w, "the door": d} {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.cmd.Process.Pid))
		if err != nil && !errors.Is(err, os.ErrNotExist) { // not Linux
			t.Error(err)
		}
		e.keep("the command line of "+name, "x"+string(line))
		keepDump(e, name, p)
	}
	e.search()
	e.mu.Lock()
	defer e.mu.Unlock()
	t.Logf("%d places were looked at", len(e.told))
}

// keepDump has a process tell the stacks of all its goroutines, and ends it so.
func keepDump(e *evidence, name string, p *process) {
	e.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGQUIT); err != nil {
		e.t.Fatal(err)
	}
	p.exit()
	if !strings.Contains(p.said(), "goroutine ") {
		e.t.Errorf("%s: it dumps nothing", name)
	}
	e.keep("logs and goroutines of "+name, p.said())
}

func askOverGRPC(e *evidence, s *secureShop) {
	e.t.Helper()
	conn, err := grpc.NewClient(s.admin, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: s.ca.Pool})))
	if err != nil {
		e.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(e.t.Context(), "authorization", "Bearer "+plantedGuess), 10*time.Second)
	defer cancel()
	_, err = apiv1.NewOperationsClient(conn).GetSale(ctx, &apiv1.SaleName{Id: "demo"})
	e.keep("gRPC", fmt.Sprint(err))
}

// secretsInMistakes has secrets where they are not expected, or in files that can't be read.
func secretsInMistakes(e *evidence, s *secureShop, url string, file func(name, text string) string, hook string) {
	worker := func(more ...string) []string {
		return append([]string{"worker", "--id-key", s.idKey, "--data", e.t.TempDir(), "--admin", "127.0.0.1:0"}, more...)
	}
	for n, store := range []string{
		"postgres://u:" + plantedPassword + "@h:notaport/db",
		"postgres://u:" + plantedPassword + "%zz@h/db",
		"postgres://u:" + plantedPassword + "/x@h/db",
		"postgres://u:" + plantedPassword + "@192.0.2.1/db",
		"postgres://h/db?sslmode=" + plantedPassword,
		"postgres://h/db?password=" + plantedPassword + "&sslmode=never",
		"postgres:u:" + plantedPassword + "@h/db",
		"mysql://u:" + plantedPassword + "@h/db",
		"mysql://u:" + plantedPassword + "%zz@h/db",
		"host=h user=u password=" + plantedPassword,
		plantedPassword,
	} {
		e.run(fmt.Sprintf("store %d in the environment", n), map[string]string{"SLUICE_STORE": store}, worker()...)
		e.run(fmt.Sprintf("store %d in the file", n), nil, worker("--config", file("bad.yaml", fmt.Sprintf("store: %q\n", store)))...)
		e.run(fmt.Sprintf("store %d in a flag", n), nil, worker("--store", store)...)
	}
	for name, args := range map[string][]string{
		"a URL that no flag takes":       worker(url),
		"a URL that no verb takes":       {url},
		"a flag that is misspelt":        worker("--stor=" + url),
		"a flag of yes and no":           worker("--trust-store-network=" + url),
		"a URL where an address belongs": worker("--nsqd", url),
		"a map in the file":              worker("--config", file("map.yaml", "store:\n  url: "+url+"\n")),
		"a list in the file":             worker("--config", file("list.yaml", "store: ["+url+"]\n")),
		"a key in the file":              worker("--config", file("key.yaml", "? "+url+"\n: x\n")),
		"a file that is a URL":           worker("--config", file("scalar.yaml", url+"\n")),
		"a file with a tab":              worker("--config", file("tab.yaml", "store: "+url+"\n\tbound: 1\n")),
		"an id key that is too short":    worker("--id-key", file("short", "planted-short")),
		"a token that is too short":      worker("--admin-token-file", file("tokens", "planted-a planted-b\nplanted-c\n")),
		"names behind their tokens":      worker("--admin-token-file", file("swapped", plantedToken+" door\n"+plantedToken+" alice\n")),
		"one token twice":                worker("--admin-token-file", file("twice", "a "+plantedToken+"\nb "+plantedToken+"\n")),
		"endpoints that are none":        worker("--webhooks-file", file("scalar.hooks", hook+"\n")),
		"an endpoint that is a word":     worker("--webhooks-file", file("word.hooks", "- "+hook+"\n")),
		"a secret that is a list":        worker("--webhooks-file", file("list.hooks", "- {name: a, url: 'https://h/p', secret: ["+hook+"]}\n")),
		"a secret of another form":       worker("--webhooks-file", file("form.hooks", "- {name: a, url: 'https://h/p', secret: "+plantedHook+"}\n")),
		"a secret that is a name":        worker("--webhooks-file", file("name.hooks", "- {name: '"+hook+"', url: 'https://h/p', secret: x}\n")),
		"an endpoint with a password":    worker("--webhooks-file", file("user.hooks", "- {name: a, url: 'https://u:"+plantedHook+"@h/p', secret: '"+hook+"'}\n")),
		"an endpoint in plain text":      worker("--webhooks-file", file("http.hooks", "- {name: a, url: 'http://h/"+plantedPath+"', secret: '"+hook+"'}\n")),
	} {
		e.run(name, nil, args...)
	}
	for name, text := range map[string]string{
		"a secret with a space":   plantedTicket + " " + plantedTicket,
		"a secret that is short":  "planted-short",
		"a broken JWKS":           `{"keys":[{"kty":"oct","k":"` + plantedTicket + `"},` + plantedTicket,
		"a JWKS of another type":  `{"keys":[{"kty":"` + plantedTicket + `","k":"` + plantedTicket + `"}]}`,
		"PEM with a secret in it": "-----BEGIN PRIVATE KEY-----\n" + plantedTicket + "\n-----END PRIVATE KEY-----\n",
	} {
		e.run("tickets: "+name, nil, "ingress", "--id-key", s.idKey, "--data", e.t.TempDir(), "--listen", "127.0.0.1:0", "--identity", "ticket",
			"--ticket-key", file("bad.key", text))
	}
}
