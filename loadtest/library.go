package loadtest

import (
	"bytes"
	"cmp"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"sluice"
)

//go:embed scenarios/*.yaml
var library embed.FS

// ScenarioError is a scenario that can't be played.
type ScenarioError struct {
	Where string // the file, or the name
	Err   error
}

func (e *ScenarioError) Error() string { return fmt.Sprintf("scenario %s: %v", e.Where, e.Err) }
func (e *ScenarioError) Unwrap() error { return e.Err }

// Names lists the scenarios that come with the program.
func Names() []string {
	files, _ := fs.Glob(library, "scenarios/*.yaml") // fails for a bad pattern only
	names := make([]string, len(files))
	for i, file := range files {
		names[i] = strings.TrimSuffix(filepath.Base(file), ".yaml")
	}
	return names
}

// maxScenario bounds a scenario's file.
const maxScenario = 1 << 20

// Load reads a scenario: one that comes with the program by its name, any other by its path. What can't be played is a *ScenarioError.
func Load(name string) (Scenario, error) {
	text, err := library.ReadFile("scenarios/" + name + ".yaml")
	if err != nil {
		if !strings.ContainsAny(name, "./") {
			return Scenario{}, &ScenarioError{name, fmt.Errorf("there is none of this name; want one of %s, or the path of a file such as ./mine.yaml",
				strings.Join(Names(), ", "))}
		}
		if text, err = readFile(name); err != nil {
			return Scenario{}, &ScenarioError{name, err}
		}
	}
	s, err := parse(text)
	if err != nil {
		return Scenario{}, &ScenarioError{name, err}
	}
	return s, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err.(*fs.PathError).Err //nolint:errorlint,forcetypeassert // os.Open has no other
	}
	defer f.Close() //nolint:errcheck // it was read
	text, err := io.ReadAll(io.LimitReader(f, maxScenario+1))
	if err == nil && len(text) > maxScenario {
		err = fmt.Errorf("it is larger than %d KiB", maxScenario>>10)
	}
	return text, err
}

func parse(text []byte) (Scenario, error) {
	var s Scenario
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&s); err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("it is empty")
		}
		return s, errors.New(told(err))
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return s, errors.New("want one document only")
	}
	s.Timeout = cmp.Or(s.Timeout, sluice.Duration(10*time.Second))
	s.Settle = cmp.Or(s.Settle, sluice.Duration(time.Minute))
	s.Connections = cmp.Or(s.Connections, 256)
	s.Crowd.Tries = cmp.Or(s.Crowd.Tries, 1)
	s.Crowd.Quantity = cmp.Or(s.Crowd.Quantity, 1)
	return s, s.Validate()
}

var (
	yamlPrefix = regexp.MustCompile(`^yaml: (unmarshal errors:\s*)?`)
	yamlType   = regexp.MustCompile(`field (\S+) not found in type \S+`)
)

// told is a YAML error in one line, as whoever wrote the file sees it.
func told(err error) string {
	text := yamlType.ReplaceAllString(yamlPrefix.ReplaceAllString(err.Error(), ""), "there is no key $1")
	return strings.Join(strings.Fields(text), " ")
}

// What a scenario may ask for at most: beyond these a generator on one machine only measures itself, or its memory ends.
const (
	mostRate    = 200_000
	maxRequests = 5_000_000
	maxLength   = time.Hour
	maxPhases   = 50
	maxSales    = 100
)

var scenarioName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,40}$`)

// Validate says what is wrong with a scenario, all of it, and what is allowed.
func (s *Scenario) Validate() error {
	c := &checks{}
	c.want(scenarioName.MatchString(s.Name), "name: %q; want lower-case letters, digits and dashes, 41 at most", s.Name)
	c.between("connections", float64(s.Connections), 1, 20_000)
	c.length("timeout", s.Timeout, 10*time.Millisecond, 5*time.Minute)
	c.length("settle", s.Settle, time.Second, maxLength)
	c.parts(&s.Parts)
	c.crowd(&s.Crowd)
	c.slo(&s.SLO)
	c.between("warmup.rate", s.Warmup.Rate, 0, mostRate)
	c.length("warmup.for", s.Warmup.For, 0, 5*time.Minute)
	c.want((s.Warmup.For > 0) == (s.Warmup.Rate > 0), "warmup: want both for and rate, or neither")
	c.phases(s)
	c.sales(s)
	return c.err()
}

// checks gathers what is wrong.
type checks struct{ wrong []string }

func (c *checks) want(ok bool, format string, args ...any) {
	if !ok {
		c.wrong = append(c.wrong, fmt.Sprintf(format, args...))
	}
}

func (c *checks) between(key string, v, least, most float64) {
	c.want(v >= least && v <= most, "%s: %v; want %v to %v", key, v, least, most) // NaN is between nothing
}

func (c *checks) length(key string, v sluice.Duration, least, most time.Duration) {
	c.want(time.Duration(v) >= least && time.Duration(v) <= most, "%s: %v; want %v to %v", key, time.Duration(v), least, most)
}

// err tells the first few: the others often follow from them.
func (c *checks) err() error {
	if len(c.wrong) == 0 {
		return nil
	}
	text := strings.Join(c.wrong[:min(3, len(c.wrong))], "; ")
	if more := len(c.wrong) - 3; more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return errors.New(text)
}

func (c *checks) parts(p *Parts) {
	c.between("parts.bound", float64(p.Bound), 0, 10_000_000)
	c.length("parts.max_wait", p.MaxWait, 0, maxLength)
	c.between("parts.drain_rate", p.DrainRate, 0, 1e6)
	if slow := p.Slow; slow != (Slow{}) {
		c.length("parts.slow.from", slow.From, 0, maxLength)
		c.length("parts.slow.for", slow.For, time.Millisecond, maxLength)
		c.length("parts.slow.of", slow.Of, time.Millisecond, time.Minute)
		c.length("parts.slow.busy", slow.Busy, time.Millisecond, time.Duration(slow.Of))
	}
}

func (c *checks) crowd(k *Crowd) {
	c.between("crowd.buyers", float64(k.Buyers), 0, 1e9)
	c.between("crowd.quantity", float64(k.Quantity), 1, 1000)
	c.between("crowd.keyed", k.Keyed, 0, 1)
	c.between("crowd.double_click", k.DoubleClick, 0, 1)
	c.length("crowd.click_within", k.ClickWithin, 0, time.Minute)
	c.between("crowd.retry", k.Retry, 0, 1)
	c.between("crowd.tries", float64(k.Tries), 1, 100)
	c.want(k.Retry == 0 || k.Tries > 1, "crowd.tries: %d; want at least 2 where buyers come again (retry)", k.Tries)
}

func (c *checks) slo(o *SLO) {
	c.length("slo.accepted_p99", o.AcceptedP99, 0, maxLength)
	c.length("slo.refused_p99", o.RefusedP99, 0, maxLength)
	c.length("slo.sojourn_p99", o.SojournP99, 0, maxLength)
	c.between("slo.failed", o.Failed, 0, 1)
	if o.Shed != nil {
		c.between("slo.shed", *o.Shed, 0, 1)
	}
}

func (c *checks) phases(s *Scenario) {
	c.want(len(s.Phases) > 0 && len(s.Phases) <= maxPhases, "phases: there are %d; want 1 to %d", len(s.Phases), maxPhases)
	requests, length := s.Warmup.Rate*time.Duration(s.Warmup.For).Seconds(), time.Duration(0)
	names := map[string]bool{}
	for i := range s.Phases {
		p := &s.Phases[i]
		key := fmt.Sprintf("phases[%d]", i)
		c.want(p.Name != "" && len(p.Name) <= 40 && !names[p.Name], "%s.name: %q; want a name of its own", key, p.Name)
		names[p.Name] = true
		c.length(key+".for", p.For, 100*time.Millisecond, maxLength)
		c.arrivals(key+".orders", &p.Orders)
		c.arrivals(key+".pages", &p.Pages)
		length += time.Duration(p.For)
		requests += p.Orders.count(time.Duration(p.For))*(1+s.Crowd.DoubleClick) + p.Pages.count(time.Duration(p.For))
	}
	c.want(length <= maxLength, "phases: they take %v; want %v at most", length, maxLength)
	c.want(requests >= 1 || len(c.wrong) > 0, "phases: they have no request")
	c.want(requests*float64(1+s.Crowd.Tries)/2 <= maxRequests || s.Crowd.Retry == 0 && requests <= maxRequests,
		"phases: %.0f requests, with those of buyers who come again; want %d at most", requests*float64(1+s.Crowd.Tries)/2, maxRequests)
}

func (c *checks) arrivals(key string, a *Arrivals) {
	c.between(key+".rate", a.Rate, 0, mostRate)
	c.between(key+".to", a.To, 0, mostRate)
	curves := []Curve{"", Constant, Linear, Step, Decay}
	c.want(slices.Contains(curves, a.Curve), "%s.curve: %q; want constant, linear, step or decay", key, a.Curve)
	switch a.shape() {
	case Constant:
		c.want(a.To == 0 || a.To == a.Rate, "%s.to: %v; a constant rate has none", key, a.To)
	case Decay:
		c.want(a.Rate > 0 && a.To > 0, "%s: a decay needs a rate and a to above 0", key)
	case Step:
		c.between(key+".steps", float64(a.Steps), 2, 1000)
	default:
	}
	c.want(a.Steps == 0 || a.shape() == Step, "%s.steps: %d; only the curve step has some", key, a.Steps)
}

func (c *checks) sales(s *Scenario) {
	c.want(len(s.Sales) > 0 && len(s.Sales) <= maxSales, "sales: there are %d; want 1 to %d", len(s.Sales), maxSales)
	names := map[string]bool{"warmup": true}
	for i := range s.Sales {
		sale := &s.Sales[i]
		key := fmt.Sprintf("sales[%d]", i)
		c.want(scenarioName.MatchString(sale.Name) && !names[sale.Name],
			"%s.name: %q; want one of its own, of lower-case letters, digits and dashes, and not warmup", key, sale.Name)
		names[sale.Name] = true
		c.between(key+".stock", float64(sale.Stock), 1, 1e9)
		c.between(key+".per_user_limit", float64(sale.PerUserLimit), 0, 1e6)
		c.length(key+".payment_window", sale.PaymentWindow, 0, 30*24*time.Hour)
		c.between(key+".weight", sale.Weight, 0, 1e6)
		known := slices.ContainsFunc(s.Phases, func(p Phase) bool { return p.Name == sale.Opens })
		c.want(sale.Opens == "" || known, "%s.opens: there is no phase %q", key, sale.Opens)
	}
}

// length is how long the phases take.
func (s *Scenario) length() (d time.Duration) {
	for i := range s.Phases {
		d += time.Duration(s.Phases[i].For)
	}
	return d
}
