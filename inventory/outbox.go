package inventory

import (
	"context"
	"time"

	"sluice"
)

// Outbox is the events of the store: every transaction that moves an order or a sale writes what happened into it, under
// numbers without gaps in the order of the commits. So whoever has read up to a number has missed nothing before it.
type Outbox interface {
	// Events answers at most limit events after the one numbered after, in order.
	Events(ctx context.Context, after int64, limit int) (sluice.Events, error)

	// OrderEvents answers the events of one order that are still kept, in order.
	OrderEvents(ctx context.Context, id sluice.OrderID) ([]sluice.Event, error)

	// Tick writes the events that time brings: sales that have begun or ended. The sweep calls it each second.
	Tick(ctx context.Context) (sluice.Changes, error)

	// PruneEvents forgets at most limit events that are older than age and that no reader waits for: a reader waits for what
	// lies after its position, unless its lease ended longer than age ago. It answers how many it forgot.
	PruneEvents(ctx context.Context, age time.Duration, limit int) (int, error)

	// Claim gives owner the lease of a reader for ttl, by the store's clock, and answers the reader's position: the number
	// of the last event that it is done with. A reader that is new begins at the oldest event that is kept. held is false
	// while somebody else has the lease. The owner claims again to keep it.
	Claim(ctx context.Context, reader, owner string, ttl time.Duration) (position int64, held bool, err error)

	// Advance moves the position of a reader, backwards too, and answers whether owner still has the lease; if not,
	// nothing is moved.
	Advance(ctx context.Context, reader, owner string, position int64) (held bool, err error)

	// Readers answers the position of every reader, for metrics.
	Readers(ctx context.Context) (map[string]int64, error)
}

// PoolSettings keeps what operators set of the workers' pools, as Limits and ChangeLimits do for the doors.
type PoolSettings interface {
	Pools(ctx context.Context) (sluice.Pools, error)
	ChangePools(ctx context.Context, change func(*sluice.Pools) error) (sluice.Pools, error)
}
