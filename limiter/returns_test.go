package limiter

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
)

func TestReturns_FirstIsToldWhenThereIsRoom(t *testing.T) {
	for _, c := range []struct {
		what               string
		outstanding, bound int64
		rate               float64
		want               time.Duration
	}{
		{"half a second at least", 1000, 1000, 1000, 500 * time.Millisecond},
		{"a tenth of the bound", 10_000, 10_000, 100, 10 * time.Second},
		{"a bound that has shrunk: first down to it", 2000, 1000, 100, 11 * time.Second},
		{"no longer than reasonable", 10_000, 10_000, 1, 30 * time.Second},
		{"a drain that all but stands", 10_000, 10_000, 1e-12, 30 * time.Second},
		{"a bound of nothing", 0, 0, 1000, 500 * time.Millisecond},
	} {
		var r Returns
		if got := r.After(time.Hour, c.outstanding, c.bound, c.rate); got != c.want {
			t.Errorf("%s: After(%d, %d, %v) = %v, want %v", c.what, c.outstanding, c.bound, c.rate, got, c.want)
		}
	}
}

// Whoever asks at the same time is told a time of their own, from many goroutines too: no two the same, as dense as the
// drain, and nobody beyond what is reasonable.
func TestReturns_GiveEachATimeOfTheirOwnUnderRace(t *testing.T) {
	const rate, goroutines, each = 100.0, 32, 125 // 4,000 refused; thirty seconds have room for 2,950
	var r Returns
	told := make([][]time.Duration, goroutines)
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for range each {
				told[g] = append(told[g], r.After(time.Hour, 100, 100, rate))
			}
		})
	}
	wg.Wait()
	all := slices.Concat(told...)
	slices.Sort(all)
	const own = 2950
	for i, wait := range all {
		want := 500*time.Millisecond + time.Duration(i)*10*time.Millisecond
		if i >= own {
			want = latestReturn
		}
		if wait != want {
			t.Fatalf("refusal %d of %d is told %v, want %v", i, len(all), wait, want)
		}
	}
	if again := r.After(time.Hour+time.Minute, 100, 100, rate); again != soonestReturn {
		t.Errorf("a minute later, with nobody waiting: %v, want %v", again, soonestReturn)
	}
}

// Those who are refused in one moment do not come back in one: their times fill [d, 1.5d) evenly at least, however fast the
// drain.
func TestJitter_SpreadsAHerd(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	const herd, slices = 10_000, 10
	for _, d := range []time.Duration{soonestReturn, 10 * time.Second, latestReturn} {
		var count [slices]int
		for range herd {
			wait := Jitter(d, random.Float64())
			if wait < d || wait >= d*3/2 {
				t.Fatalf("%v is outside [%v, %v)", wait, d, d*3/2)
			}
			count[int((wait-d)*2*slices/d)]++
		}
		for i, n := range count {
			if n < herd*7/100 || n > herd*13/100 {
				t.Errorf("slice %d of [%v, %v) has %d of %d", i, d, d*3/2, n, herd)
			}
		}
	}
}

// P7: what a refused buyer is told is honest: at a steady drain, whoever comes back then finds room. Of 10,000 who are
// refused in a tenth of a second and all heed it, nearly all come in at the first return where thirty seconds drain so many, and as
// many as drain in that time otherwise.
func TestReturns_WhoHeedsThemFindsRoom(t *testing.T) {
	const herd = 10_000
	for _, c := range []struct {
		bound int64
		rate  float64
		want  float64 // share that comes in at the first return
	}{
		{10_000, 20_000, 0.99},
		{10_000, 2000, 0.99},
		{5000, 500, 0.99},
		{1000, 1000, 0.99},
		{1000, 300, 0.99},
		{1000, 100, 0.40}, // forty-five seconds drain 4,500
		{100, 1000, 0.99},
	} {
		if got := firstReturns(herd, c.bound, c.rate); got < c.want {
			t.Errorf("bound %d, drain %v/s: %.1f %% of %d come in at their first return, want %.0f %%",
				c.bound, c.rate, 100*got, herd, 100*c.want)
		} else {
			t.Logf("bound %d, drain %v/s: %.1f %% of %d come in at their first return", c.bound, c.rate, 100*got, herd)
		}
	}
}

// firstReturns lets a herd that found a full queue within a tenth of a second come back as it is told, and answers which
// share finds room then. The queue drains one by one; while the herd is refused others take every place, and none come later.
func firstReturns(herd int, bound int64, rate float64) float64 {
	const rush = 100 * time.Millisecond
	random := rand.New(rand.NewPCG(3, 4))
	var r Returns
	back := make([]time.Duration, herd)
	for i := range back {
		now := time.Hour + time.Duration(i)*rush/time.Duration(herd)
		back[i] = now + Jitter(r.After(now, bound, bound, rate), random.Float64())
	}
	slices.Sort(back)
	outstanding, in, last := float64(bound), 0, time.Hour+rush
	for _, now := range back {
		outstanding = max(0, outstanding-max(0, (now-last).Seconds())*rate)
		last = max(last, now)
		if outstanding+1 <= float64(bound) {
			outstanding++
			in++
		}
	}
	return float64(in) / float64(herd)
}
