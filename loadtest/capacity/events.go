// Package capacity reckons from a measured run how many machines of each kind a sale needs, how long buyers wait and what share of them
// is turned away. It assumes no cost that was not measured, and writes down each formula, margin and doubt with its numbers.
package capacity

import "sluice/loadtest"

// kind is what happens in a service and costs processor time.
type kind int

const (
	second   kind = iota // that a process is there
	accepted             // an order is answered 202
	refused              // an order is answered otherwise: refused, or told again of what it was promised
	page                 // a sale's page is asked for
	settled              // an order's outcome is told to its door
	carried              // an order is carried by nsqd: half by coming, half by leaving
	kinds
)

// events counts each kind.
type events [kinds]float64

func (e *events) add(o events) {
	for k := range e {
		e[k] += o[k]
	}
}

func (e events) sum(of []kind) (n float64) {
	for _, k := range of {
		n += e[k]
	}
	return n
}

// answers are all that a door is asked for.
func (e events) answers() float64 { return e[accepted] + e[refused] + e[page] }

// eventsOf counts what happened in a point of so many seconds.
func eventsOf(p *loadtest.Point, seconds float64) events {
	return events{
		second: seconds, accepted: float64(p.Accepted), refused: float64(p.Refused + p.Repeated), page: float64(p.Pages),
		settled: p.Settled, carried: (float64(p.Accepted) + p.Settled) / 2,
	}
}

// totals counts what happened in a round from its first phase until the last order was settled.
func totals(r *loadtest.Round, seconds float64) events {
	m := &r.Measured
	e := events{second: seconds, accepted: float64(m.Accepted), refused: float64(m.Repeated), page: float64(m.Pages), settled: float64(r.Audit.Settled)}
	for _, n := range m.Refused {
		e[refused] += float64(n)
	}
	e[carried] = (e[accepted] + e[settled]) / 2
	return e
}
