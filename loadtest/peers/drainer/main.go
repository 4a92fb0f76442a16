// Command drainer has orders in memory and settles them as fast as it can, in batches or one by one, once it is asked to. It is a
// worker without a queue: nothing has to be carried, repeated, told or given back.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"sync"

	"sluice/loadtest/peers/till"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "address where POST /drain begins")
	store := flag.String("store", "", "URL of the database")
	sale := flag.String("sale", "rush", "the sale of every order")
	count := flag.Int("orders", 10_000, "how many")
	size := flag.Int("batch", 256, "orders in one transaction; 1: each in one of its own")
	writers := flag.Int("writers", 1, "connections; each has buyers of its own")
	flag.Parse()
	ctx := context.Background()
	t, err := till.Open(ctx, *store, *sale, *writers)
	if err != nil {
		log.Fatal(err)
	}
	orders := make([]till.Order, *count)
	for i := range orders {
		orders[i] = till.Numbered(*sale, i)
	}
	http.HandleFunc("POST /drain", func(w http.ResponseWriter, _ *http.Request) {
		if err := drain(ctx, t, orders, *size, *writers); err != nil {
			log.Print(err)
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = io.WriteString(w, "{}")
	})
	log.Fatal(http.ListenAndServe(*listen, nil)) //nolint:gosec // loopback, for one request
}

// drain settles all orders; each writer has a part of them.
func drain(ctx context.Context, t *till.Till, orders []till.Order, size, writers int) error {
	errs := make(chan error, writers)
	var all sync.WaitGroup
	for w := range writers {
		part := orders[w*len(orders)/writers : (w+1)*len(orders)/writers]
		all.Go(func() { errs <- settle(ctx, t, part, size) })
	}
	all.Wait()
	for range writers {
		if err := <-errs; err != nil {
			return err
		}
	}
	return nil
}

func settle(ctx context.Context, t *till.Till, orders []till.Order, size int) error {
	for begin := 0; begin < len(orders); begin += size {
		batch := orders[begin:min(begin+size, len(orders))]
		refused, err := t.Settle(ctx, batch)
		if err != nil {
			return err
		}
		for i, reason := range refused {
			return fmt.Errorf("order %d was refused: %s", begin+i, reason)
		}
	}
	return nil
}
