// Command demo runs the examples together and ends with status 0 only if everything adds up: make examples.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"sluice/examples"
)

func main() {
	programs := flag.String("programs", "bin/examples", "folder to build sluice and the examples into")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := examples.Build(ctx, *programs)
	if err == nil {
		err = examples.Run(ctx, *programs, os.Stdout)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}
