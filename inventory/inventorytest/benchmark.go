package inventorytest

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"sluice"
)

// Benchmark measures Reserve: every order is new, of a buyer of its own, on one hot sale that has units for all, so that
// each becomes a held row. It reports orders/s.
func Benchmark(b *testing.B, place func(t testing.TB) Place) {
	for _, size := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			t := newBench(b, place(b))
			t.sale("hot", sluice.MaxStock, limit(1))
			var serial atomic.Uint64
			for b.Loop() {
				if _, err := t.store.Reserve(b.Context(), fresh(size, &serial)); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "orders/s")
		})
	}
}

// fresh makes orders that were never seen, with ids spread as a keyed hash spreads them.
func fresh(n int, serial *atomic.Uint64) []sluice.Order {
	batch := make([]sluice.Order, n)
	now := time.Now()
	for i := range batch {
		k := serial.Add(1)
		o := sluice.Order{Sale: "hot", User: fmt.Sprintf("user-%012d", k), Quantity: 1, AcceptedAt: now}
		x := k * 0x9e3779b97f4a7c15 // an odd factor: every k gives another id
		binary.BigEndian.PutUint64(o.ID[:8], x)
		binary.BigEndian.PutUint64(o.ID[8:], x^x>>29)
		batch[i] = o
	}
	return batch
}
