package main

import (
	"context"
	"time"

	"sluice"
)

// This store has no events: nobody gets the lease to read them, and nothing is ever due.

func (*store) Events(context.Context, int64, int) (sluice.Events, error) {
	return sluice.Events{}, nil
}

func (*store) OrderEvents(context.Context, sluice.OrderID) ([]sluice.Event, error) { return nil, nil }

func (*store) Tick(context.Context) (sluice.Changes, error) { return sluice.Changes{}, nil }

func (*store) PruneEvents(context.Context, time.Duration, int) (int, error) { return 0, nil }

func (*store) Claim(context.Context, string, string, time.Duration) (int64, bool, error) {
	return 0, false, nil
}

func (*store) Advance(context.Context, string, string, int64) (bool, error) { return false, nil }

func (*store) Readers(context.Context) (map[string]int64, error) { return map[string]int64{}, nil }
