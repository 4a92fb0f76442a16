package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

// load runs Load on a command line, away from this machine's own configuration.
func load(t *testing.T, keys []string, args ...string) (Config, error) {
	t.Helper()
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	Flags(fs, keys...)
	if err := fs.Parse(args); err != nil {
		t.Fatalf("parse %q: %v", args, err)
	}
	return Load(fs)
}

func file(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "sluice.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestLoad_HasTheDefaultsOfTheContract(t *testing.T) {
	c, err := load(t, Keys())
	if err != nil {
		t.Fatal(err)
	}
	if c.Bound != 10_000 || c.MaxWait != 30*time.Second || c.Listen != "127.0.0.1:8080" || c.Admin != "127.0.0.1:8081" || c.Store != SQLite ||
		c.TicketBuyer != "sub" || c.TicketCookie != "sluice_ticket" || c.TicketKey != "" {
		t.Errorf("defaults: %+v", c)
	}
}

func TestLoad_FlagsBeatEnvironmentBeatsFileBeatsDefaults(t *testing.T) {
	name := file(t, "bound: 3\nmax-wait: 3s\ndrain-rate: 3\n")
	t.Setenv("SLUICE_BOUND", "2")
	t.Setenv("SLUICE_MAX_WAIT", "2s")
	c, err := load(t, Keys(), "--config", name, "--bound", "1")
	if err != nil {
		t.Fatal(err)
	}
	if c.Bound != 1 || c.MaxWait != 2*time.Second || c.DrainRate != 3 || c.Batch != 256 {
		t.Errorf("bound %d, max-wait %v, drain-rate %d, batch %d; want 1, 2s, 3, 256", c.Bound, c.MaxWait, c.DrainRate, c.Batch)
	}
}

func TestLoad_EveryKeyIsAFlagAnEnvironmentVariableAndAFileKey(t *testing.T) {
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	Flags(fs, Keys()...)
	for _, key := range Keys() {
		f := fs.Lookup(key)
		if f == nil || !strings.Contains(f.Usage, EnvName(key)) {
			t.Errorf("%s: no flag that names %s", key, EnvName(key))
		}
	}
}

func TestLoad_AVerbMayHaveADefaultOfItsOwn(t *testing.T) {
	c, err := load(t, []string{"listen=127.0.0.1:4150"})
	if err != nil || c.Listen != "127.0.0.1:4150" {
		t.Errorf("listen %q, %v", c.Listen, err)
	}
	t.Setenv("SLUICE_LISTEN", "127.0.0.1:1")
	if c, err = load(t, []string{"listen=127.0.0.1:4150"}); err != nil || c.Listen != "127.0.0.1:1" {
		t.Errorf("listen from the environment %q, %v", c.Listen, err)
	}
}

func TestLoad_SaysWhatIsWrongWhereItCameFromAndWhatIsAllowed(t *testing.T) {
	for _, c := range []struct {
		env, value string
		args       []string
		want       []string
	}{
		{args: []string{"--bound", "0"}, want: []string{"bound", `"0"`, "--bound", "1 to 10000000"}},
		{args: []string{"--bound", "many"}, want: []string{"bound", `"many"`, "whole number"}},
		{env: "SLUICE_MAX_WAIT", value: "2h", want: []string{"max-wait", `"2h"`, "SLUICE_MAX_WAIT", "0s to 1h"}},
		{args: []string{"--listen", "8080"}, want: []string{"listen", "host:port"}},
		{args: []string{"--listen", "127.0.0.1:99999"}, want: []string{"listen", "0 to 65535"}},
		{args: []string{"--store", "mysql://x"}, want: []string{"store", "sqlite", "postgres://"}},
		{args: []string{"--store", "mysql://u:secret@h/x"}, want: []string{"store", "mysql://…"}},
		{args: []string{"--log-format", "xml"}, want: []string{"log-format", "text, json"}},
		{env: "SLUICE_DEMO", value: "perhaps", want: []string{"demo", "true or false"}},
		{args: []string{"--data", ""}, want: []string{"data", "must not be empty"}},
		{args: []string{"--ticket-cookie", "a;b"}, want: []string{"ticket-cookie", `"a;b"`, "1 to 64 letters"}},
		{args: []string{"--ticket-buyer-claim", ""}, want: []string{"ticket-buyer-claim", "must not be empty"}},
		{args: []string{"--config", "/does/not/exist.yaml"}, want: []string{"/does/not/exist.yaml"}},
	} {
		t.Run(strings.Join(append(c.args, c.env), " "), func(t *testing.T) {
			if c.env != "" {
				t.Setenv(c.env, c.value)
			}
			_, err := load(t, Keys(), c.args...)
			if _, ok := errors.AsType[*Error](err); !ok {
				t.Fatalf("error = %v; want a *config.Error", err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("error %q tells a password", err)
			}
		})
	}
}

func TestLoad_RefusesAFileWithAKeyThatDoesNotExist(t *testing.T) {
	for _, text := range []string{"bounds: 3\n", "limits:\n  bound: 3\n", "bound: [1]\n", "bound: 1\n  x"} {
		if _, err := load(t, Keys(), "--config", file(t, text)); err == nil {
			t.Errorf("a file with %q is taken", text)
		}
	}
	_, err := load(t, Keys(), "--config", file(t, "bounds: 3\n"))
	if err == nil || !strings.Contains(err.Error(), `"bounds" is not a key`) {
		t.Errorf("error = %v", err)
	}
}

func FuzzFile(f *testing.F) {
	f.Add("bound: 3\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := load(t, Keys(), "--config", file(t, text))
		if err == nil && (c.Bound < 1 || c.Data == "") {
			t.Errorf("%q gives %+v", text, c)
		}
	})
}

// A list may be written with commas anywhere, and as a list in the file.
func TestLoad_ReadsNetworks(t *testing.T) {
	want := "[10.0.0.0/8 2001:db8::/32 192.0.2.1/32]"
	for _, c := range [][]string{
		{"--trusted-proxies", "10.1.2.3/8, 2001:db8::1/32,192.0.2.1"},
		{"--config", file(t, "trusted-proxies: [10.0.0.0/8, 2001:db8::/32, 192.0.2.1]\n")},
		{"--config", file(t, "trusted-proxies:\n- 10.0.0.0/8\n- 2001:db8::/32\n- 192.0.2.1\n")},
	} {
		got, err := load(t, Keys(), c...)
		if err != nil || fmt.Sprint(got.TrustedProxies) != want {
			t.Errorf("%q: %v, %v; want %s", c, got.TrustedProxies, err, want)
		}
	}
	for _, c := range [][]string{
		{"--trusted-proxies", "10.0.0.0/33"},
		{"--trusted-proxies", "proxy.example"},
		{"--config", file(t, "trusted-proxies: {a: b}\n")},
		{"--config", file(t, "trusted-proxies: [[10.0.0.0/8]]\n")},
		{"--address-header", "X Forwarded"},
		{"--identity", "none"},
	} {
		if _, err := load(t, Keys(), c...); err == nil || !strings.Contains(err.Error(), "want") {
			t.Errorf("%q: %v", c, err)
		}
	}
}

func TestLoad_TakesChannelsOfEvents(t *testing.T) {
	want := []string{"points", "mail.eu", "screen-1_a#ephemeral"}
	for name, args := range map[string][]string{
		"flag": {"--events-channels", "points,mail.eu, screen-1_a#ephemeral"},
		"list": {"--config", file(t, "events-channels: [points, mail.eu, 'screen-1_a#ephemeral']\n")},
	} {
		c, err := load(t, Keys(), args...)
		if err != nil || !slices.Equal(c.EventChannels, want) {
			t.Errorf("%s: %q, %v; want %q", name, c.EventChannels, err, want)
		}
	}
	c, err := load(t, Keys())
	if err != nil || len(c.EventChannels) != 0 || c.EventRetention != 24*time.Hour || c.EventBacklog != 1_000_000 {
		t.Errorf("defaults: %q, %v, %d, %v", c.EventChannels, c.EventRetention, c.EventBacklog, err)
	}
	var many []string
	for n := range 33 {
		many = append(many, fmt.Sprint("c", n))
	}
	for _, c := range []struct{ flag, text, want string }{
		{"--events-channels", "points,ma/il", `"ma/il": want names between commas`},
		{"--events-channels", "points#durable", `"points#durable"`},
		{"--events-channels", "#ephemeral", `"#ephemeral"`},
		{"--events-channels", strings.Repeat("x", 65), "of at most 64 bytes"},
		{"--events-channels", "a,b,a", `"a" is given twice`},
		{"--events-channels", strings.Join(many, ","), "33 channels; want at most 32"},
		{"--events-retention", "59s", "want a duration from 1m0s to 720h0m0s"},
		{"--events-retention", "721h", "want a duration from 1m0s to 720h0m0s"},
		{"--events-backlog", "0", "want a whole number from 1000 to"},
		{"--admin-connections", "-1", "want a whole number from 0 to 100000"},
		{"--admin-connections", "100001", "want a whole number from 0 to 100000"},
	} {
		if _, err := load(t, Keys(), c.flag, c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %q: error %v, want %q", c.flag, c.text, err, c.want)
		}
	}
}
