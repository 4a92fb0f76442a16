// Command counter is a shop without a queue: Kratos' HTTP server with the rate limit of its documentation (aegis' BBR with its
// defaults), which answers a buyer when the order is committed. Orders are settled one by one, or in batches that gather by
// themselves: whatever waits when a writer is free.
package main

import (
	"context"
	"encoding/hex"
	"flag"
	"log"
	"net/http"
	"time"

	"github.com/go-kratos/kratos/v2/errors"
	klog "github.com/go-kratos/kratos/v2/log"
	"github.com/go-kratos/kratos/v2/middleware/ratelimit"
	"github.com/go-kratos/kratos/v2/middleware/recovery"
	khttp "github.com/go-kratos/kratos/v2/transport/http"

	"sluice/loadtest/peers/till"
)

// settle settles one order and answers why it was refused; empty: it is held.
type settle func(ctx context.Context, o till.Order) (reason string, err error)

// request is what a buyer sends, as the service takes it.
type request struct {
	User     string `json:"user"`
	Quantity int64  `json:"quantity"`
}

type reply struct {
	Order  string `json:"order"`
	Status string `json:"status"`
}

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "address to serve")
	store := flag.String("store", "", "URL of the database")
	sale := flag.String("sale", "rush", "the sale")
	size := flag.Int("batch", 1, "most orders in one transaction; 1: each in one of its own")
	connections := flag.Int("connections", 16, "connections to the database; with batches as many write at the same time")
	flag.Parse()
	klog.SetLogger(klog.NewFilter(klog.GetLogger(), klog.FilterLevel(klog.LevelError)))
	t, err := till.Open(context.Background(), *store, *sale, *connections)
	if err != nil {
		log.Fatal(err)
	}
	sell := one(t)
	if *size > 1 {
		sell = newBatcher(t, *size, *connections).settle
	}
	// Kratos' time limit is a second; an order that was cut off might be committed all the same.
	server := khttp.NewServer(khttp.Address(*listen), khttp.Timeout(10*time.Second), khttp.Middleware(recovery.Recovery(), ratelimit.Server()))
	server.Route("/").POST("/v1/sales/{sale}/orders", handler(*sale, sell))
	log.Fatal(server.Start(context.Background()))
}

// one settles every order in a transaction of its own.
func one(t *till.Till) settle {
	return func(ctx context.Context, o till.Order) (string, error) {
		refused, err := t.One(ctx, o)
		return refused[0], err
	}
}

func handler(sale string, sell settle) khttp.HandlerFunc {
	return func(c khttp.Context) error {
		var in request
		if err := c.Bind(&in); err != nil {
			return err
		}
		if c.Vars().Get("sale") != sale || in.User == "" || in.Quantity < 1 {
			return errors.BadRequest("bad-request", "want a user, a quantity and a sale that there is")
		}
		key := c.Header().Get("Idempotency-Key")
		answer, err := c.Middleware(func(ctx context.Context, _ any) (any, error) {
			o := till.New(sale, in.User, key, in.Quantity)
			reason, err := sell(ctx, o)
			if err != nil {
				return nil, err
			}
			if reason != "" {
				return nil, errors.Conflict(reason, "the order was refused")
			}
			return &reply{Order: hex.EncodeToString(o.ID[:]), Status: "held"}, nil
		})(c, &in)
		if err != nil {
			return err
		}
		return c.JSON(http.StatusAccepted, answer)
	}
}
