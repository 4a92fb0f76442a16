// Command crowd plays the buyers of a flash sale and checks afterwards that everything adds up.
// It never trusts the service: it imports nothing of it and believes only what buyers and the audit say.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Exit statuses, as everywhere in this project.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

const usage = `crowd sends many different buyers to a flash sale, once each, and checks the books afterwards.

Every buyer posts one order with an Idempotency-Key of its own, comes back when told to (503 with Retry-After),
asks again with the same key where the answer was lost, and follows an accepted order until it is settled.

Example:
  crowd --url http://127.0.0.1:8080 --admin http://127.0.0.1:8081 --sale demo --buyers 20000 --concurrency 200

Exit status: 0 everything adds up, 1 it does not or the run failed, 2 usage.

Flags:
`

type options struct {
	url, admin, sale    string
	prefix, history     string
	buyers, concurrency int
	tries               int
	ready, settle       time.Duration
	timeout             time.Duration
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	status := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitDone
	case err != nil:
		fmt.Fprintln(stderr, "crowd:", err, "(crowd --help shows an example)")
		return exitUsage
	}
	problems, err := attack(ctx, o, stdout, stderr)
	if err != nil {
		fmt.Fprintln(stderr, "crowd:", err)
		return exitFailed
	}
	if len(problems) > 0 {
		return exitFailed
	}
	return exitDone
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("crowd", flag.ContinueOnError)
	f.SetOutput(io.Discard) // the error is printed once, by run
	f.StringVar(&o.url, "url", "http://127.0.0.1:8080", "the front door, where buyers go")
	f.StringVar(&o.admin, "admin", "http://127.0.0.1:8081", "the operations API, where the audit is read")
	f.StringVar(&o.sale, "sale", "demo", "the sale to buy from")
	f.StringVar(&o.prefix, "prefix", "buyer", "how buyers' names begin; take another one for a second run on the same sale")
	f.StringVar(&o.history, "history", "", "write every request and answer to this file, as JSON lines")
	f.IntVar(&o.buyers, "buyers", 20_000, "how many different buyers come")
	f.IntVar(&o.concurrency, "concurrency", 200, "most requests at the same time")
	f.IntVar(&o.tries, "tries", 20, "most requests a buyer makes to get one order")
	f.DurationVar(&o.ready, "ready-within", 10*time.Second, "how long to wait for a service that is still starting")
	f.DurationVar(&o.settle, "settle", time.Minute, "an accepted order without an outcome for so long counts as lost")
	f.DurationVar(&o.timeout, "timeout", 5*time.Minute, "the whole run ends after this time")
	err := f.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stderr, usage)
		f.SetOutput(stderr)
		f.PrintDefaults()
		return o, err
	}
	if err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	return o, o.validate()
}

func (o options) validate() error {
	for name, raw := range map[string]string{"--url": o.url, "--admin": o.admin} {
		u, err := url.Parse(raw)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return fmt.Errorf("%s %q: want an address like http://127.0.0.1:8080", name, raw)
		}
	}
	switch {
	case o.sale == "":
		return errors.New("--sale is empty: want the id of a sale")
	case o.prefix == "" || len(o.prefix) > 64:
		return errors.New("--prefix: want 1 to 64 bytes")
	case o.buyers < 1 || o.buyers > 10_000_000:
		return fmt.Errorf("--buyers %d: want 1 to 10000000", o.buyers)
	case o.concurrency < 1 || o.concurrency > 20_000:
		return fmt.Errorf("--concurrency %d: want 1 to 20000", o.concurrency)
	case o.tries < 1:
		return fmt.Errorf("--tries %d: want 1 or more", o.tries)
	case o.ready < 0:
		return errors.New("--ready-within: want a time such as 10s, or 0s")
	case o.settle <= 0 || o.timeout <= 0:
		return errors.New("--settle and --timeout: want a time above zero, such as 60s")
	}
	return nil
}

// attack runs the crowd, prints its report and answers what does not add up.
func attack(ctx context.Context, o options, stdout, stderr io.Writer) ([]string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, o.timeout, fmt.Errorf("--timeout %v is over", o.timeout))
	defer cancel()

	h, err := openHistory(o.history)
	if err != nil {
		return nil, err
	}
	s := newShop(o, h)
	before, err := s.awaitReady(ctx, o.ready)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the service is not ready: %w", err), h.close())
	}
	c := newCrowd(o, s)
	took := c.run(ctx, stderr)

	// The books are read even when the run's time is over: what is there then still has to add up.
	late, cancelLate := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
	defer cancelLate()
	after, err := s.ledger(late)
	if err = errors.Join(err, h.close()); err != nil {
		return nil, fmt.Errorf("read the audit after the run: %w", err)
	}
	r := report{options: o, tally: &c.tally, before: before, after: after, took: took, ended: context.Cause(ctx)}
	return r.print(stdout), nil
}
