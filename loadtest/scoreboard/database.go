package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	labs "sluice/loadtest/lab"
)

// serverEnv names a PostgreSQL server to measure with, as for tests; without it there is one for the time of the scoreboard.
const serverEnv = "SLUICE_TEST_POSTGRES"

// errSkipped says that a row can't run here: it neither passes nor fails.
var errSkipped = errors.New("skipped")

// server answers the URL of a PostgreSQL server that syncs every commit, and starts one where there is none.
func (l *lab) server(ctx context.Context) (string, error) {
	if l.postgres == "" {
		l.postgres = os.Getenv(serverEnv)
	}
	if l.postgres == "" {
		if err := l.startServer(ctx); err != nil {
			return "", err
		}
	}
	return l.postgres, nil
}

// startServer has withpostgres run a server, and install it where it may, for as long as a pipe to its command is open: however
// the scoreboard ends, no server stays.
func (l *lab) startServer(ctx context.Context) error {
	program, err := l.build(ctx, ".", "./internal/withpostgres")
	if err != nil {
		return err
	}
	cmd := exec.Command(program, "--", "sh", "-c", `echo "$`+serverEnv+`"; exec cat`) //nolint:noctx // it ends with the pipe
	cmd.Stderr, cmd.SysProcAttr = l.progress, labs.Apart()
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil { // it has said why to the progress, and ended
		err = errors.Join(fmt.Errorf("%w: there is no PostgreSQL here", errSkipped), in.Close())
		_ = cmd.Wait()
		return err
	}
	l.postgres = strings.TrimSpace(line)
	l.stopServer = func() error {
		l.postgres = ""
		return errors.Join(in.Close(), drained(out), cmd.Wait())
	}
	return nil
}

// drained reads what is left, which ends with the process.
func drained(r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

// database is a fresh one for one side of one run: the service's own tables with one sale, whose units are held for payment.
type database struct {
	url  string
	conn *pgx.Conn // the scoreboard's own
}

const (
	modelDatabase = "scoreboard_model"
	runDatabase   = "scoreboard_run"
	manyUnits     = 10_000_000
)

// model has the service make its tables and the sale, once a row: every run begins with a copy of it.
func (l *lab) model(ctx context.Context) error {
	if err := l.administer(ctx, dropping(runDatabase), dropping(modelDatabase), "CREATE DATABASE "+modelDatabase); err != nil {
		return err
	}
	s, err := l.launch(ctx, 10_000, "", "--store", l.named(modelDatabase))
	if err != nil {
		return err
	}
	err = labs.Eventually(ctx, 20*time.Second, "the worker is ready", func() error { return get(ctx, "http://"+s.admin+"/readyz", nil) })
	if err != nil {
		return err
	}
	sale := map[string]any{"id": saleID, "sku": "sku", "stock": manyUnits, "per_user_limit": 1, "payment_window": "15m"}
	return errors.Join(call(ctx, http.MethodPost, "http://"+s.admin+"/v1/sales", sale, nil), l.End())
}

// fresh copies the model. What earlier runs left to write is written first, so that no side writes for another.
func (l *lab) fresh(ctx context.Context) (*database, error) {
	copied := fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s", runDatabase, modelDatabase)
	err := labs.Eventually(ctx, 10*time.Second, "a fresh database", func() error { // backends of a killed process take a moment to end
		return l.administer(ctx, dropping(runDatabase), copied, "CHECKPOINT")
	})
	if err != nil {
		return nil, err
	}
	d := &database{url: l.named(runDatabase)}
	config, err := pgx.ParseConfig(d.url)
	if err != nil {
		return nil, err
	}
	config.RuntimeParams["search_path"] = "sluice,public" // the service's tables have a schema of their own
	if d.conn, err = pgx.ConnectConfig(ctx, config); err != nil {
		return nil, err
	}
	for _, name := range []string{"fsync", "synchronous_commit", "full_page_writes"} {
		var value string
		if err := d.conn.QueryRow(ctx, "SELECT current_setting($1)", name).Scan(&value); err != nil || value != "on" {
			return nil, errors.Join(fmt.Errorf("%s is %q; a durable server has it on", name, value), err, d.conn.Close(ctx))
		}
	}
	return d, nil
}

func dropping(name string) string { return "DROP DATABASE IF EXISTS " + name + " WITH (FORCE)" }

func (l *lab) administer(ctx context.Context, statements ...string) error {
	server, err := l.server(ctx)
	if err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, server)
	if err != nil {
		return err
	}
	for _, statement := range statements {
		if _, err = conn.Exec(ctx, statement); err != nil {
			err = fmt.Errorf("%s: %w", statement, err)
			break
		}
	}
	return errors.Join(err, conn.Close(ctx))
}

// named is the URL of a database of the server.
func (l *lab) named(name string) string {
	u, err := url.Parse(l.postgres)
	if err != nil {
		return l.postgres
	}
	u.Path = "/" + name
	return u.String()
}

// held is how many units of the sale are held, by its counter: one row, which costs whoever fills it nothing.
func (d *database) held(ctx context.Context) (n int64, err error) {
	err = d.conn.QueryRow(ctx, "SELECT held FROM sluice_sales WHERE id = $1", saleID).Scan(&n)
	return n, err
}

// until waits until so many units are held, and answers when it saw that.
func (d *database) until(ctx context.Context, want int64, most time.Duration) (time.Time, error) {
	const between = 5 * time.Millisecond
	var n int64
	for end := time.Now().Add(most); time.Now().Before(end); time.Sleep(between) {
		var err error
		if n, err = d.held(ctx); err != nil {
			return time.Time{}, err
		}
		if n >= want {
			return time.Now(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%d of %d orders are held after %v", n, want, most)
}

// audit proves that a side did all its work: every order a held row of its own buyer, the counters right, and an event of each. It reads the published views, and the outbox.
func (d *database) audit(ctx context.Context, want int64) error {
	const books = "SELECT s.held, s.free, s.sold, o.rows, o.units, o.buyers FROM sluice_sales AS s, LATERAL (SELECT count(*) AS rows, " +
		"coalesce(sum(quantity), 0)::bigint AS units, count(DISTINCT buyer) AS buyers FROM sluice_orders WHERE sale = s.id AND state = 'held') " +
		"AS o WHERE s.id = $1"
	var held, free, sold, rows, units, buyers int64
	if err := d.conn.QueryRow(ctx, books, saleID).Scan(&held, &free, &sold, &rows, &units, &buyers); err != nil {
		return err
	}
	if held != want || free != manyUnits-want || sold != 0 || rows != want || units != want || buyers != want {
		return fmt.Errorf("want %d orders held: the sale has %d held, %d free and %d sold; there are %d rows of %d units and %d buyers",
			want, held, free, sold, rows, units, buyers)
	}
	return d.auditEvents(ctx, want)
}

func (d *database) auditEvents(ctx context.Context, want int64) error {
	var events, orders, newest int64
	err := d.conn.QueryRow(ctx, "SELECT count(*), count(DISTINCT order_id), max(seq) FROM events WHERE order_id IS NOT NULL "+
		"AND body::jsonb ->> 'type' = 'order.held'").Scan(&events, &orders, &newest)
	if err == nil && (events != want || orders != want || newest < want) {
		err = fmt.Errorf("want %d orders held: there are %d events of it for %d orders, the last numbered %d", want, events, orders, newest)
	}
	return err
}
