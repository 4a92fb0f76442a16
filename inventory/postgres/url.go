package postgres

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Way is how Open would speak to the servers of a URL, those on this machine left out: nobody stands between.
type Way struct {
	PlainTo      string // the first host that it may speak to without TLS, be it as a last resort; empty: none
	UnverifiedTo string // the first that it would speak TLS to without knowing who answers; empty: none
}

// CheckURL says what is wrong with a URL that Open would not understand, and of one that it would, which way it would go.
// Its error never has the URL's password in it.
func CheckURL(text string) (Way, error) {
	config, err := parse(text)
	if err != nil {
		return Way{}, err
	}
	var way Way
	way.add(config.ConnConfig.Host, config.ConnConfig.TLSConfig)
	for _, f := range config.ConnConfig.Fallbacks {
		way.add(f.Host, f.TLSConfig)
	}
	return way, nil
}

func (w *Way) add(host string, secure *tls.Config) {
	ip := net.ParseIP(host)
	switch {
	case host == "localhost" || strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@") || ip != nil && ip.IsLoopback():
	case secure == nil:
		w.PlainTo = cmp.Or(w.PlainTo, host)
	case secure.InsecureSkipVerify: // without the name too, where the chain alone is looked at
		w.UnverifiedTo = cmp.Or(w.UnverifiedTo, host)
	}
}

// parse does not wrap pgx's error, which has the URL in it as it came.
func parse(text string) (*pgxpool.Config, error) {
	reason := "an @ behind the host" // pgx would take the end of the password for the name of a database
	if !misplaced(text) {
		config, err := pgxpool.ParseConfig(text)
		if err == nil {
			return config, nil
		}
		reason = complaint(text, err)
	}
	return nil, fmt.Errorf("the PostgreSQL URL: %s; want postgres://user:password@host:port/database, "+
		"with %%XX for what is special in a URL", reason)
}

// misplaced reports an @ in the path or in the name of a parameter: the password has a /, ? or # that ended it too early.
func misplaced(text string) bool {
	_, rest, _ := strings.Cut(text, "://")
	i := strings.IndexAny(rest, "/?#")
	if i < 0 {
		return false
	}
	path, query, _ := strings.Cut(rest[i:], "?")
	name, _, _ := strings.Cut(query, "=")
	return strings.Contains(path, "@") || strings.Contains(name, "@")
}

// complaint is pgx's reason with its details, or without them where they might quote a secret.
func complaint(text string, err error) string {
	e, ok := errors.AsType[*pgconn.ParseConfigError](err)
	if !ok {
		return "it cannot be parsed"
	}
	bare := *e
	bare.ConnString = ""
	reason := strings.TrimPrefix(bare.Error(), "cannot parse ``: ")
	if mayTell(reason, text) {
		reason, _, _ = strings.Cut(reason, " (") // pgx says its own words, perhaps ": value", perhaps " (cause)"
		reason, _, _ = strings.Cut(reason, ":")
	}
	return reason
}

// mayTell reports whether a reason might quote a secret of the URL. Of a URL that does not parse nobody knows where the
// password ends.
func mayTell(reason, text string) bool {
	u, err := url.Parse(text)
	if err != nil {
		return true
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return true
	}
	secrets := append(query["password"], query["sslpassword"]...)
	if password, ok := u.User.Password(); ok {
		secrets = append(secrets, password)
	}
	for _, secret := range secrets {
		if secret != "" && (strings.Contains(reason, secret) || strings.Contains(reason, url.QueryEscape(secret))) {
			return true
		}
	}
	return false
}
