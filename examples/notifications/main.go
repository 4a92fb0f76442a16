// Command notifications tells buyers what becomes of their orders. Several of them share one channel, and so the work:
// each event goes to one of them. They share a database too, so nobody is told a thing twice, or an old one after a newer.
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
	name := flag.String("name", "notifications-1", "this worker's name")
	nsqd := flag.String("nsqd", "127.0.0.1:4150", "where sluice's nsqd is")
	listen := flag.String("listen", "127.0.0.1:8103", "address to serve")
	file := flag.String("db", "notifications.db", "file to keep the notes in, which all workers share")
	flag.Parse()
	logger := log.With(log.NewStdLogger(os.Stderr), "worker", *name)
	if err := run(*name, *nsqd, *listen, *file, logger); err != nil {
		log.NewHelper(logger).Fatal(err)
	}
}

func run(name, nsqd, listen, file string, logger log.Logger) error {
	post, err := openPost(context.Background(), file, name)
	if err != nil {
		return err
	}
	defer post.close()
	figures, page, err := kit.Metrics("notifications")
	if err != nil {
		return err
	}

	subscriber := knsq.NewServer(
		knsq.Address(nsqd), knsq.Logger(logger),
		knsq.Middleware(recovery.Recovery(), figures, logging.Server(logger)),
	)
	knsq.RegisterSubscriber(subscriber, "events", "notifications", post.notify, knsq.Version(1))

	web := http.NewServer(http.Address(listen), http.Middleware(recovery.Recovery(), figures, logging.Server(logger)))
	web.Handle("/metrics", page)
	web.Route("/v1").GET("/notes", func(ctx http.Context) error {
		notes, err := post.list(ctx)
		if err != nil {
			return err
		}
		return ctx.Result(200, notes)
	})

	return kratos.New(
		kratos.Name("notifications"), kratos.Server(subscriber, web), kratos.Logger(logger), kratos.StopTimeout(20*time.Second),
	).Run()
}
