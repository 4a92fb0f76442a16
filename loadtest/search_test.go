package loadtest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// probed is a service in place of the real one.
type probed func(ctx context.Context, stage string, rate float64) (Probe, error)

func quietly(string, ...any) {}

// sharp is a service that keeps its SLO up to its knee, and settles what it is offered up to there.
func sharp(knee float64) probed {
	return func(_ context.Context, _ string, rate float64) (Probe, error) {
		return Probe{Goodput: min(rate, knee), Kept: rate <= knee, Why: []string{"accepted p99 80 ms, the SLO allows 50 ms"}}, nil
	}
}

// noisy is a service whose knee is another one in each probe, and that has a bad moment in a share of them, at any rate.
func noisy(knee, moments float64, r *rand.Rand) probed {
	return func(ctx context.Context, stage string, rate float64) (Probe, error) {
		p, err := sharp(knee*(1+0.02*r.NormFloat64()))(ctx, stage, rate)
		p.Kept = p.Kept && r.Float64() >= moments
		p.Goodput *= 1 + 0.005*r.NormFloat64()
		return p, err
	}
}

// lagging is a service whose generator keeps up to a rate only.
func lagging(service probed, up float64) probed {
	return func(ctx context.Context, stage string, rate float64) (Probe, error) {
		p, err := service(ctx, stage, rate)
		if rate > up {
			p.Kept, p.Invalid = false, []string{"the generator could not keep up"}
		}
		return p, err
	}
}

func TestSearch_FindsASharpKneeWithinFivePercent(t *testing.T) {
	for _, knee := range []float64{11, 199, 200, 320, 3210, 48_000} {
		got, err := search(t.Context(), SearchOptions{}, sharp(knee), quietly)
		if err != nil || got.Sustains > knee || got.Sustains < knee/1.05 || got.Rate != got.Sustains || got.Margin != 0 || got.Limit != LimitService {
			t.Errorf("knee %v: found %+v, %v", knee, got, err)
		}
		repeats := 0
		for _, p := range got.Probes {
			if p.Stage == StageRepeat && p.Rate == got.Rate {
				repeats++
			}
		}
		if repeats < 6 || len(got.Why) != 1 || !strings.Contains(got.Why[0], "80 ms") {
			t.Errorf("knee %v: %d repeats, why %q", knee, repeats, got.Why)
		}
	}
}

func TestSearch_GoesUpThenBetweenThenRepeats(t *testing.T) {
	var rates []float64
	var stages []string
	_, err := search(t.Context(), SearchOptions{From: 100, Factor: 4, Within: 0.5}, func(ctx context.Context, stage string, rate float64) (Probe, error) {
		if len(rates) < 6 {
			rates, stages = append(rates, math.Round(rate)), append(stages, stage)
		}
		return sharp(500)(ctx, stage, rate)
	}, quietly)
	want := []float64{100, 400, 1600, 1600, 800, 800} // what fails is tried once more
	for i := range want {
		if err != nil || rates[i] != want[i] || (stages[i] == StageBisection) != (i >= 4) {
			t.Fatalf("tried %v in %v, %v; want %v", rates, stages, err, want)
		}
	}
}

func TestSearch_FindsANoisyKneeWithinTenPercent(t *testing.T) {
	const searches = 1000
	for moments, most := range map[float64]int{0: 0, 0.01: 0, 0.05: 10} { // so many may miss it: bad moments come three times in a row, too
		missed, partial := 0, 0
		for seed := range uint64(searches) {
			r := rand.New(rand.NewPCG(seed, 5))
			knee := 100 * math.Exp(4*r.Float64())
			got, err := search(t.Context(), SearchOptions{}, noisy(knee, moments, r), quietly)
			if off := got.Sustains/knee - 1; math.Abs(off) > 0.1 {
				missed++
				t.Logf("seed %d: knee %.0f, found %.0f ± %.0f, off by %.1f %%, with %d probes", seed, knee, got.Sustains, got.Margin, 100*off, len(got.Probes))
			}
			if errors.Is(err, errProbesSpent) {
				partial++
			} else if err != nil {
				t.Fatal(err)
			}
		}
		if missed > most || partial > searches/50 {
			t.Errorf("bad moments in %g of the probes: of %d searches %d missed the knee and %d needed more probes; want at most %d and %d",
				moments, searches, missed, partial, most, searches/50)
		}
	}
}

func TestSearch_IsNotMisledByOneBadProbeOfTheRamp(t *testing.T) {
	n := 0
	got, err := search(t.Context(), SearchOptions{}, func(ctx context.Context, stage string, rate float64) (Probe, error) {
		p, err := sharp(3210)(ctx, stage, rate)
		if n++; n == 3 {
			p.Kept = false
		}
		return p, err
	}, quietly)
	if err != nil || got.Sustains < 3210/1.05 {
		t.Errorf("found %v, %v", got.Sustains, err)
	}
}

func TestSearch_StepsDownFromALuckyProbe(t *testing.T) {
	got, err := search(t.Context(), SearchOptions{}, func(ctx context.Context, stage string, rate float64) (Probe, error) {
		knee := 1000.0
		if stage != StageRepeat {
			knee = 1150
		}
		return sharp(knee)(ctx, stage, rate)
	}, quietly)
	if err != nil || got.Sustains > 1000 || got.Sustains < 1000/1.06 {
		t.Errorf("found %v, %v", got.Sustains, err)
	}
}

func TestSearch_TakesTheMedianAndHalfTheWidestDistance(t *testing.T) {
	goodputs := []float64{1000, 980, 1020, 500, 990, 1010} // the one of 500 breaks the SLO, and is a part of the spread all the same
	n := 0
	got, err := search(t.Context(), SearchOptions{From: 1000, Ceiling: 1000 / nearCeiling}, func(_ context.Context, stage string, _ float64) (Probe, error) {
		if stage != StageRepeat {
			return Probe{Goodput: 777, Kept: true}, nil
		}
		n++
		return Probe{Goodput: goodputs[n-1], Kept: goodputs[n-1] > 900}, nil
	}, quietly)
	if err != nil || got.Sustains != 995 || got.Margin != 260 || n != 6 {
		t.Errorf("found %v ± %v of %d repeats, %v; want 995 ± 260 of 6", got.Sustains, got.Margin, n, err)
	}
}

// P1 to P10: what a service carries while it breaks one is no figure, and one good try later does not mend it.
func TestSearch_EndsAtABrokenPromise(t *testing.T) {
	for _, invalid := range [][]string{nil, {"the generator could not keep up"}} {
		n := 0
		got, err := search(t.Context(), SearchOptions{}, func(ctx context.Context, stage string, rate float64) (Probe, error) {
			p, err := sharp(1000)(ctx, stage, rate)
			if n++; n == 4 {
				p.Wrong, p.Invalid = []string{"P1: rush has 11 units held or sold, of 10"}, invalid
			}
			return p, err
		}, quietly)
		if n != 4 || !errors.Is(err, errPartial) || got.Limit != LimitPromise || got.Sustains != 0 || got.Rate != 0 ||
			!strings.Contains(strings.Join(got.Why, "; "), "P1: rush has 11") {
			t.Errorf("after %d probes: %+v, %v", n, got, err)
		}
	}
}

// The rounds of a report are those that its figure is of, whatever was tried after them.
func TestProber_KeepsTheValidRepeatsOfTheRateThatWasFound(t *testing.T) {
	p := &prober{repeats: []played{{rate: 1000}, {rate: 1000}, {rate: 1050}, {rate: 1000}}, last: &played{rate: 1050}}
	if got := p.of(&Search{Rate: 1000}); len(got) != 3 || got[2].rate != 1000 {
		t.Errorf("of 1,000/s: %d rounds", len(got))
	}
	if got := p.of(&Search{}); len(got) != 1 || got[0].rate != 1050 {
		t.Errorf("where nothing was found: %d rounds, want the last one", len(got))
	}
}

func TestSearch_SaysAtLeastWhereTheGeneratorEnds(t *testing.T) {
	for _, c := range []struct {
		name        string
		o           SearchOptions
		probe       probed
		least, most float64
	}{
		{"its ceiling is near", SearchOptions{Ceiling: 9000}, sharp(math.Inf(1)), 8100, 8100},
		{"its ceiling is below the start", SearchOptions{Ceiling: 100}, sharp(math.Inf(1)), 90, 90},
		{"it lags", SearchOptions{}, lagging(sharp(math.Inf(1)), 3210), 3210 / (1 + coarse), 3210},
		{"it lags everywhere", SearchOptions{}, lagging(sharp(math.Inf(1)), 0), 0, 0},
	} {
		got, err := search(t.Context(), c.o, c.probe, quietly)
		if err != nil || got.Limit != LimitGenerator || !within(got.Sustains, c.least, c.most) || len(got.Why) == 0 {
			t.Errorf("%s: %v because of the %s %q, %v; want %v to %v", c.name, got.Sustains, got.Limit, got.Why, err, c.least, c.most)
		}
	}
	got, err := search(t.Context(), SearchOptions{Ceiling: 9000}, lagging(sharp(3000), 4000), quietly)
	if err != nil || got.Limit != LimitService {
		t.Errorf("a service that ends before the generator: limit %s, %v", got.Limit, err)
	}
}

func TestSearch_BelievesAnInvalidProbeTheThirdTime(t *testing.T) {
	for invalid, limit := range map[int]string{2: LimitService, 3: LimitGenerator} {
		n := 0
		got, err := search(t.Context(), SearchOptions{From: 100, Factor: 1.05}, func(ctx context.Context, stage string, rate float64) (Probe, error) {
			p, err := sharp(100)(ctx, stage, rate)
			if n++; n > 1 && n <= 1+invalid { // the second rate, which is bad either way
				p.Invalid = []string{"steal"}
			}
			return p, err
		}, quietly)
		if err != nil || got.Limit != limit || got.Sustains != 100 {
			t.Errorf("%d invalid probes: %v because of the %s, %v; want 100 because of the %s", invalid, got.Sustains, got.Limit, err, limit)
		}
	}
}

func TestSearch_OfAServiceThatIsNeverGoodSaysWhy(t *testing.T) {
	got, err := search(t.Context(), SearchOptions{}, sharp(0), quietly)
	if err != nil || got.Sustains != 0 || got.Rate != 0 || got.Limit != LimitService || len(got.Why) != 1 || !strings.Contains(got.Why[0], "80 ms") {
		t.Errorf("found %+v, %v", got, err)
	}
	if last := got.Probes[len(got.Probes)-1].Rate; last > 10 {
		t.Errorf("it gave up at %v/s", last)
	}
}

func TestSearch_AnswersWhatThereIsWhenItEnds(t *testing.T) {
	over := errors.New("Ctrl-C")
	broke := errors.New("the door does not start")
	for _, c := range []struct {
		name     string
		o        SearchOptions
		stop     func(n int, cancel context.CancelCauseFunc) error
		is       error
		limit    string
		sustains float64
		probes   int
	}{
		{"before it began", SearchOptions{}, nil, over, LimitEnd, 0, 0},
		{"in the ramp", SearchOptions{}, func(n int, cancel context.CancelCauseFunc) error {
			if n == 3 {
				cancel(over)
			}
			return nil
		}, over, LimitEnd, 320, 2}, // the third was cut short
		{"by a failure", SearchOptions{}, func(n int, _ context.CancelCauseFunc) error {
			if n == 3 {
				return broke
			}
			return nil
		}, broke, LimitEnd, 320, 2},
		{"with its probes", SearchOptions{MostProbes: 10}, func(int, context.CancelCauseFunc) error { return nil }, errProbesSpent, LimitProbes, 819.2, 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			n := 0
			if c.stop == nil {
				cancel(over)
			}
			got, err := search(ctx, c.o, func(ctx context.Context, stage string, rate float64) (Probe, error) {
				n++
				if err := c.stop(n, cancel); err != nil {
					return Probe{}, err
				}
				return sharp(3210)(ctx, stage, rate)
			}, quietly)
			if !errors.Is(err, errPartial) || !errors.Is(err, c.is) || !strings.Contains(err.Error(), "partial") || got.Limit != c.limit ||
				math.Abs(got.Sustains-c.sustains) > 1e-6 || len(got.Probes) != c.probes || len(got.Why) == 0 {
				t.Errorf("found %+v, %v", got, err)
			}
		})
	}
}

func TestSearch_RefusesImpossibleOptions(t *testing.T) {
	for _, c := range []struct {
		o    SearchOptions
		says string
	}{
		{SearchOptions{From: -1}, "search from -1 orders a second: want 1 to 10000000"},
		{SearchOptions{From: math.NaN()}, "from NaN"},
		{SearchOptions{Factor: 1}, "factor 1: want 1.05 to 10"},
		{SearchOptions{Factor: math.Inf(1)}, "factor +Inf"},
		{SearchOptions{Within: 0.9}, "within 0.9: want a share of the knee, 0.005 to 0.5"},
		{SearchOptions{Repeats: 5}, "repeats 5: want 6 to 500"},
		{SearchOptions{MostProbes: 9}, "probes 9: want 10 to 1000 with 6 repeats"},
		{SearchOptions{Ceiling: -5}, "ceiling -5"},
	} {
		_, err := search(t.Context(), c.o, func(context.Context, string, float64) (Probe, error) {
			t.Errorf("%+v was begun", c.o)
			return Probe{}, nil
		}, quietly)
		if err == nil || errors.Is(err, errPartial) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v; want %q", c.o, err, c.says)
		}
	}
}

func TestSearch_TellsEachProbe(t *testing.T) {
	var said []string
	_, err := search(t.Context(), SearchOptions{}, lagging(sharp(1000), 1100), func(format string, a ...any) {
		said = append(said, fmt.Sprintf(format, a...))
	})
	all := strings.Join(said, "\n")
	for _, want := range []string{
		"ramp at 200/s: keeps the SLO (settled 200/s, accepted p99 0 ms)\n", "ramp at 1311/s: invalid (", ": the generator could not keep up\n",
		"bisection at", "breaks the SLO (", "repeat at",
	} {
		if err != nil || !strings.Contains(all, want) {
			t.Errorf("%v; it does not say %q but %s", err, want, all)
		}
	}
}

// Whatever the probes answer, the search ends in bounded time, tries rates within its range only, and claims nothing that was not
// repeated and kept.
func TestSearch_IsBoundedAndHonestWhateverItSees(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := SearchOptions{
			From: rapid.Float64Range(1, 10_000).Draw(t, "from"), Factor: rapid.Float64Range(1.05, 10).Draw(t, "factor"),
			Within: rapid.Float64Range(0.005, 0.5).Draw(t, "within"), Repeats: rapid.IntRange(6, 12).Draw(t, "repeats"),
			Ceiling: rapid.SampledFrom([]float64{0, 1, 500, 20_000}).Draw(t, "ceiling"),
		}
		o.MostProbes = o.Repeats + rapid.IntRange(minProbes, 60).Draw(t, "probes")
		good := rapid.SampledFrom([]float64{0, 0.1, 0.5, 0.9, 1}).Draw(t, "good")
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		n := 0
		got, err := search(context.Background(), o, func(_ context.Context, _ string, rate float64) (Probe, error) {
			n++
			if top := maxRate; !within(rate, 0.0001, top) || o.Ceiling > 0 && rate > o.Ceiling*nearCeiling {
				t.Fatalf("it tries %v/s", rate)
			}
			p := Probe{Goodput: rate, Kept: r.Float64() < good}
			if r.Float64() < 0.2 {
				p.Invalid = []string{"steal"}
			}
			return p, nil
		}, quietly)
		if n > o.MostProbes || n != len(got.Probes) {
			t.Fatalf("%d probes of at most %d; %d are told", n, o.MostProbes, len(got.Probes))
		}
		if err != nil && !errors.Is(err, errProbesSpent) || (err == nil) == (got.Limit == LimitProbes) {
			t.Fatalf("limit %s, %v", got.Limit, err)
		}
		kept := 0
		for _, p := range got.Probes {
			if p.Stage == StageRepeat && p.Rate == got.Rate && p.Kept && len(p.Invalid) == 0 {
				kept++
			}
		}
		if err == nil && got.Sustains > 0 && kept < o.Repeats-1 {
			t.Fatalf("sustains %v with %d repeats kept of %d", got.Sustains, kept, o.Repeats)
		}
	})
}
