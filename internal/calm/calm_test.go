package calm

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// log is a test that is looked at.
type log struct {
	*testing.T
	errors, fatal []string
}

func (l *log) Errorf(format string, args ...any) {
	l.errors = append(l.errors, fmt.Sprintf(format, args...))
}

func (l *log) Fatalf(format string, args ...any) {
	l.fatal = append(l.fatal, fmt.Sprintf(format, args...))
}

func TestPlay(t *testing.T) {
	const most = 10 * time.Second // this machine is calm
	still, calm := func() time.Duration { return time.Minute }, func() time.Duration { return 0 }
	for name, story := range map[string]struct {
		pause         func() time.Duration
		rightFrom     int // the number of the attempt
		tries         int
		errors, fatal int
	}{
		"what is right is right at once, on any machine": {still, 1, 1, 0, 0},
		"what is wrong on a calm machine is wrong":       {calm, 2, 1, 2, 0},
		"what is wrong on another is played again":       {still, 3, 3, 0, 0},
		"what is wrong again and again is wrong":         {still, attempts + 1, attempts, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			l, tries := &log{T: t}, 0
			play(l, most, story.pause, func(complain Complain) {
				if tries++; tries < story.rightFrom {
					complain("the %s thing", "first")
					complain("the second")
				}
			})
			if tries != story.tries || len(l.errors) != story.errors || len(l.fatal) != story.fatal {
				t.Errorf("%d attempts, errors %q, fatal %q; want %d, %d and %d", tries, l.errors, l.fatal, story.tries, story.errors, story.fatal)
			}
			if len(l.errors) > 0 && l.errors[0] != "the first thing" {
				t.Errorf("it says %q", l.errors)
			}
		})
	}
}

func TestWatch_SeesAPause(t *testing.T) {
	w := watch(t)
	ctx, cancel := context.WithCancel(t.Context())
	w.look(ctx, 0, func() {
		time.Sleep(50 * time.Millisecond)
		cancel()
	})
	if got := w.end(); got < 50*time.Millisecond {
		t.Errorf("the longest pause is %v, want 50 ms at least", got)
	}
}
