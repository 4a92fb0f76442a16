package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"sluice"
	"sluice/inventory"
)

// writeEvents writes the events of all that the transaction wrote. It is the last thing before the commit. There is one
// writer at a time, so numbers come in the order of the commits.
func (t *tx) writeEvents(ctx context.Context) error {
	events, phases, err := t.wrote.Events(t.now)
	if err != nil {
		return fmt.Errorf("make the events: %w", err)
	}
	for sale, phase := range phases {
		if _, err := t.ExecContext(ctx, "UPDATE sales SET phase = ? WHERE id = ?", string(phase), sale); err != nil {
			return fmt.Errorf("note what is announced of sale %s: %w", sale, err)
		}
	}
	if len(events) == 0 {
		return nil
	}
	bodies, err := inventory.EncodeEvents(events)
	if err != nil {
		return err //nolint:wrapcheck // it says what it was doing
	}
	var seq int64                                                                        // of the last one before these
	err = t.prepared(ctx, t.stmts.moveHead).QueryRowContext(ctx, len(events)).Scan(&seq) //nolint:sqlclosecheck // the transaction closes it
	if err != nil {
		return fmt.Errorf("number the events: %w", err)
	}
	for len(events) > 0 {
		stmt, n := t.stmts.insertEvents.exact(len(events))
		args := make([]any, 0, n*eventFields)
		for i := range n {
			seq++
			args = append(args, seq, micros(t.now), inventory.Later(&events[i]), orNull(&events[i].Order), bodies[i])
		}
		events, bodies = events[n:], bodies[n:]
		if _, err := t.prepared(ctx, stmt).ExecContext(ctx, args...); err != nil { //nolint:sqlclosecheck // the transaction closes it
			return fmt.Errorf("write the events: %w", err)
		}
	}
	return nil
}

const (
	insertEvents = "INSERT INTO events (seq, at, later, order_id, body) VALUES %s"
	eventFields  = 5
	eventColumns = "e.seq, e.order_id, e.at, e.body"
	moveHead     = "UPDATE events_head SET newest = newest + ?1 WHERE id = 1 RETURNING newest - ?1"
)

func orNull(id *sluice.OrderID) []byte {
	if *id == (sluice.OrderID{}) {
		return nil
	}
	return id[:]
}

// moving reads an order that is to be moved, or refuses. ref is the payment that is being judged.
func (t *tx) moving(ctx context.Context, id sluice.OrderID, ref string) (inventory.Stored, error) {
	o, err := scanMoving(t.prepared(ctx, t.stmts.selectMoving).QueryRowContext(ctx, ref, id[:])) //nolint:sqlclosecheck // the transaction closes it
	if errors.Is(err, sql.ErrNoRows) {
		return o, sluice.Refuse(sluice.NoSuchOrder, "the store has no order %s", id)
	}
	if err != nil {
		return o, fmt.Errorf("read an order: %w", err)
	}
	return o, nil
}

// scanMoving reads movingColumns.
func scanMoving(row scanner) (inventory.Stored, error) {
	var attributes []byte
	var replayOf []byte
	var refunded bool
	o, err := scanOrder(row, &attributes, &replayOf, &refunded)
	o.Attributes, o.Refunded = attributes, refunded
	copy(o.ReplayOf[:], replayOf)
	return o, err
}

// Events answers a page of events; see inventory.Outbox. One statement, because the page and its bounds must be of one
// snapshot.
func (s *Store) Events(ctx context.Context, after int64, limit int) (sluice.Events, error) {
	const query = "SELECT h.newest, h.forgotten, " + eventColumns + " FROM events_head AS h LEFT JOIN events AS e " +
		"ON e.seq > max(?1, h.forgotten) AND e.seq <= min(max(?1, h.forgotten), h.newest) + ?2 WHERE h.id = 1 ORDER BY e.seq"
	var page sluice.Events
	rows, err := s.read.QueryContext(ctx, query, max(after, 0), min(max(limit, 0), inventory.MaxEvents))
	err = collect(rows, err, func() error {
		var forgotten int64
		e, found, err := scanEvent(rows, &page.Newest, &forgotten)
		if found {
			page.Events = append(page.Events, e)
		}
		if page.Newest > forgotten {
			page.Oldest = forgotten + 1
		}
		return err
	})
	if err != nil {
		return sluice.Events{}, s.classify("read events", err)
	}
	return page, nil
}

// OrderEvents answers the events of one order; see inventory.Outbox. The first one has the time at which the order was
// settled, the others are in an index: an index of the first ones would cost every batch a random page for each order.
func (s *Store) OrderEvents(ctx context.Context, id sluice.OrderID) ([]sluice.Event, error) {
	const query = "SELECT " + eventColumns + " FROM events AS e WHERE order_id = ?1 AND later = 0 " +
		"AND at = (SELECT settled_at FROM orders WHERE id = ?1) " +
		"UNION ALL SELECT " + eventColumns + " FROM events AS e WHERE order_id = ?1 AND later = 1 ORDER BY 1"
	var events []sluice.Event
	rows, err := s.read.QueryContext(ctx, query, id[:])
	err = collect(rows, err, func() error {
		e, _, err := scanEvent(rows)
		events = append(events, e)
		return err
	})
	if err != nil {
		return nil, s.classify("read an order's events", err)
	}
	return events, nil
}

// scanEvent reads eventColumns behind the columns of first. It answers false where there is no event in the row.
func scanEvent(row scanner, first ...any) (e sluice.Event, found bool, err error) {
	var seq, at sql.NullInt64
	var id, body []byte
	if err := row.Scan(append(first, &seq, &id, &at, &body)...); err != nil || !seq.Valid {
		return e, false, err //nolint:wrapcheck // the caller says what was being read
	}
	var order sluice.OrderID
	copy(order[:], id)
	e, err = inventory.DecodeEvent(seq.Int64, order, moment(at), body)
	return e, true, err //nolint:wrapcheck // the caller says what was being read
}

// Tick announces sales whose start or end has come; see inventory.Outbox. To read them in a transaction is enough: its
// events do the rest. Most ticks find none, and do without the write lock.
func (s *Store) Tick(ctx context.Context) (sluice.Changes, error) {
	c := sluice.Changes{Now: s.clock.now()}
	due, err := s.tickDue(ctx, c.Now)
	if err != nil || len(due) == 0 {
		return c, err
	}
	err = s.transact(ctx, "announce sales", func(t *tx) error {
		c.Now = t.now
		for _, id := range due {
			sale, ok, err := t.sale(ctx, id)
			if err != nil {
				return err
			}
			if ok {
				c.Sales = append(c.Sales, sale)
			}
		}
		return nil
	})
	return known(c, err)
}

// tickDue looks for sales that are not in the phase that was announced; see inventory.Announce.
func (s *Store) tickDue(ctx context.Context, at time.Time) (sales []string, err error) {
	const query = "SELECT id FROM sales WHERE phase <> CASE WHEN ends_at <= ?1 THEN 'ended' WHEN starts_at > ?1 THEN phase " +
		"WHEN free = 0 AND held = 0 THEN 'sold_out' ELSE 'open' END ORDER BY id LIMIT ?2"
	const most = 500                                               // the next tick takes the rest
	rows, err := s.read.QueryContext(ctx, query, micros(at), most) //nolint:sqlclosecheck // collect closes them
	err = collect(rows, err, func() error {
		var id string
		err := rows.Scan(&id)
		sales = append(sales, id)
		return err //nolint:wrapcheck // below
	})
	return sales, s.classify("announce sales", err)
}

// PruneEvents forgets old events; see inventory.Outbox.
func (s *Store) PruneEvents(ctx context.Context, age time.Duration, limit int) (int, error) {
	// Numbers have no gaps, so a range of them is a number of rows.
	const upTo = "SELECT b.forgotten, coalesce((SELECT e.seq - 1 FROM events AS e WHERE e.seq > b.forgotten AND e.seq <= b.bound " +
		"AND e.at > ?1 ORDER BY e.seq LIMIT 1), b.bound) FROM (SELECT forgotten, min(newest, forgotten + ?2, " +
		"coalesce((SELECT min(position) FROM event_readers WHERE until > ?1), newest)) AS bound FROM events_head WHERE id = 1) AS b"
	const (
		drop = "DELETE FROM events WHERE seq > ? AND seq <= ?"
		// A reader that nobody waits for and that would begin at the same place if it were new.
		dropReaders = "DELETE FROM event_readers WHERE until <= ? AND position <= ?"
		forget      = "UPDATE events_head SET forgotten = ? WHERE id = 1"
	)
	var forgotten int64
	err := s.transact(ctx, "forget events", func(t *tx) error {
		cutoff := t.now.Add(-age).UnixMicro()
		var after, last int64
		row := t.QueryRowContext(ctx, upTo, cutoff, min(max(limit, 0), inventory.MaxEvents))
		if err := row.Scan(&after, &last); err != nil || last <= after {
			return err //nolint:wrapcheck // transact says what was being done
		}
		forgotten = last - after
		_, err := t.ExecContext(ctx, drop, after, last)
		if err == nil {
			_, err = t.ExecContext(ctx, dropReaders, cutoff, last)
		}
		if err == nil {
			_, err = t.ExecContext(ctx, forget, last)
		}
		return err //nolint:wrapcheck // transact says what was being done
	})
	if err != nil {
		return 0, err
	}
	return int(forgotten), nil
}

// Claim gives or renews the lease of a reader; see inventory.Outbox.
func (s *Store) Claim(ctx context.Context, reader, owner string, ttl time.Duration) (position int64, held bool, err error) {
	const claim = "INSERT INTO event_readers AS r (name, owner, until, position) " +
		"SELECT ?1, ?2, ?3, forgotten FROM events_head WHERE id = 1 " +
		"ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, until = excluded.until " +
		"WHERE r.owner = excluded.owner OR r.until <= ?4 RETURNING position"
	err = s.transact(ctx, "claim a reader's lease", func(t *tx) error {
		err := t.QueryRowContext(ctx, claim, reader, owner, t.now.Add(ttl).UnixMicro(), t.now.UnixMicro()).Scan(&position)
		held = err == nil
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		return err //nolint:wrapcheck // transact says what was being done
	})
	if err != nil {
		return 0, false, err
	}
	return position, held, nil
}

// Advance moves the position of a reader; see inventory.Outbox.
func (s *Store) Advance(ctx context.Context, reader, owner string, position int64) (held bool, err error) {
	const advance = "UPDATE event_readers SET position = min(?3, (SELECT newest FROM events_head WHERE id = 1)) " +
		"WHERE name = ?1 AND owner = ?2 AND until > ?4"
	err = s.transact(ctx, "move a reader", func(t *tx) error {
		r, err := t.ExecContext(ctx, advance, reader, owner, max(position, 0), t.now.UnixMicro())
		if err != nil {
			return err //nolint:wrapcheck // transact says what was being done
		}
		n, err := r.RowsAffected()
		held = n == 1
		return err //nolint:wrapcheck // transact says what was being done
	})
	return held && err == nil, err
}

// Readers answers the position of every reader; see inventory.Outbox.
func (s *Store) Readers(ctx context.Context) (map[string]int64, error) {
	readers := map[string]int64{}
	rows, err := s.read.QueryContext(ctx, "SELECT name, position FROM event_readers") //nolint:sqlclosecheck // collect closes them
	err = collect(rows, err, func() error {
		var name string
		var position int64
		err := rows.Scan(&name, &position)
		readers[name] = position
		return err //nolint:wrapcheck // below
	})
	if err != nil {
		return nil, s.classify("read the readers", err)
	}
	return readers, nil
}
