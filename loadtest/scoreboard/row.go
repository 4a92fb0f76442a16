package main

import (
	"context"
	"fmt"
	"math"
	"slices"
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

var rows = []row{shedding, accepting, refusing, bounding}

// figure is what a row found.
type figure struct {
	ratio  float64
	spread [2]float64 // the lowest and the highest of what ratio is the median of
	runs   int        // how many those were
	sides  map[string]side
	note   string
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

// interleaved runs two sides in turn, A B B A A B …, so that whatever slows the machine for a while slows both; each pair is
// one ratio.
func interleaved(pairs int, a, b func() (window, error)) (as, bs []window, err error) {
	for i := range 2 * pairs {
		side, windows := a, &as
		if i%4 == 1 || i%4 == 2 {
			side, windows = b, &bs
		}
		w, err := side()
		if err != nil {
			return nil, nil, fmt.Errorf("window %d: %w", i+1, err)
		}
		*windows = append(*windows, w)
	}
	return as, bs, nil
}
