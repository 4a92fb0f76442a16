package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"sluice"
	"sluice/inventory"
)

// pipeline is one of a transaction's two, with what the transaction has written so far.
type pipeline struct {
	*pgx.Batch
	wrote inventory.Written
	now   time.Time // as readNow brought it
}

// queueEvents queues the events of all that was written. It must come last before COMMIT: from the head's lock on nobody
// waits for anything but the commit itself, so the lock is short and in no circle, and whoever is numbered later commits
// later. Who has read up to a number has thus seen all before it.
func (b *pipeline) queueEvents() error {
	const insert = "WITH head AS (UPDATE events_head SET newest = newest + cardinality($1::boolean[]) WHERE id = 1 " +
		"RETURNING newest - cardinality($1::boolean[]) AS before) " +
		"INSERT INTO events (seq, at, later, order_id, body) SELECT head.before + e.n, $2, e.later, e.order_id, e.body " +
		"FROM head, unnest($1::boolean[], $3::uuid[], $4::text[]) WITH ORDINALITY AS e (later, order_id, body, n)"
	events, phases, err := b.wrote.Events(b.now)
	if err != nil {
		return fmt.Errorf("make the events: %w", err)
	}
	for sale, phase := range phases {
		b.Queue("UPDATE sales SET phase = $2 WHERE id = $1", sale, string(phase))
	}
	if len(events) == 0 {
		return nil
	}
	bodies, err := inventory.EncodeEvents(events)
	if err != nil {
		return err //nolint:wrapcheck // it says what it was doing
	}
	later, orders := make([]bool, len(events)), make([]pgtype.UUID, len(events))
	for i := range events {
		later[i] = inventory.Later(&events[i])
		orders[i] = pgtype.UUID{Bytes: events[i].Order, Valid: events[i].Order != sluice.OrderID{}}
	}
	b.Queue(insert, later, b.now, orders, bodies)
	return nil
}

// eachSale queues a statement that locks sales, and tells the transaction's events of them.
func eachSale(b *pipeline, found func(sluice.Sale), lock string, args ...any) {
	each(b, func(rows pgx.Rows) error {
		var said inventory.Phase
		sale, err := scanSale(rows, (*string)(&said))
		b.wrote.Locked(sale, said)
		found(sale)
		return err
	}, lock, args...)
}

// eachMoving queues the reading of orders that are to be moved.
func eachMoving(b *pipeline, found func(inventory.Stored), query string, args ...any) {
	each(b, func(rows pgx.Rows) error {
		var attributes []byte
		var replayOf *[16]byte
		var refunded bool
		o, err := scanOrder(rows, &attributes, &replayOf, &refunded)
		o.Attributes, o.ReplayOf, o.Refunded = attributes, orNone(replayOf), refunded
		found(o)
		return err
	}, query, args...)
}

// Events answers a page of events; see inventory.Outbox. One statement, because the page and its bounds must be of one
// snapshot.
func (s *Store) Events(ctx context.Context, after int64, limit int) (sluice.Events, error) {
	const query = "SELECT h.newest, h.forgotten, " + eventColumns + " FROM events_head AS h LEFT JOIN events AS e " +
		"ON e.seq > greatest($1, h.forgotten) AND e.seq <= least(greatest($1, h.forgotten), h.newest) + $2 " +
		"WHERE h.id = 1 ORDER BY e.seq"
	var page sluice.Events
	err := s.look(ctx, "read events", func(b *pipeline) {
		each(b, func(rows pgx.Rows) error {
			var forgotten int64
			e, found, err := scanEvent(rows, &page.Newest, &forgotten)
			if found {
				page.Events = append(page.Events, e)
			}
			if page.Newest > forgotten {
				page.Oldest = forgotten + 1
			}
			return err
		}, query, max(after, 0), min(max(limit, 0), inventory.MaxEvents))
	})
	if err != nil {
		return sluice.Events{}, err
	}
	return page, nil
}

// OrderEvents answers the events of one order; see inventory.Outbox. The first one has the time at which the order was
// settled, the others are in an index: an index of the first ones would cost every batch a random page for each order.
func (s *Store) OrderEvents(ctx context.Context, id sluice.OrderID) ([]sluice.Event, error) {
	const query = "SELECT " + eventColumns + " FROM events AS e WHERE order_id = $1 AND NOT later " +
		"AND at = (SELECT settled_at FROM orders WHERE id = $1) " +
		"UNION ALL SELECT " + eventColumns + " FROM events AS e WHERE order_id = $1 AND later ORDER BY seq"
	var events []sluice.Event
	err := s.look(ctx, "read an order's events", func(b *pipeline) {
		each(b, func(rows pgx.Rows) error {
			e, _, err := scanEvent(rows)
			events = append(events, e)
			return err
		}, query, [16]byte(id))
	})
	if err != nil {
		return nil, err
	}
	return events, nil
}

const eventColumns = "e.seq, e.order_id, e.at, e.body"

// scanEvent reads eventColumns behind the columns of first. It answers false where there is no event in the row.
func scanEvent(row pgx.Row, first ...any) (e sluice.Event, found bool, err error) {
	var seq pgtype.Int8
	var order pgtype.UUID
	var at *time.Time
	var body []byte
	if err := row.Scan(append(first, &seq, &order, &at, &body)...); err != nil || !seq.Valid {
		return e, false, err //nolint:wrapcheck // the caller says what was being read
	}
	e, err = inventory.DecodeEvent(seq.Int64, order.Bytes, *at, body)
	return e, true, err //nolint:wrapcheck // the caller says what was being read
}

// Tick announces sales whose start or end has come; see inventory.Outbox. To lock them is enough: the transaction's events
// do the rest. Most ticks find none, and lock nothing.
func (s *Store) Tick(ctx context.Context) (sluice.Changes, error) {
	c, due, err := s.tickDue(ctx)
	if err != nil || len(due) == 0 {
		return c, err
	}
	err = s.transact(ctx, "announce sales", func(b *pipeline) {
		c.Sales = nil
		eachSale(b, func(sale sluice.Sale) { c.Sales = append(c.Sales, sale) }, lockSales, due)
		readNow(b, &c.Now)
	}, func(*pipeline) error { return nil })
	if err != nil {
		return sluice.Changes{}, err
	}
	return c, nil
}

// tickDue looks, without a lock, for sales that are not in the phase that was announced; see inventory.Announce.
func (s *Store) tickDue(ctx context.Context) (c sluice.Changes, sales []string, err error) {
	const query = "SELECT clock_timestamp(), coalesce((SELECT array_agg(id) FROM (SELECT id FROM sales WHERE phase <> CASE " +
		"WHEN ends_at <= statement_timestamp() THEN 'ended' WHEN starts_at > statement_timestamp() THEN phase " +
		"WHEN free = 0 AND held = 0 THEN 'sold_out' ELSE 'open' END ORDER BY id LIMIT $1) AS due), '{}')"
	const most = 500 // the next tick takes the rest
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err = s.pool.QueryRow(ctx, query, most).Scan(&c.Now, &sales)
	c.Now = inventory.Micros(c.Now)
	return c, sales, classify("announce sales", err)
}

// PruneEvents forgets old events; see inventory.Outbox. Two that prune at once wait for each other at the first row.
func (s *Store) PruneEvents(ctx context.Context, age time.Duration, limit int) (int, error) {
	// Numbers have no gaps, so a range of them is a number of rows.
	const upTo = "SELECT h.forgotten, coalesce((SELECT e.seq - 1 FROM events AS e WHERE e.seq > h.forgotten AND e.seq <= b.bound " +
		"AND e.at > statement_timestamp() - $1::interval ORDER BY e.seq LIMIT 1), b.bound) FROM events_head AS h, LATERAL (SELECT " +
		"least(h.newest, h.forgotten + $2, (SELECT min(position) FROM event_readers WHERE until > statement_timestamp() - $1::interval)) " +
		"AS bound) AS b WHERE h.id = 1"
	const (
		drop = "DELETE FROM events WHERE seq > $1 AND seq <= $2"
		// A reader that nobody waits for and that would begin at the same place if it were new.
		dropReaders = "DELETE FROM event_readers WHERE until <= statement_timestamp() - $1::interval AND position <= $2"
		forget      = "UPDATE events_head SET forgotten = greatest(forgotten, $1) WHERE id = 1"
	)
	var after, last, forgotten int64
	err := s.transact(ctx, "forget events", func(b *pipeline) {
		forgotten = 0
		b.Queue(upTo, age, min(max(limit, 0), inventory.MaxEvents)).QueryRow(func(row pgx.Row) error {
			return row.Scan(&after, &last) //nolint:wrapcheck // transact says what was being done
		})
	}, func(b *pipeline) error {
		if last <= after {
			return nil
		}
		b.Queue(drop, after, last).Exec(func(tag pgconn.CommandTag) error {
			forgotten = tag.RowsAffected()
			return nil
		})
		b.Queue(dropReaders, age, last)
		b.Queue(forget, last)
		return nil
	})
	if err != nil {
		return 0, err
	}
	return int(forgotten), nil
}

// Claim gives or renews the lease of a reader; see inventory.Outbox.
func (s *Store) Claim(ctx context.Context, reader, owner string, ttl time.Duration) (position int64, held bool, err error) {
	const claim = "INSERT INTO event_readers AS r (name, owner, until, position) " +
		"SELECT $1, $2, clock_timestamp() + $3::interval, forgotten FROM events_head WHERE id = 1 " +
		"ON CONFLICT (name) DO UPDATE SET owner = $2, until = clock_timestamp() + $3::interval " +
		"WHERE r.owner = $2 OR r.until <= clock_timestamp() RETURNING position"
	err = s.look(ctx, "claim a reader's lease", func(b *pipeline) {
		each(b, func(rows pgx.Rows) error {
			held = true
			return rows.Scan(&position) //nolint:wrapcheck // look says what was being done
		}, claim, reader, owner, ttl)
	})
	if err != nil {
		return 0, false, err
	}
	return position, held, nil
}

// Advance moves the position of a reader; see inventory.Outbox.
func (s *Store) Advance(ctx context.Context, reader, owner string, position int64) (held bool, err error) {
	const advance = "UPDATE event_readers SET position = least($3, (SELECT newest FROM events_head WHERE id = 1)) " +
		"WHERE name = $1 AND owner = $2 AND until > clock_timestamp()"
	err = s.look(ctx, "move a reader", func(b *pipeline) {
		b.Queue(advance, reader, owner, max(position, 0)).Exec(func(tag pgconn.CommandTag) error {
			held = tag.RowsAffected() == 1
			return nil
		})
	})
	return held && err == nil, err
}

// Readers answers the position of every reader; see inventory.Outbox.
func (s *Store) Readers(ctx context.Context) (map[string]int64, error) {
	readers := map[string]int64{}
	err := s.look(ctx, "read the readers", func(b *pipeline) {
		each(b, func(rows pgx.Rows) error {
			var name string
			var position int64
			err := rows.Scan(&name, &position)
			readers[name] = position
			return err //nolint:wrapcheck // look says what was being done
		}, "SELECT name, position FROM event_readers")
	})
	if err != nil {
		return nil, err
	}
	return readers, nil
}
