package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"sluice/inventory"
	"sluice/inventory/postgres"
)

func TestCheckURL_NeverTellsThePassword(t *testing.T) {
	for _, password := range []string{"s3cret", "/s3cret", "#s3cret", "?s3cret", "12/s3cret", "12?s3cret", "@s3cret", "%s3cret", "s3cret:", "x y s3cret", "`s3cret", "[s3cret"} {
		for _, form := range []string{
			"postgres://u:%s@h:notaport/db", "postgres://u:%s@h/db?sslmode=perhaps", "postgres://u:%s@[::1/db",
			"postgres://u:%s@h/db?pool_max_conns=0", "postgres://u:%s@h/db?target_session_attrs=any%%20%%20",
			"postgres://h:notaport/db?user=u&password=%s", "postgres://h/db?password=%s&sslmode=perhaps",
			"postgres://h/db?sslpassword=%s&sslmode=perhaps", "postgres://h/db?sslmode=verify-full&sslpassword=%s&sslrootcert=/no/such/file",
			"postgres://u:%s@h:1,h2:x/db", "postgresql//u:%s@h/db", "host=h password=%s port=x", "password='%s", "u:%s@h",
		} {
			url := fmt.Sprintf(form, password)
			_, check := postgres.CheckURL(url)
			_, open := postgres.Open(canceled(t), url)
			for _, err := range []error{check, open} {
				for e := err; e != nil; e = errors.Unwrap(e) {
					if strings.Contains(e.Error(), "s3cret") {
						t.Errorf("%s: the error tells the password: %v", url, e)
					}
				}
			}
			if check != nil && errors.Is(open, inventory.ErrUnavailable) {
				t.Errorf("%s: %v is nothing to wait for", url, open)
			}
		}
	}
}

func TestCheckURL_SaysWhatIsWrong(t *testing.T) {
	for url, want := range map[string]string{
		"postgres://u:secret@127.0.0.1:5432/shop?pool_max_conns=8":              "",
		"postgres://u@h1:1,h2:2/shop":                                           "",
		"postgresql:///shop?host=/run/postgresql":                               "",
		"postgres://u:secret@h:notaport/db":                                     "invalid port;",
		"postgres://u:12/34@h/db":                                               "an @ behind the host;",
		"postgres://u:12?34@h/db":                                               "an @ behind the host;",
		"postgres://h/db?user=u@example.com":                                    "",
		"postgres://u:secret@h/db?sslmode=perhaps":                              "failed to configure TLS (sslmode is invalid);",
		"postgres://u:secret@h/db?pool_max_conns=many":                          "cannot parse pool_max_conns (strconv",
		"postgres://u:secret@h/db?sslmode=verify-full&sslrootcert=/no/such/pem": "unable to read CA file: open /no/such/pem",
	} {
		_, err := postgres.CheckURL(url)
		if (err == nil) != (want == "") || (err != nil && !strings.Contains(err.Error(), want)) {
			t.Errorf("CheckURL(%q): got %v, want %q", url, err, want)
		}
	}
}

// canceled keeps Open from looking for the hosts of these URLs.
func canceled(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
