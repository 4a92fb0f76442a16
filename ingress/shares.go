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

// addUp notes what the sales reserve of the bound, all together; something is always left for everybody else.
func (b *board) addUp() {
	now, known := b.now()
	sales := b.sales.Load()
	if !known || sales == nil {
		return
	}
	kept := 0.0
	for _, l := range *sales {
		if f := l.facts.Load(); f != nil && f.ReservedShare > 0 && reserves(&f.Sale, now) {
			kept += f.ReservedShare
		}
	}
	b.kept.Store(math.Float64bits(min(kept, sluice.MaxReservedShare)))
}

// shares are the parts of the bound that an order may count in: for whoever is of the class that the sale reserves a share
// for, first that share; and for everybody what no sale reserves.
func (d *Door) shares(bound int64, f *facts, t *sluice.Ticket) (shares [2]limiter.Share, n int) {
	if f.ReservedShare > 0 && t.Class != "" && t.Class == f.ReservedFor {
		shares[n] = limiter.Share{Pool: &f.listing.members, Limit: int64(f.ReservedShare * float64(bound))}
		n++
	}
	kept := math.Float64frombits(d.board.kept.Load())
	shares[n] = limiter.Share{Pool: &d.common, Limit: bound - int64(kept*float64(bound))}
	return shares, n + 1
}
