// Command scoreboard measures what the service costs and how fast it decides, each figure as a ratio against another side that
// runs in turn with it on the same machine. It starts and ends every process itself, judges every answer that it counts,
// and imports nothing of the service: who measures must not share errors with who is measured.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	labs "sluice/loadtest/lab"
)

// Exit statuses, as everywhere in this project.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

const usage = `scoreboard measures rows of the scoreboard and writes them to results/scoreboard.json and results/scoreboard.md.
Rows that are not run keep their entries. Run it from the root of the source: it builds what it measures.

Example:
  scoreboard --only S1,S2 --short

Rows with a database take the PostgreSQL of SLUICE_TEST_POSTGRES, or run one of their own; where there is none they are skipped.

Exit status: 0 every row that was run reaches what it must, 1 one does not or could not be measured, or all were skipped, 2 usage.

Flags:
`

type options struct {
	only    string
	short   bool
	results string
	work    string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args[1:], os.Stderr)
	stop()
	os.Exit(status)
}

func run(ctx context.Context, args []string, stderr io.Writer) int {
	o, chosen, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitDone
	case err != nil:
		fmt.Fprintln(stderr, "scoreboard:", err, "(scoreboard --help shows an example)")
		return exitUsage
	}
	if err := measure(ctx, o, chosen, stderr); err != nil {
		fmt.Fprintln(stderr, "scoreboard:", err)
		return exitFailed
	}
	return exitDone
}

func parse(args []string, stderr io.Writer) (o options, chosen []row, err error) {
	f := flag.NewFlagSet("scoreboard", flag.ContinueOnError)
	f.SetOutput(io.Discard) // the error is printed once, by run
	f.StringVar(&o.only, "only", "", "rows to run, such as S1,S2; empty: all there are")
	f.BoolVar(&o.short, "short", false, "stay under a minute a row")
	f.StringVar(&o.results, "results", "results", "folder of scoreboard.json and scoreboard.md")
	f.StringVar(&o.work, "work", "", "folder for programs and data, on the disk to measure with; empty: a temporary one")
	f.Usage = func() {
		fmt.Fprint(stderr, usage)
		f.SetOutput(stderr)
		f.PrintDefaults()
	}
	if err := f.Parse(args); err != nil {
		return o, nil, err
	}
	if f.NArg() > 0 {
		return o, nil, fmt.Errorf("%q: want flags only", f.Arg(0))
	}
	chosen, err = choose(o.only)
	return o, chosen, err
}

// choose answers the rows with the given names, in the order of the board.
func choose(only string) ([]row, error) {
	if only == "" {
		return rows, nil
	}
	names := strings.Split(only, ",")
	for i, name := range names {
		names[i] = strings.ToUpper(strings.TrimSpace(name))
		if !slices.ContainsFunc(rows, func(r row) bool { return r.id == names[i] }) {
			return nil, fmt.Errorf("--only %s: %q is no row; want some of %s", only, name, rowNames())
		}
	}
	return slices.DeleteFunc(slices.Clone(rows), func(r row) bool { return !slices.Contains(names, r.id) }), nil
}

func rowNames() string {
	names := make([]string, len(rows))
	for i, r := range rows {
		names[i] = r.id
	}
	return strings.Join(names, ", ")
}

// measure runs the rows one after the other. What one of them found is written before the next begins.
func measure(ctx context.Context, o options, chosen []row, progress io.Writer) (err error) {
	board, err := readBoard(o.results)
	if err != nil {
		return err
	}
	l, err := newLab(o, progress)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	var failed, skipped []string
	for _, r := range chosen {
		e, err := l.measure(ctx, r)
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		if errors.Is(err, errSkipped) {
			l.say("%s: %v", r.id, err)
			skipped = append(skipped, r.id)
			continue
		}
		if err != nil {
			l.say("%s could not be measured: %v", r.id, err)
			failed = append(failed, r.id)
			continue
		}
		l.say("%s", e)
		if !e.OK {
			failed = append(failed, r.id)
		}
		board.put(e)
		if err := board.write(o.results); err != nil {
			return err
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("not reached: %s", strings.Join(failed, ", "))
	}
	if len(skipped) == len(chosen) {
		return fmt.Errorf("nothing was measured; skipped: %s", strings.Join(skipped, ", "))
	}
	return nil
}

// measure runs one row, and ends whatever it started.
func (l *lab) measure(ctx context.Context, r row) (entry, error) {
	began := time.Now()
	l.say("%s: %s", r.id, r.title)
	before := labs.Now()
	f, err := r.measure(ctx, l)
	err = errors.Join(err, l.End())
	if err != nil {
		return entry{}, err
	}
	e := newEntry(r, f)
	e.Took = time.Since(began).Round(time.Second).String()
	e.Machine = l.machine.Since(before)
	e.Short, e.Commit, e.Command = l.short, l.commit, l.command(r)
	e.Date = time.Now().UTC().Format(time.DateOnly)
	return e, nil
}
