package inventory_test

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"testing"
	"time"

	"sluice"
	"sluice/inventory"
)

var now = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

func id(n byte) sluice.OrderID { return sluice.OrderID{15: n} }

// sale has 5 free units, 3 a buyer, and is open for the hour around now.
func sale() sluice.Sale {
	return sluice.Sale{
		ID: "s", Stock: 5, Free: 5, PerUserLimit: 3, Version: 7, PaymentWindow: sluice.Duration(time.Minute),
		StartsAt: now.Add(-30 * time.Minute), EndsAt: now.Add(30 * time.Minute),
	}
}

func view(change func(*sluice.Sale)) inventory.View {
	s := sale()
	if change != nil {
		change(&s)
	}
	return inventory.View{Now: now, Sales: map[string]sluice.Sale{"s": s}}
}

func order(n byte, quantity int, accepted time.Time) sluice.Order {
	return sluice.Order{ID: id(n), Sale: "s", User: fmt.Sprint("u", n), Quantity: quantity, AcceptedAt: accepted}
}

func TestDecide_OneOrder(t *testing.T) {
	start, end := sale().StartsAt, sale().EndsAt
	none := time.Time{}
	for _, c := range []struct {
		name     string
		change   func(*sluice.Sale)
		quantity int
		accepted time.Time
		want     string
	}{
		{"a fitting order", nil, 3, now, "held "},
		{"no payment window", func(s *sluice.Sale) { s.PaymentWindow = 0 }, 3, now, "paid "},
		{"more than is free", func(s *sluice.Sale) { s.Free = 1 }, 2, now, "rejected sold_out"},
		{"exactly what is free", func(s *sluice.Sale) { s.Free = 2 }, 2, now, "held "},
		{"more than a buyer may have", nil, 4, now, "rejected user_limit"},
		{"no quantity", nil, 0, now, "rejected user_limit"},
		{"a negative quantity", nil, -1, now, "rejected user_limit"},
		{"an overflowing quantity", nil, math.MaxInt, now, "rejected user_limit"},
		{"before the start, within the slack", nil, 1, start.Add(-2 * time.Second), "held "},
		{"before the start", nil, 1, start.Add(-2*time.Second - 1), "rejected sale_closed"},
		{"after the end, within the slack", nil, 1, end.Add(2 * time.Second), "held "},
		{"after the end", nil, 1, end.Add(2*time.Second + 1), "rejected sale_closed"},
		{"no window", func(s *sluice.Sale) { s.StartsAt, s.EndsAt = none, none }, 1, now.Add(-1e6 * time.Hour), "held "},
		{"in time, settled after the end", func(s *sluice.Sale) { s.EndsAt = now.Add(-time.Minute) }, 1, now.Add(-2 * time.Minute), "held "},
		{"of unknown age, after the end", func(s *sluice.Sale) { s.EndsAt = now.Add(-time.Minute) }, 1, none, "held "},
		{"too old", func(s *sluice.Sale) { s.MaxAge = sluice.Duration(time.Second) }, 1, now.Add(-time.Second - 1), "rejected stale"},
		{"just young enough", func(s *sluice.Sale) { s.MaxAge = sluice.Duration(time.Second) }, 1, now.Add(-time.Second), "held "},
		{"of unknown age", func(s *sluice.Sale) { s.MaxAge = sluice.Duration(time.Second) }, 1, none, "held "},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := inventory.Decide(view(c.change), []sluice.Order{order(1, c.quantity, c.accepted)})
			s := d.Statuses[0]
			if got := fmt.Sprint(s.State, " ", s.Reason); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if s.Version != 2 || s.Units != c.quantity || !s.SettledAt.Equal(now) || len(d.Rows) != 1 {
				t.Errorf("got %+v and rows %+v", s, d.Rows)
			}
			if moved := s.State != sluice.Rejected; moved != (len(d.Deltas) == 1) || moved != (d.Sales[0].Version == 8) {
				t.Errorf("state %s: deltas %+v, sale %+v", s.State, d.Deltas, d.Sales[0])
			}
			if held := s.State == sluice.Held; held != s.PayBy.Equal(now.Add(time.Minute)) {
				t.Errorf("state %s: pay by %v", s.State, s.PayBy)
			}
		})
	}
}

func TestDecide_ServesABatchInItsOrder(t *testing.T) { // P1, P2, P5
	settled := sluice.Status{Order: id(9), State: sluice.Expired, Version: 4}
	v := view(nil)
	v.Settled = map[sluice.OrderID]sluice.Status{id(9): settled}
	v.Owned = map[inventory.Buyer]int64{{Sale: "s", User: "u3"}: 2}
	before := inventory.View{Now: v.Now, Sales: maps.Clone(v.Sales), Settled: maps.Clone(v.Settled), Owned: maps.Clone(v.Owned)}
	elsewhere := sluice.Order{ID: id(8), Sale: "elsewhere", User: "u", Quantity: 1}
	batch := []sluice.Order{
		order(5, 3, now), order(2, 3, now), order(9, 1, now), order(3, 2, now), order(5, 1, now), order(1, 2, now), elsewhere,
	}
	d := inventory.Decide(v, batch)

	var got []string
	for i, s := range d.Statuses {
		got = append(got, fmt.Sprint(s.State, s.Reason))
		if s.Order != batch[i].ID {
			t.Errorf("status %d is of %s, want %s", i, s.Order, batch[i].ID)
		}
	}
	want := []string{"held", "rejectedsold_out", "expired", "rejecteduser_limit", "held", "held", "rejectedunknown_sale"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if d.Statuses[2] != settled || d.Statuses[4] != d.Statuses[0] {
		t.Errorf("a repeat was answered differently: %+v", d.Statuses)
	}
	if want := []inventory.Delta{{Sale: "s", Free: -5, Held: 5}}; !slices.Equal(d.Deltas, want) {
		t.Errorf("deltas: got %+v, want %+v", d.Deltas, want)
	}
	if len(d.Sales) != 1 || d.Sales[0].Free != 0 || d.Sales[0].Held != 5 || d.Sales[0].Version != 8 {
		t.Errorf("sales: got %+v", d.Sales)
	}
	sorted := slices.IsSortedFunc(d.Rows, func(a, b inventory.Row) int { return slices.Compare(a.Order.ID[:], b.Order.ID[:]) })
	if len(d.Rows) != 5 || !sorted {
		t.Errorf("rows: got %+v, want 5 by id", d.Rows)
	}
	if !reflect.DeepEqual(v, before) {
		t.Errorf("Decide changed its argument: %+v, was %+v", v, before)
	}
}

func TestDecidePay_ARaceHasOneWinner(t *testing.T) { // P6
	for _, c := range []struct {
		name    string
		state   sluice.State
		paid    string
		release time.Time
		want    sluice.State
		refund  inventory.RefundReason
		refusal sluice.Refusal
		delta   inventory.Delta
	}{
		{"in time", sluice.Held, "", now.Add(1), sluice.Paid, "", "", inventory.Delta{Sale: "s", Held: -2, Sold: 2}},
		{"at the deadline", sluice.Held, "", now, sluice.Expired, "too_late", sluice.TooLate, inventory.Delta{Sale: "s", Free: 2, Held: -2}},
		{"the same again", sluice.Paid, "ref", now, sluice.Paid, "", "", inventory.Delta{}},
		{"paid at once", sluice.Paid, "", now, sluice.Paid, "", "", inventory.Delta{}},
		{"by another", sluice.Paid, "other", now, sluice.Paid, "already_paid", sluice.AlreadyPaid, inventory.Delta{}},
		{"expired", sluice.Expired, "", now, sluice.Expired, "too_late", sluice.TooLate, inventory.Delta{}},
		{"cancelled", sluice.Cancelled, "", now, sluice.Cancelled, "too_late", sluice.TooLate, inventory.Delta{}},
		{"rejected", sluice.Rejected, "", now, sluice.Rejected, "too_late", sluice.TooLate, inventory.Delta{}},
		{"failed", sluice.Failed, "", now, sluice.Failed, "too_late", sluice.TooLate, inventory.Delta{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := inventory.Stored{PaymentRef: c.paid, Status: sluice.Status{
				Order: id(1), Sale: "s", State: c.state, Version: 2, Units: 2, PayBy: now.Add(-time.Hour), // a payment within the grace counts
			}, ReleaseAt: c.release}
			d := inventory.DecidePay(now, o, "ref")
			if d.After.Status.State != c.want || d.Refund != c.refund || d.Delta != c.delta {
				t.Errorf("got %+v, want %s, refund %q, %+v", d, c.want, c.refund, c.delta)
			}
			if refused := d.Refused != nil; refused != (c.refusal != "") || (refused && sluice.RefusalOf(d.Refused) != c.refusal) {
				t.Errorf("got %v, want %q", d.Refused, c.refusal)
			}
			version := int64(2)
			if c.state != c.want {
				version++
			}
			if d.After.Status.Version != version {
				t.Errorf("%s to %s, refund %q: got version %d, want %d", c.state, c.want, c.refund, d.After.Status.Version, version)
			}
			o = d.After
			o.Refunded = true // the same payment once more
			if again := inventory.DecidePay(now, o, "ref"); again.Changed || again.Refund != "" || again.After.Status.Version != version ||
				(again.Refused == nil) != (c.refusal == "") {
				t.Errorf("again: got %+v", again)
			}
		})
	}
}

func TestBalance_ReportsEveryDifference(t *testing.T) { // P8
	good := sluice.Sale{ID: "good", Stock: 5, TopUps: 2, Free: 4, Held: 2, Sold: 1}
	bad := sluice.Sale{ID: "bad", Stock: 1, Free: -1, Held: 1, Sold: 2}
	audit := inventory.Balance([]sluice.Sale{good, bad}, []inventory.Tally{
		{Sale: "good", State: sluice.Held, Orders: 1, Units: 2},
		{Sale: "good", State: sluice.Paid, Orders: 1, Units: 1},
		{Sale: "ghost", State: sluice.Held, Orders: 1, Units: 1},
		{Sale: "refused", State: sluice.Rejected, Orders: 3},
	})
	var got []string
	for _, s := range audit.Sales {
		got = append(got, fmt.Sprint(s.ID, " ", len(s.Differences)))
	}
	if want := []string{"bad 4", "ghost 2", "good 0"}; !slices.Equal(got, want) || audit.Balanced {
		t.Errorf("got %q, balanced %v, want %q: %+v", got, audit.Balanced, want, audit)
	}
}
