// Command matrix plays the fault matrix: it starts the service as real processes, lets buyers in, kills, stops and cuts off what the
// seed says when the seed says it, and has the checker judge what is left. It never touches a process that it did not start.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"sluice/loadtest/lab"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := command(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// options are what the command line says.
type options struct {
	only, out, keep string
	seed            uint64
	seeds, jobs     int
	short, list     bool
	soak            time.Duration
	programs        programs
}

func command(ctx context.Context, args []string, out, complaints io.Writer) int {
	var o options
	flags := flag.NewFlagSet("faults", flag.ContinueOnError)
	flags.SetOutput(complaints)
	flags.StringVar(&o.only, "only", "", "play only runs with one of these, between commas, in their names")
	flags.Uint64Var(&o.seed, "seed", 1, "the first seed: the same requests and the same moments")
	flags.IntVar(&o.seeds, "seeds", 3, "how many seeds, one after the other")
	flags.IntVar(&o.jobs, "jobs", 6, "runs side by side, where one at three times the capacity counts for two")
	flags.BoolVar(&o.short, "short", false, "half of the stores and loads of each case")
	flags.BoolVar(&o.list, "list", false, "list the runs, and play none")
	flags.StringVar(&o.out, "out", "", "folder that faults.md and faults.json are written to; empty: none")
	flags.StringVar(&o.keep, "keep", filepath.Join(os.TempDir(), "sluice-faults"), "folder that what failed is kept in")
	flags.DurationVar(&o.soak, "soak", 0, "instead, play a soak for so long: three times the capacity, and a fault every 20 s")
	flags.StringVar(&o.programs.sluice, "sluice", "bin/sluice", "the program under test")
	flags.StringVar(&o.programs.checker, "checker", "bin/checker", "the checker")
	if err := flags.Parse(args); err != nil || flags.NArg() > 0 || o.seeds < 1 || o.jobs < 1 {
		return 2
	}
	if o.soak > 0 {
		return soak(ctx, o, out, complaints)
	}
	runs := plan(o.only, o.seed, o.seeds, o.short)
	if len(runs) == 0 {
		fmt.Fprintf(complaints, "faults: no case is called %q\n", o.only)
		return 2
	}
	if o.list {
		for _, r := range runs {
			fmt.Fprintf(out, "%s seed %d: %s\n", r.name(), r.seed, r.holds)
		}
		return 0
	}
	if err := o.mayWrite(); err != nil {
		fmt.Fprintln(complaints, "faults:", err)
		return 2
	}
	log.SetOutput(io.Discard) // net/http has a line for each connection that is turned away
	began, then := time.Now(), lab.Now()
	var err error
	if slices.ContainsFunc(runs, func(r run) bool { return r.shifts != "" }) {
		if o.programs.shifted, err = buildShifted(ctx, o.programs.sluice); err != nil {
			fmt.Fprintln(complaints, "faults:", err)
			return 1
		}
	}
	results, err := playAll(ctx, runs, o, out)
	if err == nil && o.out != "" {
		err = writeReport(o, began, then, results)
	}
	if err != nil {
		fmt.Fprintln(complaints, "faults:", err)
		return 1
	}
	failed := slices.DeleteFunc(slices.Clone(results), func(r result) bool { return r.OK || r.Skipped != "" })
	left := slices.DeleteFunc(slices.Clone(results), func(r result) bool { return r.Skipped == "" })
	fmt.Fprintf(out, "%d runs, %d failed, %d skipped\n", len(results), len(failed), len(left))
	if len(failed) > 0 {
		return 1
	}
	return 0
}

// playAll plays the runs, some side by side, and tells of each when it is over.
func playAll(ctx context.Context, runs []run, o options, out io.Writer) ([]result, error) {
	if err := os.MkdirAll(o.keep, 0o755); err != nil {
		return nil, err
	}
	base, err := os.MkdirTemp(o.keep, time.Now().Format("0102-150405-"))
	if err != nil {
		return nil, err
	}
	shares, err := newShares(runs, o.jobs)
	if err != nil {
		return nil, err
	}
	results := make([]result, len(runs))
	var mu sync.Mutex // guards out and over
	over := 0
	next := make(chan int)
	var players sync.WaitGroup
	for range min(o.jobs, len(runs)) {
		players.Go(func() {
			for i := range next {
				r := runs[i]
				dir := filepath.Join(base, strings.NewReplacer("/", "_", "%", "").Replace(r.name())+fmt.Sprintf("_%d", r.seed))
				giveBack, err := shares.take(ctx, r)
				if err != nil {
					continue // it is over
				}
				results[i] = play(ctx, r, o.programs, dir, func(string, ...any) {})
				giveBack()
				mu.Lock()
				over++
				fmt.Fprintf(out, "%3d/%d %s\n", over, len(runs), results[i].line())
				mu.Unlock()
			}
		})
	}
	for _, i := range mixed(len(runs)) {
		if ctx.Err() != nil {
			break
		}
		next <- i
	}
	close(next)
	players.Wait()
	_ = os.Remove(base) // it stays where something failed
	return results, context.Cause(ctx)
}

// mixed is an order of n runs, always the same one, in which those of one story are not side by side: all of them want the same.
func mixed(n int) []int { return rand.New(rand.NewPCG(0, uint64(n))).Perm(n) }

// line is a result for who looks on.
func (r result) line() string {
	verdict := "ok"
	if !r.OK {
		verdict = "FAILED"
	}
	if r.Skipped != "" {
		return fmt.Sprintf("%-6s %s/%s/%s seed %d: %s", "SKIPPED", r.Case, r.Store, r.Load, r.Seed, r.Skipped)
	}
	text := fmt.Sprintf("%-6s %s/%s/%s seed %d, %.0f s", verdict, r.Case, r.Store, r.Load, r.Seed, r.Seconds)
	if v := r.Verdict; v != nil {
		o := v.Orders
		text += fmt.Sprintf(": %d offered, %d accepted, %d ok, %d lost, %d unexpected, %d recovered; outage %v, peak %d, slowest %v, %d cut",
			o.Offered, o.Accepted, o.OK, o.Lost, o.Unexpected, o.Recovered, v.Outage.Round(time.Millisecond), v.Peak, v.Slowest.Round(time.Millisecond), r.Cut)
	}
	var phases strings.Builder
	for _, p := range r.Phases {
		fmt.Fprintf(&phases, " %s %.1f", p.Name, p.Over)
	}
	text += ";" + phases.String()
	if !r.OK {
		text += "\n" + r.Trouble + "\nkept in " + r.Dir
	}
	return text
}
