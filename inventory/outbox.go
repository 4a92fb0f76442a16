package inventory

import (
	"context"
	"time"

	"sluice"
)

// Outbox is the events of the store: every transaction that moves an order or a sale writes what happened into it, under
// numbers without gaps in the order of the commits. So whoever has read up to a number has missed nothing before it. What
// is an event is said at Written and Announce. A repeat, which changes nothing, is none.
type Outbox interface {
	// Events answers at most limit events after the one numbered after, in order, and never more than MaxEvents. Where the
	// page's Oldest is more than after+1, those between are forgotten.
	Events(ctx context.Context, after int64, limit int) (sluice.Events, error)

	// OrderEvents answers the events of one order that are still kept, in order.
	OrderEvents(ctx context.Context, id sluice.OrderID) ([]sluice.Event, error)

	// Tick writes the events that time brings: sales that have begun or ended, once however many tick. It answers those
	// sales, whose version stays. The sweep calls it each second; where nothing is due it only looks.
	Tick(ctx context.Context) (sluice.Changes, error)

	// PruneEvents forgets at most limit events that are older than age and that no reader waits for: a reader waits for what
	// lies after its position, unless its lease ended longer than age ago; such a reader is forgotten too, once it would
	// begin at the same place as a new one. It answers how many events it forgot, and forgets MaxEvents at most.
	PruneEvents(ctx context.Context, age time.Duration, limit int) (int, error)

	// Claim gives owner the lease of a reader for ttl, by the store's clock, and answers the reader's position: the number
	// of the last event that it is done with. A reader that is new begins at the oldest event that is kept. held is false
	// while somebody else has the lease; the position is told only to its owner. The owner claims again to keep it, and gives
	// it back with a ttl of 0. An owner's name must be its own among all that claim, and new with each start.
	Claim(ctx context.Context, reader, owner string, ttl time.Duration) (position int64, held bool, err error)

	// Advance moves the position of a reader, backwards too, but never beyond the newest event, and answers whether owner
	// still has the lease; if not, because it is over or somebody else's, nothing is moved.
	Advance(ctx context.Context, reader, owner string, position int64) (held bool, err error)

	// Readers answers the position of every reader, for metrics.
	Readers(ctx context.Context) (map[string]int64, error)
}

// PoolSettings keeps what operators set of the workers' pools, as Limits and ChangeLimits do for the doors.
type PoolSettings interface {
	Pools(ctx context.Context) (sluice.Pools, error)
	ChangePools(ctx context.Context, change func(*sluice.Pools) error) (sluice.Pools, error)
}
