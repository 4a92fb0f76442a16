package queue

import (
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A clock that is behind the last message by more than publishers wait ends nsqd, and says so; one that creeps, or is set forward, or that
// no message was taken by, does not.
func TestServer_EndsWhereTheClockIsSetBack(t *testing.T) {
	for what, c := range map[string]struct {
		jump time.Duration
		idle time.Duration // since the last message, before the jump; negative: there was none
		ends bool
	}{
		"an hour back":                         {-time.Hour, 0, true},
		"six seconds":                          {-6 * time.Second, 0, true},
		"a moment":                             {-3 * time.Second, 0, false},
		"an hour forward":                      {time.Hour, 0, false},
		"not at all":                           {0, 0, false},
		"an hour back, idle for a minute":      {-time.Hour, time.Minute, true},
		"an hour back, idle for longer":        {-time.Hour, 61 * time.Minute, false},
		"an hour back, with no message so far": {-time.Hour, -1, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			var shift atomic.Int64
			var messages atomic.Uint64
			s := &Server{done: make(chan struct{}), stopped: make(chan struct{})}
			go s.watchClock(func() time.Time { return time.Now().Add(time.Duration(shift.Load())).Round(0) }, messages.Load, slog.New(slog.DiscardHandler))
			time.Sleep(10*time.Second + clockLook/2)
			if c.idle >= 0 {
				messages.Add(1)
				time.Sleep(c.idle)
			}
			shift.Store(int64(c.jump))
			time.Sleep(2 * clockLook)
			synctest.Wait()
			if err := s.Err(); (err != nil) != c.ends || c.ends && !strings.Contains(err.Error(), "wall clock went back") {
				t.Errorf("%s: %v", what, err)
			}
			close(s.stopped)
		})
	}
}
