package journal

import (
	"encoding/binary"
	"fmt"
	"testing"

	"sluice"
)

// BenchmarkAppend confirms orders that arrive together in batches of 1, 16 and 256, each batch by one real sync.
func BenchmarkAppend(b *testing.B) {
	for _, batch := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			opts := options(b, nil)
			opts.Dir = b.TempDir()
			j := open(b, opts)
			o := *order(1)
			n := uint64(0)
			b.ReportAllocs()
			for b.Loop() {
				var c *Commit
				for range batch {
					n++
					binary.BigEndian.PutUint64(o.ID[:], n)
					var err error
					if c, err = j.Append(&o, o.ID); err != nil {
						b.Fatal(err)
					}
				}
				<-c.Done()
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "orders/s")
		})
	}
}

// BenchmarkSettled looks up orders that are not there, as every new order does.
func BenchmarkSettledMiss(b *testing.B) {
	opts := options(b, nil)
	opts.Dir = b.TempDir()
	j := open(b, opts)
	for n := range 10_000 {
		appendAllNoWait(b, j, n)
	}
	missing := sluice.OrderID{0xff}
	b.ReportAllocs()
	for b.Loop() {
		missing[15]++
		if _, ok, err := j.Settled(missing); ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}

func appendAllNoWait(b *testing.B, j *Journal, n int) {
	b.Helper()
	if _, err := j.Append(order(n), order(n).ID); err != nil {
		b.Fatal(err)
	}
}
