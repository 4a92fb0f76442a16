package loadtest

import (
	"math"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// longest is the longest time that a histogram tells from longer ones.
const longest = 10 * time.Minute

// newHistogram counts times in microseconds, to three digits.
func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, longest.Microseconds(), 3) }

// latencyOf describes a distribution of microseconds; for a picture, with the curve of its quantiles.
func latencyOf(h *hdrhistogram.Histogram, curve bool) Latency {
	l := Latency{
		Count: h.TotalCount(), Mean: h.Mean() / 1000, Max: float64(h.Max()) / 1000,
		P50: quantile(h, 0.5), P90: quantile(h, 0.9), P99: quantile(h, 0.99), P999: quantile(h, 0.999),
	}
	if curve && l.Count > 0 {
		l.Curve = curveOf(h)
	}
	return l
}

func quantile(h *hdrhistogram.Histogram, q float64) float64 {
	return float64(h.ValueAtPercentile(q*100)) / 1000
}

// The curve has equal steps in log(1/(1-q)), as HdrHistogram's own plots: each further nine takes the same room.
const (
	stepsEachNine = 10
	mostNines     = 6
)

// curveOf are quantiles from 0 to 1. It goes into the tail no further than there are values to tell quantiles by.
func curveOf(h *hdrhistogram.Histogram) []Quantile {
	finest := 1 / float64(h.TotalCount())
	var points []Quantile
	for step := 0; step <= stepsEachNine*mostNines; step++ {
		rest := math.Pow(10, -float64(step)/stepsEachNine)
		if rest < finest {
			break
		}
		q := math.Round((1-rest)*1e8) / 1e8
		points = append(points, Quantile{Q: q, MS: quantile(h, q)})
	}
	return append(points, Quantile{Q: 1, MS: float64(h.Max()) / 1000})
}
