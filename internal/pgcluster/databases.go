package pgcluster

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

const dropLimit = 30 * time.Second

// Databases makes empty databases on a server whose user may create some. Each has a name of its own that begins with a prefix.
func Databases(server, prefix string) func(ctx context.Context) (url string, drop func() error, err error) {
	return func(ctx context.Context) (string, func() error, error) {
		var random [6]byte
		_, _ = rand.Read(random[:]) // never fails (crypto/rand)
		name := prefix + "_" + hex.EncodeToString(random[:])
		u, err := url.Parse(server)
		if err != nil {
			return "", nil, errors.New("the server's URL can't be understood") // the error would show its password
		}
		if err := administer(ctx, server, "CREATE DATABASE "+name); err != nil {
			return "", nil, fmt.Errorf("a database to test with: %w", err)
		}
		u.Path = "/" + name
		q := u.Query()
		q.Del("search_path") // in a database of its own nobody else's schema is wanted
		u.RawQuery = q.Encode()
		return u.String(), func() error {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropLimit)
			defer cancel()
			return administer(ctx, server, "DROP DATABASE "+name+" WITH (FORCE)")
		}, nil
	}
}

// Reach says in one line, without a password, why a server can't be used.
func Reach(ctx context.Context, server string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := administer(ctx, server, "SELECT 1"); err != nil {
		return errors.New(strings.Join(strings.Fields(err.Error()), " ")) // pgx tells of each address in a line of its own
	}
	return nil
}

func administer(ctx context.Context, server, statement string) error {
	conn, err := pgx.Connect(ctx, server)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	return errors.Join(err, conn.Close(ctx))
}
