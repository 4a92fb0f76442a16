package queue

import (
	"fmt"
	"log/slog"
	"time"
)

const (
	clockLook = 500 * time.Millisecond // between two looks at the wall clock
	mostBack  = 5 * time.Second        // that it may be behind: publishers wait for as long for an answer
)

// watchClock gives nsqd up where the wall clock is set back: nsqd makes the id of a message of the time (nsqd/guid.go), and a topic takes
// no message until the time of its last one is there again. Whoever looks after the process starts it again, and a new nsqd knows of no
// other time. taken is how many messages nsqd has taken in all.
func (s *Server) watchClock(now func() time.Time, taken func() uint64, log *slog.Logger) {
	tick := time.NewTicker(clockLook)
	defer tick.Stop()
	var last time.Time // when the last message was taken, or a little later
	before, count := now(), taken()
	if count > 0 {
		last = before
	}
	for {
		select {
		case <-s.stopped:
			return
		case <-s.done:
			return
		case <-tick.C:
		}
		wall, n := now(), taken()
		if n != count { // at some time since the look before, which was before the clock jumped if it did
			last = wall
			if before.After(wall) {
				last = before
			}
		}
		if behind := last.Sub(wall); behind > mostBack {
			s.die(fmt.Errorf("the wall clock went back by %v, and nsqd takes no message until it has made up for that: it has to start anew", behind.Round(time.Second)), log)
			return
		}
		before, count = wall, n
	}
}

// wallClock is the time without Go's monotonic reading, which is never set back.
func wallClock() time.Time { return time.Now().Round(0) }

// taken is how many messages the topics have taken.
func (s *Server) taken() (n uint64) {
	for _, topic := range s.nsqd.GetStats("", "", false).Topics {
		n += topic.MessageCount
	}
	return n
}

// die notes why nsqd serves no more, once.
func (s *Server) die(err error, log *slog.Logger) {
	s.dead.Do(func() {
		select {
		case <-s.stopped:
		default:
			s.err = fmt.Errorf("nsqd: %w", err)
			log.Error("nsqd died", slog.Any("error", err))
		}
		close(s.done)
	})
}
