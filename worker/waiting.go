package worker

import (
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/netutil"

	"sluice"
)

// ServeWaiting answers everything on l with 503 while the store is waited for, so that nobody hangs on a port that
// nobody serves. It has at most so many connections open, each for one answer. The function that it returns ends that and closes l. It speaks
// TLS where secure is not nil.
func ServeWaiting(l net.Listener, connections int, secure *tls.Config, log *slog.Logger) (stop func()) {
	srv := &http.Server{
		ErrorLog:          HTTPLog(log),
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: 10 * time.Second,
		Handler: named(http.HandlerFunc(func(res http.ResponseWriter, r *http.Request) {
			refuse(res, r, sluice.Refuse(sluice.Unavailable, "waiting for the store"))
		})),
		Protocols: protocols(secure != nil),
	}
	srv.SetKeepAlivesEnabled(false)
	l = netutil.LimitListener(l, connections)
	serve := srv.Serve
	if secure != nil {
		srv.TLSConfig = secure.Clone()
		serve = func(l net.Listener) error { return srv.ServeTLS(l, "", "") }
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = serve(l) }) // ends with Close, below
	return func() {
		if err := srv.Close(); err != nil {
			log.Warn("stop waiting", "error", err)
		}
		wg.Wait()
	}
}
