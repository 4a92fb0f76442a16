// Package figure writes numbers as people read them: with as many digits as mean something, and a comma after each three.
package figure

import (
	"math"

	"github.com/dustin/go-humanize"
)

// Number writes v with three digits at least, as far as they mean something.
func Number(v float64) string {
	digits := 0
	if v == math.Trunc(v) {
		return humanize.Commaf(v)
	}
	for size := math.Abs(v); size > 0 && size < 99.95 && digits < 6; size *= 10 {
		digits++
	}
	return humanize.CommafWithDigits(round(v, digits), digits)
}

func round(v float64, digits int) float64 {
	scale := math.Pow10(digits)
	return math.Round(v*scale) / scale
}

// Percent writes a share as what it is of a hundred.
func Percent(share float64) string { return humanize.CommafWithDigits(round(100*share, 1), 1) + " %" }

// Change writes a difference as a share, with its sign.
func Change(share float64) string {
	sign := "+"
	if share < 0 {
		sign, share = "-", -share
	}
	return sign + Percent(share)
}
