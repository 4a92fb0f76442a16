// Command bare is the floor under any door: a fasthttp server that answers a constant 429. It reads the whole request, as
// fasthttp does for every handler, and never looks at it.
package main

import (
	"flag"
	"log"
	"time"

	"github.com/valyala/fasthttp"
)

var (
	contentType = []byte("application/problem+json")
	body        = []byte(`{"type":"about:blank","title":"Too Many Requests","status":429,"reason":"rate-limited"}`)
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "address to serve")
	flag.Parse()
	server := &fasthttp.Server{
		Name:                 "bare",
		Handler:              refuse,
		ReadTimeout:          10 * time.Second, // nobody runs a public server without
		WriteTimeout:         10 * time.Second,
		IdleTimeout:          75 * time.Second,
		ReadBufferSize:       8 << 10,
		MaxRequestBodySize:   8 << 10,
		NoDefaultContentType: true,
	}
	log.Fatal(server.ListenAndServe(*listen))
}

func refuse(ctx *fasthttp.RequestCtx) {
	ctx.SetStatusCode(fasthttp.StatusTooManyRequests)
	ctx.Response.Header.SetContentTypeBytes(contentType)
	ctx.Response.SetBodyRaw(body)
}
