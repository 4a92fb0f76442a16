package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	labs "sluice/loadtest/lab"
)

// service is sluice as processes of its own: one nsqd, one worker, and doors.
type service struct {
	lab          *lab
	sluice       string // the program
	dir, key     string
	queue, admin string // addresses
	nsqd, worker *labs.Process
	doors        []door
}

type door struct {
	*labs.Process
	address, metrics string
}

const saleID = "rush"

// launch starts an nsqd and a worker: of sluice, or the program that is given instead. What they need at most comes from
// bound, the most orders that are outstanding at all doors together.
func (l *lab) launch(ctx context.Context, bound int, worker string, workerFlags ...string) (*service, error) {
	program, err := l.build(ctx, ".", "./cmd/sluice")
	if err != nil {
		return nil, err
	}
	s := &service{lab: l, sluice: program}
	if s.dir, err = l.Data(); err != nil {
		return nil, err
	}
	if worker == "" {
		worker, workerFlags = program, append([]string{"worker", "--data", s.store()}, workerFlags...)
	}
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // never fails (crypto/rand)
	s.key = filepath.Join(s.dir, "id.key")
	if err := os.WriteFile(s.key, []byte(hex.EncodeToString(secret[:])+"\n"), 0o600); err != nil {
		return nil, err
	}
	if s.queue, err = l.FreeAddress(); err != nil {
		return nil, err
	}
	if s.admin, err = l.FreeAddress(); err != nil {
		return nil, err
	}
	s.nsqd, err = l.Start("nsqd", program, "nsqd", "--listen", s.queue, "--data", filepath.Join(s.dir, "nsqd"), "--bound", fmt.Sprint(bound))
	if err != nil {
		return nil, err
	}
	s.worker, err = l.Start("worker", worker, append(workerFlags, "--nsqd", s.queue, "--admin", s.admin, "--id-key", s.key)...)
	return s, err
}

// store is where a worker with SQLite keeps its database.
func (s *service) store() string { return filepath.Join(s.dir, "store") }

// queueHTTP is where nsqd serves its figures: the port after the other.
func (s *service) queueHTTP() string {
	host, port, _ := net.SplitHostPort(s.queue)
	n, _ := strconv.Atoi(port)
	return net.JoinHostPort(host, strconv.Itoa(n+1))
}

// open starts a door with its share of the bound.
func (s *service) open(name string, bound int, flags ...string) (d door, err error) {
	if d.address, err = s.lab.FreeAddress(); err != nil {
		return d, err
	}
	if d.metrics, err = s.lab.FreeAddress(); err != nil {
		return d, err
	}
	d.Process, err = s.lab.Start(name, s.sluice, append([]string{
		"ingress", "--id", name, "--listen", d.address, "--metrics", d.metrics, "--bound", fmt.Sprint(bound),
		"--nsqd", s.queue, "--worker", s.admin, "--id-key", s.key, "--data", filepath.Join(s.dir, name),
	}, flags...)...)
	s.doors = append(s.doors, d)
	return d, err
}

// sell makes a sale whose units are paid at once, and waits until every door knows it.
func (s *service) sell(ctx context.Context, stock int64) error {
	for _, d := range s.doors {
		if err := labs.Eventually(ctx, 20*time.Second, d.Name()+" is ready", func() error { return get(ctx, "http://"+d.address+"/readyz", nil) }); err != nil {
			return err
		}
	}
	sale := map[string]any{"id": saleID, "sku": "sku", "stock": stock, "per_user_limit": 1, "payment_window": "0s"}
	if err := call(ctx, http.MethodPost, "http://"+s.admin+"/v1/sales", sale, nil); err != nil {
		return err
	}
	return s.known(ctx)
}

// known waits until every door knows the sale.
func (s *service) known(ctx context.Context) error {
	for _, d := range s.doors {
		if err := labs.Eventually(ctx, 20*time.Second, d.Name()+" knows the sale", func() error { return get(ctx, "http://"+d.address+"/v1/sales/"+saleID, nil) }); err != nil {
			return err
		}
	}
	return nil
}

// idle waits until no order of a door is outstanding. It looks seldom: telling its figures costs a door processor time, which
// is counted.
func (d door) idle(ctx context.Context) error {
	const between = 100 * time.Millisecond
	time.Sleep(between / 2)
	return labs.Eventually(ctx, 30*time.Second, d.Name()+" has nothing outstanding", func() error {
		n, err := d.metric(ctx, "sluice_door_outstanding_orders")
		if err == nil && n > 0 {
			time.Sleep(between)
			err = fmt.Errorf("%.0f orders are outstanding", n)
		}
		return err
	})
}

// metric reads one figure of a door.
func (d door) metric(ctx context.Context, name string) (v float64, err error) {
	text, err := fetch(ctx, http.MethodGet, "http://"+d.metrics+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			_, err := fmt.Sscan(rest, &v)
			return v, err
		}
	}
	return 0, fmt.Errorf("%s has no metric %s", d.Name(), name)
}

// audited is a line of the audit.
type audited struct {
	Balanced bool
	Sales    []struct {
		ID               string
		Free, Held, Sold int64
	}
}

// audit proves the books with `sluice audit`, and answers how many units were sold.
func (s *service) audit(ctx context.Context) (sold int64, err error) {
	cmd := exec.CommandContext(ctx, s.sluice, "audit", "--admin", s.admin)
	cmd.Env = labs.CleanEnv()
	if out, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("sluice audit: %w\n%s", err, out)
	}
	var a audited
	if err := get(ctx, "http://"+s.admin+"/v1/audit", &a); err != nil {
		return 0, err
	}
	for _, sale := range a.Sales {
		if sale.ID == saleID {
			return sale.Sold, nil
		}
	}
	return 0, fmt.Errorf("the audit has no sale %s", saleID)
}

// calls is for rare questions, not for load.
var calls = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

func get(ctx context.Context, url string, into any) error {
	return call(ctx, http.MethodGet, url, nil, into)
}

// call sends JSON and reads JSON; any status but success is an error.
func call(ctx context.Context, method, url string, body, into any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	if body == nil {
		b = nil
	}
	text, err := fetch(ctx, method, url, b)
	if err != nil || into == nil {
		return err
	}
	return json.Unmarshal(text, into)
}

func fetch(ctx context.Context, method, url string, body []byte) (text []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := calls.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	text, err = io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err == nil && resp.StatusCode >= http.StatusMultipleChoices {
		err = fmt.Errorf("%s %s: %s: %.300s", method, url, resp.Status, text)
	}
	return text, err
}

// accepts waits until something listens there.
func accepts(ctx context.Context, address string) error {
	return labs.Eventually(ctx, 10*time.Second, address+" accepts connections", func() error {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	})
}
