package limiter

import (
	"math/rand/v2"
	"runtime"
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

// No caller ever gets more than its burst and rate x time, whoever else asks meanwhile, and although goroutines read the
// clock and then wait for a lock: the times that one bucket sees go back and forth.
func TestBuckets_NobodyGetsMoreThanTheRateUnderRace(t *testing.T) {
	const callers, goroutines, rounds = 64, 16, 2000
	b := NewBuckets(callers * bucketWays * 4)
	rate := Rate{PerSecond: 50, Burst: 4}
	began, lasts := time.Hour, 4*time.Second
	var clock atomic.Int64 // of all goroutines; each holds on to what it read for a while
	var allowed [callers]atomic.Int64
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(uint64(g), 1))
			for range rounds {
				now := began + time.Duration(clock.Load())
				for range 8 {
					caller := random.IntN(callers)
					if b.Take(now, uint64(caller), rate) == 0 { // caller 0 is like an empty cell
						allowed[caller].Add(1)
					}
				}
				clock.Add(int64(lasts) / (goroutines * rounds))
			}
		})
	}
	wg.Wait()
	most := int64(rate.Burst) + int64(rate.PerSecond*lasts.Seconds())
	for caller := range allowed {
		if n := allowed[caller].Load(); n > most || n < most/2 {
			t.Errorf("caller %d got %d in %v at %v/s and a burst of %d; want at most %d", caller, n, lasts, rate.PerSecond, rate.Burst, most)
		}
	}
}

// A time that was read earlier and comes later finds the same bucket.
func TestBuckets_ALateReaderOfTheClockGetsNoSecondBucket(t *testing.T) {
	b := NewBuckets(100)
	rate := Rate{PerSecond: 1, Burst: 2}
	now, got := time.Hour, 0
	take := func(at time.Duration) {
		if b.Take(at, 7, rate) == 0 {
			got++
		}
	}
	take(now)
	take(now + 5*time.Second) // the bucket has been full again since four seconds
	for range 5 {
		take(now)
	}
	take(now + 5*time.Second)
	if got != 3 { // one, and after the rest the burst of two
		t.Errorf("%d requests in five seconds, of which three were asked for at their end; want 3", got)
	}
}

// Under a flood of made-up callers for whom there is no room, one who has used its burst is not forgotten, so long as each
// of the others asks once: it gets its burst and its rate.
func TestBuckets_HoldABusyCallerAmidAFloodUnderRace(t *testing.T) {
	const goroutines, milliseconds, strangers = 8, 500, 100
	b := NewBuckets(512) // one set a shard
	rate := Rate{PerSecond: 20, Burst: 5}
	began := time.Hour
	var allowed atomic.Int64
	for range rate.Burst {
		if b.Take(began, 42, rate) == 0 {
			allowed.Add(1)
		}
	}
	for ms := range milliseconds {
		now := began + time.Duration(ms)*time.Millisecond
		var wg sync.WaitGroup
		for range goroutines {
			wg.Go(func() {
				for range strangers / goroutines {
					b.Take(now, rand.Uint64(), rate)
				}
				if b.Take(now, 42, rate) == 0 {
					allowed.Add(1)
				}
			})
		}
		wg.Wait()
	}
	if n, want := allowed.Load(), int64(rate.Burst)+milliseconds*20/1000; n > want || n < want-1 {
		t.Errorf("%d requests in half a second at 20/s and a burst of 5; want %d", n, want)
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
	var before, end runtime.MemStats
	runtime.ReadMemStats(&before)
	n := testing.AllocsPerRun(1000, func() { // so that what others allocate meanwhile is not taken for it
		for range 10_000 {
			now += 100 * time.Nanosecond
			b.Take(now, rand.Uint64(), Rate{PerSecond: 10, Burst: 1})
		}
	})
	runtime.ReadMemStats(&end)
	after := 0
	for i := range b.shards {
		after += len(b.shards[i].cells)
	}
	if bytes := end.TotalAlloc - before.TotalAlloc; n != 0 || bytes > 1<<20 || after != cells || cells > 1<<17 {
		t.Errorf("%v allocations, %d bytes, %d cells before and %d after", n, bytes, cells, after)
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
