package limiter

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestBuckets_AllowABurstThenTheRate(t *testing.T) {
	b := NewBuckets(100)
	now := time.Hour
	rate := Rate{PerSecond: 10, Burst: 3}
	for n := range 3 {
		if wait := b.Take(now, 7, rate); wait != 0 {
			t.Errorf("request %d of the burst waits %v", n, wait)
		}
	}
	if wait := b.Take(now, 7, rate); wait != 100*time.Millisecond {
		t.Errorf("after the burst: wait %v, want 100ms", wait)
	}
	if wait := b.Take(now, 8, rate); wait != 0 {
		t.Errorf("another caller waits %v", wait)
	}
	if wait := b.Take(now+100*time.Millisecond, 7, rate); wait != 0 {
		t.Errorf("after the time it was told: wait %v", wait)
	}
	if wait := b.Take(now, 7, Rate{}); wait != 0 {
		t.Errorf("without a rate: wait %v", wait)
	}
}

// A caller who comes as fast as it can gets its rate and its burst, no more, from however many goroutines.
func TestBuckets_HoldTheRateUnderRace(t *testing.T) {
	b := NewBuckets(1000)
	rate := Rate{PerSecond: 100, Burst: 5}
	began := time.Hour
	var allowed atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for ms := range 1000 { // one second, seen by everybody at their own pace
				if b.Take(began+time.Duration(ms)*time.Millisecond, 42, rate) == 0 {
					allowed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := allowed.Load(); n < 99 || n > 105 {
		t.Errorf("%d requests in a second at 100/s and a burst of 5", n)
	}
}

// P9: ten million made-up users take no more room than the first thousand, and a known caller's limit holds among few.
func TestBuckets_TenMillionCallersDoNotGrowThem(t *testing.T) {
	b := NewBuckets(1 << 16)
	cells := 0
	for i := range b.shards {
		cells += len(b.shards[i].cells)
	}
	now := time.Hour
	n := testing.AllocsPerRun(1, func() {
		for range 5_000_000 { // AllocsPerRun runs it twice
			now += 100 * time.Nanosecond
			b.Take(now, rand.Uint64(), Rate{PerSecond: 10, Burst: 1})
		}
	})
	after := 0
	for i := range b.shards {
		after += len(b.shards[i].cells)
	}
	if n != 0 || after != cells || cells > 1<<17 {
		t.Errorf("%v allocations, %d cells before and %d after", n, cells, after)
	}
}

func BenchmarkBuckets(b *testing.B) {
	t := NewBuckets(1 << 20)
	now := time.Hour
	b.ReportAllocs()
	for b.Loop() {
		t.Take(now, rand.Uint64(), Rate{PerSecond: 10, Burst: 10})
	}
}

// A rate may change at any time: a caller never waits longer than the present one asks for.
func TestBuckets_ForgetAWaitThatASlowerRateImposed(t *testing.T) {
	b := NewBuckets(100)
	slow, fast := Rate{PerSecond: 0.001, Burst: 1}, Rate{PerSecond: 10, Burst: 1}
	b.Take(time.Second, 7, slow)
	if wait := b.Take(time.Second, 7, slow); wait != 1000*time.Second {
		t.Errorf("wait %v at the slow rate", wait)
	}
	if wait := b.Take(time.Second, 7, fast); wait != 100*time.Millisecond {
		t.Errorf("wait %v at the fast rate", wait)
	}
}
