package ingress

import (
	"math"
	"time"

	"sluice"
	"sluice/limiter"
)

// reserveAhead is how long before its start a sale's reserved share is kept free: the queue has to drain to it.
const reserveAhead = time.Minute

// reserves reports whether a sale's reserved share is to be kept at now: not once it has ended or has nothing left to sell.
func reserves(s *sluice.Sale, now time.Time) bool {
	switch v := limiter.Gate(now, s, true); v.Refusal {
	case sluice.NotStarted:
		return v.RetryAfter <= reserveAhead
	case sluice.Ended, sluice.AllSold:
		return false
	default:
		return true
	}
}

// kept is what all sales together reserve of the bound.
type kept struct {
	share float64 // at most MaxReservedShare: something is always left for everybody else
	scale float64 // of each sale's own share, where they ask for more than that together
}

// addUp notes what the sales reserve.
func (b *board) addUp() {
	now, known := b.now()
	sales := b.sales.Load()
	if !known || sales == nil {
		return
	}
	asked := 0.0
	for _, l := range *sales {
		if f := l.facts.Load(); f != nil && f.ReservedShare > 0 && reserves(&f.Sale, now) {
			asked += f.ReservedShare
		}
	}
	k := &kept{share: min(asked, sluice.MaxReservedShare), scale: 1}
	if asked > 0 {
		k.scale = k.share / asked
	}
	b.kept.Store(k)
}

// shares are the parts of the bound that an order may count in: for whoever is of the class that the sale reserves a share
// for, first that share; and for everybody what no sale reserves.
func (d *Door) shares(bound int64, f *facts, t *sluice.Ticket) (shares [2]limiter.Share, n int) {
	k := d.board.kept.Load()
	if k == nil || k.share == 0 {
		shares[0] = limiter.Share{Pool: &d.common, Limit: bound}
		return shares, 1
	}
	if f.ReservedShare > 0 && t.Class == f.ReservedFor {
		shares[n] = limiter.Share{Pool: &f.listing.members, Limit: int64(f.ReservedShare * k.scale * float64(bound))}
		n++
	}
	shares[n] = limiter.Share{Pool: &d.common, Limit: bound - int64(math.Ceil(k.share*float64(bound)))}
	return shares, n + 1
}
