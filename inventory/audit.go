package inventory

import (
	"fmt"
	"slices"
	"strings"

	"sluice"
)

// Tally is how many orders of one sale stand in one state, and their units.
type Tally struct {
	Sale          string
	State         sluice.State
	Orders, Units int64
}

// Balance compares the counters of every sale with the orders behind them (P1, P8). Both must come from one snapshot.
// A sale that the store does not have may have refused orders, but none that own units.
func Balance(sales []sluice.Sale, tallies []Tally) sluice.Audit {
	bySale := map[string][]Tally{}
	for _, t := range tallies {
		bySale[t.Sale] = append(bySale[t.Sale], t)
	}
	audit := sluice.Audit{Balanced: true, Sales: []sluice.SaleAudit{}}
	for _, s := range sales {
		audit.Sales = append(audit.Sales, balance(s, bySale[s.ID]))
		delete(bySale, s.ID)
	}
	for id, orphans := range bySale {
		if line := balance(sluice.Sale{ID: id}, orphans); len(line.Differences) > 0 {
			line.Differences = append(line.Differences, "there is no such sale")
			audit.Sales = append(audit.Sales, line)
		}
	}
	slices.SortFunc(audit.Sales, func(a, b sluice.SaleAudit) int { return strings.Compare(a.ID, b.ID) })
	for _, line := range audit.Sales {
		audit.Balanced = audit.Balanced && len(line.Differences) == 0
	}
	return audit
}

func balance(s sluice.Sale, tallies []Tally) sluice.SaleAudit {
	line := sluice.SaleAudit{
		ID: s.ID, Stock: s.Stock, TopUps: s.TopUps, Free: s.Free, Held: s.Held, Sold: s.Sold,
		Orders: map[sluice.State]int64{},
	}
	units := map[sluice.State]int64{}
	for _, t := range tallies {
		line.Orders[t.State] += t.Orders
		units[t.State] += t.Units
	}
	differ := func(format string, args ...any) {
		line.Differences = append(line.Differences, fmt.Sprintf(format, args...))
	}
	if s.Stock+s.TopUps != s.Free+s.Held+s.Sold {
		differ("stock %d + topups %d is not free %d + held %d + sold %d", s.Stock, s.TopUps, s.Free, s.Held, s.Sold)
	}
	if s.Free < 0 {
		differ("free is %d: oversold", s.Free)
	}
	if s.Held != units[sluice.Held] {
		differ("held is %d, but the held orders have %d units", s.Held, units[sluice.Held])
	}
	if s.Sold != units[sluice.Paid] {
		differ("sold is %d, but the paid orders have %d units", s.Sold, units[sluice.Paid])
	}
	return line
}
