package worker

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"
)

func TestPace_HoldsItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pace
		for _, rate := range []float64{1, 2.5, 1000, 300_000} {
			p.set(rate, 10)
			began := time.Now()
			const orders = 500
			for range orders {
				p.take()
			}
			want := time.Duration(float64(time.Second) / rate * (orders - 1)) // the first one need not wait
			if d := time.Since(began); d < want-time.Microsecond*orders || d > want+time.Microsecond*orders {
				t.Errorf("%d orders at %v a second took %v, want %v", orders, rate, d, want)
			}
		}
	})
}

// A wall clock that is set back, or forward, changes nothing: ratelimit would sleep for as long as it went back.
func TestPace_GoesByNoWallClock(t *testing.T) {
	born := time.Now()
	// The first word of a time.Time with a monotonic reading has seconds of the wall clock from its 30th bit on (package time).
	*(*uint64)(unsafe.Pointer(&born)) -= 3600 << 30
	if off := time.Until(born); off > -time.Second/2 && off < time.Second/2 && time.Now().Round(0).Sub(born.Round(0)).Round(time.Minute) == time.Hour {
		if now := (clock{born: born}).Now(); time.Now().Round(0).Sub(now.Round(0)).Round(time.Minute) != time.Hour {
			t.Errorf("a clock that began at %v an hour ago by the wall shows %v", born, now)
		}
		return
	}
	t.Fatalf("%v is no time whose wall clock is an hour behind: another package time", born)
}

// Commits take time too: a batch catches up on its own.
func TestPace_KeepsTheRateWhileBatchesAreCommitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pace
		p.set(1000, 100)
		began := time.Now()
		for range 20 {
			for range 100 {
				p.take()
			}
			time.Sleep(90 * time.Millisecond) // the commit
		}
		if d := time.Since(began); d > 2100*time.Millisecond {
			t.Errorf("2000 orders at 1000 a second took %v", d)
		}
	})
}

func TestPace_ANewRateCountsAtOnceForThoseWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pace
		p.set(1, 1)
		var wg sync.WaitGroup
		began := time.Now()
		for range 100 {
			wg.Go(p.take)
		}
		time.Sleep(1500 * time.Millisecond) // two have had their turn
		p.set(100, 10)
		wg.Wait()
		if d := time.Since(began); d < 2400*time.Millisecond || d > 2500*time.Millisecond {
			t.Errorf("100 orders took %v; want 1.5 s for two of them, and 98 hundredths for the rest", d)
		}
		p.set(1, 1)
		p.take()
		wg.Go(p.take)
		synctest.Wait()
		began = time.Now()
		p.set(0, 1)
		wg.Wait()
		if d := time.Since(began); d != 0 {
			t.Errorf("it waited %v without a rate", d)
		}
	})
}
