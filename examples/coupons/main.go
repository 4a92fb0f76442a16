// Command coupons gives a buyer a coupon for every paid order, one an order, however often its event comes. It takes the
// events in batches, one transaction each.
package main

import (
	"context"
	"flag"
	"os"
	"time"

	"github.com/go-kratos/kratos/v2"
	"github.com/go-kratos/kratos/v2/log"
	"github.com/go-kratos/kratos/v2/middleware/logging"
	"github.com/go-kratos/kratos/v2/middleware/recovery"
	"github.com/go-kratos/kratos/v2/transport/http"

	"sluice/examples/internal/kit"
	"sluice/knsq"
)

func main() {
	nsqd := flag.String("nsqd", "127.0.0.1:4150", "where sluice's nsqd is")
	listen := flag.String("listen", "127.0.0.1:8102", "address to serve")
	file := flag.String("db", "coupons.db", "file to keep the coupons in")
	flag.Parse()
	logger := log.NewStdLogger(os.Stderr)
	if err := run(*nsqd, *listen, *file, logger); err != nil {
		log.NewHelper(logger).Fatal(err)
	}
}

func run(nsqd, listen, file string, logger log.Logger) error {
	drawer, err := openDrawer(context.Background(), file)
	if err != nil {
		return err
	}
	defer drawer.close()
	figures, page, err := kit.Metrics("coupons")
	if err != nil {
		return err
	}

	subscriber := knsq.NewServer(
		knsq.Address(nsqd), knsq.Logger(logger),
		knsq.Middleware(recovery.Recovery(), figures, logging.Server(logger)),
	)
	knsq.RegisterBatch(subscriber, "events", "coupons", drawer.issue,
		knsq.Version(1), knsq.Batch(100), knsq.Flush(20*time.Millisecond))

	web := http.NewServer(http.Address(listen), http.Middleware(recovery.Recovery(), figures, logging.Server(logger)))
	web.Handle("/metrics", page)
	web.Route("/v1").GET("/coupons", func(ctx http.Context) error {
		coupons, err := drawer.list(ctx)
		if err != nil {
			return err
		}
		return ctx.Result(200, coupons)
	})

	return kratos.New(
		kratos.Name("coupons"), kratos.Server(subscriber, web), kratos.Logger(logger), kratos.StopTimeout(20*time.Second),
	).Run()
}
