package check

// Orders is what became of everybody who asked with a key, sorted as Jepsen's total-queue sorts what was enqueued.
type Orders struct {
	Offered       int64 `json:"offered"`       // askers
	Accepted      int64 `json:"accepted"`      // of them: who was promised an order
	OK            int64 `json:"ok"`            // promised and settled
	Lost          int64 `json:"lost"`          // promised and not settled: always a failure
	Unexpected    int64 `json:"unexpected"`    // settled, and nobody asked or everybody was refused: always a failure
	Recovered     int64 `json:"recovered"`     // left in doubt, and there all the same: fine
	Refused       int64 `json:"refused"`       // definitely
	Indeterminate int64 `json:"indeterminate"` // left in doubt, and not there: fine
}

// sort sorts every asker, and every order that has none. Recovered are also those who asked again after they were left in doubt and
// heard then that their order was there already.
func (f *findings) sort() (o Orders) {
	rows := map[Asker]OrderRow{}
	for _, r := range f.rows {
		rows[Asker{r.Buyer, r.Key}] = r
	}
	for who, t := range f.told {
		if t.asks == 0 {
			continue
		}
		o.Offered++
		r, there := rows[who]
		if t.order != "" {
			o.Accepted++
			r, there = f.rows[t.order]
		}
		_, refused := t.refused()
		switch {
		case t.order != "" && (!there || !final(r.State)):
			o.Lost++
		case t.order != "" && !t.repeated:
			o.OK++
		case t.order != "", there && !refused:
			o.Recovered++
		case there:
			o.Unexpected++
		case refused:
			o.Refused++
		default:
			o.Indeterminate++
		}
	}
	for _, r := range f.rows {
		if t := f.told[Asker{r.Buyer, r.Key}]; t == nil || t.asks == 0 {
			o.Unexpected++
		}
	}
	return o
}
