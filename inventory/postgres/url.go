package postgres

import (
	"errors"
	"net/url"

	"github.com/jackc/pgx/v5/pgxpool"
)

// CheckURL says what is wrong with a URL that Open would not understand. Its error never has the URL's password in it.
func CheckURL(text string) error {
	if u, err := url.Parse(text); err != nil {
		return errors.New("it is not a URL; want postgres://user@host:port/database (is the port a number?)")
	} else if _, err := pgxpool.ParseConfig(text); err != nil {
		return errors.New(u.Redacted() + " is not a PostgreSQL URL; want postgres://user@host:port/database")
	}
	return nil
}
