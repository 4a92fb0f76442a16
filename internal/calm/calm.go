// Package calm plays tests that hang on the clock: an attempt that fails while the machine stood still says nothing of what is tested,
// and is played again; one that fails on a calm machine fails the test. What a test demands is not loosened by that.
package calm

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

const (
	attempts  = 8
	lookEvery = time.Millisecond
	syncEvery = 20 * time.Millisecond
)

// Complain says what is wrong, as t.Errorf does. It may be called from many goroutines, but not after the attempt.
type Complain func(format string, args ...any)

// Play attempts until nothing is wrong. Complaints count where no pause of this process, and no write to the disk, took longer than most
// meanwhile; the test also fails where all of eight attempts were disturbed.
func Play(t *testing.T, most time.Duration, attempt func(Complain)) {
	t.Helper()
	play(t, most, func() time.Duration { return 0 }, attempt)
}

// reporter is what play needs of a test.
type reporter interface {
	Helper()
	Context() context.Context
	TempDir() string
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// play knows of a further pause, which a test of its own makes up.
func play(t reporter, most time.Duration, further func() time.Duration, attempt func(Complain)) {
	t.Helper()
	for n := range attempts {
		w := watch(t)
		var mu sync.Mutex
		var wrong []string
		attempt(func(format string, args ...any) {
			mu.Lock()
			defer mu.Unlock()
			wrong = append(wrong, fmt.Sprintf(format, args...))
		})
		longest := max(w.end(), further())
		switch {
		case len(wrong) == 0:
			return
		case longest <= most:
			for _, what := range wrong {
				t.Errorf("%s", what)
			}
			return
		}
		t.Logf("attempt %d says nothing, the machine stood still for %v: %q", n+1, longest, wrong)
	}
	t.Fatalf("the machine stood still for more than %v in each of %d attempts", most, attempts)
}

// witness notes the longest pause.
type witness struct {
	stop    context.CancelFunc
	done    sync.WaitGroup
	mu      sync.Mutex
	longest time.Duration
}

func watch(t reporter) *witness {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "witness"))
	if err != nil {
		t.Fatalf("%v", err)
	}
	ctx, stop := context.WithCancel(t.Context())
	w := &witness{stop: stop}
	w.done.Go(func() { w.look(ctx, lookEvery, func() {}) })
	w.done.Go(func() {
		defer file.Close() //nolint:errcheck // nobody reads it
		w.look(ctx, syncEvery, func() {
			_, _ = file.WriteAt([]byte("here"), 0) // a disk that fails fails the test by itself
			_ = file.Sync()
		})
	})
	return w
}

func (w *witness) look(ctx context.Context, every time.Duration, do func()) {
	for ctx.Err() == nil {
		began := time.Now()
		do()
		time.Sleep(every)
		w.mu.Lock()
		w.longest = max(w.longest, time.Since(began)-every)
		w.mu.Unlock()
	}
}

func (w *witness) end() time.Duration {
	w.stop()
	w.done.Wait()
	return w.longest
}
