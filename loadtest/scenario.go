// Package loadtest measures what a service carries, in a way that does not flatter: requests start when they are due and not when
// the last answer came, latency is counted from then, and what was sold is counted in the database. A run whose generator could not
// keep up says so, and is not valid.
package loadtest

import "sluice"

// Scenario is a story to be played against a service, as a YAML file tells it.
type Scenario struct {
	Name        string          `yaml:"name" json:"name"`
	About       string          `yaml:"about" json:"about"` // in a sentence: what it is good for
	Seed        uint64          `yaml:"seed" json:"seed"`
	Parts       Parts           `yaml:"parts" json:"parts"` // what is started where no address is given
	Sales       []Sale          `yaml:"sales" json:"sales"`
	Crowd       Crowd           `yaml:"crowd" json:"crowd"`
	Connections int             `yaml:"connections" json:"connections"` // most of them at a time; requests wait for one, and that is counted
	Timeout     sluice.Duration `yaml:"timeout" json:"timeout"`         // of an answer, from its sending
	Warmup      Warmup          `yaml:"warmup" json:"warmup"`
	Phases      []Phase         `yaml:"phases" json:"phases"`
	Settle      sluice.Duration `yaml:"settle" json:"settle"` // most to wait in the end for orders to be settled
	SLO         SLO             `yaml:"slo" json:"slo"`
}

// Parts are the service's settings. What is 0 is as the service has it.
type Parts struct {
	Bound     int             `yaml:"bound" json:"bound"`
	MaxWait   sluice.Duration `yaml:"max_wait" json:"max_wait"`
	DrainRate float64         `yaml:"drain_rate" json:"drain_rate"` // orders a second; 0: as fast as the store
	Slow      Slow            `yaml:"slow" json:"slow"`
}

// Slow is a time in which somebody else keeps the orders' table to himself for a part of each moment, as a report or a migration does.
type Slow struct {
	From sluice.Duration `yaml:"from" json:"from"` // since the start of the first phase
	For  sluice.Duration `yaml:"for" json:"for"`   // 0: never
	Busy sluice.Duration `yaml:"busy" json:"busy"` // of each Of
	Of   sluice.Duration `yaml:"of" json:"of"`
}

// Sale is a sale that the load test makes, under a name of its own.
type Sale struct {
	Name          string          `yaml:"name" json:"name"`
	Stock         int64           `yaml:"stock" json:"stock"`
	PerUserLimit  int             `yaml:"per_user_limit" json:"per_user_limit"` // 0: 1
	PaymentWindow sluice.Duration `yaml:"payment_window" json:"payment_window"` // 0: orders are paid at once
	Weight        float64         `yaml:"weight" json:"weight"`                 // share of the requests, against the other sales'; 0: 1
	Opens         string          `yaml:"opens" json:"opens"`                   // with this phase; empty: at once
}

// Crowd is how buyers behave.
type Crowd struct {
	Buyers      int             `yaml:"buyers" json:"buyers"`             // how many there are, one drawn for each order; 0: each order has one of its own
	Quantity    int             `yaml:"quantity" json:"quantity"`         // units of an order; 0: 1
	Keyed       float64         `yaml:"keyed" json:"keyed"`               // share of orders with an Idempotency-Key
	DoubleClick float64         `yaml:"double_click" json:"double_click"` // share of orders that are sent twice,
	ClickWithin sluice.Duration `yaml:"click_within" json:"click_within"` // so much later at most
	Retry       float64         `yaml:"retry" json:"retry"`               // share of refused buyers who come again when they were told to; the others leave
	Tries       int             `yaml:"tries" json:"tries"`               // most requests for one order
}

// Warmup is orders for a sale of its own, which opens connections and warms caches, and is not measured.
type Warmup struct {
	For  sluice.Duration `yaml:"for" json:"for"`
	Rate float64         `yaml:"rate" json:"rate"`
}

// Phase is a part of the story. Orders and pages arrive by themselves.
type Phase struct {
	Name   string          `yaml:"name" json:"name"`
	For    sluice.Duration `yaml:"for" json:"for"`
	Orders Arrivals        `yaml:"orders" json:"orders"`
	Pages  Arrivals        `yaml:"pages" json:"pages"` // requests for the sale's page
}

// Arrivals is how requests come: along a curve of their rate, evenly or at random.
type Arrivals struct {
	Rate   float64 `yaml:"rate" json:"rate"`     // a second, at the phase's start
	To     float64 `yaml:"to" json:"to"`         // at its end; of constant it is the same
	Curve  Curve   `yaml:"curve" json:"curve"`   // empty: constant, or linear where there is a to
	Steps  int     `yaml:"steps" json:"steps"`   // of the curve step
	Random bool    `yaml:"random" json:"random"` // a Poisson process along the curve; otherwise as even as the curve allows
}

// Curve is the shape of a rate.
type Curve string

// Curves.
const (
	Constant Curve = "constant"
	Linear   Curve = "linear"
	Step     Curve = "step"  // from Rate to To in equal steps of equal length
	Decay    Curve = "decay" // exponentially from Rate to To: a crowd that has waited for the start
)

// SLO is what must hold for a run to be good. What is 0 is not asked for.
type SLO struct {
	AcceptedP99 sluice.Duration `yaml:"accepted_p99" json:"accepted_p99"`
	RefusedP99  sluice.Duration `yaml:"refused_p99" json:"refused_p99"`
	SojournP99  sluice.Duration `yaml:"sojourn_p99" json:"sojourn_p99"` // from admission to settlement
	Failed      float64         `yaml:"failed" json:"failed"`           // largest share of requests that may fail; it is asked for always
	Shed        *float64        `yaml:"shed" json:"shed"`               // largest share of orders that may be refused for load; missing: any
}
