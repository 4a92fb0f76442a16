package check

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// line is one line of a story.
type line struct {
	at   int64
	text string
}

// shortest is the shortest story that shows a violation: what the buyers concerned asked and heard, and what was done to the parts
// meanwhile, in the order of time, and what the database has in the end. It answers which violation it is the story of.
func (f *findings) shortest() (about Violation, lines []string) {
	for i, v := range f.list {
		if told := f.story(v); i == 0 || len(told) < len(lines) && len(v.Orders)+len(v.Askers) > 0 || len(about.Orders)+len(about.Askers) == 0 && len(v.Orders)+len(v.Askers) > 0 {
			about, lines = v, told
		}
	}
	return about, lines
}

func (f *findings) story(v Violation) []string {
	var lines []line
	askers := slices.Clone(v.Askers)
	for _, id := range v.Orders {
		if who, ok := f.owner[id]; ok {
			askers = append(askers, who)
		}
		if r, ok := f.rows[id]; ok {
			askers = append(askers, Asker{r.Buyer, r.Key})
		}
	}
	for _, e := range f.History {
		if slices.Contains(askers, Asker{e.User, e.Key}) || e.Order != "" && slices.Contains(v.Orders, e.Order) {
			lines = append(lines, line{e.At, e.tell()})
		}
	}
	for _, a := range f.Faults {
		lines = append(lines, line{a.From, fmt.Sprintf("%s: %s", a.Part, a.What)})
		if a.To > a.From {
			lines = append(lines, line{a.To, fmt.Sprintf("%s: %s is over", a.Part, a.What)})
		}
	}
	slices.SortStableFunc(lines, func(a, b line) int { return cmp.Compare(a.at, b.at) })
	var told []string
	for i, l := range lines {
		if i > 0 && i < len(lines)-1 && l.text == lines[i-1].text && l.text == lines[i+1].text {
			continue // the first and the last of what is said again and again are enough
		}
		told = append(told, fmt.Sprintf("%10.6fs  %s", time.Duration(l.at).Seconds(), l.text))
	}
	return append(told, f.ending(v)...)
}

// ending is what the database and the doors have in the end.
func (f *findings) ending(v Violation) (told []string) {
	for _, id := range v.Orders {
		r, ok := f.rows[id]
		if !ok {
			told = append(told, fmt.Sprintf("   the end  order %s is not in the database", id))
			continue
		}
		told = append(told, fmt.Sprintf("   the end  order %s of %s is %s (version %d, %d units, settled at %s) in the database",
			id, r.Buyer, r.State, r.Version, r.Quantity, r.SettledAt.UTC().Format("15:04:05.000000")))
	}
	if len(v.Orders) == 0 {
		for _, s := range f.Sales {
			if s.ID == f.Sale {
				told = append(told, fmt.Sprintf("   the end  stock %d, topups %d, free %d, held %d, sold %d", s.Stock, s.TopUps, s.Free, s.Held, s.Sold))
			}
		}
	}
	return told
}

// tell is an event in words.
func (e Event) tell() string {
	who := e.User
	if e.Key != "" {
		who += " (" + e.Key + ")"
	}
	if e.Event == Ask {
		switch e.Call {
		case Place:
			return fmt.Sprintf("%s asks %s for %d", who, e.Door, e.Quantity)
		case Pay:
			return fmt.Sprintf("%s pays order %s with %s at %s", who, e.Order, e.Ref, e.Door)
		}
		return fmt.Sprintf("%s asks %s to %s order %s", who, e.Door, e.Call, e.Order)
	}
	switch {
	case e.Status == 0:
		return fmt.Sprintf("%s gets no answer from %s: %s", who, e.Door, e.Error)
	case e.Status >= 300:
		return fmt.Sprintf("%s hears %d %s from %s", who, e.Status, e.Reason, e.Door)
	}
	return fmt.Sprintf("%s hears %d from %s: order %s is %s (version %d)", who, e.Status, e.Door, e.Order, e.State, e.Version)
}
