package webhook

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Whatever is in the file, there are endpoints that keep every bound, or an error that tells no secret.
func FuzzLoad(f *testing.F) {
	f.Add("- {name: points, url: 'https://shop.example/hook', secret: " + testSecret + "}")
	f.Add(`[{"name":"points","url":"http://127.0.0.1:9000/x","secret":"` + testSecret + `","events":["order.*"],"max_in_flight":4,"max_age":"12h"}]`)
	f.Add("- &a {name: p, url: x, secret: " + testSecret + "}\n- *a")
	f.Add("a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]")
	f.Fuzz(func(t *testing.T, text string) {
		file := filepath.Join(t.TempDir(), "hooks.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		endpoints, err := Load(file)
		if err != nil {
			if strings.Contains(err.Error(), strings.TrimPrefix(testSecret, secretPrefix)) {
				t.Errorf("%q: a secret is told: %v", text, err)
			}
			return
		}
		for _, e := range endpoints {
			if !nameFormat.MatchString(e.Name) || e.MaxInFlight < 1 || e.MaxInFlight > maxInFlight || e.MaxAge < minMaxAge || e.MaxAge > maxMaxAge ||
				len(e.signers) == 0 || e.url.Scheme != "https" && !isLoopback(e.url.Hostname()) {
				t.Errorf("%q gives %+v", text, e)
			}
		}
	})
}
