package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"sluice/faulttest/check"
	"sluice/loadtest/lab"
)

// poison is the story of messages that can't be settled.
var poison = []story{
	{
		name:   "poison",
		poison: poisonous,
		holds:  "What is no order, and what no door has issued, is kept as a dead letter; what no store takes is after its attempts, and its order is failed. The queue moves on.",
		inject: func(ctx context.Context, s *scene) error {
			s.wait(ctx, time.Second, 2*time.Second)
			if err := s.refusePoison(ctx); err != nil {
				return err
			}
			fault := s.suffers(0, "nsqd", "poison is in the queue")
			bought, err := s.buyPoison(ctx)
			if err != nil {
				return err
			}
			garbage, err := s.plantPoison(ctx, bought[0])
			if err != nil {
				return err
			}
			rows, err := s.rows(ctx)
			if err != nil {
				return err
			}
			err = lab.Eventually(ctx, startTime, "every poisonous message is a dead letter", func() error {
				return s.buried(ctx, garbage, bought)
			})
			s.healed(fault)
			after, counted := s.rows(ctx)
			s.must(after > rows+int64(len(bought)), "nothing else was settled meanwhile")
			return errors.Join(err, counted)
		},
	},
}

const (
	poisonous   = "poison-" // users whose orders the database refuses
	attempts    = 5         // of an order that stands alone, before it is given up
	poisonUnits = 4         // each kind of poison
)

// refusePoison has the database refuse these users' orders unless they failed: nothing that passes a door, and every check of the
// worker, is refused by the schema as it is.
func (s *scene) refusePoison(ctx context.Context) error {
	driver, source := "sqlite", "file:"+s.database()+"?_pragma=busy_timeout(10000)"
	statement := `CREATE TRIGGER no_poison BEFORE INSERT ON orders WHEN NEW.buyer LIKE '` + poisonous + `%' AND NEW.state <> 'failed'
		BEGIN SELECT RAISE(ABORT, 'poison'); END`
	if s.postgres != nil {
		driver, source = "pgx", s.database()
		statement = `ALTER TABLE sluice.orders ADD CONSTRAINT no_poison CHECK (buyer NOT LIKE '` + poisonous + `%' OR state = 'failed') NOT VALID`
	}
	db, err := sql.Open(driver, source)
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, statement)
	return errors.Join(err, db.Close())
}

// plantPoison puts messages into the queue past every door, and answers how many. Any store would take the forged orders among them, of
// invented ids and of one that somebody else has: nobody asked for those, which the checker knows.
func (s *scene) plantPoison(ctx context.Context, issued string) (garbage int, err error) {
	p, err := s.publisher(ctx, "orders")
	if err != nil {
		return 0, err
	}
	defer p.close()
	unread := invented(s.random, 3)
	bodies := []string{
		"this is no order", "{}", `{"v":1,"type":"order"`, "\x00\xff\xfe", `{"v":99,"type":"order","id":"` + unread[0] + `"}`,
		`{"v":1,"type":"order","id":"` + unread[1] + `","sale":"` + saleID + `","user":"a\u0000b","quantity":1}`,
		`{"v":1,"type":"order","id":"` + unread[2] + `","sale":"` + saleID + `","user":"nobody","quantity":-1}`,
		strings.Repeat("x", 20_000),
	}
	for i, id := range append(invented(s.random, poisonUnits), issued) {
		bodies = append(bodies, fmt.Sprintf(`{"v":1,"type":"order","id":%q,"sale":%q,"user":"forger-%d","key":"k","quantity":1}`, id, saleID, i))
	}
	for _, body := range bodies {
		s.wait(ctx, 0, 200*time.Millisecond)
		if err := p.publish([]byte(body), 0); err != nil {
			return 0, err
		}
	}
	return len(bodies), nil
}

// invented are order ids that no door made.
func invented(random *rand.Rand, n int) (ids []string) {
	for range n {
		a, b := random.Uint64(), random.Uint64()
		ids = append(ids, fmt.Sprintf("%08x-%04x-8%03x-%04x-%012x", a>>32, a>>16&0xffff, a&0xfff, 0x8000|b>>48&0x3fff, b&0xffffffffffff))
	}
	return ids
}

// buyPoison orders at a door as users whose orders the database refuses. A door promises them: they end as failed, which keeps the promise.
func (s *scene) buyPoison(ctx context.Context) (orders []string, err error) {
	for i := range poisonUnits {
		s.wait(ctx, 0, 200*time.Millisecond)
		p := purchase{user: fmt.Sprintf("%sbuyer-%d", poisonous, i), key: "k", quantity: 1, again: true}
		id := ""
		err := lab.Eventually(ctx, startTime, p.user+" has the promise of an order", func() error {
			a := s.buyers.place(ctx, s.doorList[0], p)
			if !a.event.Accepted() {
				return fmt.Errorf("%d %s", a.event.Status, a.Reason)
			}
			id = a.Order
			return nil
		})
		if err != nil {
			return nil, err
		}
		orders = append(orders, id)
	}
	return orders, nil
}

// buried: there are dead letters of so many messages that are no order of a door's, and of these orders, which were tried as often as they should.
func (s *scene) buried(ctx context.Context, garbage int, orders []string) error {
	var page struct {
		Deadletters []struct {
			Order    string
			Attempts int
		}
	}
	if err := check.Get(ctx, "http://"+s.admin+"/v1/deadletters?limit=1000", &page); err != nil {
		return err
	}
	unread := 0
	tried := map[string]int{}
	for _, l := range page.Deadletters {
		if l.Order == "" {
			unread++
		}
		tried[l.Order] = l.Attempts
	}
	if unread != garbage {
		return fmt.Errorf("%d of %d that are no order of a door's are dead letters", unread, garbage)
	}
	for _, id := range orders {
		if tried[id] < attempts {
			return fmt.Errorf("order %s was tried %d times and is a dead letter after %d", id, tried[id], attempts)
		}
		var now check.Status
		if err := check.Get(ctx, "http://"+s.doorList[0].Address+"/v1/orders/"+id, &now); err != nil || now.State != "failed" {
			return fmt.Errorf("order %s is %q at its door: %w", id, now.State, err)
		}
	}
	return status(ctx, http.MethodGet, "http://"+s.doorList[0].Address+"/readyz")
}
