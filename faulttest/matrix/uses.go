package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"sluice/faulttest/check"
)

// room is what a part may use more than at rest.
type room = check.Room

const (
	sampleEvery = time.Second
	restTime    = 25 * time.Second // of idle connections and goroutines, until they are given up
	mib         = 1 << 20
)

// usualRooms are by verb. A door's memory grows by the journal's caches, which are small here, so that they are full at once, and by the
// buckets of buyers' rates, a worker's by its store's caches; connections that are kept open for the next buyer are closed before the end is measured.
var usualRooms = map[string]room{
	"ingress": {Use: check.Use{Memory: 96 * mib, Files: 32, Goroutines: 48}, Peak: 128 * mib, Each: ofConnection},
	"worker":  {Use: check.Use{Memory: 96 * mib, Files: 32, Goroutines: 48}, Peak: 160 * mib},
	"nsqd":    {Use: check.Use{Memory: 64 * mib, Files: 32}, Peak: 96 * mib},
	"up":      {Use: check.Use{Memory: 256 * mib, Files: 96, Goroutines: 96}, Peak: 416 * mib, Each: ofConnection}, // all three
}

// ofConnection is what a connection costs, in bytes: 8 KiB for a header and 4 KiB for an answer, the request, and a goroutine's stack. Go
// keeps for minutes what it once had.
const ofConnection = 32 << 10

// uses is what is known of the parts' memory, goroutines and files; the scene's mutex guards it.
type uses struct {
	watched map[string]watched // by part
	samples []check.Sample
	rooms   []room
	rest    int64
}

// watched is a process that samples are taken of.
type watched struct {
	pid     int
	program string // by which it is known that the number is still its own
	metrics string // address; empty: it has none
	born    int64
}

// watch has samples taken of a part's newest process.
func (s *scene) watch(p *part, program string) {
	metrics := ""
	if p.verb == "worker" {
		metrics = p.address
	}
	for _, d := range s.doorList {
		if d.Name == p.name {
			metrics = d.Metrics
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.uses.watched == nil {
		s.uses.watched = map[string]watched{}
	}
	s.uses.watched[p.name] = watched{p.process.PID(), program, metrics, s.history.Now()}
}

// sampleUses takes a first sample, at rest, and one every second until stop is called.
func (s *scene) sampleUses(ctx context.Context) (stop func()) {
	s.atRest(ctx)
	s.mu.Lock()
	for _, p := range s.order {
		r := usualRooms[p.verb]
		r.Part = p.name
		s.uses.rooms = append(s.uses.rooms, r)
	}
	s.uses.rest = s.history.Now()
	s.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	var sampling sync.WaitGroup
	sampling.Go(func() {
		for pause(ctx, sampleEvery); ctx.Err() == nil; pause(ctx, sampleEvery) {
			_ = s.sample(ctx)
		}
	})
	return func() {
		cancel()
		sampling.Wait()
	}
}

// atRest looks at the parts until it has seen each of them: on a busy machine one may not answer at once.
func (s *scene) atRest(ctx context.Context) {
	for end := time.Now().Add(startTime); s.sample(ctx) != nil && time.Now().Before(end); {
		pause(ctx, 100*time.Millisecond)
	}
}

// sample looks at every part that runs, and says which it could not see: one that stands still or is dead is left out.
func (s *scene) sample(ctx context.Context) (unseen error) {
	s.mu.Lock()
	list := maps.Clone(s.uses.watched)
	s.mu.Unlock()
	for name, w := range list {
		use, err := w.look(ctx)
		if err != nil {
			unseen = errors.Join(unseen, fmt.Errorf("%s: %w", name, err))
			continue
		}
		s.mu.Lock()
		s.uses.samples = append(s.uses.samples, check.Sample{At: s.history.Now(), Part: name, Born: w.born, Use: use})
		s.mu.Unlock()
	}
	return unseen
}

// scrapeTime is how long a process may take to tell how many goroutines it has; one that takes longer has other troubles.
const scrapeTime = time.Second

func (w watched) look(ctx context.Context) (u check.Use, err error) {
	proc := fmt.Sprintf("/proc/%d", w.pid)
	program, err := os.Readlink(proc + "/exe")
	if err != nil || filepath.Base(program) != filepath.Base(w.program) {
		return u, fmt.Errorf("%d is %q: %w", w.pid, program, os.ErrProcessDone)
	}
	files, err := os.ReadDir(proc + "/fd")
	if err != nil {
		return u, err
	}
	u.Files = int64(len(files))
	statm, err := os.ReadFile(proc + "/statm")
	if err != nil {
		return u, err
	}
	var all, resident int64 // pages (proc_pid_statm(5))
	if _, err := fmt.Sscan(string(statm), &all, &resident); err != nil {
		return u, fmt.Errorf("%s/statm: %w", proc, err)
	}
	u.Memory = resident * int64(os.Getpagesize())
	if w.metrics == "" {
		return u, nil
	}
	ctx, cancel := context.WithTimeout(ctx, scrapeTime)
	defer cancel()
	u.Goroutines, err = check.Metric(ctx, w.metrics, "go_goroutines")
	return u, err
}

// rested waits until every part has given back what it may not keep, or for as long as idle connections and goroutines may last. The
// checker looks at the last samples.
func (s *scene) rested(ctx context.Context) {
	s.buyers.client.CloseIdleConnections()
	http.DefaultClient.CloseIdleConnections()
	for end := time.Now().Add(restTime); ctx.Err() == nil; pause(ctx, 300*time.Millisecond) {
		_ = s.sample(ctx)
		if len(s.describe().Leaks()) == 0 || time.Now().After(end) {
			return
		}
	}
}

// mostFiles is the most that a part has had open while do ran.
func (s *scene) mostFiles(ctx context.Context, p *part, do func()) (most int64) {
	ctx, cancel := context.WithCancel(ctx)
	dir := fmt.Sprintf("/proc/%d/fd", p.process.PID())
	var watching sync.WaitGroup
	watching.Go(func() {
		for ; ctx.Err() == nil; pause(ctx, 100*time.Millisecond) {
			if files, err := os.ReadDir(dir); err == nil {
				most = max(most, int64(len(files)))
			}
		}
	})
	do()
	cancel()
	watching.Wait()
	return most
}
