package postgres

import (
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"

	"sluice"
	"sluice/inventory"
)

// classify adds inventory.ErrUnavailable to whatever is not the orders' own fault: a lost connection or answer, a time
// limit, a server that is full, starting, stopping or a read-only replica, and a schema that is not ours. Only what the
// data itself caused stays without it: the worker looks for the bad order then, and would bury good ones.
func classify(doing string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*sluice.Error](err); ok {
		return err
	}
	if isDataError(err) {
		return fmt.Errorf("postgres: %s: %w", doing, err)
	}
	return fmt.Errorf("postgres: %s: %w: %w", doing, inventory.ErrUnavailable, err)
}

// isDataError knows the classes 22 (data exception), 23 (integrity constraint) and 54 (a value beyond a limit).
func isDataError(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || len(e.Code) != 5 {
		return false
	}
	switch e.Code[:2] {
	case "22", "23", "54":
		return true
	}
	return false
}

// errMoved says that an order appeared between two statements of a transaction, which must begin again.
var errMoved = errors.New("the order appeared meanwhile")

// movedMeanwhile is division by zero, with which updateOrders fails a transaction. Nothing else here divides.
const movedMeanwhile = "22012"

// repeatable knows what must be tried again: what PostgreSQL asks for, a deadlock or a serialization failure; an order
// that another transaction inserted meanwhile, which happens only without a common sale to lock, where the sale was
// unknown to one of the two; a refund likewise; and an order that was read, or would be written, without its sale's lock.
func repeatable(err error) bool {
	if errors.Is(err, errMoved) {
		return true
	}
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return false
	}
	switch e.Code {
	case "40001", "40P01", movedMeanwhile:
		return true
	}
	return e.Code == "23505" && slices.Contains([]string{"orders_pkey", "sales_pkey", "refunds_due_pkey"}, e.ConstraintName)
}
