package worker

import (
	"context"
	"time"

	"sluice"
	"sluice/api"
	apiv1 "sluice/api/v1"
	"sluice/inventory"
	"sluice/queue"
)

// ListDeadLetters leaves the bodies out: a page of them would be larger than gRPC's clients take.
func (s *service) ListDeadLetters(ctx context.Context, in *apiv1.Backlog) (*apiv1.DeadLetterList, error) {
	limit, err := pageOf(in.Limit)
	if err != nil {
		return nil, err
	}
	from, err := after(in.GetAfter())
	if err != nil {
		return nil, err
	}
	letters, err := s.Store.Letters(ctx, from, limit, in.GetAll())
	if err != nil {
		return nil, err
	}
	page := api.DeadLetters{DeadLetters: make([]api.DeadLetter, 0, len(letters))}
	for _, l := range letters {
		l.Body = nil
		page.DeadLetters = append(page.DeadLetters, api.DeadLetter(l))
	}
	if len(letters) == limit {
		page.Next = letters[limit-1].ID
	}
	return reply[apiv1.DeadLetterList](page, nil)
}

func (s *service) GetDeadLetter(ctx context.Context, in *apiv1.DeadLetterName) (*apiv1.DeadLetter, error) {
	letter, err := s.letter(ctx, in.GetMessage())
	return reply[apiv1.DeadLetter](api.DeadLetter(letter), err)
}

// letter finds a dead letter by the queue's id of it.
func (w *Worker) letter(ctx context.Context, message string) (inventory.Buried, error) {
	if !sluice.PlainText([]byte(message), sluice.MaxKeyBytes) {
		return inventory.Buried{}, sluice.Refuse(sluice.NotFound, "%.80q is no dead letter", message)
	}
	return w.Store.Letter(ctx, message)
}

// ReplayDeadLetter settles the order of a dead letter after all. What failed stays failed (P10): the order gets a new id,
// that of the buyer's next attempt, so that replaying again, or by somebody else, makes the same one.
func (s *service) ReplayDeadLetter(ctx context.Context, in *apiv1.DeadLetterName) (*apiv1.Status, error) {
	letter, err := s.letter(ctx, in.GetMessage())
	if err != nil {
		return nil, err
	}
	order, err := queue.DecodeOrder(letter.Body)
	if err != nil || order.ID != letter.Order { // where no door issued the order, its buyer did not ask for it
		return nil, sluice.Refuse(sluice.BadRequest, "dead letter %s can't be replayed: its body holds no order of a door's", letter.Message)
	}
	order.Attempt++
	order.ID = s.Keys.ID([]byte(order.Sale), []byte(order.User), []byte(order.Key), order.Attempt)
	order.AcceptedAt = time.Time{} // whoever replays it has decided that it counts, however long ago it was admitted
	c, err := s.change(s.Store.Replay(ctx, letter.Message, order))
	status, err := oneStatus(c, err)
	if err == nil {
		s.logChange(ctx, "dead letter replayed", "message", letter.Message, "order", status.Order.String(), "state", string(status.State))
	}
	return reply[apiv1.Status](status, err)
}

func (s *service) DropDeadLetter(ctx context.Context, in *apiv1.DeadLetterName) (*apiv1.Nothing, error) {
	letter, err := s.letter(ctx, in.GetMessage())
	if err != nil {
		return nil, err
	}
	if err := s.Store.DropLetter(ctx, letter.Message); err != nil {
		return nil, err
	}
	s.logChange(ctx, "dead letter dropped", "message", letter.Message, "order", letter.Order.String(), "error", letter.Error)
	return &apiv1.Nothing{}, nil
}
