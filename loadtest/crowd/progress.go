package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// showProgress draws a bar on a terminal and writes a plain line every two seconds anywhere else; --timeout bounds
// their number. The returned function ends it and waits until nothing more is written.
func (c *crowd) showProgress(w io.Writer) (stop func()) {
	every, show := 2*time.Second, c.plainLine(w)
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		every, show = 100*time.Millisecond, c.bar(w)
	}
	over := make(chan struct{})
	var shown sync.WaitGroup
	shown.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				show(false)
			case <-over:
				show(true)
				return
			}
		}
	})
	return func() {
		close(over)
		shown.Wait()
	}
}

func (c *crowd) plainLine(w io.Writer) func(last bool) {
	began := time.Now()
	return func(last bool) {
		if last {
			return // the report follows
		}
		done, accepted := c.tally.progress()
		fmt.Fprintf(w, "crowd: %v: %d of %d buyers done, %d orders accepted\n",
			time.Since(began).Round(time.Second), done, c.buyers, accepted)
	}
}

func (c *crowd) bar(w io.Writer) func(last bool) {
	bar := progressbar.NewOptions(c.buyers, progressbar.OptionSetWriter(w), progressbar.OptionSetDescription("buyers"),
		progressbar.OptionShowCount(), progressbar.OptionFullWidth())
	return func(last bool) {
		done, _ := c.tally.progress()
		_ = bar.Set(done) // a bar that cannot be drawn must not end the run
		if last {
			fmt.Fprintln(w)
		}
	}
}

func (t *tally) progress() (done, accepted int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.done, t.accepted
}
