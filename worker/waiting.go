package worker

import (
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"sluice"
)

// ServeWaiting answers everything on l with 503 while the store is waited for, so that nobody hangs on a port that
// nobody serves. The function that it returns ends that and closes l.
func ServeWaiting(l net.Listener, log *slog.Logger) (stop func()) {
	srv := &http.Server{
		ReadHeaderTimeout: 5 * time.Second,
		Handler: named(http.HandlerFunc(func(res http.ResponseWriter, r *http.Request) {
			refuse(res, r, sluice.Refuse(sluice.Unavailable, "waiting for the store"))
		})),
		Protocols: new(http.Protocols),
	}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetUnencryptedHTTP2(true) // gRPC's
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(l) }) // ends with Close, below
	return func() {
		if err := srv.Close(); err != nil {
			log.Warn("stop waiting", "error", err)
		}
		wg.Wait()
	}
}
