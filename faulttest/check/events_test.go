package check

import (
	"strings"
	"testing"
	"time"
)

// An order that was paid and one that was rejected, in a sale of one unit that is sold and over.
func honestEvents() ([]Happening, []OrderRow, SaleRow) {
	return []Happening{
			{1, "sale.opened", time.Time{}, "s", "", 1},
			{2, "order.held", time.Time{}, "s", "a", 2},
			{3, "order.paid", time.Time{}, "s", "a", 3},
			{4, "sale.sold_out", time.Time{}, "s", "", 3},
			{5, "order.rejected", time.Time{}, "s", "b", 2},
			{6, "order.refund_due", time.Time{}, "s", "a", 3},
			{7, "sale.ended", time.Time{}, "s", "", 4},
		},
		[]OrderRow{{ID: "a", State: "paid", Version: 3}, {ID: "b", State: "rejected", Version: 2}},
		SaleRow{ID: "s", Stock: 1, Sold: 1}
}

func TestEvents_PassesAnHonestSale(t *testing.T) {
	if wrong := Events(honestEvents()); len(wrong) > 0 {
		t.Errorf("violations where there are none: %q", wrong)
	}
}

func TestEvents_CatchesEveryPlantedFault(t *testing.T) {
	without := func(i int) func(*[]Happening, *[]OrderRow) {
		return func(e *[]Happening, _ *[]OrderRow) {
			*e = append((*e)[:i:i], (*e)[i+1:]...)
			for i := range *e {
				(*e)[i].Seq = int64(i) + 1
			}
		}
	}
	for fault, c := range map[string]struct {
		plant func(e *[]Happening, o *[]OrderRow)
		says  string
	}{
		"a gap":                      {func(e *[]Happening, _ *[]OrderRow) { (*e)[6].Seq = 8 }, "event 7 is numbered 8"},
		"a hold without event":       {without(1), "version 2 of order a, which is paid, has no event"},
		"a payment without event":    {without(2), "version 3 of order a, which is paid, has no event"},
		"a refund of no version":     {func(e *[]Happening, _ *[]OrderRow) { (*e)[5].Version = 4 }, "is due at version 4, which has no event"},
		"a rejection without event":  {without(4), "version 2 of order b, which is rejected, has no event"},
		"a version told twice":       {func(e *[]Happening, _ *[]OrderRow) { (*e)[2].Version = 2 }, "version 2 of order a has two events"},
		"a version before an older":  {func(e *[]Happening, _ *[]OrderRow) { (*e)[1].Version, (*e)[2].Version = 3, 2 }, "version 2 of order a is event 3, after version 3"},
		"an event that is not true":  {func(e *[]Happening, _ *[]OrderRow) { (*e)[2].Type = "order.expired" }, `order a is paid, and the last event of its state is "order.expired"`},
		"a step that was not taken":  {func(_ *[]Happening, o *[]OrderRow) { (*o)[0].Version = 2 }, "order a has 2 events and version 2"},
		"an order that nobody has":   {func(_ *[]Happening, o *[]OrderRow) { *o = (*o)[:1] }, "order b has events and is not in the database"},
		"a sale that does not open":  {without(0), "want sale.opened first"},
		"a sale that does not end":   {without(6), "sale.ended last"},
		"a sale that is not sold":    {without(3), "0 units are free and 0 held"},
		"a sale that is sold twice":  {func(e *[]Happening, _ *[]OrderRow) { (*e)[4] = Happening{5, "sale.sold_out", time.Time{}, "s", "", 4} }, "number 3 is in the wrong place"},
		"a sale that opens for good": {func(e *[]Happening, _ *[]OrderRow) { (*e)[4] = Happening{5, "sale.reopened", time.Time{}, "s", "", 4} }, "0 units are free"},
	} {
		t.Run(fault, func(t *testing.T) {
			events, orders, sale := honestEvents()
			c.plant(&events, &orders)
			if got := strings.Join(Events(events, orders, sale), "\n"); !strings.Contains(got, c.says) {
				t.Errorf("want %q, got:\n%s", c.says, got)
			}
		})
	}
}
