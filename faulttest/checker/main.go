// Command checker judges a run of the fault matrix from outside: it reads the run's folder, asks the public API and reads the published
// views, and writes verdict.json beside the history. It imports nothing of the service, starts nothing and changes nothing.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"sluice/faulttest/check"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

const usage = `checker judges a run of the fault matrix.

Usage: checker DIR

DIR has run.json, which says whom to ask and what was done when, and history.jsonl, what every buyer asked and heard. It gets
verdict.json. Exit status: 0 every promise was kept, 1 one was broken or could not be judged, 2 usage.
`

func run(ctx context.Context, args []string, out, complaints io.Writer) int {
	if len(args) == 1 && (args[0] == "-h" || args[0] == "--help") {
		fmt.Fprint(out, usage)
		return 0
	}
	if len(args) != 1 {
		fmt.Fprint(complaints, usage)
		return 2
	}
	dir := args[0]
	r, history, err := check.ReadRun(dir)
	if err != nil {
		fmt.Fprintln(complaints, "checker:", err)
		return 2
	}
	facts, settled, err := check.Gather(ctx, r, history)
	if err != nil {
		fmt.Fprintln(complaints, "checker: the facts can't be read:", err)
		return 1
	}
	v := check.Judge(facts)
	v.Settled = settled
	if err := v.Write(dir); err != nil {
		fmt.Fprintln(complaints, "checker:", err)
		return 1
	}
	v.Print(out, r, dir)
	if !v.OK {
		return 1
	}
	return 0
}
