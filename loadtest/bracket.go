package loadtest

import (
	"fmt"
	"math"
)

// bracket is what is known of a limit that rates have: the highest that was good, and the lowest that was not; 0 where there is
// none yet.
type bracket struct{ good, bad float64 }

// next is the rate to try: a ramp by factor, up from the last good rate or down from the last bad one, and once there are both, the
// middle between them. As steps are shares of a rate, the middle is the geometric one. Such a search of an unbounded range is
// J. L. Bentley and A. C. Yao, "An almost optimal algorithm for unbounded searching", Information Processing Letters 5(3), 1976.
func (b bracket) next(from, factor float64) float64 {
	switch {
	case b.good == 0 && b.bad == 0:
		return from
	case b.bad == 0:
		return b.good * factor
	case b.good == 0:
		return b.bad / factor
	}
	return math.Sqrt(b.good) * math.Sqrt(b.bad)
}

// both reports whether the limit lies between two rates that were tried.
func (b bracket) both() bool { return b.good > 0 && b.bad > 0 }

// rateText is a rate as people are told it.
func rateText(rate float64) string {
	if rate < 100 {
		return fmt.Sprintf("%.3g/s", rate)
	}
	return fmt.Sprintf("%.0f/s", rate)
}

// within reports whether v is a number from least to most; NaN is not.
func within(v, least, most float64) bool { return v >= least && v <= most }
