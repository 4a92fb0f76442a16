package main

import (
	"context"
	"fmt"
	"syscall"

	"golang.org/x/sync/semaphore"
)

// filesOfRun is the most files and connections that a run has open in this process, beside those of a crowd: buyers, proxies, pipes.
const filesOfRun = 2000

// shares divides the machine among the runs that are played side by side: the files that this process may have open, and its processors,
// which as many runs at the lower load may use as there are to be at once. A run that finds too little left waits until others are over.
type shares struct {
	files, processors *semaphore.Weighted
	jobs              int64
}

// newShares fails where one of the runs would need more files than there are.
func newShares(runs []run, jobs int) (*shares, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return nil, fmt.Errorf("the limit of open files: %w", err)
	}
	all := int64(min(limit.Cur, 1<<30)) //nolint:gosec // no more than that
	for _, r := range runs {
		if r.files() > all {
			return nil, fmt.Errorf("%s opens %d files and connections, and the limit of open files is %d: want ulimit -n %d at least",
				r.name(), r.files(), all, r.files())
		}
	}
	return &shares{semaphore.NewWeighted(all), semaphore.NewWeighted(int64(jobs)), int64(jobs)}, nil
}

// take waits until there is enough for a run, or its context is over.
func (s *shares) take(ctx context.Context, r run) (giveBack func(), err error) {
	work := min(r.work(), s.jobs)
	if err := s.processors.Acquire(ctx, work); err != nil {
		return nil, err
	}
	if err := s.files.Acquire(ctx, r.files()); err != nil {
		s.processors.Release(work)
		return nil, err
	}
	return func() {
		s.files.Release(r.files())
		s.processors.Release(work)
	}, nil
}

func (r run) files() int64 { return int64(filesOfRun + r.crowd) }

// work is how many runs at the lower load it makes as much work as.
func (r run) work() int64 {
	if r.load == crush {
		return int64(r.labour + 2)
	}
	return int64(r.labour + 1)
}
