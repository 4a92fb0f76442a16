// Command points credits ten points for every unit that is paid, each order once, however often its event comes.
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
	listen := flag.String("listen", "127.0.0.1:8101", "address to serve")
	file := flag.String("db", "points.db", "file to keep the points in")
	flag.Parse()
	logger := log.NewStdLogger(os.Stderr)
	if err := run(*nsqd, *listen, *file, logger); err != nil {
		log.NewHelper(logger).Fatal(err)
	}
}

func run(nsqd, listen, file string, logger log.Logger) error {
	ledger, err := openLedger(context.Background(), file)
	if err != nil {
		return err
	}
	defer ledger.close() // after App.Run: no handler needs it then
	figures, page, err := kit.Metrics("points")
	if err != nil {
		return err
	}

	subscriber := knsq.NewServer(
		knsq.Address(nsqd), knsq.Logger(logger),
		knsq.Middleware(recovery.Recovery(), figures, logging.Server(logger)),
	)
	knsq.RegisterSubscriber(subscriber, "events", "points", ledger.credit, knsq.Version(1), knsq.Workers(4),
		knsq.MsgTimeout(10*time.Second)) // what a killed process had in hand comes again after that

	web := http.NewServer(http.Address(listen), http.Middleware(recovery.Recovery(), figures, logging.Server(logger)))
	web.Handle("/metrics", page)
	web.Route("/v1").GET("/points", func(ctx http.Context) error {
		credits, err := ledger.list(ctx)
		if err != nil {
			return err
		}
		return ctx.Result(200, credits)
	})

	return kratos.New(
		kratos.Name("points"), kratos.Server(subscriber, web), kratos.Logger(logger), kratos.StopTimeout(20*time.Second),
	).Run()
}
