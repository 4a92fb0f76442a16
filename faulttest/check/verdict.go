package check

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Verdict is what the checker found.
type Verdict struct {
	OK         bool          `json:"ok"`
	Orders     Orders        `json:"orders"`
	Doubtful   int           `json:"doubtful"`          // askers who lost an answer at some time
	Outage     time.Duration `json:"outage"`            // the longest in which buyers asked and nobody got a definite answer
	OutageAt   int64         `json:"outage_at"`         // when it began
	Peak       int64         `json:"peak,omitempty"`    // the most orders outstanding
	Slowest    time.Duration `json:"slowest,omitempty"` // of the answers of a door that nothing was done to
	Excused    time.Duration `json:"excused,omitempty"` // for how long the machine kept a bystander waiting, which no answer's time counts
	Settled    time.Duration `json:"settled"`           // how long all took to be settled, once the run was over
	Violations []Violation   `json:"violations,omitempty"`
	About      string        `json:"about,omitempty"` // the violation that the story shows
	Story      []string      `json:"story,omitempty"`
}

// keptViolations is how many a verdict names: whoever breaks one promise a thousand times is told so in fewer words.
const keptViolations = 50

// Judge checks every promise.
func Judge(facts Facts) Verdict {
	f := examine(facts)
	v := Verdict{
		OK: len(f.list) == 0, Orders: f.sort(), Doubtful: Doubtful(facts.History), Peak: f.peak,
		Violations: f.list[:min(len(f.list), keptViolations)],
	}
	v.Outage, v.OutageAt = outage(facts.History)
	for _, e := range facts.History {
		if e.Event == Answer && e.Call == Place && e.Status != 0 && !f.disturbed(e.Door, e.Asked, e.At) {
			v.Slowest = max(v.Slowest, time.Duration(e.At-e.Asked))
		}
	}
	for _, s := range facts.Stalls {
		v.Excused += time.Duration(s.To - s.From)
	}
	if !v.OK {
		var about Violation
		about, v.Story = f.shortest()
		v.About = about.Text
	}
	return v
}

// Write writes the verdict into the run's folder.
func (v Verdict) Write(dir string) error { return writeJSON(filepath.Join(dir, VerdictFile), v) }

// ReadVerdict reads it back.
func ReadVerdict(dir string) (*Verdict, error) {
	text, err := os.ReadFile(filepath.Join(dir, VerdictFile))
	if err != nil {
		return nil, err
	}
	v := new(Verdict)
	if err := json.Unmarshal(text, v); err != nil {
		return nil, fmt.Errorf("%s: %w", VerdictFile, err)
	}
	return v, nil
}

// Late reports whether all that is wrong is when answers came (P7), if not very late.
func (v Verdict) Late() bool {
	return len(v.Violations) > 0 && len(v.Violations) < keptViolations && !slices.ContainsFunc(v.Violations, func(broken Violation) bool { return !broken.Late })
}

// Print tells the verdict to people.
func (v Verdict) Print(w io.Writer, r Run, dir string) {
	o := v.Orders
	fmt.Fprintf(w, "%d asked, %d accepted: %d ok, %d lost, %d unexpected, %d recovered; %d refused, %d left in doubt; longest outage %v, most outstanding %d\n",
		o.Offered, o.Accepted, o.OK, o.Lost, o.Unexpected, o.Recovered, o.Refused, o.Indeterminate, v.Outage.Round(time.Millisecond), v.Peak)
	if v.OK {
		fmt.Fprintln(w, "every promise was kept")
		return
	}
	for i, broken := range v.Violations {
		if i == 10 {
			fmt.Fprintf(w, "… and more: see %s\n", filepath.Join(dir, VerdictFile))
			break
		}
		fmt.Fprintln(w, broken.Text)
	}
	fmt.Fprintf(w, "\nseed %d, history %s\n", r.Seed, filepath.Join(dir, HistoryFile))
	if r.Again != "" {
		fmt.Fprintf(w, "again: %s\n", r.Again)
	}
	fmt.Fprintf(w, "the story of: %s\n", v.About)
	for _, l := range v.Story {
		fmt.Fprintln(w, l)
	}
}
