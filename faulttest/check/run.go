package check

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Files of a run's folder.
const (
	RunFile     = "run.json"
	HistoryFile = "history.jsonl"
	VerdictFile = "verdict.json"
)

// Run is what a driver says of a run that is over: whom to ask, and what was done when. Moments count as the history's do, in
// nanoseconds since it began.
type Run struct {
	Case     string  `json:"case,omitempty"`
	Seed     uint64  `json:"seed,omitempty"`
	Again    string  `json:"again,omitempty"` // the command that repeats it
	Capacity float64 `json:"capacity,omitempty"`
	Rate     float64 `json:"rate,omitempty"` // offered orders a second

	Doors    []Door `json:"doors"`
	Admin    string `json:"admin"`    // address of the operations API
	Database string `json:"database"` // a postgres:// URL, or the path of an SQLite file

	Sale    string        `json:"sale"`
	Window  time.Duration `json:"window"`             // for payment; 0: what is settled is paid at once
	Buyers  int64         `json:"buyers,omitempty"`   // who wanted a unit at least, and went on until they had a final answer
	SoldOut bool          `json:"sold_out,omitempty"` // buyers went on until the last unit was sold
	Ended   bool          `json:"ended,omitempty"`    // the sale was ended, so that its events are complete
	Poison  string        `json:"poison,omitempty"`   // how the names of those begin whose orders no store takes

	Bounds  []Bound       `json:"bounds,omitempty"`
	Clocks  []Clock       `json:"clocks,omitempty"`
	Faults  []Fault       `json:"faults,omitempty"`
	Stalls  []Span        `json:"stalls,omitempty"` // in which a bystander who only writes was kept waiting, in the order of time
	Budget  time.Duration `json:"budget,omitempty"` // within which a door answers, whatever its neighbours do; 0: any time
	Settle  time.Duration `json:"settle"`           // within which all is settled, once the run is over
	Rest    int64         `json:"rest,omitempty"`   // the last moment before buyers came
	Samples []Sample      `json:"samples,omitempty"`
	Rooms   []Room        `json:"rooms,omitempty"`
}

// Door is a front door.
type Door struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	Metrics string `json:"metrics,omitempty"` // address; empty: it does not tell
}

// Bound is the share of the bound that a door has from a moment on.
type Bound struct {
	At    int64  `json:"at"`
	Door  string `json:"door"`
	Bound int64  `json:"bound"`
}

// Clock is one reading of the database's clock, somewhen between two moments.
type Clock struct {
	Before   int64     `json:"before"`
	After    int64     `json:"after"`
	Database time.Time `json:"database"`
}

// Fault is what was done to a part, or to a connection of it.
type Fault struct {
	From int64  `json:"from"`
	To   int64  `json:"to"`   // when it was healed; as From: it was over at once
	Part string `json:"part"` // as doors are called, or what else there is
	What string `json:"what"`
}

// Span is a time.
type Span struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

// ReadRun reads a run's folder.
func ReadRun(dir string) (r Run, history []Event, err error) {
	text, err := os.ReadFile(filepath.Join(dir, RunFile))
	if err != nil {
		return r, nil, err
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, nil, fmt.Errorf("%s: %w", RunFile, err)
	}
	if r.Sale == "" || r.Admin == "" || r.Database == "" || len(r.Doors) == 0 {
		return r, nil, fmt.Errorf("%s: want sale, admin, database and doors", RunFile)
	}
	f, err := os.Open(filepath.Join(dir, HistoryFile))
	if err != nil {
		return r, nil, err
	}
	history, err = ReadHistory(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return r, nil, fmt.Errorf("%s: %w", HistoryFile, err)
	}
	if len(history) == 0 {
		return r, nil, fmt.Errorf("%s is empty: nothing was tested", HistoryFile)
	}
	return r, history, nil
}

// Write writes the run's description into a folder.
func (r Run) Write(dir string) error { return writeJSON(filepath.Join(dir, RunFile), r) }

func writeJSON(path string, v any) error {
	text, err := json.MarshalIndent(v, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o600)
}
