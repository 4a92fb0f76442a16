package worker

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// P9: whoever reaches a port can't fill the log.
func TestHTTPLog_PassesOnALineASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		l := HTTPLog(slog.New(slog.NewTextHandler(&said, nil)))
		for range 5 {
			for range 1000 {
				l.Print("http: TLS handshake error from 127.0.0.1:1: EOF")
			}
			time.Sleep(time.Second)
		}
		if n := strings.Count(said.String(), "TLS handshake error"); n != 5 {
			t.Errorf("%d lines in 5 seconds; want 5", n)
		}
	})
}
