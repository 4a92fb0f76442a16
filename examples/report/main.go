// Command report takes what pages report of their buyers' visits, and stores it. A request only publishes; the saver, a
// subscriber, stores in batches. So a burst of reports costs the database no more than it can take.
package main

import (
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
	nsqd := flag.String("nsqd", "127.0.0.1:4150", "where an nsqd is")
	listen := flag.String("listen", "127.0.0.1:8104", "address to serve")
	file := flag.String("db", "report.db", "file to keep the reports in")
	flag.Parse()
	logger := log.NewStdLogger(os.Stderr)
	if err := run(*nsqd, *listen, *file, logger); err != nil {
		log.NewHelper(logger).Fatal(err)
	}
}

func run(nsqd, listen, file string, logger log.Logger) error {
	data, cleanup, err := newData(nsqd, file, logger)
	if err != nil {
		return err
	}
	defer cleanup()
	figures, page, err := kit.Metrics("report")
	if err != nil {
		return err
	}
	service := &service{data}

	web := http.NewServer(http.Address(listen), http.Middleware(recovery.Recovery(), figures, logging.Server(logger)))
	web.Handle("/metrics", page)
	service.register(web)

	saver := knsq.NewServer(
		knsq.Address(nsqd), knsq.Logger(logger),
		knsq.Middleware(recovery.Recovery(), figures, logging.Server(logger)),
	)
	knsq.RegisterBatch(saver, topic, "saver", data.save, knsq.Version(1), knsq.Batch(500), knsq.Flush(50*time.Millisecond))

	return kratos.New(
		kratos.Name("report"), kratos.Server(web, saver), kratos.Logger(logger), kratos.StopTimeout(20*time.Second),
	).Run()
}
