package check

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// Happening is an event as the service publishes it: those of its fields that the check needs.
type Happening struct {
	Seq     int64     `json:"seq"`
	Type    string    `json:"type"`
	At      time.Time `json:"at"` // when its transaction began
	Sale    string    `json:"sale"`
	Order   string    `json:"order"`
	Version int64     `json:"version"`
}

// Events answers what is wrong with all events of one sale that is over, in words: they are numbered without gaps, each step of
// every order has one and no other has, and the sale opens, sells out and ends.
func Events(events []Happening, orders []OrderRow, sale SaleRow) (wrong []string) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	steps := map[string]map[int64]string{} // type by order and version
	var phases []string
	newest := map[string]int64{} // version by order
	for i, e := range events {
		if e.Seq != int64(i)+1 {
			say("event %d is numbered %d", i+1, e.Seq)
		}
		switch {
		case e.Sale != "" && e.Sale != sale.ID: // another sale's, which is not judged
			continue
		case e.Order == "":
			phases = append(phases, e.Type)
			continue
		case e.Type == "order.refund_due": // no step: the order stays as it is
			if steps[e.Order][e.Version] == "" {
				say("a refund of order %s is due at version %d, which has no event before it", e.Order, e.Version)
			}
			continue
		}
		if steps[e.Order] == nil {
			steps[e.Order] = map[int64]string{}
		}
		if before := steps[e.Order][e.Version]; before != "" {
			say("version %d of order %s has two events, %s and %s", e.Version, e.Order, before, e.Type)
		}
		steps[e.Order][e.Version] = e.Type
		if e.Version <= newest[e.Order] {
			say("version %d of order %s is event %d, after version %d", e.Version, e.Order, e.Seq, newest[e.Order])
		}
		newest[e.Order] = max(newest[e.Order], e.Version)
	}
	for _, row := range orders {
		state := ""
		for version := int64(2); version <= row.Version; version++ {
			if state = steps[row.ID][version]; state == "" {
				say("version %d of order %s, which is %s, has no event", version, row.ID, row.State)
			}
		}
		if state != "order."+row.State {
			say("order %s is %s, and the last event of its state is %q", row.ID, row.State, state)
		}
		if n := int64(len(steps[row.ID])); n != row.Version-1 {
			say("order %s has %d events and version %d", row.ID, n, row.Version)
		}
		delete(steps, row.ID)
	}
	for _, order := range slices.Sorted(maps.Keys(steps)) {
		say("order %s has events and is not in the database", order)
	}
	return append(wrong, checkPhases(phases, sale)...)
}

// happenings: every step of every order has its event, and no other has one; the events are those of a sale.
func (f *findings) happenings() {
	at := slices.IndexFunc(f.Sales, func(s SaleRow) bool { return s.ID == f.Sale })
	if !f.Ended || at < 0 {
		return
	}
	for _, text := range Events(f.Happenings, slices.Collect(maps.Values(f.rows)), f.Sales[at]) {
		f.wrong("events: %s", text)
	}
}

// checkPhases: a sale opens first and ends last, and what lies between is told in turns.
func checkPhases(phases []string, sale SaleRow) (wrong []string) {
	if len(phases) < 2 || phases[0] != "sale.opened" || phases[len(phases)-1] != "sale.ended" {
		return []string{fmt.Sprintf("the sale's events are %v: want sale.opened first and sale.ended last", phases)}
	}
	soldOut := false
	for i, phase := range phases[1 : len(phases)-1] {
		if soldOut = !soldOut; soldOut != (phase == "sale.sold_out") || !soldOut && phase != "sale.reopened" {
			return []string{fmt.Sprintf("the sale's events are %v: number %d is in the wrong place", phases, i+2)}
		}
	}
	if all := sale.Free+sale.Held == 0; all != soldOut {
		wrong = append(wrong, fmt.Sprintf("the sale's events are %v, and %d units are free and %d held", phases, sale.Free, sale.Held))
	}
	return wrong
}
