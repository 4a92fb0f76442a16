package inventory

import (
	"context"
	"time"

	"sluice"
)

// Desk is what operators and the shop ask of the store besides settling and paying. A limit is 1 to MaxPage; any other is
// refused with BadRequest.
type Desk interface {
	// PatchSale changes a sale's terms, or pauses and resumes its admission; units stay as they are, and what was admitted
	// is settled in a pause as well. Terms hold for orders that are settled from then on: holds keep their deadlines. A
	// patch that changes nothing keeps the version. Refused: NoSuchSale, and BadRequest where the sale would not be valid.
	PatchSale(ctx context.Context, id string, patch sluice.SalePatch) (sluice.Changes, error)

	// ExtendHolds moves the deadlines of at most limit holds of a sale that fall due before until to until, and answers with
	// them, each one version on: call it until there are fewer than limit. Asked again with the same time it changes nothing
	// more. Each hold keeps its grace; one that has ended but was not swept yet goes on. Refused: NoSuchSale, and BadRequest
	// where until is not after now, or more than MaxExtension from now.
	ExtendHolds(ctx context.Context, sale string, until time.Time, limit int) (sluice.Changes, error)

	// Orders lists settled orders in the order of their ids.
	Orders(ctx context.Context, q OrderQuery) ([]Record, error)

	// Order answers all that is known of one settled order. Refused: NoSuchOrder.
	Order(ctx context.Context, id sluice.OrderID) (Record, error)

	// Refunds lists refunds due in the order of their numbers, after the one numbered after; those that were given back
	// only where all is set. Of two that are recorded at the same moment the lower number may appear later: whoever gives
	// money back begins at 0 each time.
	Refunds(ctx context.Context, after int64, limit int, all bool) ([]Refund, error)

	// RefundGiven notes that a refund was given back, once; again it changes nothing. Refused: NotFound.
	RefundGiven(ctx context.Context, id int64) (Refund, error)

	// Letters lists dead letters in the order of their numbers, as Refunds does, after the one numbered after; those that
	// were replayed only where all is set.
	Letters(ctx context.Context, after int64, limit int, all bool) ([]Buried, error)

	// Letter answers one dead letter. Refused: NotFound.
	Letter(ctx context.Context, message string) (Buried, error)

	// DropLetter forgets a dead letter; its order stays failed. Refused: NotFound.
	DropLetter(ctx context.Context, message string) error

	// Replay settles order, which the caller made of the letter, in place of the one that failed, and links them: once, in
	// the transaction that settles it. Asked again it answers with the status of the order that was made the first time. An
	// order that was settled before answers with its status, as in Reserve. Refused: NotFound, and BadRequest where order is
	// the one that failed: it stays failed (P10), or where the letter's order did not fail, but was settled all the same (P5).
	Replay(ctx context.Context, message string, order sluice.Order) (sluice.Changes, error)
}

// MaxExtension is how far ahead holds may be extended.
const MaxExtension = 30 * 24 * time.Hour

// OrderQuery picks orders. Empty fields pick all.
type OrderQuery struct {
	Sale  string
	User  string
	State sluice.State
	After sluice.OrderID // the last one of the page before
	Limit int
}

// Record is a settled order with everything that the store keeps of it.
type Record struct {
	Order      sluice.Order
	Status     sluice.Status
	PaymentRef string
	ReleaseAt  time.Time      // until when a hold may be paid: its pay_by and the grace
	ReplayOf   sluice.OrderID // the failed order that it was made from; zero: none
}

// Refund is a payment that must be given back.
type Refund struct {
	ID         int64          `json:"id"` // counts up
	Order      sluice.OrderID `json:"order"`
	Sale       string         `json:"sale"`
	User       string         `json:"user"`
	Units      int            `json:"units"`
	PaymentRef string         `json:"payment_ref"`
	Reason     RefundReason   `json:"reason"`
	At         time.Time      `json:"at"`
	GivenAt    time.Time      `json:"given_at,omitzero"` // zero: still due
}

// Buried is a dead letter as it is kept.
type Buried struct {
	ID         int64          `json:"id"` // counts up
	Message    string         `json:"message"`
	Body       []byte         `json:"body"`
	Order      sluice.OrderID `json:"order,omitzero"` // zero: the body could not be read
	Attempts   int            `json:"attempts"`
	Error      string         `json:"error"`
	At         time.Time      `json:"at"`
	ReplayedAs sluice.OrderID `json:"replayed_as,omitzero"` // zero: not replayed
}
