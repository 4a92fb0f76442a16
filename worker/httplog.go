package worker

import (
	"log"
	"log/slog"
	"strings"
	"time"

	"golang.org/x/time/rate"
)

// HTTPLog takes what net/http has to say of single connections, and passes on at most one line a second: whoever reaches
// the port can make it say something as often as he likes. Of a nil logger it says nothing.
func HTTPLog(to *slog.Logger) *log.Logger {
	if to == nil {
		to = slog.New(slog.DiscardHandler)
	}
	return log.New(&httpLog{to: to, often: rate.Sometimes{First: 1, Interval: time.Second}}, "", 0)
}

type httpLog struct {
	to    *slog.Logger
	often rate.Sometimes
}

func (l *httpLog) Write(line []byte) (int, error) {
	l.often.Do(func() { l.to.Warn("a connection failed", "text", strings.TrimSpace(string(line))) })
	return len(line), nil
}
