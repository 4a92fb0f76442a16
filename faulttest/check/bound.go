package check

import (
	"cmp"
	"math"
	"slices"
)

// step is a moment at which the number of outstanding orders changes.
type step struct {
	at    int64
	by    int64
	order string
}

// bound: orders accepted before t, less those settled by t, never exceed the bound that was in force (P4). An order counts from the
// moment its buyer had the promise, which is later than it took its credit, to the earliest moment at which it may have been settled,
// which is earlier than it gave that back: what is found is a fault for certain, whatever the clocks' readings leave open.
func (f *findings) bound() {
	if len(f.Bounds) == 0 {
		return
	}
	ahead, known := f.ahead()
	if !known {
		f.wrong("P4: the run does not say how the database's clock goes, so that the bound can't be judged")
		return
	}
	f.peak = f.within("all doors together", "", ahead)
	for _, d := range f.Doors {
		f.within(d.Name, d.Name, ahead)
	}
	for _, d := range f.Doors {
		switch n, told := f.Idle[d.Name]; {
		case !told && d.Metrics != "":
			f.wrong("P4: %s does not say how many orders are outstanding when all is over", d.Name)
		case n != 0:
			f.wrong("P4: %s counts %d orders as outstanding, and all are settled: credits have leaked", d.Name, n)
		}
	}
}

// ahead is by how much the database's clock is ahead of 1970 at the history's beginning, in nanoseconds, at most: so that what it
// says of a settling, less this, is the earliest moment that it can mean.
func (f *findings) ahead() (most int64, known bool) {
	most = math.MinInt64
	for _, c := range f.Clocks {
		most, known = max(most, c.Database.UnixNano()-c.Before), true
	}
	return most, known
}

// within checks the orders of one door, or of all, and answers the most that were outstanding.
func (f *findings) within(who, door string, ahead int64) (peak int64) {
	var steps []step
	asked := map[string]int64{} // by order: when the answer that promised it was asked for
	for _, e := range f.History {
		if _, again := asked[e.Order]; again || !e.Accepted() || e.Call != Place || door != "" && e.Door != door {
			continue
		}
		asked[e.Order] = e.Asked
		r, settled := f.rows[e.Order]
		out := int64(math.MaxInt64)
		if settled {
			out = r.SettledAt.UnixNano() - ahead
		}
		if out > e.At {
			steps = append(steps, step{e.At, 1, e.Order}, step{out, -1, e.Order})
		}
	}
	slices.SortFunc(steps, func(a, b step) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.by, b.by)) })
	n := int64(0)
	for _, s := range steps {
		n += s.by
		peak = max(peak, n)
		if s.by < 0 {
			continue
		}
		// All that are outstanding now were so when the last of them took its credit, which was after this one was asked for.
		if most := f.inForce(door, asked[s.order], s.at); n > most {
			f.wrongOf(of(s.order), nil, "P4: with order %s %d were outstanding at %s, and the bound was %d", s.order, n, who, most)
			break
		}
	}
	return peak
}

// inForce is the highest bound of a door, or of all together, between two moments.
func (f *findings) inForce(door string, from, to int64) (most int64) {
	now := map[string]int64{}
	sum := func() (all int64) {
		for _, n := range now {
			all += n
		}
		return all
	}
	for _, b := range f.Bounds { // in the order of time
		if b.At > to {
			break
		}
		if door != "" && b.Door != door {
			continue
		}
		if b.At > from {
			most = max(most, sum())
		}
		now[b.Door] = b.Bound
		if b.At > from {
			most = max(most, sum())
		}
	}
	return max(most, sum())
}
