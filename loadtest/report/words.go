package report

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// missing stands where a figure is not known.
const missing = "–"

// number has three digits that count, and thousands set apart: 12,345, 123, 12.3, 1.23.
func number(x float64) string {
	switch size := math.Abs(x); {
	case math.IsNaN(x) || math.IsInf(x, 0):
		return missing
	case size >= 99.95 || size == 0:
		return humanize.Commaf(math.Round(x))
	case size >= 9.995:
		return decimals(x, 1)
	case size >= 0.0995:
		return decimals(x, 2)
	default:
		return decimals(x, 3)
	}
}

// decimals leaves out those of whole numbers.
func decimals(x float64, n int) string {
	return strings.TrimSuffix(fmt.Sprintf("%.*f", n, x), "."+strings.Repeat("0", n))
}

func count(n int64) string { return humanize.Comma(n) }

// ms says a time that is given in milliseconds.
func ms(x float64) string {
	if x >= 1000 {
		return number(x/1000) + " s"
	}
	return number(x) + " ms"
}

// seconds says a time that is given in seconds.
func seconds(x float64) string {
	switch {
	case x >= 120 && x < 1e9:
		return strings.TrimSuffix(time.Duration(x*float64(time.Second)).Round(time.Second).String(), "0s")
	case x < 1:
		return number(x*1000) + " ms"
	}
	return number(x) + " s"
}

// percent says a share.
func percent(part, whole float64) string {
	if whole <= 0 {
		return missing
	}
	return number(100*part/whole) + " %"
}

// plain is a text as one line without anything that is not to be seen; what is longer than most columns is cut.
func plain(text string, columns int) string {
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r <= ' ' || r == 0x7f || r == 0x85 || r == '\u2028' || r == '\u2029' }), " ")
	text = strings.Map(func(r rune) rune {
		if r >= 0x80 && r < 0xa0 || r == 0xfffe || r == 0xffff { // not allowed in XML, or not seen
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "\ufffd"))
	if runes := []rune(text); len(runes) > columns {
		return string(runes[:columns-1]) + "…"
	}
	return text
}

// parts lists the parts of a sum, the largest first: "saturated 1,200, sold_out 30".
func parts(counts map[string]int64) string {
	names := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	var said []string
	for _, name := range names {
		said = append(said, plain(name, 60)+" "+count(counts[name]))
	}
	return strings.Join(said, ", ")
}

func sum(counts map[string]int64) int64 {
	var n int64
	for _, c := range counts {
		n += c
	}
	return n
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
