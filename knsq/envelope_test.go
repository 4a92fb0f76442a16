package knsq

import (
	"encoding/json"
	"maps"
	"reflect"
	"strings"
	"testing"
)

var traced = Header{
	"traceparent":      {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
	"x-md-global-tags": {"a", `b"c`},
	"empty":            {""},
}

const tracedJSON = `{"traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01","x-md-global-tags":["a","b\"c"]}`

func TestSeal_AddsAMemberAndChangesNothingElse(t *testing.T) {
	for _, test := range []struct {
		name, body string
		header     Header
		version    int
		want       string
	}{
		{"an object", `{"n":1}`, traced, 0, `{"n":1,"trace":` + tracedJSON + `}`},
		{"an empty one", `{}`, traced, 0, `{"trace":` + tracedJSON + `}`},
		{"spaces and order", " {\n \"b\": 1.0, \"a\": [ 1 ] } \n", traced, 0, "{\n \"b\": 1.0, \"a\": [ 1 ] ,\"trace\":" + tracedJSON + `}`},
		{"a name that comes twice", `{"n":1,"n":2}`, traced, 0, `{"n":1,"n":2,"trace":` + tracedJSON + `}`},
		{"a version", `{"n":1}`, nil, 2, `{"v":2,"n":1}`},
		{"a version of nothing", `{}`, nil, 2, `{"v":2}`},
		{"both", `{}`, traced, 2, `{"v":2,"trace":` + tracedJSON + `}`},
		{"a trace of its own", `{"trace":null}`, traced, 0, `{"trace":null}`},
		{"a version of its own", `{"v":"x"}`, nil, 2, `{"v":"x"}`},
		{"a trace deeper down", `{"a":{"trace":1}}`, traced, 0, `{"a":{"trace":1},"trace":` + tracedJSON + `}`},
		{"an array", `[{}]`, traced, 2, `[{}]`},
		{"two objects", `{} {}`, traced, 2, `{} {}`},
		{"half an object", `{"n":`, traced, 2, `{"n":`},
		{"no JSON", "\x00{}", traced, 2, "\x00{}"},
		{"no header", `{"n":1}`, Header{}, 0, `{"n":1}`},
		{"a header of nothing", `{"n":1}`, Header{"a": {""}, "b": nil}, 0, `{"n":1}`},
	} {
		if got := string(seal([]byte(test.body), test.header, test.version)); got != test.want {
			t.Errorf("%s: seal(%s) =\n%s; want\n%s", test.name, test.body, got, test.want)
		}
	}
}

func TestReadHeader_ReadsWhatSealWrote(t *testing.T) {
	want := maps.Clone(traced)
	delete(want, "empty")
	if got := ReadHeader(seal([]byte(`{"n":1}`), traced, 1)); !reflect.DeepEqual(got, want) {
		t.Errorf("ReadHeader = %v; want %v", got, want)
	}
}

func TestReadHeader_IsEmptyWhereThereIsNone(t *testing.T) {
	for _, body := range []string{
		``, `null`, `{}`, `{"n":1}`, `"trace"`, `["trace"]`, `{"trace":1}`, `{"trace":{"traceparent":1,"a":null,"b":"","c":[],"d":[1]}}`, `{"trace":"00-"}`,
		`{"a":{"trace":{"traceparent":"x"}}}`, `{"trace":{"traceparent":"x"}`, `{"trace":{"traceparent":"x"}} {}`, "\xff",
	} {
		if h := ReadHeader([]byte(body)); h == nil || len(h) != 0 {
			t.Errorf("ReadHeader(%s) = %v; want an empty one", body, h)
		}
	}
}

func TestHeader_NamesHaveNoCase(t *testing.T) {
	h := Header{}
	h.Add("X-Md-A", "1")
	h.Add("x-md-a", "2")
	h.Set("B", "3")
	h.Set("b", "4")
	if got, want := toJSON(h), `{"b":["4"],"x-md-a":["1","2"]}`; got != want {
		t.Errorf("the header is %s; want %s", got, want)
	}
	if h.Get("X-MD-A") != "1" || h.Get("c") != "" || len(h.Values("X-MD-A")) != 2 || strings.Join(h.Keys(), " ") != "b x-md-a" {
		t.Errorf("Get, Values or Keys of %v", h)
	}
	if got := ReadHeader([]byte(`{"trace":{"TraceParent":"x"}}`)).Get("traceparent"); got != "x" {
		t.Errorf("a name in capitals reads as %q", got)
	}
}

func FuzzSeal(f *testing.F) {
	for _, body := range []string{`{"n":1}`, `{}`, `{"trace":{}}`, `[1]`, `{"n":`, `{"a":"\ud800"}`, ` {"v":1} `, "{\"\xff\":1}"} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		sealed := seal(body, traced, 3)
		var before, after map[string]json.RawMessage
		if json.Unmarshal(body, &before) != nil || before == nil {
			if json.Valid(body) && string(sealed) != string(body) {
				t.Fatalf("seal(%q) = %q, though it is no object", body, sealed)
			}
			return
		}
		if err := json.Unmarshal(sealed, &after); err != nil {
			t.Fatalf("seal(%q) = %q: %v", body, sealed, err)
		}
		for _, name := range []string{memberTrace, memberVersion} {
			if _, had := before[name]; !had {
				delete(after, name)
			}
		}
		for name, value := range before {
			if string(after[name]) != string(value) {
				t.Fatalf("seal(%q) changed %q to %q", body, value, after[name])
			}
		}
		if len(before) != len(after) {
			t.Fatalf("seal(%q) = %q", body, sealed)
		}
	})
}
