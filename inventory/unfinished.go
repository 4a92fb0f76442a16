package inventory

import (
	"context"
	"errors"
	"time"

	"sluice"
)

// Unfinished stands in for what a store does not do yet.
type Unfinished struct{}

func (Unfinished) PatchSale(context.Context, string, sluice.SalePatch) (sluice.Changes, error) {
	return sluice.Changes{}, errors.ErrUnsupported
}

func (Unfinished) ExtendHolds(context.Context, string, time.Time, int) (sluice.Changes, error) {
	return sluice.Changes{}, errors.ErrUnsupported
}

func (Unfinished) Orders(context.Context, OrderQuery) ([]Record, error) {
	return nil, errors.ErrUnsupported
}

func (Unfinished) Order(context.Context, sluice.OrderID) (Record, error) {
	return Record{}, errors.ErrUnsupported
}

func (Unfinished) Refunds(context.Context, int64, int, bool) ([]Refund, error) {
	return nil, errors.ErrUnsupported
}

func (Unfinished) RefundGiven(context.Context, int64) (Refund, error) {
	return Refund{}, errors.ErrUnsupported
}

func (Unfinished) Letters(context.Context, int64, int, bool) ([]Buried, error) {
	return nil, errors.ErrUnsupported
}

func (Unfinished) Letter(context.Context, string) (Buried, error) {
	return Buried{}, errors.ErrUnsupported
}
func (Unfinished) DropLetter(context.Context, string) error { return errors.ErrUnsupported }
func (Unfinished) Replay(context.Context, string, sluice.Order) (sluice.Changes, error) {
	return sluice.Changes{}, errors.ErrUnsupported
}

func (Unfinished) Pools(context.Context) (sluice.Pools, error) { return sluice.Pools{}, nil }
func (Unfinished) ChangePools(context.Context, func(*sluice.Pools) error) (sluice.Pools, error) {
	return sluice.Pools{}, errors.ErrUnsupported
}
