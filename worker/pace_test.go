package worker

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
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
