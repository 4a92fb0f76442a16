package loadtest

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"sluice/loadtest/lab"
)

// RunFormat is the version of run.json. A reader refuses what it does not know.
const RunFormat = 1

// Run is all that is known of one load test, as run.json has it: enough to repeat it, to draw it, and to reckon with it. Times are in
// seconds or milliseconds as their names say, rates in events a second, processor time in seconds of one core.
type Run struct {
	Format    int         `json:"format"` // RunFormat
	Scenario  Scenario    `json:"scenario"`
	Command   string      `json:"command"` // that repeats it
	Began     time.Time   `json:"began"`
	Took      float64     `json:"took_s"`
	Partial   bool        `json:"partial"`           // it ended before its time: figures are of what was until then
	Failure   string      `json:"failure,omitempty"` // what ended it; empty: whoever started it did
	Commit    string      `json:"commit"`
	Machine   lab.Machine `json:"machine"`
	Store     string      `json:"store"`  // sqlite, postgres; of a foreign address: unknown
	Target    string      `json:"target"` // URL of the front door; empty: parts of its own
	Seed      uint64      `json:"seed"`
	Plan      string      `json:"plan"`                // SHA-256 over the planned requests: equal for equal scenarios and seeds
	Ceiling   *Ceiling    `json:"ceiling,omitempty"`   // what the generator reaches by itself here
	Discarded []string    `json:"discarded,omitempty"` // why rounds were not believed and played again
	Rounds    []Round     `json:"rounds"`              // at least one; each with a fresh service, those of a search with fresh sales
	Search    *Search     `json:"search,omitempty"`    // of a capacity search
}

// Ceiling is what the generator reaches against a server that answers at once and does nothing else: nobody can measure above it.
type Ceiling struct {
	Rate    float64 `json:"rate"` // requests a second that it sent in time
	LagP99  float64 `json:"lag_p99_ms"`
	P99     float64 `json:"p99_ms"`      // of the answers at that rate
	CPUEach float64 `json:"cpu_each_us"` // processor time of the generator, a request
}

// Round is one pass of a scenario.
type Round struct {
	Measured Figures   `json:"measured"` // without the warm-up
	Phases   []Figures `json:"phases"`
	Series   []Point   `json:"series"` // one a second
	Audit    Audit     `json:"audit"`
	Recovery Recovery  `json:"recovery"`
	Invalid  []string  `json:"invalid"` // why its figures can't be believed; empty: they can
	Broken   []string  `json:"broken"`  // which limits of the SLO it broke, with figures; empty: none
}

// Figures are what was seen in a time.
type Figures struct {
	Name    string  `json:"name"`   // of the phase
	From    float64 `json:"from_s"` // since the start of the first phase
	For     float64 `json:"for_s"`
	Planned int64   `json:"planned"` // requests that were due: what the plan has, and what buyers do because of the answers
	Sent    int64   `json:"sent"`
	Orders  int64   `json:"orders"` // of those sent, requests to buy; the others ask for the sale's page

	Accepted int64            `json:"accepted"` // answered 202
	Repeated int64            `json:"repeated"` // answered 200 with the order of an earlier request
	Pages    int64            `json:"pages"`    // answered 200 with the sale
	Refused  map[string]int64 `json:"refused"`  // answered otherwise, and definitely, by reason
	Failed   map[string]int64 `json:"failed"`   // not answered, or not definitely, by what went wrong

	Latency map[Class]Latency `json:"latency"` // from the intended start; a class without requests is missing
	Lag     Latency           `json:"lag"`     // from the intended start to the wire, without the wait: the generator's own
	Wait    Latency           `json:"wait"`    // for a connection, where others had them all
	Slow    float64           `json:"slow"`    // share of the connections' time that went to requests which the service kept longer than the SLO allows

	Offered float64 `json:"offered"` // orders due a second
	Goodput float64 `json:"goodput"` // orders settled a second, from the first phase's start until the last was settled; 0 for a single phase

	CPU  map[string]float64 `json:"cpu_s"`                 // processor time by process; generator is the load test itself
	Each float64            `json:"cpu_per_1000_orders_s"` // processor time of all but the generator for 1,000 accepted orders
}

// Class is a kind of answer whose latencies are kept apart.
type Class string

// Classes of answers.
const (
	Accepted Class = "accepted"
	Repeated Class = "repeated"
	Page     Class = "page"
	Refused  Class = "refused"
	Failed   Class = "failed"
)

// Classes lists them in the order of reports.
func Classes() []Class { return []Class{Accepted, Repeated, Page, Refused, Failed} }

// Latency is a distribution of times.
type Latency struct {
	Count int64      `json:"count"`
	Mean  float64    `json:"mean_ms"`
	P50   float64    `json:"p50_ms"`
	P90   float64    `json:"p90_ms"`
	P99   float64    `json:"p99_ms"`
	P999  float64    `json:"p999_ms"`
	Max   float64    `json:"max_ms"`
	Curve []Quantile `json:"curve,omitempty"` // for a picture, up to the largest; of whole rounds only
}

// Quantile is a point of a distribution.
type Quantile struct {
	Q  float64 `json:"q"` // 0 to 1
	MS float64 `json:"ms"`
}

// Point is one second of a round, or less at its end. Requests are counted where they were due, answers where they came.
type Point struct {
	At       float64 `json:"at_s"` // its end, since the start of the first phase
	Planned  int64   `json:"planned"`
	Sent     int64   `json:"sent"`
	Late     int64   `json:"late"`   // of the planned: by more than the gate allows
	Orders   int64   `json:"orders"` // due requests to buy
	Accepted int64   `json:"accepted"`
	Repeated int64   `json:"repeated"`
	Pages    int64   `json:"pages"`
	Refused  int64   `json:"refused"`
	Shed     int64   `json:"shed"` // of the refused: for load
	Failed   int64   `json:"failed"`

	AcceptedP99 float64 `json:"accepted_p99_ms"`
	RefusedP99  float64 `json:"refused_p99_ms"`

	Gap         bool    `json:"gap,omitempty"` // somebody's metrics did not answer: of his, what they were before
	Settled     float64 `json:"settled"`       // orders, by the workers' counters: of a foreign service everybody's
	Outstanding float64 `json:"outstanding"`   // orders at all doors
	Bound       float64 `json:"bound"`         // in force, of all doors
	Window      float64 `json:"window"`        // RDY of all workers' pools
	InHand      float64 `json:"in_hand"`
	DrainRate   float64 `json:"drain_rate"` // that the pools are set to; 0: as fast as the store
	Commit      float64 `json:"commit_ms"`  // lately

	CPU    map[string]float64 `json:"cpu"`       // cores in use, by process
	Memory map[string]float64 `json:"memory_mb"` // resident, by process
	GC     map[string]float64 `json:"gc_ms"`     // paused for garbage collection in this second, by process
}

// Audit is what the database says in the end: the goodput is counted here.
type Audit struct {
	Balanced bool             `json:"balanced"`
	Promised int64            `json:"promised"` // different orders that were answered 202 or 200
	Settled  int64            `json:"settled"`  // orders of the measured sales found settled
	States   map[string]int64 `json:"states"`
	Sold     int64            `json:"sold"`     // units sold or held
	Stock    int64            `json:"stock"`    // units there were, with what was added
	Sojourn  Latency          `json:"sojourn"`  // from admission to settlement, by the database's rows
	Read     int64            `json:"read"`     // of these many orders, at most
	Sampled  int64            `json:"sampled"`  // that have both times; below 99 % of those read the sojourn is not known
	Negative int64            `json:"negative"` // of these: settled before they were admitted, by clocks that differ
	Wrong    []string         `json:"wrong"`    // promises that were not kept; empty: none
}

// Recovery is how the service took the burst.
type Recovery struct {
	FirstShed *float64 `json:"first_shed_s,omitempty"`       // from the first phase's start to the first refusal for load; nil: none
	ShedIn    string   `json:"first_shed_in,omitempty"`      // the phase in which it was
	ShedAfter float64  `json:"first_shed_after_s,omitempty"` // from that phase's start
	Idle      *float64 `json:"idle_s,omitempty"`             // from the last answer of the last phase until nothing was outstanding; nil: not within the time given
	Calm      *float64 `json:"calm_s,omitempty"`             // from the end of the phase with the highest rate until accepted orders are answered within the SLO, nothing fails and nothing is shed for load; nil: never, or no later phase
}

// Search is a capacity search: a ramp, a bisection, and repeats around the knee.
type Search struct {
	Probes   []Probe  `json:"probes"`
	Rate     float64  `json:"rate"`     // offered in the repeats that count, the knee; 0: none kept the SLO
	Sustains float64  `json:"sustains"` // orders a second, the median of the valid repeats there
	Margin   float64  `json:"margin"`   // half of the widest distance between them
	Limit    string   `json:"limit"`    // what ended it: service or promise; and where the figure is a lower bound, generator, probes or interrupted
	Why      []string `json:"why"`      // it does not sustain more
}

// Probe is one try of a rate.
type Probe struct {
	Stage   string   `json:"stage"` // ramp, bisection or repeat
	Rate    float64  `json:"rate"`  // offered, orders a second
	Goodput float64  `json:"goodput"`
	P99     float64  `json:"accepted_p99_ms"`
	Sojourn float64  `json:"sojourn_p99_ms"`
	Shed    int64    `json:"shed"`
	Kept    bool     `json:"kept"` // the SLO
	Why     []string `json:"why"`  // it was broken
	Invalid []string `json:"invalid"`
	Wrong   []string `json:"wrong,omitempty"` // promises that were not kept; they end the search
}

// Interval is the latencies of one class of answers in a part of a round, as the histogram log keeps them.
type Interval struct {
	Round  int // from 1
	Class  Class
	From   time.Time // the answers came since then,
	For    time.Duration
	Values *hdrhistogram.Histogram // microseconds, from the intended start
}
