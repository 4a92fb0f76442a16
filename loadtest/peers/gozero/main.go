// Command gozero is an HTTP server behind go-zero's adaptive shedder with its defaults, used as go-zero's own REST server uses
// it. Each of its requests costs processor time.
package main

import (
	"flag"
	"io"
	"log"
	"net/http"
	"time"

	"github.com/zeromicro/go-zero/core/load"
	"github.com/zeromicro/go-zero/core/logx"

	"sluice/loadtest/peers/work"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "address to serve")
	cost := flag.Int("work", 10_000, "kilobytes that a request hashes")
	flag.Parse()
	logx.Disable()
	shedder := load.NewAdaptiveShedder()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/sales/{sale}/orders", func(w http.ResponseWriter, _ *http.Request) {
		promise, err := shedder.Allow()
		if err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		defer promise.Pass()
		work.Do(*cost)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, `{"status":"queued"}`)
	})
	mux.HandleFunc("GET /livez", func(http.ResponseWriter, *http.Request) {})
	server := &http.Server{Addr: *listen, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	log.Fatal(server.ListenAndServe())
}
