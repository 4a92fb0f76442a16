package postgres_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"sluice/internal/pgcluster"
	"sluice/internal/testcert"
	"sluice/inventory"
	"sluice/inventory/postgres"
)

// A real server that takes passwords, and nobody without TLS.
func TestOpen_SpeaksTLSAndIsNotDeceived(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 2*time.Minute)
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
	open := cluster.URL("postgres")
	conn, err := pgx.Connect(ctx, open)
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{"CREATE ROLE shop LOGIN PASSWORD 'hunter2'", "CREATE DATABASE shop OWNER shop"} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			t.Fatal(err)
		}
	}
	_ = conn.Close(ctx)
	ca, stranger := testcert.New(t), testcert.New(t)
	leaf, other := ca.Issue(t), ca.Issue(t, "127.0.0.9", "db.example")
	const hba = "hostssl all shop 127.0.0.1/32 scram-sha-256\nhost all sluice 127.0.0.1/32 trust\n"

	at := func(host, query string) string {
		u, err := url.Parse(open)
		if err != nil {
			t.Fatal(err)
		}
		u.User, u.Host, u.Path, u.RawQuery = url.UserPassword("shop", "hunter2"), host+":"+u.Port(), "/shop", query
		return u.String()
	}
	try := func(what, url, says string) {
		t.Helper()
		s, err := postgres.Open(ctx, url)
		if err == nil {
			err = errors.Join(s.Ping(ctx), s.Close())
		}
		switch {
		case says == "" && err != nil:
			t.Errorf("%s: %v", what, err)
		case says != "" && (err == nil || !strings.Contains(err.Error(), says)):
			t.Errorf("%s: got %v, want %q", what, err, says)
		}
		if err != nil && (strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "GRANT")) {
			t.Errorf("%s: a password is told, or what does not help: %v", what, err)
		}
	}
	verified := "sslmode=verify-full&sslrootcert=" + url.QueryEscape(ca.File)

	try("a server that offers no TLS", at("127.0.0.1", verified), "refused TLS")
	if err := cluster.SpeakTLS(ctx, leaf.Cert, leaf.Key, hba); err != nil {
		t.Fatal(err)
	}
	try("the right authority", at("127.0.0.1", verified), "")
	try("the right authority, by name", at("localhost", verified), "")
	try("another authority", at("127.0.0.1", "sslmode=verify-full&sslrootcert="+url.QueryEscape(stranger.File)), "unknown authority")
	try("no TLS", at("127.0.0.1", "sslmode=disable"), "no encryption")
	try("a wrong password", strings.Replace(at("127.0.0.1", verified), "hunter2", "hunter22", 1), "password authentication failed")

	if err := cluster.SpeakTLS(ctx, other.Cert, other.Key, hba); err != nil {
		t.Fatal(err)
	}
	eventuallyFails(t, at("127.0.0.1", verified), "127.0.0.9, not 127.0.0.1", try)
	expired := ca.IssueExpired(t)
	if err := cluster.SpeakTLS(ctx, expired.Cert, expired.Key, hba); err != nil {
		t.Fatal(err)
	}
	eventuallyFails(t, at("127.0.0.1", verified), "expired", try)

	s, err := postgres.Open(ctx, at("127.0.0.1", verified))
	if err == nil {
		_ = s.Close()
	}
	if !errors.Is(err, inventory.ErrUnavailable) {
		t.Errorf("a server that is not who it should be: %v; want it to be waited for, as it may be mended", err)
	}
}

// eventuallyFails leaves the server the moment that it needs for a new certificate.
func eventuallyFails(t *testing.T, url, says string, try func(what, url, says string)) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		s, err := postgres.Open(t.Context(), url)
		if err == nil {
			_ = s.Close()
			continue
		}
		if strings.Contains(err.Error(), says) {
			break
		}
	}
	try("a certificate with "+says, url, says)
}

func TestCheckURL_KnowsTheWay(t *testing.T) {
	for name, value := range map[string]string{"PGSSLMODE": "", "PGSSLROOTCERT": "", "PGHOST": ""} {
		t.Setenv(name, value)
	}
	ca := testcert.New(t)
	for url, want := range map[string]postgres.Way{
		"postgres://u@127.0.0.1/db":                                                     {},
		"postgres://u@[::1]/db?sslmode=disable":                                         {},
		"postgres://u@localhost/db?sslmode=disable":                                     {},
		"postgres:///db?host=/run/postgresql":                                           {},
		"postgres://u@10.0.0.6/db":                                                      {PlainTo: "10.0.0.6", UnverifiedTo: "10.0.0.6"}, // prefer: TLS if it likes
		"postgres://u@db.example/db?sslmode=disable":                                    {PlainTo: "db.example"},
		"postgres://u@db.example/db?sslmode=allow":                                      {PlainTo: "db.example", UnverifiedTo: "db.example"},
		"postgres://u@db.example/db?sslmode=require":                                    {UnverifiedTo: "db.example"},
		"postgres://u@db.example/db?sslmode=verify-ca&sslrootcert=" + ca.File:           {UnverifiedTo: "db.example"}, // it may be any of the authority's
		"postgres://u@db.example/db?sslmode=verify-full&sslrootcert=" + ca.File:         {},
		"postgres://u@127.0.0.1,db.example/db?sslmode=disable":                          {PlainTo: "db.example"},
		"postgres://u@127.0.0.1,10.1.1.1/db?sslmode=verify-full&sslrootcert=" + ca.File: {},
	} {
		if way, err := postgres.CheckURL(url); err != nil || way != want {
			t.Errorf("CheckURL(%s) = %+v, %v; want %+v", url, way, err, want)
		}
	}
	t.Setenv("PGSSLMODE", "require")
	if way, err := postgres.CheckURL("postgres://u@10.0.0.6/db"); err != nil || way.PlainTo != "" {
		t.Errorf("with PGSSLMODE=require: %+v, %v; want no plain text", way, err)
	}
}
