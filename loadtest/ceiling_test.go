package loadtest

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// keepsUpTo keeps up to a rate, and takes two seconds for each try.
func keepsUpTo(up float64) func(context.Context, float64) (Figures, error) {
	return func(_ context.Context, rate float64) (Figures, error) {
		time.Sleep(2 * time.Second)
		n := int64(2 * rate)
		f := Figures{
			Planned: n, Sent: n, Accepted: n, Lag: Latency{Count: n, P99: 0.3}, Latency: map[Class]Latency{Accepted: {Count: n, P99: 0.7}},
			CPU: map[string]float64{"generator": 2 * rate * 20e-6, "null": 99},
		}
		if rate > up {
			f.Lag.P99 = 40
		}
		return f, nil
	}
}

func TestCeiling_IsTheHighestRateThatWasReached(t *testing.T) {
	for _, up := range []float64{60, 900, 1000, 5000, 18_000} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			got, err := ceiling(t.Context(), CeilingOptions{}, keepsUpTo(up))
			if err != nil || got.Rate > up || got.Rate < up/1.12 || got.LagP99 != 0.3 || got.P99 != 0.7 || math.Abs(got.CPUEach-20) > 0.1 {
				t.Errorf("up to %v/s: %+v, %v", up, got, err)
			}
			if took := time.Since(began); took > 30*time.Second {
				t.Errorf("up to %v/s: it took %v", up, took)
			}
		})
	}
}

func TestCeiling_EndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		got, err := ceiling(t.Context(), CeilingOptions{}, func(ctx context.Context, rate float64) (Figures, error) {
			time.Sleep(5 * time.Second) // it needs time of its own besides
			return keepsUpTo(math.Inf(1))(ctx, rate)
		})
		if took := time.Since(began); err != nil || took > 35*time.Second || got.Rate < 3000 {
			t.Errorf("%+v in %v, %v", got, took, err)
		}
	})
	tries := 0
	if got, err := ceiling(t.Context(), CeilingOptions{}, func(context.Context, float64) (Figures, error) {
		tries++ // in no time
		return Figures{Planned: 1, Sent: 1, Lag: Latency{Count: 1}}, nil
	}); err != nil || tries > 15 || got.Rate > maxRate {
		t.Errorf("%d tries: %+v, %v", tries, got, err)
	}
}

func TestCeiling_OfAGeneratorThatNeverKeepsUpIsAnErrorWithFigures(t *testing.T) {
	for _, c := range []struct {
		f    Figures
		says string
	}{
		{Figures{Planned: 2000, Sent: 2000, Lag: Latency{Count: 2000, P99: 40}}, "40 ms late"},
		{Figures{Planned: 2000, Sent: 1900, Lag: Latency{Count: 1900}}, "100 of 2000 planned requests (5 %)"},
		{
			Figures{Planned: 2000, Sent: 2000, Lag: Latency{Count: 2000}, Failed: map[string]int64{"refused": 2000}},
			"2000 of 2000 requests failed against a server that does nothing (refused)",
		},
		{Figures{}, "nothing was measured"},
	} {
		got, err := ceiling(t.Context(), CeilingOptions{}, func(context.Context, float64) (Figures, error) { return c.f, nil })
		if err == nil || !strings.Contains(err.Error(), c.says) || got != (Ceiling{}) {
			t.Errorf("%+v, %v; want %q", got, err, c.says)
		}
	}
}

func TestCeiling_IsNotMisledByOneBadTry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		got, err := ceiling(t.Context(), CeilingOptions{}, func(ctx context.Context, rate float64) (Figures, error) {
			if tries++; tries == 2 {
				return keepsUpTo(0)(ctx, rate)
			}
			return keepsUpTo(5000)(ctx, rate)
		})
		if err != nil || got.Rate < 4500 {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

func TestCeiling_AnswersWhatWasReachedWhenItIsEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeoutCause(t.Context(), 5*time.Second, errors.New("Ctrl-C"))
		defer cancel()
		got, err := ceiling(ctx, CeilingOptions{}, keepsUpTo(5000))
		if err == nil || !strings.Contains(err.Error(), "Ctrl-C") || got.Rate != 1500 {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

func TestCeiling_RefusesImpossibleOptions(t *testing.T) {
	for _, c := range []struct {
		o    CeilingOptions
		says string
	}{
		{CeilingOptions{From: math.NaN()}, "from NaN requests a second: want 1 to 10000000"},
		{CeilingOptions{Factor: 1}, "factor 1: want 1.05 to 10"},
		{CeilingOptions{Steps: 11}, "steps 11: want 1 to 10"},
		{CeilingOptions{For: time.Millisecond}, "tries of 1ms: want 100ms to 1m"},
		{CeilingOptions{Within: time.Second}, "within 1s: want three tries at least, 6s"},
	} {
		if _, err := ceiling(t.Context(), c.o, nil); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v; want %q", c.o, err, c.says)
		}
	}
}
