package sluice

import (
	"fmt"
	"math"
	"strings"
	"testing"
)

func TestPools_ValidateNamesWhatIsWrong(t *testing.T) {
	many := map[string]Pool{}
	for n := range MaxPools + 1 {
		many[fmt.Sprint("p", n)] = Pool{}
	}
	rate := func(r float64) map[string]Pool { return map[string]Pool{"settle": {Rate: &r}} }
	window := func(n int) map[string]Pool { return map[string]Pool{"settle": {Window: &n}} }
	for _, c := range []struct {
		pools map[string]Pool
		wrong string // empty: nothing
	}{
		{nil, ""},
		{map[string]Pool{"settle": {}, "vip-2.b_c": {}}, ""},
		{map[string]Pool{"": {}}, `pool "": want 1 to 64`},
		{map[string]Pool{"Settle": {}}, `pool "Settle"`},
		{map[string]Pool{strings.Repeat("x", MaxPoolName): {}}, ""},
		{map[string]Pool{strings.Repeat("x", MaxPoolName+1): {}}, "want 1 to 64"},
		{many, "101; want at most 100"},
		{rate(0), ""},
		{rate(1), ""},
		{rate(2.5), ""},
		{rate(MaxDrainRate), ""},
		{rate(0.5), "pool settle: rate 0.5: want 0, or 1 to 1000000"},
		{rate(-1), "rate -1"},
		{rate(1e7), "rate 1e+07"},
		{rate(math.NaN()), "rate NaN"},
		{rate(math.Inf(1)), "rate +Inf"},
		{window(0), ""},
		{window(MaxWindow), ""},
		{window(-1), "pool settle: window -1: want 0, which pauses it, to 100000"},
		{window(MaxWindow + 1), "window 100001"},
	} {
		err := (&Pools{Pools: c.pools}).Validate()
		if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%+v: error %v, want %q", c.pools, err, c.wrong)
		}
	}
}
