package journal

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
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
					if c, _, err = j.Append(&o, o.ID); err != nil {
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
	if _, _, err := j.Append(order(n), order(n).ID); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkLife appends orders and settles them, a batch at a time and in another order, as a door does.
func BenchmarkLife(b *testing.B) {
	const batch = 256
	opts := options(b, nil)
	opts.Dir = b.TempDir()
	j := open(b, opts)
	random := rand.New(rand.NewPCG(1, 2))
	statuses := make([]sluice.Status, batch)
	b.ReportAllocs()
	for b.Loop() {
		for i := range statuses {
			o := order(i)
			o.ID = randomID(random)
			if _, _, err := j.Append(o, o.ID); err != nil {
				b.Fatal(err)
			}
			statuses[i] = sluice.Status{Order: o.ID, Sale: "demo", User: o.User, State: sluice.Held, Version: 2, Units: 1}
		}
		c, err := j.Settle(statuses)
		if err != nil {
			b.Fatal(err)
		}
		<-c.Done()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch), "ns/order")
}
