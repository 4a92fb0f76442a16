package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"sluice"
	"sluice/api"
)

func eventCommand() *cobra.Command {
	cmd := group("event", "Print what happened to orders and sales, one JSON object a line", "  sluice event list --after 4711\n  sluice event follow")
	cmd.AddCommand(eventListCommand(), eventFollowCommand())
	return cmd
}

func eventListCommand() *cobra.Command {
	var after int64
	var limit int
	cmd := operatorCommand("list", "Print events, the oldest first", "  sluice event list --after 4711 --limit 1000", cobra.NoArgs,
		func(ctx context.Context, c *api.Client, _ []string) error {
			if limit < 1 {
				return &usageError{fmt.Errorf("--limit %d: want 1 or more", limit)}
			}
			f := follower{after: after}
			for left := limit; left > 0; {
				page, err := c.Events(ctx, f.after, min(left, api.MaxPage), 0)
				if err != nil {
					return err
				}
				if err := f.print(page); err != nil || len(page.Events) == 0 {
					return err
				}
				left -= len(page.Events)
			}
			return nil
		})
	cmd.Flags().Int64Var(&after, "after", 0, "begin after the event of this number")
	cmd.Flags().IntVar(&limit, "limit", api.DefaultPage, "most events to print")
	return cmd
}

func eventFollowCommand() *cobra.Command {
	var after int64
	cmd := streamCommand("follow", "Print events as they happen, until it is interrupted; a worker that is away is waited for",
		"  sluice event follow\n  sluice event follow --after 4711 | jq .type", cobra.NoArgs,
		func(ctx context.Context, c *api.Client, _ []string) error {
			f := follower{after: after}
			if after < 0 {
				newest, err := newestEvent(ctx, c)
				if err != nil {
					return err
				}
				f.after = newest
			}
			return f.follow(ctx, c)
		})
	cmd.Flags().Int64Var(&after, "after", -1, "begin after the event of this number; -1: with the next one")
	return cmd
}

func newestEvent(ctx context.Context, c *api.Client) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, eventTimeout)
	defer cancel()
	page, err := c.Events(ctx, 0, 1, 0)
	return page.Newest, err
}

// eventTimeout is what a question for events may take beyond the time that it waits for one.
const eventTimeout = 15 * time.Second

// follower prints events in their order. It knows the number of the last one.
type follower struct {
	after  int64
	asked  bool // a worker has answered
	silent bool // and now none does, which was said
}

// follow asks for the next events again and again, until ctx ends.
func (f *follower) follow(ctx context.Context, c *api.Client) error {
	for {
		page, err := f.next(ctx, c)
		switch {
		case ctx.Err() != nil:
			return nil // it was interrupted, which is how it ends
		case err != nil && (!f.asked || final(err)):
			return err
		case err != nil:
			if !f.silent {
				fmt.Fprintln(os.Stderr, "waiting for the worker:", sentence(err))
			}
			f.silent = true
			pause(ctx, time.Second)
			continue
		}
		f.asked, f.silent = true, false
		if err := f.print(page); err != nil {
			return err
		}
	}
}

func (f *follower) next(ctx context.Context, c *api.Client) (sluice.Events, error) {
	ctx, cancel := context.WithTimeout(ctx, api.MaxEventWait+eventTimeout)
	defer cancel()
	return c.Events(ctx, f.after, api.MaxPage, api.MaxEventWait)
}

// final reports whether asking again can't help: somebody answered, and not that it was at a loss.
func final(err error) bool {
	refusal, ok := errors.AsType[*sluice.Error](err)
	return ok && refusal.Refusal != sluice.Unavailable && refusal.Refusal != sluice.Internal
}

// print prints events, and says where some are missing: those that are no longer kept.
func (f *follower) print(page sluice.Events) error {
	if f.after > page.Newest {
		return fmt.Errorf("--after %d: the newest event is number %d", f.after, page.Newest)
	}
	if len(page.Events) > 0 && f.after > 0 && page.Events[0].Seq > f.after+1 {
		fmt.Fprintf(os.Stderr, "events %d to %d are no longer kept\n", f.after+1, page.Events[0].Seq-1)
	}
	lines := json.NewEncoder(os.Stdout)
	for i := range page.Events {
		if err := lines.Encode(page.Events[i]); err != nil {
			return err
		}
		f.after = page.Events[i].Seq
	}
	return nil
}
