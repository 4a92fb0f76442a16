package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"sluice/faulttest/check"
	"sluice/loadtest/lab"
)

// What stories look at to meet the right moment, and to know that they met it.

// queued is how many orders nsqd has: some wait, and some are in the hands of workers.
func (s *scene) queued(ctx context.Context) (waiting, inHand int64, err error) {
	c, err := s.counts(ctx, "orders", "")
	return c.waiting, c.inHand, err
}

// timedOut is how many orders nsqd took from a worker that had not answered in time.
func (s *scene) timedOut(ctx context.Context) (int64, error) {
	c, err := s.counts(ctx, "orders", "")
	return c.timedOut, err
}

// depth is how many messages wait in a channel.
func (s *scene) depth(ctx context.Context, topic, channel string) (waiting int64, err error) {
	c, err := s.counts(ctx, topic, channel)
	return c.waiting, err
}

// counts are what nsqd says of its messages.
type counts struct {
	waiting, inHand int64
	timedOut        int64 // since it was started
}

// counts adds up a topic's channels, or one of them.
func (s *scene) counts(ctx context.Context, name, channel string) (sum counts, err error) {
	host, port, err := net.SplitHostPort(s.parts["nsqd"].address)
	if err != nil {
		return sum, err
	}
	n, err := strconv.Atoi(port) // HTTP is one port above
	if err != nil {
		return sum, err
	}
	var stats struct {
		Topics []struct {
			Name     string `json:"topic_name"`
			Depth    int64
			Channels []struct {
				Name     string `json:"channel_name"`
				Depth    int64
				InFlight int64 `json:"in_flight_count"`
				TimedOut int64 `json:"timeout_count"`
			}
		}
	}
	err = check.Get(ctx, fmt.Sprintf("http://%s:%d/stats?format=json&topic=%s", host, n+1, name), &stats)
	for _, topic := range stats.Topics {
		if topic.Name != name {
			continue
		}
		sum.waiting += topic.Depth
		for _, c := range topic.Channels {
			if channel == "" || c.Name == channel {
				sum.waiting, sum.inHand, sum.timedOut = sum.waiting+c.Depth, sum.inHand+c.InFlight, sum.timedOut+c.TimedOut
			}
		}
	}
	return sum, err
}

// untilInHand waits until workers have orders in hand.
func (s *scene) untilInHand(ctx context.Context) error {
	return lab.Eventually(ctx, 10*time.Second, "workers have orders in hand", func() error {
		_, inHand, err := s.queued(ctx)
		if err == nil && inHand == 0 {
			err = errors.New("they have none")
		}
		return err
	})
}

// rows is how many orders are in the database.
func (s *scene) rows(ctx context.Context) (int64, error) {
	return s.count(ctx, "SELECT count(*) FROM sluice_orders")
}

// held is how many orders hold units.
func (s *scene) held(ctx context.Context) (int64, error) {
	return s.count(ctx, "SELECT count(*) FROM sluice_orders WHERE state = 'held'")
}

func (s *scene) count(ctx context.Context, query string) (n int64, err error) {
	db, err := s.db()
	if err != nil {
		return 0, err
	}
	defer db.Close() //nolint:errcheck // it was only read
	return n, db.QueryRowContext(ctx, query).Scan(&n)
}

// lockOrders lets nobody write an order until release is called: a worker that settles some has these in hand.
func (s *scene) lockOrders(ctx context.Context) (release func() error, err error) {
	db, err := s.db()
	if err != nil {
		return nil, err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if _, err := tx.ExecContext(ctx, "LOCK TABLE sluice.orders IN SHARE MODE"); err != nil {
		return nil, errors.Join(err, tx.Rollback(), db.Close())
	}
	fault := s.suffers(0, "postgres", "the orders are locked")
	return func() error {
		s.healed(fault)
		return errors.Join(tx.Rollback(), db.Close())
	}, nil
}

// untilSettling waits until a worker's transaction, which settles or pays, waits for that lock.
func (s *scene) untilSettling(ctx context.Context) error {
	return lab.Eventually(ctx, 20*time.Second, "the worker is settling orders", func() error {
		n, err := s.count(ctx, `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event = 'relation'`)
		if err == nil && n == 0 {
			err = errors.New("it waits for no lock")
		}
		return err
	})
}

// silence drops all that goes in a connection's own direction, from who made it, until it is healed; what comes back still comes.
func (s *scene) silence(l link) (heal func() error, err error) {
	p, err := s.proxyOf(l)
	if err != nil {
		return nil, err
	}
	const name = "silence"
	if _, err := p.Toxics.AddToxicJson(strings.NewReader(`{"name":"` + name + `","type":"timeout","stream":"upstream","attributes":{"timeout":0}}`)); err != nil {
		return nil, err
	}
	fault := s.suffers(0, l.from+" to "+l.to, "nothing arrives")
	return func() error {
		s.healed(fault)
		return p.Toxics.RemoveToxic(context.Background(), name)
	}, nil
}
