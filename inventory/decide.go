package inventory

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"sluice"
)

// WindowSlack is how far an order's AcceptedAt may lie outside its sale's window: a door knows the store's time
// only as well as it heard it last.
const WindowSlack = 2 * time.Second

// Buyer is one user of one sale.
type Buyer struct{ Sale, User string }

// View is what a transaction read while it holds the locks of the batch's sales. Whatever is missing from a map
// does not exist.
type View struct {
	Now     time.Time
	Sales   map[string]sluice.Sale
	Settled map[sluice.OrderID]sluice.Status // of the batch's orders
	Owned   map[Buyer]int64                  // held and paid units of the batch's buyers
}

// Row is an order to be inserted with its first status.
type Row struct {
	Order     sluice.Order
	Status    sluice.Status
	ReleaseAt time.Time      // of a hold; see Stored
	ReplayOf  sluice.OrderID // the failed order that it was made from; zero: none
}

// Delta is how a transaction moves the counters of one sale. Its sum is always 0 (P8).
type Delta struct {
	Sale             string
	Free, Held, Sold int64
}

// Decision is what a transaction must write and answer.
type Decision struct {
	Statuses []sluice.Status // one for each order, in the order of the batch
	Rows     []Row           // in id order, so that two transactions never wait for each other in a circle
	Deltas   []Delta         // of the sales that change, in id order
	Sales    []sluice.Sale   // every sale of the batch as it stands afterwards, in id order
}

// Decide settles a batch: a function of its arguments that changes none of them. The caller must still hold the
// locks under which it read the view when it writes the decision.
func Decide(v View, batch []sluice.Order) Decision {
	d := decider{
		now:     v.Now,
		sales:   copied(v.Sales, 1),
		settled: copied(v.Settled, len(batch)),
		owned:   copied(v.Owned, len(batch)),
		deltas:  map[string]Delta{},
	}
	out := Decision{Statuses: make([]sluice.Status, 0, len(batch)), Rows: make([]Row, 0, len(batch))}
	for _, o := range batch {
		status, known := d.settled[o.ID]
		if !known {
			row := d.settle(&o)
			status = row.Status
			d.settled[o.ID] = status
			out.Rows = append(out.Rows, row)
		}
		out.Statuses = append(out.Statuses, status)
	}
	slices.SortFunc(out.Rows, func(a, b Row) int { return slices.Compare(a.Order.ID[:], b.Order.ID[:]) })
	out.Deltas, out.Sales = d.results(batch)
	return out
}

// decider is a batch on its way: the view as the orders before the present one left it.
type decider struct {
	now     time.Time
	sales   map[string]sluice.Sale
	settled map[sluice.OrderID]sluice.Status
	owned   map[Buyer]int64
	deltas  map[string]Delta
}

func (d *decider) settle(o *sluice.Order) Row {
	row := Row{Order: *o, Status: FirstStatus(o, d.now)}
	status := &row.Status
	sale, known := d.sales[o.Sale]
	buyer := Buyer{o.Sale, o.User}
	if reason := refuse(d.now, sale, known, o, d.owned[buyer]); reason != "" {
		status.State, status.Reason = sluice.Rejected, reason
		return row
	}
	units := int64(o.Quantity)
	delta := Delta{Sale: sale.ID, Free: -units}
	if sale.PaymentWindow == 0 {
		status.State, delta.Sold = sluice.Paid, units
	} else {
		status.State, delta.Held = sluice.Held, units
		status.PayBy = Micros(d.now.Add(time.Duration(sale.PaymentWindow)))
		row.ReleaseAt = Micros(status.PayBy.Add(time.Duration(sale.PaymentGrace)))
	}
	d.owned[buyer] += units
	d.sales[o.Sale] = moved(sale, delta)
	d.deltas[o.Sale] = d.deltas[o.Sale].plus(delta)
	return row
}

// refuse says why the order gets no units; empty where it does.
func refuse(now time.Time, sale sluice.Sale, known bool, o *sluice.Order, owned int64) sluice.Reason {
	switch {
	case !known:
		return sluice.UnknownSale
	case o.Quantity < 1 || o.Quantity > sluice.MaxQuantity:
		return sluice.UserLimit // a forged message: no buyer may have so many; the batch goes on without it
	case outside(sale, o.AcceptedAt):
		return sluice.SaleClosed
	case stale(now, sale, o.AcceptedAt):
		return sluice.Stale
	case owned+int64(o.Quantity) > int64(sale.PerUserLimit):
		return sluice.UserLimit
	case int64(o.Quantity) > sale.Free:
		return sluice.SoldOut
	}
	return ""
}

// outside looks at when the order was admitted, not at the clock: what was admitted in time is settled, however
// long it waited.
func outside(sale sluice.Sale, accepted time.Time) bool {
	if accepted.IsZero() {
		return false
	}
	early := !sale.StartsAt.IsZero() && accepted.Before(sale.StartsAt.Add(-WindowSlack))
	late := !sale.EndsAt.IsZero() && accepted.After(sale.EndsAt.Add(WindowSlack))
	return early || late
}

func stale(now time.Time, sale sluice.Sale, accepted time.Time) bool {
	return sale.MaxAge != 0 && !accepted.IsZero() && now.Sub(accepted) > time.Duration(sale.MaxAge)
}

// results closes the batch: one step of the version for each sale whose counters moved.
func (d *decider) results(batch []sluice.Order) ([]Delta, []sluice.Sale) {
	var deltas []Delta
	var sales []sluice.Sale
	for _, id := range SaleIDs(batch) {
		sale, known := d.sales[id]
		if !known {
			continue
		}
		if delta, changed := d.deltas[id]; changed {
			delta.Sale = id
			deltas = append(deltas, delta)
			sale.Version++
		}
		sales = append(sales, sale)
	}
	return deltas, sales
}

// FirstStatus is the status of an order that is settled now, but for its state and reason.
func FirstStatus(o *sluice.Order, now time.Time) sluice.Status {
	return sluice.Status{
		Order: o.ID, Sale: o.Sale, User: o.User, Version: firstVersion, Units: o.Quantity, SettledAt: now,
	}
}

const firstVersion = 2 // 1 is queued

// SaleIDs lists the sales of a batch, each once, in the order in which they must be locked.
func SaleIDs(batch []sluice.Order) []string {
	ids := make([]string, 0, 4)
	for i := range batch {
		if i == 0 || batch[i].Sale != batch[i-1].Sale {
			ids = append(ids, batch[i].Sale)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// Buyers lists the buyers of a batch, each once, sorted.
func Buyers(batch []sluice.Order) []Buyer {
	buyers := make([]Buyer, len(batch))
	for i := range batch {
		buyers[i] = Buyer{batch[i].Sale, batch[i].User}
	}
	slices.SortFunc(buyers, func(a, b Buyer) int {
		return cmp.Or(cmp.Compare(a.Sale, b.Sale), cmp.Compare(a.User, b.User))
	})
	return slices.Compact(buyers)
}

// OrderIDs lists the orders of a batch, each once, sorted.
func OrderIDs(batch []sluice.Order) []sluice.OrderID {
	ids := make([]sluice.OrderID, len(batch))
	for i := range batch {
		ids[i] = batch[i].ID
	}
	slices.SortFunc(ids, func(a, b sluice.OrderID) int { return slices.Compare(a[:], b[:]) })
	return slices.Compact(ids)
}

// Micros cuts a time to what both stores keep: microseconds, UTC.
func Micros(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return time.UnixMicro(t.UnixMicro()).UTC()
}

func (d Delta) plus(e Delta) Delta {
	return Delta{Sale: e.Sale, Free: d.Free + e.Free, Held: d.Held + e.Held, Sold: d.Sold + e.Sold}
}

func moved(s sluice.Sale, d Delta) sluice.Sale {
	s.Free += d.Free
	s.Held += d.Held
	s.Sold += d.Sold
	return s
}

func copied[K comparable, V any](m map[K]V, more int) map[K]V {
	c := make(map[K]V, len(m)+more)
	maps.Copy(c, m)
	return c
}
