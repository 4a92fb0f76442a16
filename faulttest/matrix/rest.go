package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"sluice/faulttest/check"
	"sluice/loadtest/lab"
)

// finish sells what is left once everything runs again, so that the end shows that nothing was withheld, and ends the sale.
func (s *scene) finish(ctx context.Context) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	if !s.plenty {
		if err := s.sellTheRest(ctx); err != nil {
			return err
		}
		if err := s.soldOut(ctx); err != nil {
			return err
		}
	}
	if err := s.settled(ctx); err != nil {
		return err
	}
	if _, err := post(ctx, "http://"+s.admin+"/v1/sales/"+saleID+"/end", nil); err != nil {
		return fmt.Errorf("end the sale: %w", err)
	}
	return lab.Eventually(ctx, startTime, "the end of the sale is an event", func() error {
		events, err := check.ReadEvents(ctx, s.admin)
		if err == nil && (len(events) == 0 || events[len(events)-1].Type != "sale.ended") {
			err = errors.New("the newest is another one")
		}
		return err
	})
}

// lateAtOnce is how many of those who buy the rest are there at the same time: so few that each hears of its hold, and pays, before that
// is over, however slow the machine.
const lateAtOnce = 64

// mostRounds is enough for a minute of waiting for holds; a run's own time is shorter.
const mostRounds = 1000

// sellTheRest: as many buyers as there are free units come for one each, until none is left.
func (s *scene) sellTheRest(ctx context.Context) error {
	for round := 0; round < mostRounds && ctx.Err() == nil; round++ {
		var sale check.SaleRow
		if err := check.Get(ctx, "http://"+s.admin+"/v1/sales/"+saleID, &sale); err != nil {
			return fmt.Errorf("read the sale: %w", err)
		}
		if sale.Free == 0 && sale.Held == 0 {
			return nil
		}
		s.say("round %d: %d units are free, %d held", round+1, sale.Free, sale.Held)
		if sale.Free == 0 { // what is held is paid, or comes back
			pause(ctx, 100*time.Millisecond)
			continue
		}
		var late sync.WaitGroup
		free := make(chan struct{}, lateAtOnce)
		for i := range sale.Free {
			free <- struct{}{}
			late.Go(func() {
				s.buyers.purchase(ctx, purchase{
					user: fmt.Sprintf("late-%d-%d", round, i), quantity: 1, key: fmt.Sprintf("late-key-%d-%d", round, i),
					first: int(i) % len(s.doorList), then: pays, again: true,
				})
				<-free
			})
		}
		late.Wait()
	}
	if ctx.Err() != nil {
		return fmt.Errorf("sell the rest: %w", context.Cause(ctx))
	}
	return errors.New("P2: units are left after many rounds")
}

// settled waits until no order is held or on its way.
func (s *scene) settled(ctx context.Context) error {
	db, err := s.db()
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // it was only read
	return lab.Eventually(ctx, settleTime, "nothing is held or on its way", func() error {
		var held int
		if err := db.QueryRowContext(ctx, "SELECT count(*) FROM sluice_orders WHERE state = 'held'").Scan(&held); err != nil {
			return err
		}
		var rows int64
		if err := db.QueryRowContext(ctx, "SELECT count(*) FROM sluice_orders").Scan(&rows); err != nil {
			return err
		}
		if promised := s.promised(); held > 0 || rows < promised {
			return fmt.Errorf("%d held; %d rows, and %d were promised", held, rows, promised)
		}
		return nil
	})
}

// promised is how many orders were.
func (s *scene) promised() int64 { return s.history.Promised() }

// soldOut: when the last unit is sold, every door says so.
func (s *scene) soldOut(ctx context.Context) error {
	for i, door := range s.doorList {
		tries := 0
		err := lab.Eventually(ctx, startTime, door.Name+" knows that all is sold", func() error {
			tries++
			a := s.buyers.place(ctx, door, purchase{user: fmt.Sprintf("too-late-%d-%d", i, tries), key: "k", quantity: 1})
			if a.event.Status != http.StatusConflict || a.Reason != "sold-out" {
				return fmt.Errorf("it says %d %q", a.event.Status, a.Reason)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("P2: %w", err)
		}
	}
	return nil
}
