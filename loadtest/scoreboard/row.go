package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"
)

// row is one line of the scoreboard. A new one is a file with its measure, and a line here.
type row struct {
	id, title  string
	must, then float64 // what the figure has to reach, and what comes next
	least      bool    // the figure must be at least that; otherwise at most
	unit       string  // of the figure: "×" for a ratio
	meaning    string  // for who reads the table
	measure    func(context.Context, *lab) (figure, error)
}

var rows = []row{shedding, accepting, committing, draining, refusing, bounding}

// figure is what a row found.
type figure struct {
	ratio  float64
	spread [2]float64 // the lowest and the highest of what ratio is the median of
	runs   int        // how many those were
	sides  map[string]side
	note   string

	against string       // the side that ratio is over, where there are others too
	also    []comparison // with those
}

// comparison is one more ratio of a row, which must be reached too.
type comparison struct {
	Against string     `json:"against"`
	Ratio   float64    `json:"ratio"`
	Spread  [2]float64 `json:"spread"`
	Runs    int        `json:"runs"`
	Must    float64    `json:"must"` // at least
	Then    float64    `json:"then"`
	OK      bool       `json:"ok"`
}

func newComparison(against string, f figure, must, then float64) comparison {
	return comparison{
		Against: against, Ratio: f.ratio, Spread: f.spread, Runs: f.runs, Must: must, Then: then,
		OK: row{least: true}.reaches(f.ratio, must),
	}
}

// side is what was seen of one side, for the reader.
type side struct {
	CPU       float64            `json:"cpu_us,omitempty"`   // of all its processes, for one answer; median
	Parts     map[string]float64 `json:"parts_us,omitempty"` // the same by process
	PerSecond float64            `json:"per_second,omitempty"`
	P50       float64            `json:"p50_ms,omitempty"`
	P99       float64            `json:"p99_ms,omitempty"`
	Answers   map[string]int64   `json:"answers,omitempty"` // by status and reason
	Figures   map[string]float64 `json:"figures,omitempty"` // whatever else the row tells
}

// over makes a figure of several runs of the same ratio.
func over(ratios []float64) figure {
	return figure{ratio: median(ratios), spread: [2]float64{slices.Min(ratios), slices.Max(ratios)}, runs: len(ratios)}
}

func median(of []float64) float64 {
	sorted := slices.Sorted(slices.Values(of))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// reaches says whether the figure is as good as wanted. What is not a number reaches nothing.
func (r row) reaches(figure, wanted float64) bool {
	if math.IsNaN(figure) {
		return false
	}
	if r.least {
		return figure >= wanted
	}
	return figure <= wanted
}

// interleaved runs sides in turn, A B B A A B …, so that whatever slows the machine for a while slows all; each round is one
// ratio. It answers what each side did, in the order of the rounds.
func interleaved[T any](rounds int, sides ...func() (T, error)) ([][]T, error) {
	done := make([][]T, len(sides))
	for round := range rounds {
		for i := range sides {
			if round%2 == 1 {
				i = len(sides) - 1 - i
			}
			did, err := sides[i]()
			if err != nil {
				return nil, fmt.Errorf("round %d: %w", round+1, err)
			}
			done[i] = append(done[i], did)
		}
	}
	return done, nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
