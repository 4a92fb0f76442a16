package examples

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
)

// Books are what everybody has in the end.
type Books struct {
	Buyers   int
	Outcomes map[string]string // by order, as its buyer knows it: paid, cancelled or rejected
	Points   []Credit
	Coupons  []Coupon
	Notes    []Note
	Reports  []Report
}

// Credit is what points answers, as far as it is looked at here; so are those that follow.
type Credit struct {
	Order  string
	Points int64
}

// Coupon is what coupons answers.
type Coupon struct{ Order, Code string }

// Note is what notifications answers.
type Note struct {
	Order, Worker, Text string
	Version             int64
}

// Report is what report answers.
type Report struct{ ID, Outcome string }

// read reads the books of all services.
func (b *Books) read(ctx context.Context, c *cast) error {
	for url, into := range map[string]any{
		c.points + "/v1/points": &b.Points, c.coupons + "/v1/coupons": &b.Coupons,
		c.notifications[0] + "/v1/notes": &b.Notes, c.report + "/v1/reports": &b.Reports,
	} {
		if err := get(ctx, url, into); err != nil {
			return err
		}
	}
	return nil
}

// print says what everybody has.
func (b *Books) print(out io.Writer, turnedAway int) {
	ends, workers := map[string]int{}, map[string]int{}
	for _, outcome := range b.Outcomes {
		ends[outcome]++
	}
	for _, n := range b.Notes {
		workers[n.Worker]++
	}
	fmt.Fprintf(out, "  sale           %d paid, %d cancelled, %d rejected, %d turned away\n", ends["paid"], ends["cancelled"], ends["rejected"], turnedAway)
	fmt.Fprintf(out, "  points         %d orders credited; killed in the middle, and away while %d buyers came\n", len(b.Points), b.Buyers/4)
	fmt.Fprintf(out, "  coupons        %d coupons; away until all was over\n", len(b.Coupons))
	fmt.Fprintf(out, "  notifications  %d notes by one worker, %d by the other\n", workers["notifications-1"], workers["notifications-2"])
	fmt.Fprintf(out, "  report         %d reports stored\n", len(b.Reports))
}

// last are the notes that end each story of an order.
var last = map[string]string{
	"paid": "Thank you! It is on its way.", "cancelled": "Your order is cancelled.", "rejected": "We are sorry: you came too late.",
}

// Check answers what does not add up, in words.
func (b *Books) Check() (wrong []string) {
	paid := map[string]bool{}
	for order, outcome := range b.Outcomes {
		if outcome == "paid" {
			paid[order] = true
		}
	}
	points := map[string]int{}
	for _, c := range b.Points {
		if points[c.Order]++; c.Points != 10 {
			wrong = append(wrong, fmt.Sprintf("points: order %s got %d, want 10", c.Order, c.Points))
		}
	}
	coupons, codes := map[string]int{}, map[string]bool{}
	for _, c := range b.Coupons {
		coupons[c.Order]++
		codes[c.Code] = true
	}
	if len(codes) != len(b.Coupons) {
		wrong = append(wrong, fmt.Sprintf("coupons: %d codes for %d coupons", len(codes), len(b.Coupons)))
	}
	wrong = append(wrong, once("points", points, paid)...)
	wrong = append(wrong, once("coupons", coupons, paid)...)
	wrong = append(wrong, b.notes()...)
	reports, visits := map[string]int{}, map[string]bool{}
	for _, r := range b.Reports {
		reports[r.ID]++
	}
	for n := range b.Buyers {
		visits[fmt.Sprintf("visit-buyer-%04d", n)] = true
	}
	return append(wrong, once("report", reports, visits)...)
}

// notes: both workers told something, and every buyer was told in the end how it ended, once.
func (b *Books) notes() (wrong []string) {
	ends, orders, workers := map[string]int{}, map[string]bool{}, map[string]int{}
	versions := map[string]int64{}
	for _, n := range b.Notes {
		if workers[n.Worker]++; n.Text == last[b.Outcomes[n.Order]] {
			ends[n.Order]++
		}
		if n.Version <= versions[n.Order] {
			wrong = append(wrong, fmt.Sprintf("notifications: version %d of order %s after %d", n.Version, n.Order, versions[n.Order]))
		}
		versions[n.Order] = n.Version
	}
	for order := range b.Outcomes {
		orders[order] = true
	}
	if len(workers) != 2 {
		wrong = append(wrong, fmt.Sprintf("notifications: want the work of two workers, got %v", workers))
	}
	return append(wrong, once("notifications", ends, orders)...)
}

// once: a service has each of those that it should have once, and nothing else.
func once(service string, has map[string]int, want map[string]bool) (wrong []string) {
	for _, id := range slices.Sorted(maps.Keys(want)) {
		if has[id] != 1 {
			wrong = append(wrong, fmt.Sprintf("%s: has %s %d times, want once", service, id, has[id]))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(has)) {
		if !want[id] {
			wrong = append(wrong, fmt.Sprintf("%s: has %s, which it should not", service, id))
		}
	}
	return wrong
}
