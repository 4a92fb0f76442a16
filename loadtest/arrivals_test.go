package loadtest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestArrivals_FollowTheirCurve(t *testing.T) {
	const length = 20 * time.Second
	for _, a := range []Arrivals{
		{Rate: 100},
		{Rate: 0, To: 200},
		{Rate: 200, To: 0, Curve: Linear},
		{Rate: 400, To: 20, Curve: Decay},
		{Rate: 20, To: 400, Curve: Decay},
		{Rate: 50, To: 50, Curve: Decay},
		{Rate: 50, To: 250, Curve: Step, Steps: 5},
		{Rate: 0, To: 100, Curve: Step, Steps: 2},
	} {
		for _, a.Random = range []bool{false, true} {
			t.Run(fmt.Sprintf("%+v", a), func(t *testing.T) {
				times := slices.Collect(a.times(length, rand.New(rand.NewPCG(1, 2))))
				want := a.count(length)
				slack := 2.0
				if a.Random {
					slack = 4 * math.Sqrt(want)
				}
				if got := float64(len(times)); math.Abs(got-want) > slack {
					t.Errorf("%v requests, want %v ± %v", got, want, slack)
				}
				if !slices.IsSorted(times) || times[0] < 0 || times[len(times)-1] >= length {
					t.Errorf("from %v to %v, sorted %v; want them in order within %v", times[0], times[len(times)-1], slices.IsSorted(times), length)
				}
				for s := range 20 {
					from, to := time.Duration(s)*time.Second, time.Duration(s+1)*time.Second
					i, _ := slices.BinarySearch(times, from)
					j, _ := slices.BinarySearch(times, to)
					want, slack := a.between(from, to, length), 2.0
					if a.Random {
						slack = 5*math.Sqrt(want) + 2
					}
					if got := float64(j - i); math.Abs(got-want) > slack {
						t.Errorf("second %d has %v requests, want %v ± %v", s, got, want, slack)
					}
				}
			})
		}
	}
}

// between integrates the rate, as the scenario's words have it, in small steps.
func (a Arrivals) between(from, to, length time.Duration) (sum float64) {
	const step = time.Millisecond
	for at := from; at < to; at += step {
		x := (at + step/2).Seconds() / length.Seconds()
		var rate float64
		switch a.shape() {
		case Constant:
			rate = a.Rate
		case Linear:
			rate = a.Rate + (a.To-a.Rate)*x
		case Decay:
			rate = a.Rate * math.Pow(a.To/a.Rate, x)
		case Step:
			rate = a.Rate + (a.To-a.Rate)*math.Floor(x*float64(a.Steps))/float64(a.Steps-1)
		}
		sum += rate * step.Seconds()
	}
	return sum
}

func TestArrivals_AtRandomArePoisson(t *testing.T) {
	times := slices.Collect(Arrivals{Rate: 1000, Random: true}.times(100*time.Second, rand.New(rand.NewPCG(3, 4))))
	var counts [1000]float64 // in tenths of a second: 100 each, and so is the variance
	for _, at := range times {
		counts[at/(100*time.Millisecond)]++
	}
	var mean, variance float64
	for _, n := range counts {
		mean += n / float64(len(counts))
	}
	for _, n := range counts {
		variance += (n - mean) * (n - mean) / float64(len(counts))
	}
	if math.Abs(mean-100) > 2 || variance < 80 || variance > 120 {
		t.Errorf("mean %v and variance %v, want 100 and 100", mean, variance)
	}
}
