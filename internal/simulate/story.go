package simulate

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
)

// Story is a schedule's run in words.
func Story(t *testing.T, s Schedule) string {
	t.Helper()
	var b strings.Builder
	Run(t, s, &b)
	return b.String()
}

func (w *World) tell(format string, args ...any) {
	if w.story != nil {
		fmt.Fprintf(w.story, "%9.3fs  %s\n", time.Since(w.began).Seconds(), fmt.Sprintf(format, args...))
	}
}

func (w *World) told(r *request) {
	switch {
	case w.story == nil:
	case r.refused() || r.state() == "":
		w.tell("door %s answers buyer %s: %d %s", r.door.name, r.buyer, r.status, r.answer.Reason)
	default:
		w.tell("door %s answers buyer %s: %d %s, order %v", r.door.name, r.buyer, r.status, r.state(), r.answer.Order)
	}
}

// saying tells of an action that was done.
func (w *World) saying(act func() bool, format string, args ...any) func() bool {
	return func() bool {
		if w.story == nil {
			return act()
		}
		var after bytes.Buffer
		out := w.story
		w.story = &after
		done := act()
		w.story = out
		if done {
			w.tell(format, args...)
			_, _ = out.Write(after.Bytes())
		}
		return done
	}
}

// named picks by value: pairs of a number and what it stands for.
func named[T any](n int, otherwise T, pairs ...any) T {
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i] == n {
			return pairs[i+1].(T)
		}
	}
	return otherwise
}
