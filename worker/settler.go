package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"sluice"
	"sluice/inventory"
	"sluice/queue"
)

// putBack is how long it takes before a message that could not be settled comes again.
const putBack = 2 * time.Second

// Message is one delivery of the queue. The first answer counts, and may get lost.
type Message interface {
	Finish()
	Requeue(delay time.Duration)
	Letter() inventory.Letter // what is kept of it where it can't be settled: all but the order and the error
}

// Delivery is a message with the order in it.
type Delivery struct {
	Message Message
	Order   sluice.Order
}

// Commit settles orders in one transaction of the store. It has waited for a store that is away; see inventory.Store for its
// errors.
type Commit func(ctx context.Context, orders []sluice.Order) (sluice.Changes, error)

// Settler decides what becomes of deliveries: which are settled together, which come again, which are given up. It knows
// neither queue nor pace. A message is finished only after its order is committed (P3). Safe for concurrent use.
type Settler struct {
	Keys        *sluice.IDKey                                       // of the doors, which alone issue orders
	Announce    func(sluice.Changes)                                // tells the doors; it must not wait
	Keep        func(ctx context.Context, l inventory.Letter) error // keeps a dead letter, fails its order and tells the doors
	MaxAttempts int                                                 // isolated failures of one order before it is a dead letter
	Logger      *slog.Logger

	failures failures
	complain rate.Sometimes // keeps what every message may meet from filling the log
}

// Read answers the order in a message; what is none is a dead letter, and so is an order that no door has issued.
func (s *Settler) Read(ctx context.Context, m Message, body []byte) (Delivery, error) {
	order, err := readOrder(s.Keys, body)
	if err != nil {
		s.bury(ctx, m, nil, 0, err)
	}
	return Delivery{m, order}, err
}

// readOrder refuses whoever writes orders into the queue past the doors: without their key he has an id for none, and with an id that he
// has seen only for the order that it belongs to. The letter of what is refused has no order, for the one whose id it shows must not fail.
func readOrder(keys *sluice.IDKey, body []byte) (sluice.Order, error) {
	order, err := queue.DecodeOrder(body)
	if err == nil && !keys.Issued(&order) {
		err = fmt.Errorf("order message: no door issued the id %s for this sale, user, key and attempt", order.ID)
	}
	return order, err
}

// Settle settles deliveries in one transaction and answers their messages. A store that answers but fails on the batch has
// met a bad order: the batch is halved until it stands alone. The error is the last reason why one is not settled.
func (s *Settler) Settle(ctx context.Context, deliveries []Delivery, commit Commit) error {
	orders := make([]sluice.Order, len(deliveries))
	for i := range deliveries {
		orders[i] = deliveries[i].Order
	}
	changes, err := commit(ctx, orders)
	switch {
	case err == nil:
		s.Announce(changes)
		for i := range deliveries {
			s.failures.forget(deliveries[i].Order.ID)
			deliveries[i].Message.Finish()
		}
	case errors.Is(err, inventory.ErrUnavailable) || ctx.Err() != nil:
		for i := range deliveries {
			deliveries[i].Message.Requeue(putBack)
		}
	case len(deliveries) > 1:
		half := len(deliveries) / 2
		err = s.Settle(ctx, deliveries[:half], commit)
		err = cmp.Or(s.Settle(ctx, deliveries[half:], commit), err)
	default:
		s.refused(ctx, &deliveries[0], err)
	}
	return err
}

// refused counts a failure of one order that stood alone while the store was healthy: those alone are attempts.
func (s *Settler) refused(ctx context.Context, d *Delivery, err error) {
	attempts := s.failures.count(d.Order.ID)
	if attempts < s.MaxAttempts {
		s.complain.Do(func() {
			s.Logger.Warn("an order could not be settled", "order", d.Order.ID.String(), "attempts", attempts, "error", err)
		})
		d.Message.Requeue(putBack)
		return
	}
	s.bury(ctx, d.Message, &d.Order, attempts, err)
	s.failures.forget(d.Order.ID)
}

// bury makes a dead letter of a message that can't be settled; its order, if it has one, becomes failed. attempts are those that failed for the
// order's own sake; 0: as often as nsqd delivered the message.
func (s *Settler) bury(ctx context.Context, m Message, order *sluice.Order, attempts int, cause error) {
	letter := m.Letter()
	letter.Order, letter.Attempts, letter.Error = order, cmp.Or(attempts, letter.Attempts), cause.Error()
	if err := s.Keep(ctx, letter); err != nil {
		s.complain.Do(func() {
			s.Logger.Error("a dead letter could not be kept; it comes again", "message", letter.Message, "error", err)
		})
		m.Requeue(putBack)
		return
	}
	s.complain.Do(func() { s.Logger.Error("dead letter", "message", letter.Message, "cause", cause) })
	m.Finish()
}

// failures counts isolated failures by order. nsqd's own count will not do: it counts outages and time-outs too. Many
// orders failing at once is no reason to grow: beyond maxFailures counts are lost, and those orders tried more often.
type failures struct {
	mu     sync.Mutex
	counts map[sluice.OrderID]int
}

const maxFailures = 10_000

func (f *failures) count(id sluice.OrderID) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.counts == nil || len(f.counts) >= maxFailures {
		f.counts = make(map[sluice.OrderID]int)
	}
	f.counts[id]++
	return f.counts[id]
}

func (f *failures) forget(id sluice.OrderID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.counts, id)
}
