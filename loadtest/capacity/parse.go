package capacity

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

const largest = 1e9 // of rates and counts: beyond it somebody mistyped

// ParseRate reads a rate such as "500000/s", "500k/s", "1.5M/s" or "30000/min", and answers it for a second.
func ParseRate(text string) (float64, error) {
	number, unit, _ := strings.Cut(text, "/")
	of, known := map[string]float64{"s": 1, "min": 60, "h": 3600}[unit]
	n, err := parse(number)
	if n /= of; err != nil || !known || !(n > 0 && n <= largest) {
		return 0, fmt.Errorf("%.40q: want a rate above 0 and up to 1000M/s, such as 500000/s, 500k/s or 30000/min", text)
	}
	return n, nil
}

// ParseCount reads a whole number such as "10000", "10k" or "1.5M".
func ParseCount(text string) (int64, error) {
	n, err := parse(text)
	if err != nil || !(n >= 1 && n <= largest) || n != math.Trunc(n) {
		return 0, fmt.Errorf("%.40q: want a whole number from 1 to 1000M, such as 10000 or 10k", text)
	}
	return int64(n), nil
}

// ParseShare reads a share such as "60%" or "0.6".
func ParseShare(text string) (float64, error) {
	number, percent := strings.CutSuffix(text, "%")
	n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if percent {
		n /= 100
	}
	if err != nil || !(n >= 0 && n <= 1) {
		return 0, fmt.Errorf("%.40q: want a share from 0 to 1, such as 0.6 or 60%%", text)
	}
	return n, nil
}

func parse(number string) (float64, error) {
	scale := 1.0
	for suffix, s := range map[string]float64{"k": 1e3, "K": 1e3, "M": 1e6} {
		if cut, found := strings.CutSuffix(number, suffix); found {
			number, scale = cut, s
			break
		}
	}
	n, err := strconv.ParseFloat(strings.ReplaceAll(number, "_", ""), 64)
	if strings.ContainsAny(number, "xXpP") { // it would take hexadecimal numbers too
		return 0, strconv.ErrSyntax
	}
	return n * scale, err
}
