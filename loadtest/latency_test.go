package loadtest

import (
	"encoding/json"
	"math"
	"testing"
	"time"
)

func TestLatencyOf_IsOfTheRecordedTimes(t *testing.T) {
	h := newHistogram()
	for ms := 1; ms <= 1000; ms++ {
		record(h, time.Duration(ms)*time.Millisecond)
	}
	l := latencyOf(h, true)
	if l.Count != 1000 {
		t.Errorf("count: got %d, want 1000", l.Count)
	}
	for name, c := range map[string]struct{ got, want float64 }{
		"mean": {l.Mean, 500.5}, "p50": {l.P50, 500}, "p90": {l.P90, 900}, "p99": {l.P99, 990}, "p999": {l.P999, 999}, "max": {l.Max, 1000},
	} {
		if math.Abs(c.got-c.want) > c.want/1000 { // three digits
			t.Errorf("%s: got %v ms, want %v", name, c.got, c.want)
		}
	}
}

func TestLatencyOf_CountsWhatIsOutOfRangeAtItsEnd(t *testing.T) {
	h := newHistogram()
	record(h, -time.Second)
	record(h, 24*time.Hour)
	l := latencyOf(h, true)
	if l.Count != 2 || l.P50 != 0.001 || l.Max < 600_000 || l.Max > 601_000 {
		t.Errorf("got %+v, want one of 1 µs and one of 10 min", l)
	}
}

func TestLatencyOf_NothingIsZeroAndFitsIntoJSON(t *testing.T) {
	l := latencyOf(newHistogram(), true)
	if b, err := json.Marshal(l); err != nil || l.Count != 0 || l.Mean != 0 || l.Max != 0 || l.Curve != nil {
		t.Errorf("got %s, %v", b, err)
	}
}

func TestCurve_IsAsFineAsTheValuesTell(t *testing.T) {
	cases := map[string]struct {
		values, points int
		beforeLast     float64
	}{
		"one":        {1, 2, 0},
		"ten":        {10, 12, 0.9},
		"a thousand": {1000, 32, 0.999},
		"a million":  {1_000_000, 62, 0.999999},
		"more":       {3_000_000, 62, 0.999999},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			h := newHistogram()
			for i := range c.values {
				record(h, time.Duration(i%5000+1)*time.Millisecond)
			}
			curve := latencyOf(h, true).Curve
			if len(curve) != c.points || curve[0].Q != 0 || curve[len(curve)-1].Q != 1 || curve[len(curve)-2].Q != c.beforeLast {
				t.Fatalf("got %d points %v, want %d from 0 to %v and 1", len(curve), curve, c.points, c.beforeLast)
			}
			for i := 1; i < len(curve); i++ {
				if curve[i].Q <= curve[i-1].Q || curve[i].MS < curve[i-1].MS {
					t.Errorf("%v does not follow %v", curve[i], curve[i-1])
				}
			}
		})
	}
	if latencyOf(newHistogram(), false).Curve != nil {
		t.Error("a curve that nobody asked for")
	}
}
