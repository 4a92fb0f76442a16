package worker

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice"
	"sluice/api"
)

// lines keeps what is logged.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

// events answers the logged lines with the message.
func (l *lines) events(t *testing.T, message string) (events []map[string]any) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range bytes.Lines(l.buf.Bytes()) {
		e := map[string]any{}
		must(t, json.Unmarshal(line, &e))
		if e["msg"] == message {
			events = append(events, e)
		}
	}
	return events
}

// gauge reads a gauge without labels.
func (s *shop) gauge(name string) float64 {
	s.t.Helper()
	families, err := s.registry.Gather()
	must(s.t, err)
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	s.t.Fatalf("there is no gauge %s", name)
	return 0
}

func TestLimits_AreSetAndResetByAMergePatch(t *testing.T) {
	s := newShop(t, nil)
	for _, c := range []struct {
		body   string
		status int
		want   string // the limits, or a part of the error's detail
	}{
		{`{}`, 200, `{"version":0}`},
		{
			`{"max_wait":"10s","bounds":{"north":500,"south":0},"buyer_rate":2.5}`, 200,
			`{"bounds":{"north":500,"south":0},"buyer_rate":2.5,"max_wait":"10s","version":1}`,
		},
		{
			`{"bounds":{"north":null},"max_wait":null,"address_rate":100}`, 200,
			`{"address_rate":100,"bounds":{"south":0},"buyer_rate":2.5,"version":2}`,
		},
		{
			`{"bounds":null,"buyer_rate":null,"connections":5,"address_connections":0}`, 200,
			`{"address_connections":0,"address_rate":100,"connections":5,"version":3}`,
		},
		{`{"max_wiat":null}`, 400, `"max_wiat" is no limit: want some of {"bounds"`},
		{`{"MAX_WAIT":"1s"}`, 400, `"MAX_WAIT" is no limit`},
		{`{"blocks":[]}`, 400, `POST and DELETE /v1/blocks`},
		{`{"version":9}`, 400, `version can't be patched`},
		{`{"max_wait":10}`, 400, `max_wait`},
		{`{"max_wait":"10"}`, 400, `"10" is not a duration such as`},
		{`{"max_wait":"2h"}`, 400, `max_wait 2h0m0s: want 0s to 1h0m0s`},
		{`{"bounds":{"north":{"x":null}}}`, 400, `bounds`},
		{`{"bounds":{"north":-1}}`, 400, `want a door's name and 0 to`},
		{`{"connections":0}`, 400, `connections 0: want 1 to`},
		{`{"buyer_rate":1e99}`, 400, `buyer_rate 1e+99: want 0, or 0.001 to 1000000 a second`},
		{`[]`, 400, `can't be read`},
		{`null`, 400, `the body is empty: want some of`},
		{``, 400, `the body is empty: want some of`},
		{`{} {}`, 400, `something follows`},
		{`{}`, 200, `{"address_connections":0,"address_rate":100,"connections":5,"version":3}`},
	} {
		status, out := s.call("PATCH", "/v1/limits", c.body, testToken)
		text := fmt.Sprint(out["detail"])
		if status == 200 {
			b, err := json.Marshal(out)
			must(t, err)
			text = string(b)
		}
		if status != c.status || (status == 200 && text != c.want) || !strings.Contains(text, c.want) {
			t.Errorf("PATCH %s: %d %s; want %d %s", c.body, status, text, c.status, c.want)
		}
		if _, read := s.call("GET", "/v1/limits", "", testToken); status == 200 && !reflect.DeepEqual(read, out) {
			t.Errorf("GET after PATCH %s: %v, want %v", c.body, read, out)
		}
	}
	var changes []any
	for _, e := range s.log.events(t, "limits changed") {
		if e["operator"] != "tests" || !strings.HasPrefix(fmt.Sprint(e["remote"]), "127.0.0.1:") {
			t.Errorf("who and from where: %v", e)
		}
		changes = append(changes, e["version"], e["change"])
	}
	want := []any{
		1.0, `set {"bounds":{"north":500,"south":0},"buyer_rate":2.5,"max_wait":"10s"}`,
		2.0, `set {"address_rate":100,"bounds":{"north":null},"max_wait":null}`,
		3.0, `set {"address_connections":0,"bounds":null,"buyer_rate":null,"connections":5}`,
	}
	if !reflect.DeepEqual(changes, want) {
		t.Errorf("logged %q, want %q", changes, want)
	}
}

func TestLimits_ArePatchedWithJSONOnly(t *testing.T) {
	s := newShop(t, nil)
	for contentType, want := range map[string]int{
		api.ContentMergePatch: 200, "application/json; charset=utf-8": 200, "": 200,
		"application/json-patch+json": 415, "text/plain": 415, "application/x-www-form-urlencoded": 415, ";": 415,
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, s.url+"/v1/limits", strings.NewReader(`{"buyer_rate":1}`))
		must(t, err)
		req.Header.Set("Authorization", "Bearer "+testToken)
		if contentType != "" {
			req.Header.Set("Content-Type", contentType)
		}
		res, err := http.DefaultClient.Do(req)
		must(t, err)
		must(t, res.Body.Close())
		if res.StatusCode != want {
			t.Errorf("content type %q: %d, want %d", contentType, res.StatusCode, want)
		}
	}
}

func TestLimits_TheLogOfAChangeIsBounded(t *testing.T) {
	s := newShop(t, nil)
	bounds := map[string]int{}
	for n := range sluice.MaxDoors {
		bounds[fmt.Sprintf("tür-%d", n)] = n
	}
	body, err := json.Marshal(map[string]any{"bounds": bounds})
	must(t, err)
	if status, out := s.call("PATCH", "/v1/limits", string(body), testToken); status != 200 {
		t.Fatalf("%d %v", status, out)
	}
	change := fmt.Sprint(s.log.events(t, "limits changed")[0]["change"])
	if len(change) > maxTold+10 || !strings.HasSuffix(change, " …") {
		t.Errorf("logged %d bytes: %s", len(change), change)
	}
}

func TestBlocks_AreAddedReplacedAndLifted(t *testing.T) {
	s := newShop(t, nil)
	for _, c := range []struct {
		method, path, body string
		status             int
		want               string // a part of the block, or of the error's detail
	}{
		{"POST", "", `{"user":"u1","note":"bot"}`, 200, `{"note":"bot","user":"u1"}`},
		{"POST", "", `{"user":"u1","for":"1h"}`, 200, `"until":"`},
		{"POST", "", `{"network":"203.0.113.0/24"}`, 200, `{"network":"203.0.113.0/24"}`},
		{"POST", "", `{"network":"198.51.100.7"}`, 200, `{"network":"198.51.100.7/32"}`},
		{"POST", "", `{"network":"::ffff:198.51.100.8"}`, 200, `{"network":"198.51.100.8/32"}`},
		{"POST", "", `{"network":"::ffff:198.51.101.0/120"}`, 200, `{"network":"198.51.101.0/24"}`},
		{"POST", "", `{"network":"2001:db8:1:2:3::4"}`, 200, `{"network":"2001:db8:1:2::/64"}`},
		{"POST", "", `{"network":"2001:db8::/32"}`, 200, `{"network":"2001:db8::/32"}`},
		{"POST", "", `{"network":"203.0.113.9/24"}`, 400, "want 203.0.113.0/24, or a longer prefix"},
		{"POST", "", `{"network":"fe80::1%eth0"}`, 400, "want a network such as"},
		{"POST", "", `{"network":"somewhere"}`, 400, `network "somewhere": want a network such as`},
		{"POST", "", `{}`, 400, "want either a user or a network"},
		{"POST", "", `{"user":"u1","network":"10.0.0.0/8"}`, 400, "want either a user or a network"},
		{"POST", "", `{"user":"u1","for":"-1s"}`, 400, "for -1s: want 0s"},
		{"POST", "", `{"user":"u1","for":"100000h"}`, 400, "want 0s, until it is lifted, to 87840h0m0s"},
		{"POST", "", `{"user":"u1","note":"` + strings.Repeat("x", sluice.MaxNote+1) + `"}`, 400, "note: want at most 200 bytes"},
		{"POST", "", `{"user":"u1","until":"2030-01-01T00:00:00Z"}`, 400, "unknown field"},
		{"DELETE", "?user=u2", "", 404, `user "u2" is not blocked`},
		{"DELETE", "?network=10.0.0.0/8", "", 404, "network 10.0.0.0/8 is not blocked"},
		{"DELETE", "", "", 400, "want either a user or a network"},
		{"DELETE", "?user=u1&network=10.0.0.0/8", "", 400, "want either a user or a network"},
		{"DELETE", "?user=u1&user=u2", "", 400, "user in the query: comes twice"},
		{"DELETE", "?usr=u1", "", 400, `unknown parameter "usr" in the query: want user, network`},
		{"DELETE", "?user=", "", 400, "want either a user or a network"},
		{"DELETE", "?network=198.51.100.7", "", 200, `{"network":"198.51.100.7/32"}`},
		{"DELETE", "?user=u1", "", 200, `"user":"u1"`},
		{"DELETE", "?user=u1", "", 404, `user "u1" is not blocked`},
	} {
		status, out := s.call(c.method, "/v1/blocks"+c.path, c.body, testToken)
		text := fmt.Sprint(out["detail"])
		if status == 200 {
			b, err := json.Marshal(out["block"])
			must(t, err)
			text = string(b)
		}
		if status != c.status || !strings.Contains(text, c.want) {
			t.Errorf("%s %s %s: %d %s; want %d %s", c.method, c.path, c.body, status, text, c.status, c.want)
		}
	}
	l, err := s.store.Limits(t.Context())
	must(t, err)
	var left []string
	for _, b := range l.Blocks {
		left = append(left, b.Network.String())
	}
	want := []string{"203.0.113.0/24", "198.51.100.8/32", "198.51.101.0/24", "2001:db8:1:2::/64", "2001:db8::/32"}
	if !reflect.DeepEqual(left, want) || l.Version != 10 {
		t.Errorf("version %d with %q, want 10 with %q", l.Version, left, want)
	}
	events := s.log.events(t, "limits changed")
	if len(events) != 10 || events[0]["change"] != `block {"user":"u1","note":"bot"}` || events[8]["change"] != `lift {"network":"198.51.100.7/32"}` {
		t.Errorf("logged %v", events)
	}
}

func TestBlocks_LastByTheStoresClock(t *testing.T) {
	s := newShop(t, nil)
	c := api.NewClient(s.url, testToken)
	defer c.Close()
	before, err := s.store.Statuses(t.Context(), nil)
	must(t, err)
	added, err := c.AddBlock(t.Context(), api.NewBlock{User: "u", For: sluice.Duration(time.Hour)})
	must(t, err)
	after, err := s.store.Statuses(t.Context(), nil)
	must(t, err)
	if u := added.Block.Until; u.Before(before.Now.Add(time.Hour)) || u.After(after.Now.Add(time.Hour)) {
		t.Errorf("until %v, want an hour after %v to %v", u, before.Now, after.Now)
	}
	l, err := s.store.Limits(t.Context())
	must(t, err)
	if len(l.Blocks) != 1 || l.Blocks[0] != added.Block || l.Version != added.Version {
		t.Errorf("stored %+v, answered %+v", l, added)
	}
}

// Doors hear of limits at their next poll, whichever worker changed them, and are not told what they know.
func TestFacts_TellADoorOnlyLimitsThatItDoesNotHave(t *testing.T) {
	s := newShop(t, nil)
	c := api.NewClient(s.url, testToken)
	defer c.Close()
	ask := func(version int64) *sluice.Limits {
		t.Helper()
		f, err := c.Facts(t.Context(), api.Door{Door: "north", Bound: 1, LimitsVersion: version})
		must(t, err)
		if f.Now.IsZero() {
			t.Error("no facts")
		}
		return f.Limits
	}
	if l := ask(0); l != nil {
		t.Errorf("none were ever set, told %+v", l)
	}
	set, err := c.PatchLimits(t.Context(), map[string]any{"max_wait": "5s", "bounds": map[string]any{"north": 7}})
	must(t, err)
	if l := ask(0); !reflect.DeepEqual(l, &set) {
		t.Errorf("told %+v, want %+v", l, set)
	}
	if l := ask(1); l != nil {
		t.Errorf("the door has them, told %+v", l)
	}
	_, err = s.store.ChangeLimits(t.Context(), func(l *sluice.Limits) error { // as another worker on this store does
		l.Blocks = append(l.Blocks, sluice.Block{User: "u"})
		return nil
	})
	must(t, err)
	if l := ask(1); l == nil || l.Version != 2 || len(l.Blocks) != 1 || l.Bounds["north"] != 7 {
		t.Errorf("told %+v, want version 2", l)
	}
	if l := ask(9); l == nil || l.Version != 2 {
		t.Errorf("a door with limits that the store has not was told %+v, want version 2", l)
	}
	if version, blocks := s.gauge("sluice_worker_limits_version"), s.gauge("sluice_worker_blocks"); version != 2 || blocks != 1 {
		t.Errorf("gauges: version %v, blocks %v, want 2 and 1", version, blocks)
	}
	s.store.set(func(s *troubled) { s.noLimits = true })
	if f, err := c.Facts(t.Context(), api.Door{Door: "north", Bound: 1}); err == nil {
		t.Errorf("a door that has no limits yet begins without them: %+v", f)
	}
	if l := ask(1); l != nil || len(s.log.events(t, "the limits could not be read; doors go by those that they have")) == 0 {
		t.Errorf("told %+v of limits that can't be read, or did not log it", l)
	}
}

// errNoLimits is what a document that can't be read does.
var errNoLimits = errors.New("read the stored limits: invalid character")

func TestOperators_AreToldApartByTheirTokens(t *testing.T) {
	s := newShop(t, func(c *Config) {
		c.Operators = []Operator{{"alice", testToken}, {"bob", "another token for tests"}}
	})
	for _, token := range []string{"another token for tests", testToken} {
		if status, out := s.call("POST", "/v1/blocks", `{"user":"u1"}`, token); status != 200 {
			t.Errorf("token %q: %d %v", token, status, out)
		}
	}
	for _, token := range []string{"another token for test", "alice", "bob " + testToken, testToken + "x"} {
		if status, _ := s.call("POST", "/v1/blocks", `{"user":"u1"}`, token); status != 401 {
			t.Errorf("token %q: %d, want 401", token, status)
		}
	}
	var who []any
	for _, e := range s.log.events(t, "limits changed") {
		who = append(who, e["operator"])
	}
	if !reflect.DeepEqual(who, []any{"bob", "alice"}) {
		t.Errorf("logged %v, want bob and alice", who)
	}
}

func TestOperators_WithoutTokensAreLoopback(t *testing.T) {
	s := newShop(t, func(c *Config) { c.Operators = nil })
	if status, out := s.call("POST", "/v1/blocks", `{"user":"u1"}`, ""); status != 200 {
		t.Fatalf("%d %v", status, out)
	}
	if e := s.log.events(t, "limits changed"); len(e) != 1 || e[0]["operator"] != "loopback" {
		t.Errorf("logged %v", e)
	}
}

// Without tokens a page that somebody looks at on this machine must not operate sales.
func TestOperators_WithoutTokensAreNoPages(t *testing.T) {
	for _, c := range []struct {
		host, origin, site string
		page               bool
	}{
		{"127.0.0.1:8081", "", "", false},
		{"localhost:8081", "", "none", false},
		{"[::1]:8081", "", "", false},
		{"127.0.0.1:8081", "http://127.0.0.1:8081", "same-origin", false},
		{"127.0.0.1:8081", "https://evil.example", "cross-site", true},
		{"127.0.0.1:8081", "null", "", true},
		{"127.0.0.1:8081", "http://127.0.0.1:3000", "same-site", true},
		{"127.0.0.1:8081", "", "cross-site", true},
		{"evil.example:8081", "", "", true}, // a name that was made to point here
	} {
		r := httptest.NewRequestWithContext(t.Context(), "POST", "/v1/blocks", nil)
		r.Host = c.host
		for name, value := range map[string]string{"Origin": c.origin, "Sec-Fetch-Site": c.site} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		if got := fromAPage(r); got != c.page {
			t.Errorf("%+v is from a page: %t", c, got)
		}
	}
	s := newShop(t, func(c *Config) { c.Operators = nil })
	req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+strings.TrimPrefix(s.url, "http://")+"/v1/blocks", strings.NewReader(`{"user":"u1"}`))
	must(t, err)
	req.Header.Set("Origin", "https://evil.example")
	res, err := http.DefaultClient.Do(req)
	must(t, err)
	must(t, res.Body.Close())
	if res.StatusCode != 403 {
		t.Errorf("a page of another origin is answered %d", res.StatusCode)
	}
}

func TestLimits_AStoreThatIsAwayIsToldAsSuch(t *testing.T) {
	s := newShop(t, nil)
	s.store.set(func(s *troubled) { s.noLimits = true })
	if status, out := s.call("GET", "/v1/limits", "", testToken); status != 500 || out["reason"] != "internal" {
		t.Errorf("limits that can't be read: %d %v", status, out)
	}
	s.store.set(func(s *troubled) { s.noLimits = false })
	must(t, s.store.Close())
	for _, c := range [][]string{{"GET", "/v1/limits", ""}, {"PATCH", "/v1/limits", `{"connections":1}`}, {"POST", "/v1/blocks", `{"user":"u"}`}} {
		if status, out := s.call(c[0], c[1], c[2], testToken); status != 503 || out["reason"] != "unavailable" {
			t.Errorf("%v of a closed store: %d %v", c, status, out)
		}
	}
}

func TestClient_SpeaksOfLimits(t *testing.T) {
	s := newShop(t, nil)
	c := api.NewClient(s.url, testToken)
	defer c.Close()
	if _, err := c.PatchLimits(t.Context(), map[string]any{"bound": 1}); sluice.RefusalOf(err) != sluice.BadRequest {
		t.Errorf("an unknown limit = %v", err)
	}
	if l, err := c.PatchLimits(t.Context(), map[string]any{"max_wait": sluice.Duration(time.Second), "buyer_rate": nil}); err != nil || l.Version != 1 {
		t.Errorf("PatchLimits = %+v, %v", l, err)
	}
	odd := "ü&=+ %"
	if b, err := c.AddBlock(t.Context(), api.NewBlock{User: odd}); err != nil || b.Block.User != odd || b.Version != 2 {
		t.Errorf("AddBlock = %+v, %v", b, err)
	}
	if l, err := c.PatchLimits(t.Context(), map[string]any{"connections": 9}); err != nil || len(l.Blocks) != 1 || *l.Connections != 9 || l.Version != 3 {
		t.Errorf("PatchLimits beside a block = %+v, %v", l, err)
	}
	if l, err := c.Limits(t.Context()); err != nil || *l.MaxWait != sluice.Duration(time.Second) || l.Blocks[0].User != odd {
		t.Errorf("Limits = %+v, %v", l, err)
	}
	if b, err := c.LiftBlock(t.Context(), odd, ""); err != nil || b.Block.User != odd || b.Version != 4 {
		t.Errorf("LiftBlock = %+v, %v", b, err)
	}
	if _, err := c.LiftBlock(t.Context(), "", "10.0.0.0/8"); sluice.RefusalOf(err) != sluice.NotFound {
		t.Errorf("LiftBlock of what is not blocked = %v", err)
	}
}

// Whatever a patch is, it is refused or applied; it neither panics, nor touches blocks and version, nor is it our fault.
func FuzzMergeLimits(f *testing.F) {
	for _, seed := range []string{`{}`, `{"max_wait":"1s"}`, `{"bounds":{"a":null,"b":1e2}}`, `{"bounds":[]}`, `{"buyer_rate":1e400}`, `{"bounds":{"a":{"b":null}}}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var patch map[string]json.RawMessage
		if json.Unmarshal([]byte(text), &patch) != nil || checkPatch(patch) != nil {
			t.Skip()
		}
		body, err := json.Marshal(patch)
		must(t, err)
		rate := 2.5
		l := sluice.Limits{Version: 7, BuyerRate: &rate, Bounds: map[string]int64{"a": 1}, Blocks: []sluice.Block{{User: "u"}}}
		before, blocks := l, l.Blocks
		switch _, err := mergeLimits(&l, body); {
		case err != nil && (sluice.RefusalOf(err) != sluice.BadRequest || !reflect.DeepEqual(l, before)):
			t.Errorf("%s: %v, left %+v", text, err, l)
		case err == nil && (l.Version != 7 || !reflect.DeepEqual(l.Blocks, blocks)):
			t.Errorf("%s: made %+v", text, l)
		}
	})
}
