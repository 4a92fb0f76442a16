package webhook

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice"
)

func contextWithin(t *testing.T, d time.Duration) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithTimeout(t.Context(), d)
}

func TestLoad(t *testing.T) {
	const good = "name: points, url: 'https://shop.example/hook', secret: " + testSecret
	for _, c := range []struct{ text, wrong string }{
		{"- {" + good + "}", ""},
		{`[{"name":"points","url":"http://127.0.0.1:9000/x","secret_file":"two","events":["order.*","sale.ended"],"max_in_flight":4,"max_age":"12h"}]`, ""},
		{"- {" + good + ", events: []}", ""},
		{"", ""},
		{"- {name: points, url: 'http://localhost:1', secret_file: two}", ""},
		{"points: {" + good + "}", "want a list of"},
		{"- {" + good + ", colour: red}", "colour"},
		{"- {" + good + "}\n---\n- {}", "something follows"},
		{"- {" + good + "}\n- {" + good + "}", `endpoint 2: there is a "points" already`},
		{"- {name: Points, url: 'https://shop.example', secret: " + testSecret + "}", "want 1 to 64 of a-z"},
		{"- {name: p, url: 'http://shop.example', secret: " + testSecret + "}", "want https"},
		{"- {name: p, url: 'http://127.0.0.1.evil.example', secret: " + testSecret + "}", "want https"},
		{"- {name: p, url: 'https://u:s3cret@shop.example', secret: " + testSecret + "}", "a name or password"},
		{"- {name: p, url: 'ftp://shop.example', secret: " + testSecret + "}", "want https://host/path"},
		{"- {name: p, url: 'shop.example', secret: " + testSecret + "}", "want https://host/path"},
		{"- {name: p, url: 'https://shop.example/s3cret%zz', secret: " + testSecret + "}", "can't be read"},
		{"- {name: p, url: 'https://shop.example/#x', secret: " + testSecret + "}", "follows the #"},
		{"- {name: p, secret: " + testSecret + "}", "url:"},
		{"- {name: p, url: 'https://shop.example'}", "either secret_file or secret"},
		{"- {" + good + ", secret_file: two}", "either secret_file or secret"},
		{"- {name: p, url: 'https://shop.example', secret: s3cret}", "want whsec_"},
		{"- {name: p, url: 'https://shop.example', secret: whsec_s3cret!}", "no base64"},
		{"- {name: p, url: 'https://shop.example', secret: whsec_czNjcmV0}", "it has 6 bytes; want 24 to 64"},
		{"- {name: p, url: 'https://shop.example', secret_file: nowhere}", "secret_file: open"},
		{"- {name: p, url: 'https://shop.example', secret_file: empty}", "it has 0 secrets"},
		{"- {" + good + ", events: [order.helt]}", `"order.helt": want order.*`},
		{"- {" + good + ", events: ['*']}", "want order.*"},
		{"- {" + good + ", max_in_flight: 0}", "max_in_flight 0: want 1 to 256"},
		{"- {" + good + ", max_age: 1s}", "max_age 1s: want"},
		{"- {" + good + ", ca_file: empty}", "no certificate"},
		{"- {" + good + ", ca_file: nowhere}", "ca_file: open"},
	} {
		dir := t.TempDir()
		file := filepath.Join(dir, "hooks.yaml")
		must(t, os.WriteFile(file, []byte(c.text), 0o640)) //nolint:gosec // its group may read it
		must(t, os.WriteFile(filepath.Join(dir, "two"), []byte(testSecret+"\n"+testSecret+"\n"), 0o600))
		must(t, os.WriteFile(filepath.Join(dir, "empty"), nil, 0o600))
		_, err := Load(file)
		if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%s: error %v; want %q", c.text, err, c.wrong)
		}
		if err != nil && (strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "MfKQ")) {
			t.Errorf("%s: the error tells a secret: %v", c.text, err)
		}
	}
}

func TestLoad_RefusesASecretThatEverybodyMayRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "hooks.yaml")
	must(t, os.WriteFile(file, []byte("- {name: p, url: 'https://shop.example', secret: "+testSecret+"}"), 0o600))
	must(t, os.Chmod(file, 0o644))
	if _, err := Load(file); err == nil || !strings.Contains(err.Error(), "mode 0644") {
		t.Errorf("got %v", err)
	}
}

func TestEndpoint_Wants(t *testing.T) {
	for _, c := range []struct {
		events string
		typ    sluice.EventType
		want   bool
	}{
		{"", sluice.EventHeld, true},
		{"order.*", sluice.EventHeld, true},
		{"order.*", sluice.EventEnded, false},
		{"order.held", sluice.EventHeld, true},
		{"order.held", sluice.EventPaid, false},
		{"sale.* order.paid", sluice.EventPaid, true},
	} {
		e := Endpoint{events: strings.Fields(c.events)}
		if e.wants(c.typ) != c.want {
			t.Errorf("%q of %s: %v", c.events, c.typ, !c.want)
		}
	}
}
