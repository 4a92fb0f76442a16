package loadtest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLoad_KnowsTheScenariosOfTheHouse(t *testing.T) {
	want := "baseline capacity flash ramp slow-database smoke soak sold-out spike"
	if got := strings.Join(Names(), " "); got != want {
		t.Errorf("scenarios %s, want %s", got, want)
	}
	for _, name := range Names() {
		s, err := Load(name)
		if err != nil {
			t.Errorf("%v", err)
		} else if s.Name != name || s.About == "" {
			t.Errorf("%s calls itself %q (%q)", name, s.Name, s.About)
		}
	}
}

const least = "name: mine\nsales: [{name: a, stock: 1}]\nphases: [{name: p, for: 1s, orders: {rate: 1}}]\n"

func TestLoad_SaysWhatIsWrong(t *testing.T) {
	for text, want := range map[string]string{
		"":                             "it is empty",
		"name: [":                      "line 1",
		least + "colour: blue\n":       "line 4: there is no key colour",
		least + "timeout: soon\n":      `"soon" is not a duration`,
		least + "seed: -1\n":           "line 4",
		least + "---\n" + least:        "want one document only",
		least + "connections: 99999\n": "connections: 99999; want 1 to 20000",
		least + "slo: {failed: 2}\n":   "slo.failed: 2; want 0 to 1",
		least + "crowd: {retry: 0.5}":  "crowd.tries: 1; want at least 2",
		least + "warmup: {rate: 5}":    "warmup: want both for and rate",
		least + "parts: {slow: {for: 1s, of: 100ms, busy: 1s}}":                                              "parts.slow.busy: 1s; want 1ms to 100ms",
		strings.Replace(least, "mine", "../mine", 1):                                                         `name: "../mine"; want lower-case`,
		strings.Replace(least, "rate: 1", "rate: .nan", 1):                                                   "phases[0].orders.rate: NaN; want 0 to 200000",
		strings.Replace(least, "rate: 1", "rate: -1", 1):                                                     "rate: -1; want 0 to 200000",
		strings.Replace(least, "rate: 1", "rate: 0", 1):                                                      "they have no request",
		strings.Replace(least, "rate: 1", "rate: 1, to: 0, curve: decay", 1):                                 "a decay needs a rate and a to above 0",
		strings.Replace(least, "rate: 1", "rate: 1, steps: 3", 1):                                            "only the curve step has some",
		strings.Replace(least, "rate: 1", "rate: 1, curve: wavy", 1):                                         `"wavy"; want constant, linear, step or decay`,
		strings.Replace(least, "rate: 1", "rate: 200000, to: 200000", 1) + "crowd: {retry: 1, tries: 100}\n": "requests, with those of buyers who come again",
		strings.Replace(least, "1s", "2h", 1):                                                                "phases[0].for: 2h0m0s; want 100ms to 1h0m0s",
		strings.Replace(least, "stock: 1", "stock: 0", 1):                                                    "sales[0].stock: 0; want 1 to",
		strings.Replace(least, "stock: 1", "stock: 1, opens: x", 1):                                          `there is no phase "x"`,
		strings.Replace(least, "name: a", "name: warmup", 1):                                                 `sales[0].name: "warmup"`,
	} {
		path := filepath.Join(t.TempDir(), "mine.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Load(path)
		if _, is := errors.AsType[*ScenarioError](err); !is || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("of %q it says %v; want one line with %q", text, err, want)
		}
	}
	for name, want := range map[string]string{"nosuch": "there is none of this name; want one of baseline, capacity, flash", "./nosuch.yaml": "no such file"} {
		if _, err := Load(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("of %s it says %v, want %q", name, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(least))
	for _, name := range Names() {
		text, _ := library.ReadFile("scenarios/" + name + ".yaml")
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := parse(text)
		if err != nil || s.length() > maxLength {
			return
		}
		var n float64
		for i := range s.Phases {
			n += s.Phases[i].Orders.count(s.length()) + s.Phases[i].Pages.count(s.length())
		}
		if n > 20_000 {
			return // valid, and too slow to be played here
		}
		p := newPlan(&s)
		if p.hash() != newPlan(&s).hash() {
			t.Errorf("two plans of %q differ", text)
		}
		for _, r := range p.requests {
			if r.due < 0 || r.due > p.end+60e9 || r.sale >= len(s.Sales) {
				t.Fatalf("%q plans %+v", text, r)
			}
		}
	})
}
