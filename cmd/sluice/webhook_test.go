package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const hookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

func TestWebhook_IsOperatedFromTheCommandLine(t *testing.T) {
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		wh, _ := standardwebhooks.NewWebhook(hookSecret)
		if err := wh.Verify(body, r.Header); err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
		}
	}))
	defer receiver.Close()
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file("key", hookSecret+"\n")
	file("other", "whsec_c2Vjb25kc2VjcmV0c2Vjb25kc2VjcmV0\n")
	hooks := file("hooks.yaml", fmt.Sprintf("- {name: points, url: '%s/s3cret', secret_file: key}\n- {name: wrong, url: '%s/s3cret', secret_file: other}\n", receiver.URL, receiver.URL))
	bad := file("bad.yaml", "- {name: points, url: 'http://shop.example', secret_file: key}\n")
	admin := freePort(t)
	up := launch(t, "up", "--listen", freePort(t), "--admin", admin, "--data", t.TempDir(), "--webhooks-file", hooks)
	eventually(t, "ready", func() bool { status, _ := call(t, "GET", "http://"+admin+"/readyz", ""); return status == 200 })
	eventually(t, "the endpoints are known", func() bool {
		status, out := call(t, "GET", "http://"+admin+"/v1/webhooks", "")
		list, _ := out["webhooks"].([]any)
		return status == 200 && len(list) == 2
	})
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"webhook list", 0, "endpoint  address"},
		{"webhook list", 0, "points    " + receiver.URL + "  well"},
		{"webhook list --json", 0, `"address":"` + receiver.URL + `"`},
		{"webhook dead points", 0, `"deliveries": []`},
		{"webhook dead points --limit 0", 2, "want 1 to 1000"},
		{"webhook dead nobody", 1, "no webhook"},
		{"webhook dead points x", 2, "want the number of an event"},
		{"webhook dead points 5", 1, "no delivery numbered 5"},
		{"webhook replay points 5", 1, "no dead delivery numbered 5"},
		{"webhook drop points 5", 1, "no delivery numbered 5"},
		{"webhook drop points", 2, "accepts 2 arg"},
		{"webhook resume points", 0, `"waiting": 0`},
		{"webhook resume nobody", 1, "no webhook"},
	} {
		p := launch(t, append(strings.Fields(c.args), "--admin", admin)...)
		if code := p.exit(); code != c.code || !strings.Contains(p.said(), c.says) {
			t.Errorf("sluice %s: exit %d, says %s; want %d, %q", c.args, code, p.said(), c.code, c.says)
		}
	}
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"webhook test points --webhooks-file " + hooks, 0, "points took it"},
		{"webhook test wrong --webhooks-file " + hooks, 1, "401 Unauthorized"},
		{"webhook test nobody --webhooks-file " + hooks, 2, `no endpoint "nobody"`},
		{"webhook test points --webhooks-file " + bad, 2, "want https"},
		{"webhook test points", 2, "webhooks-file: it is missing"},
		{"worker --id-key " + hooks + " --data " + dir + " --admin 127.0.0.1:0 --webhooks-file " + bad, 2, "want https"},
	} {
		p := launch(t, strings.Fields(c.args)...)
		if code := p.exit(); code != c.code || !strings.Contains(p.said(), c.says) || strings.Contains(p.said(), "s3cret") {
			t.Errorf("sluice %s: exit %d, says %s; want %d, %q", c.args, code, p.said(), c.code, c.says)
		}
	}
	if strings.Contains(up.said(), "s3cret") {
		t.Errorf("it logs what follows the host: %s", up.said())
	}
}
