package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sluice/api"
)

// asSluice makes this test binary the sluice command.
const asSluice = "SLUICE_TEST_RUN_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asSluice) != "" {
		main()
		return
	}
	status := m.Run()
	_ = os.RemoveAll(builtIn) // empty: nothing
	os.Exit(status)
}

// process is a running sluice.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	mu   sync.Mutex
	out  bytes.Buffer
	done chan error
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// launch starts the command; it is killed when the test ends.
func launch(t *testing.T, args ...string) *process {
	t.Helper()
	return launchCommand(t, exec.CommandContext(context.Background(), os.Args[0], args...))
}

func launchCommand(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, cmd: cmd, done: make(chan error, 1)}
	p.cmd.Env = append(os.Environ(), asSluice+"=1", "XDG_CONFIG_HOME="+t.TempDir(), "XDG_DATA_HOME="+t.TempDir())
	p.cmd.Stdout, p.cmd.Stderr = p, p
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.done <- p.cmd.Wait() }()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		if t.Failed() {
			t.Logf("%v said:\n%s", cmd.Args, p.said())
		}
	})
	return p
}

// exit waits for the end and answers the exit status.
func (p *process) exit() int {
	p.t.Helper()
	return p.exitWithin(30 * time.Second)
}

func (p *process) exitWithin(d time.Duration) int {
	p.t.Helper()
	select {
	case err := <-p.done:
		if e, ok := errors.AsType[*exec.ExitError](err); ok {
			return e.ExitCode()
		}
		return 0
	case <-time.After(d):
		p.t.Fatalf("it does not end; it said:\n%s", p.said())
		return -1
	}
}

func (p *process) terminate() int {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	return p.exit()
}

// Ports are below those that the kernel gives to connections that go out (ip_local_port_range).
const lowestPort, highestPort = 15_000, 19_800

// nextPort steps through even ports from a random one: none is handed out twice.
var nextPort atomic.Int64

func init() { nextPort.Store(rand.Int64N((highestPort - lowestPort) / 2)) }

// freePort is a free port of loopback whose next one, where nsqd has its figures, is free too.
func freePort(t *testing.T) string {
	t.Helper()
	for range 100 {
		port := lowestPort + 2*int(nextPort.Add(1)%((highestPort-lowestPort)/2))
		if canListen(t, port) && canListen(t, port+1) {
			return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		}
	}
	t.Fatal("no free port")
	return ""
}

func canListen(t *testing.T, port int) bool {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	return err == nil && l.Close() == nil
}

func call(t *testing.T, method, url, body string) (status int, answer map[string]any) {
	t.Helper()
	return callWith(t, "", method, url, body)
}

// place orders, and asks again while the door can't say yes or no, as it does where the disk stands still for a second: the buyer has
// the order then, or has it now.
func place(t *testing.T, ticket, url, body string) (status int, answer map[string]any) {
	t.Helper()
	asked := 0
	eventually(t, "a definite answer", func() bool {
		asked++
		status, answer = callWith(t, ticket, "POST", url, body)
		return status != http.StatusServiceUnavailable || answer["reason"] != "unavailable"
	})
	if asked > 1 && status == http.StatusOK {
		status = http.StatusAccepted
	}
	return status, answer
}

// callWith shows a ticket, if there is one.
func callWith(t *testing.T, ticket, method, url, body string) (status int, answer map[string]any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if ticket != "" {
		req.Header.Set("Authorization", "Bearer "+ticket)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, nil
	}
	_ = json.Unmarshal(b, &answer) // plain text has no fields to look at
	return res.StatusCode, answer
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestUp_SellsToWhoeverFollowsTheDemoText(t *testing.T) {
	door, admin, data := freePort(t), freePort(t), filepath.Join(t.TempDir(), "data")
	up := launch(t, "up", "--demo", "--listen", door, "--admin", admin, "--data", data)
	eventually(t, "the demo text", func() bool { return strings.Contains(up.said(), "curl -s http://"+door) })
	if status, _ := call(t, "GET", "http://"+door+"/readyz", ""); status != 200 || !strings.Contains(up.said(), "sluice is up") {
		t.Errorf("after the demo text: readyz %d", status)
	}
	status, order := place(t, "", "http://"+door+"/v1/sales/demo/orders", `{"user":"alice","quantity":1}`)
	if status != 202 {
		t.Fatalf("buy: %d %v", status, order)
	}
	status, order = call(t, "GET", fmt.Sprintf("http://%s%s?wait=10s", door, order["href"]), "")
	if status != 200 || order["status"] != "paid" {
		t.Errorf("status: %d %v", status, order)
	}
	audit := launch(t, "audit", "--admin", "http://"+admin)
	if code := audit.exit(); code != 0 || !strings.Contains(audit.said(), "balanced: true") || !strings.Contains(audit.said(), "paid 1") {
		t.Errorf("audit exits %d and says %s", code, audit.said())
	}

	second := launch(t, "up", "--listen", freePort(t), "--admin", freePort(t), "--data", data)
	if code := second.exit(); code != 1 || !strings.Contains(second.said(), data) {
		t.Errorf("a second sluice on the same data exits %d and says %s", code, second.said())
	}
	for flag, address := range map[string]string{"listen": door, "admin": admin} {
		busy := launch(t, "up", "--data", t.TempDir(), "--listen", freePort(t), "--admin", freePort(t), "--"+flag, address)
		if code := busy.exit(); code != 1 || !strings.Contains(busy.said(), "address already in use") || !strings.Contains(busy.said(), "--"+flag) {
			t.Errorf("a busy port for %s: exit %d, says %s", flag, code, busy.said())
		}
	}
	if code := up.terminate(); code != 0 {
		t.Errorf("SIGTERM: exit %d, said %s", code, up.said())
	}
}

func TestSale_IsOperatedFromTheCommandLine(t *testing.T) {
	admin := freePort(t)
	launch(t, "up", "--listen", freePort(t), "--admin", admin, "--data", t.TempDir())
	eventually(t, "ready", func() bool { status, _ := call(t, "GET", "http://"+admin+"/readyz", ""); return status == 200 })
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"sale", "create", "spring", "--stock", "10", "--payment-window", "5m"}, 0, `"payment_window": "5m0s"`},
		{[]string{"sale", "create", "spring", "--stock", "10"}, 1, "sluice: sale spring exists already (sale-exists)"},
		{[]string{"sale", "create", "Spring", "--stock", "10"}, 2, "a letter or digit"},
		{[]string{"sale", "create", "club", "--stock", "1", "--reserved-for", "members", "--reserved-share", "0.2"}, 0, `"reserved_share": 0.2`},
		{[]string{"sale", "create", "summer", "--stock", "1", "--reserved-for", "members"}, 2, "want both or none"},
		{[]string{"sale", "create", "summer"}, 2, "--stock is missing"},
		{[]string{"sale", "create", "summer", "--stock", "1", "--starts-at", "soon"}, 2, "RFC 3339"},
		{[]string{"sale", "topup", "spring", "5"}, 0, `"free": 15`},
		{[]string{"sale", "topup", "spring", "--", "-20"}, 1, "sluice: units -20: only 15 of sale spring are free (not-free)"},
		{[]string{"sale", "topup", "spring", "some"}, 2, "whole number"},
		{[]string{"sale", "get", "autumn"}, 1, `sluice: "autumn" is no sale (unknown-sale)`},
		{[]string{"sale", "get"}, 2, "accepts 1 arg"},
		{[]string{"sale", "end", "spring"}, 0, `"ends_at"`},
	} {
		p := launch(t, append(c.args, "--admin", admin)...)
		if c.args[1] == "topup" && c.args[3] == "--" {
			p = launch(t, append([]string{"sale", "topup", "--admin", admin}, c.args[2:]...)...)
		}
		if code := p.exit(); code != c.code || !strings.Contains(p.said(), c.says) {
			t.Errorf("sluice %v: exit %d, says %s; want %d, %q", c.args, code, p.said(), c.code, c.says)
		}
	}
}

func TestAudit_ExitsOneAndPrintsTheDifference(t *testing.T) {
	books := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(api.HeaderAPI, api.Operations)
		_, _ = io.WriteString(w, `{"balanced":false,"sales":[{"id":"demo","stock":10,"free":3,"held":0,"sold":8,
			"orders":{"paid":7},"differences":["sold is 8, but the paid orders add up to 7"]}]}`)
	}))
	defer books.Close()
	p := launch(t, "audit", "--admin", books.URL)
	if code := p.exit(); code != 1 || !strings.Contains(p.said(), "the paid orders add up to 7") || !strings.Contains(p.said(), "do not balance") {
		t.Errorf("exit %d, says %s", code, p.said())
	}
}

func TestBadInput_IsToldClearly(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(t.TempDir(), "sluice.yaml")
	if err := os.WriteFile(conf, []byte("bound: lots\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	away := []string{"--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"}
	for _, c := range []struct {
		args []string
		code int
		says []string
	}{
		{[]string{"up", "--bound", "0"}, 2, []string{"bound", `"0"`, "1 to 10000000"}},
		{[]string{"up", "--config", conf}, 2, []string{"bound", `"lots"`, conf}},
		{[]string{"up", "--no-such-flag"}, 2, []string{"--no-such-flag", "sluice up --help"}},
		{[]string{"sideways"}, 2, []string{"sideways"}},
		{[]string{"up", "now"}, 2, []string{"now"}},
		{append([]string{"up", "--data", filepath.Join(file, "data")}, away...), 1, []string{"data folder", file}},
		{append([]string{"up", "--data", t.TempDir(), "--id-key", file}, away...), 2, []string{"id-key", file, "at least 32"}},
		{append([]string{"up", "--data", t.TempDir(), "--id-key", file + "-none"}, away...), 1, []string{"id-key", "no such file"}},
		{append([]string{"up", "--data", t.TempDir(), "--id", "a b"}, away...), 2, []string{"id", `"a b"`, "a-z"}},
		{append([]string{"up", "--data", t.TempDir(), "--admin-token-file", file}, away...), 2, []string{"admin-token-file", "at least 16"}},
		{[]string{"up", "--data", t.TempDir(), "--listen", "127.0.0.1:0", "--admin", "0.0.0.0:0"}, 2, []string{"beyond loopback", "--admin-token-file"}},
		{[]string{"up", "--data", t.TempDir(), "--listen", "0.0.0.0:0", "--admin", "127.0.0.1:0"}, 2, []string{"beyond loopback", "--identity ticket", "--trust-any-buyer"}},
		{append([]string{"up", "--data", t.TempDir(), "--identity", "header"}, away...), 2, []string{"--trusted-proxies"}},
		{append([]string{"up", "--data", t.TempDir(), "--identity", "ticket"}, away...), 2, []string{"--ticket-key", "sluice ticket key"}},
		{append([]string{"up", "--data", t.TempDir(), "--identity", "ticket", "--ticket-key", file}, away...), 2, []string{"ticket-key", file}},
		{append([]string{"up", "--data", t.TempDir(), "--store", "postgres://u:hunter2@h:notaport/db"}, away...), 2, []string{"store", "port"}},
		{[]string{"ingress", "--data", t.TempDir(), "--listen", "127.0.0.1:0"}, 2, []string{"id-key", "all doors"}},
		{[]string{"worker", "--data", t.TempDir(), "--admin", "127.0.0.1:0"}, 2, []string{"id-key", "all doors"}},
		{[]string{"audit", "--admin", "127.0.0.1:1"}, 1, []string{"127.0.0.1:1", "refused"}},
		{[]string{"nsqd", "--data", file, "--listen", "127.0.0.1:0"}, 1, []string{file}},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			p := launch(t, c.args...)
			code := p.exit()
			if code != c.code {
				t.Errorf("exit %d, want %d", code, c.code)
			}
			for _, want := range c.says {
				if !strings.Contains(p.said(), want) {
					t.Errorf("it does not say %q but %s", want, p.said())
				}
			}
			if strings.Contains(p.said(), "hunter2") {
				t.Errorf("a password is told: %s", p.said())
			}
			if strings.Contains(p.said(), "goroutine ") {
				t.Errorf("a person is shown a stack: %s", p.said())
			}
		})
	}
}

func TestUp_WaitsForADatabaseThatIsDownAndSaysSo(t *testing.T) {
	door, admin := freePort(t), freePort(t)
	up := launch(t, "up", "--demo", "--listen", door, "--admin", admin, "--data", t.TempDir(), "--store", "postgres://nobody@"+freePort(t)+"/shop")
	eventually(t, "it says what it waits for", func() bool { return strings.Contains(up.said(), "waiting for the store") })
	eventually(t, "readyz says why not", func() bool {
		status, answer := call(t, "GET", "http://"+door+"/readyz", "")
		return status == 503 && answer["reason"] == "unavailable"
	})
	if status, answer := call(t, "POST", "http://"+door+"/v1/sales/demo/orders", `{"user":"alice"}`); status != 503 || answer["reason"] != "unavailable" {
		t.Errorf("an order meanwhile: %d %v", status, answer)
	}
	if status, answer := call(t, "GET", "http://"+admin+"/v1/audit", ""); status != 503 || answer["detail"] != "waiting for the store" {
		t.Errorf("the operations API meanwhile: %d %v", status, answer)
	}
	if code := up.terminate(); code != 0 || strings.Contains(up.said(), "sluice is up") {
		t.Errorf("SIGTERM: exit %d; it is up: %t", code, strings.Contains(up.said(), "sluice is up"))
	}
}

// A flood of connections takes every descriptor; it must not end the service, and buyers are served again after it.
func TestUp_OutlivesAFloodOfConnections(t *testing.T) {
	door, admin, data := freePort(t), freePort(t), t.TempDir()
	p := launchCommand(t, exec.CommandContext(context.Background(), "sh", "-c", `ulimit -n 200 && exec "$0" "$@"`, os.Args[0],
		"up", "--demo", "--listen", door, "--admin", admin, "--data", data, "--max-connections", "1000"))
	ready := func() bool { status, _ := call(t, "GET", "http://"+door+"/v1/sales/demo", ""); return status == 200 }
	eventually(t, "ready", ready)
	http.DefaultClient.CloseIdleConnections()
	var flood []net.Conn
	for range 400 {
		c, err := (&net.Dialer{Timeout: time.Second}).DialContext(t.Context(), "tcp", door)
		if err != nil {
			break
		}
		flood = append(flood, c)
	}
	time.Sleep(200 * time.Millisecond) // for the service to run out of descriptors
	select {
	case err := <-p.done:
		t.Fatalf("the flood ended it: %v: %s", err, p.said())
	default:
	}
	for _, c := range flood {
		_ = c.Close()
	}
	eventually(t, "served again", ready)
	if status, order := place(t, "", "http://"+door+"/v1/sales/demo/orders", `{"user":"alice"}`); status != 202 {
		t.Errorf("buy after the flood: %d %v", status, order)
	}
}

// Whoever takes all connections of the operations API keeps operators waiting, and nobody who buys.
func TestUp_ACrowdOfTheOperationsAPIStopsNoBuyer(t *testing.T) {
	door, admin := freePort(t), freePort(t)
	launch(t, "up", "--demo", "--listen", door, "--admin", admin, "--data", t.TempDir(), "--admin-connections", "16")
	eventually(t, "ready", func() bool { status, _ := call(t, "GET", "http://"+door+"/v1/sales/demo", ""); return status == 200 })
	http.DefaultClient.CloseIdleConnections()
	var crowd []net.Conn
	for range 16 {
		c, err := (&net.Dialer{Timeout: time.Second}).DialContext(t.Context(), "tcp", admin)
		if err != nil {
			t.Fatal(err)
		}
		crowd = append(crowd, c)
	}
	brief := &http.Client{Timeout: time.Second}
	eventually(t, "operators wait", func() bool {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+admin+"/livez", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		res, err := brief.Do(req)
		if err == nil {
			_ = res.Body.Close()
		}
		return err != nil
	})
	if status, order := place(t, "", "http://"+door+"/v1/sales/demo/orders", `{"user":"alice"}`); status != 202 {
		t.Errorf("buy meanwhile: %d %v", status, order)
	}
	for _, c := range crowd {
		_ = c.Close()
	}
	eventually(t, "operators are served again", func() bool { status, _ := call(t, "GET", "http://"+admin+"/livez", ""); return status == 200 })
}

// Each part may start before the others: here in the worst order, with two doors.
func TestParts_StartInAnyOrder(t *testing.T) {
	nsqd, admin, data := freePort(t), freePort(t), t.TempDir()
	key := filepath.Join(data, "id.key")
	if err := os.WriteFile(key, []byte(strings.Repeat("k", 64)), 0o600); err != nil {
		t.Fatal(err)
	}
	var doors []string
	for _, id := range []string{"north", "south"} {
		door := freePort(t)
		doors = append(doors, door)
		p := launch(t, "ingress", "--listen", door, "--nsqd", nsqd, "--nsqd-http", "127.0.0.1:1", "--worker", admin, "--id", id,
			"--bound", "50", "--data", filepath.Join(data, id), "--id-key", key, "--metrics", "127.0.0.1:0")
		eventually(t, id+" says what it waits for", func() bool { return strings.Contains(p.said(), "waiting for nsqd") })
		if status, _ := call(t, "GET", "http://"+door+"/livez", ""); status != 200 {
			t.Errorf("livez of %s: %d", id, status)
		}
	}
	launch(t, "worker", "--nsqd", nsqd, "--admin", admin, "--data", filepath.Join(data, "worker"), "--id-key", key)
	eventually(t, "the worker serves", func() bool { status, _ := call(t, "GET", "http://"+admin+"/readyz", ""); return status == 200 })
	launch(t, "nsqd", "--listen", nsqd, "--nsqd-http", "127.0.0.1:0", "--data", filepath.Join(data, "nsqd"))
	if status, answer := call(t, "POST", "http://"+admin+"/v1/sales", `{"id":"demo","stock":100,"payment_window":"0s"}`); status != 201 {
		t.Fatalf("create the sale: %d %v", status, answer)
	}
	for n, door := range append(doors, doors...) {
		user := fmt.Sprintf(`{"user":"buyer-%d"}`, n%2)
		var order map[string]any
		eventually(t, "an order comes in", func() bool {
			var status int
			status, order = call(t, "POST", "http://"+door+"/v1/sales/demo/orders", user)
			return status == 202 || status == 200
		})
		other := doors[(n+1)%2] // the outcome is known at either door
		eventually(t, "it is paid", func() bool {
			status, answer := call(t, "GET", fmt.Sprintf("http://%s%s?wait=5s", other, order["href"]), "")
			return status == 200 && answer["status"] == "paid"
		})
	}
	if _, audit := call(t, "GET", "http://"+admin+"/v1/audit", ""); audit["balanced"] != true {
		t.Errorf("audit: %v", audit)
	}
}
