package main

import (
	"context"
	"hash/maphash"

	"sluice/loadtest/peers/till"
)

// batcher settles orders that wait at the same time together. Each writer has buyers of its own, which the statement needs.
type batcher struct {
	till    *till.Till
	size    int
	seed    maphash.Seed
	writers []chan waiting
}

// waiting is an order whose buyer waits.
type waiting struct {
	order till.Order
	told  chan<- outcome
}

type outcome struct {
	reason string
	err    error
}

func newBatcher(t *till.Till, size, writers int) *batcher {
	b := &batcher{till: t, size: size, seed: maphash.MakeSeed()}
	for range writers {
		queue := make(chan waiting, 10_000)
		b.writers = append(b.writers, queue)
		go b.write(queue) // for as long as the program runs
	}
	return b
}

func (b *batcher) settle(ctx context.Context, o till.Order) (string, error) {
	told := make(chan outcome, 1)
	select {
	case b.writers[maphash.String(b.seed, o.Buyer)%uint64(len(b.writers))] <- waiting{o, told}:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	select {
	case got := <-told:
		return got.reason, got.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// write settles whatever waits, as soon as what was settled before is done.
func (b *batcher) write(queue <-chan waiting) {
	batch, orders := make([]waiting, 0, b.size), make([]till.Order, 0, b.size)
	for first := range queue {
		batch, orders = append(batch[:0], first), append(orders[:0], first.order)
		for more := true; more && len(batch) < b.size; {
			select {
			case w := <-queue:
				batch, orders = append(batch, w), append(orders, w.order)
			default:
				more = false
			}
		}
		refused, err := b.till.Batch(context.Background(), orders)
		for i, w := range batch {
			w.told <- outcome{refused[i], err}
		}
	}
}
