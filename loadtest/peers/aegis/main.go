// Command aegis is a Kratos HTTP server with the rate limit of Kratos' documentation: aegis' BBR with its defaults. Each of its
// requests costs processor time.
package main

import (
	"context"
	"flag"
	"log"

	"github.com/go-kratos/kratos/v2/middleware/ratelimit"
	"github.com/go-kratos/kratos/v2/middleware/recovery"
	khttp "github.com/go-kratos/kratos/v2/transport/http"

	"sluice/loadtest/peers/work"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "address to serve")
	cost := flag.Int("work", 10_000, "kilobytes that a request hashes")
	flag.Parse()
	server := khttp.NewServer(khttp.Address(*listen), khttp.Middleware(recovery.Recovery(), ratelimit.Server()))
	server.Route("/").POST("/v1/sales/{sale}/orders", func(c khttp.Context) error {
		done := c.Middleware(func(context.Context, any) (any, error) {
			work.Do(*cost)
			return map[string]string{"status": "queued"}, nil
		})
		answer, err := done(c, nil)
		if err != nil {
			return err
		}
		return c.JSON(202, answer)
	})
	log.Fatal(server.Start(context.Background()))
}
