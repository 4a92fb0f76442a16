package loadtest

import (
	"iter"
	"math"
	"math/rand/v2"
	"time"
)

// times yields when requests are due, since the phase's start and in order. An even stream has its requests where the rate's integral
// reaches 0.5, 1.5, 2.5 …; a random one where it reaches the times of a Poisson process of rate one, which makes it a Poisson process
// along the curve (time-rescaling; Çınlar, Introduction to Stochastic Processes, 1975, ch. 4.7).
func (a Arrivals) times(length time.Duration, random *rand.Rand) iter.Seq[time.Duration] {
	return func(yield func(time.Duration) bool) {
		if a.Rate <= 0 && a.To <= 0 {
			return
		}
		for reached := a.first(random); ; reached += a.gap(random) {
			due := a.when(reached, length.Seconds())
			if math.IsNaN(due) || due >= length.Seconds() || !yield(time.Duration(due*float64(time.Second))) {
				return
			}
		}
	}
}

func (a Arrivals) first(random *rand.Rand) float64 {
	if a.Random {
		return random.ExpFloat64()
	}
	return 0.5
}

func (a Arrivals) gap(random *rand.Rand) float64 {
	if a.Random {
		return random.ExpFloat64()
	}
	return 1
}

// when is the time at which the integral of the rate reaches so many requests; NaN or beyond the length: it does not.
func (a Arrivals) when(reached, length float64) float64 {
	from, to := a.Rate, a.end()
	switch {
	case a.shape() == Step:
		return a.whenStep(reached, length)
	case from == to:
		return reached / from
	case a.shape() == Decay: // rate = from × e^(-kt)
		k := math.Log(from/to) / length
		return -math.Log1p(-reached*k/from) / k
	default: // rate = from + slope × t; of the two forms of the root this one does not cancel
		slope := (to - from) / length
		return 2 * reached / (from + math.Sqrt(from*from+2*slope*reached))
	}
}

// whenStep is when for a stair of rates.
func (a Arrivals) whenStep(reached, length float64) float64 {
	each := length / float64(a.Steps)
	for i := range a.Steps {
		rate := a.stair(i)
		if n := rate * each; reached >= n {
			reached -= n
			continue
		}
		return float64(i)*each + reached/rate
	}
	return length
}

func (a Arrivals) stair(i int) float64 {
	if a.Steps < 2 {
		return a.Rate
	}
	return a.Rate + (a.To-a.Rate)*float64(i)/float64(a.Steps-1)
}

// shape is the curve, as it is where nothing is said.
func (a Arrivals) shape() Curve {
	switch {
	case a.Curve != "":
		return a.Curve
	case a.To != 0:
		return Linear
	}
	return Constant
}

// end is the rate at the phase's end.
func (a Arrivals) end() float64 {
	if a.shape() == Constant {
		return a.Rate
	}
	return a.To
}

// highest is the highest rate of the curve.
func (a Arrivals) highest() float64 { return max(a.Rate, a.end()) }

// count is how many requests a stream has, about where it is random.
func (a Arrivals) count(length time.Duration) float64 {
	s := length.Seconds()
	switch a.shape() {
	case Constant:
		return a.Rate * s
	case Decay:
		if a.Rate != a.To {
			return (a.Rate - a.To) / math.Log(a.Rate/a.To) * s
		}
	default:
	}
	return (a.Rate + a.end()) / 2 * s // of a stair with equal steps, too
}
