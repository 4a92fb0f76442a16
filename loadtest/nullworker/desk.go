package main

import (
	"context"
	"time"

	"sluice"
	"sluice/inventory"
)

// PatchSale is not there.
func (s *store) PatchSale(context.Context, string, sluice.SalePatch) (sluice.Changes, error) {
	return sluice.Changes{}, errNone
}

// ExtendHolds is not there.
func (s *store) ExtendHolds(context.Context, string, time.Time, int) (sluice.Changes, error) {
	return sluice.Changes{}, errNone
}

// Orders is not there.
func (s *store) Orders(context.Context, inventory.OrderQuery) ([]inventory.Record, error) {
	return nil, errNone
}

// Order is not there.
func (s *store) Order(context.Context, sluice.OrderID) (inventory.Record, error) {
	return inventory.Record{}, errNone
}

// Refunds is not there.
func (s *store) Refunds(context.Context, int64, int, bool) ([]inventory.Refund, error) {
	return nil, errNone
}

// RefundGiven is not there.
func (s *store) RefundGiven(context.Context, int64) (inventory.Refund, error) {
	return inventory.Refund{}, errNone
}

// Letters is not there.
func (s *store) Letters(context.Context, int64, int, bool) ([]inventory.Buried, error) {
	return nil, errNone
}

// Letter is not there.
func (s *store) Letter(context.Context, string) (inventory.Buried, error) {
	return inventory.Buried{}, errNone
}

// DropLetter is not there.
func (s *store) DropLetter(context.Context, string) error { return errNone }

// Replay is not there.
func (s *store) Replay(context.Context, string, sluice.Order) (sluice.Changes, error) {
	return sluice.Changes{}, errNone
}
