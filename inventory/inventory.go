// Package inventory is the contract of the store that decides: it never oversells (P1), never decides one order
// twice (P3, P5) and never moves an order backwards (P10). sqlite and postgres keep it; inventorytest proves it.
package inventory

import (
	"context"
	"errors"

	"sluice"
)

// ErrUnavailable is in the chain of every error that says the store could not be reached or was too busy:
// nothing is wrong with the orders, and the same call may succeed later. A commit whose answer was lost is such an
// error too: ask again, settled orders answer with what they became.
var ErrUnavailable = errors.New("the store is unavailable")

// Letter is a message that cannot be settled, kept for the operator.
type Letter struct {
	Message  string        // the queue's message id
	Body     []byte        // as it came, cut to MaxLetterBytes
	Order    *sluice.Order // nil where the body could not be read
	Attempts int
	Error    string // the last error
}

// MaxLetterBytes bounds the body that is kept of a dead letter.
const MaxLetterBytes = 16 << 10

// Store is a shop's inventory. Every method is safe for concurrent use, honours ctx, is one transaction, and works
// on the store's own clock. Methods that change something return the Changes that doors must hear, with every sale
// that they touched as it stands after the transaction. Errors that are the caller's fault are *sluice.Error.
type Store interface {
	// Reserve settles a batch: one transaction, statuses in the order of the batch, one for every order, repeats
	// included. An order that was settled before answers with its present status and changes nothing. A full
	// sale, a buyer over the limit, a closed or unknown sale are outcomes, not errors. Orders are whole or not at
	// all, and are served in the order of the batch (P1, P2, P5). The batch may hold the same order twice.
	// An error means that nothing is known to have changed.
	Reserve(ctx context.Context, batch []sluice.Order) (sluice.Changes, error)

	// Pay turns a held order into a paid one. Where as many payments and cancellations run or wait as the store bears (Commands), its
	// error is ErrUnavailable at once, and Cancel's too. The same reference again answers as the first time. Refused:
	// NoSuchOrder; AlreadyPaid, where another reference paid; TooLate, where it is not held or overdue (an overdue
	// hold expires here and now, and its Changes come with the error). Both are recorded as refunds due.
	Pay(ctx context.Context, id sluice.OrderID, ref string) (sluice.Changes, error)

	// Cancel gives a held order's units back. Cancelling a cancelled order changes nothing. Refused: NoSuchOrder,
	// NotHeld.
	Cancel(ctx context.Context, id sluice.OrderID) (sluice.Changes, error)

	// Expire gives back the units of at most limit holds whose deadline has passed, each exactly once (P6).
	Expire(ctx context.Context, limit int) (sluice.Changes, error)

	// Bury keeps a dead letter, idempotent by message id; where it carries an order that is not settled yet, the
	// order becomes failed in the same transaction. An order settled already answers with its status.
	Bury(ctx context.Context, letter Letter) (sluice.Changes, error)

	// CreateSale opens a sale with Free = Stock. Refused: SaleExists, BadRequest.
	CreateSale(ctx context.Context, sale sluice.Sale) (sluice.Changes, error)

	// TopUp adds units to a sale, or takes away free ones where units is negative. Refused: NoSuchSale, NotFree,
	// BadRequest where the sale would exceed MaxStock or units is 0.
	TopUp(ctx context.Context, id string, units int64) (sluice.Changes, error)

	// End closes a sale's admission now. Ending an ended sale changes nothing. Refused: NoSuchSale.
	End(ctx context.Context, id string) (sluice.Changes, error)

	// Sales answers the sales with the given ids, or all of them where none is given, in id order.
	Sales(ctx context.Context, ids ...string) (sluice.Changes, error)

	// Statuses answers the settled orders among ids, in no order; the unknown ones are left out.
	Statuses(ctx context.Context, ids []sluice.OrderID) (sluice.Changes, error)

	// Limits answers the present limits; the zero Limits where none were ever set. It is cheap enough to ask for with
	// every poll of a door. The answer is shared with other callers, who only read it. A block that is over may still be
	// among the blocks: the next change drops it.
	Limits(ctx context.Context) (sluice.Limits, error)

	// ChangeLimits has change alter a copy of the present limits, and answers them as they were written: valid, their
	// Version one more than before, without the blocks whose Until has passed. Changes take turns, so that none loses
	// another's. The error of change is passed on as it is, as is BadRequest where the limits are not valid then, and
	// everything stays as it was. change must be quick and must not call the store; it may be called again, with the
	// limits as they are by then, where the transaction has to be repeated. The limits are stored as one document: names
	// that this version does not know are ignored, and are lost when it changes the limits.
	ChangeLimits(ctx context.Context, change func(*sluice.Limits) error) (sluice.Limits, error)

	Outbox
	Desk
	PoolSettings
	Deliveries

	// Audit reads the ledger of all sales in one snapshot and compares every counter with the orders behind it (P8).
	Audit(ctx context.Context) (sluice.Audit, error)

	// Ping says whether the store can be reached.
	Ping(ctx context.Context) error

	// Close releases the store's connections and files.
	Close() error
}
