package inventory

import (
	"context"
	"errors"

	"sluice"
)

// Unfinished stands in for what a store does not do yet.
type Unfinished struct{}

func (Unfinished) Pools(context.Context) (sluice.Pools, error) { return sluice.Pools{}, nil }
func (Unfinished) ChangePools(context.Context, func(*sluice.Pools) error) (sluice.Pools, error) {
	return sluice.Pools{}, errors.ErrUnsupported
}
