package inventorytest

import (
	"bytes"
	"fmt"
	"reflect"

	"sluice"
	"sluice/inventory"
)

var letterTests = []test{
	{"LettersAreListedInPages", testLetterPages},
	{"ALetterIsKeptAsItCame", testLetterFields},
	{"ALetterThatIsDroppedIsGone", func(b *bench) {
		b.sale("s", 10)
		o := order("s", "u", "", 1)
		b.bury(inventory.Letter{Message: "m", Order: &o})
		b.bury(inventory.Letter{Message: "other"})
		number := b.letter("other").ID
		for _, message := range []string{"m", "other"} {
			if err := b.store.DropLetter(b.Context(), message); err != nil {
				b.Error(err)
			}
			b.wantRefused(b.store.DropLetter(b.Context(), message), sluice.NotFound)
			_, err := b.store.Letter(b.Context(), message)
			b.wantRefused(err, sluice.NotFound)
			_, err = b.store.Replay(b.Context(), message, order("s", "u", "again", 1))
			b.wantRefused(err, sluice.NotFound)
		}
		b.wantState(b.status(o.ID), sluice.Failed, "")
		b.wantStates(b.reserve(o), "failed") // P10
		b.wantUnits("s", 10, 0, 0)
		b.bury(inventory.Letter{Message: "m", Order: &o})
		if l := b.letter("m"); l.ID <= number {
			b.Errorf("number %d is given out after %d: a number must not come back", l.ID, number)
		}
	}},
	{"WhatIsNoLetterIsNotFound", func(b *bench) {
		for _, message := range []string{"never", "", "no\x00message", "\xff"} {
			_, letter := b.store.Letter(b.Context(), message)
			_, replay := b.store.Replay(b.Context(), message, order("s", "u", "", 1))
			for _, err := range []error{letter, replay, b.store.DropLetter(b.Context(), message)} {
				b.wantRefused(err, sluice.NotFound)
			}
		}
		if n := len(b.query("SELECT id FROM orders")); n != 0 {
			b.Errorf("%d orders were made of nothing", n)
		}
	}},
	{"AReplaySettlesANewOrderInPlaceOfTheOneThatFailed", testReplay},
	{"AReplayIsSettledAsAnyOrder", testReplayOutcomes},
	{"AReplayOfAnOrderThatWasSettledAnswersWithItsStatus", func(b *bench) {
		b.sale("s", 10)
		o, made := order("s", "u", "", 1), order("s", "u", "again", 2)
		b.hold(made)
		b.pay(made.ID, "ref")
		b.bury(inventory.Letter{Message: "m", Order: &o})
		last := b.newest()
		for range 2 {
			b.wantChanges(b.replay("m", made), sluice.Paid, 3)
		}
		b.wantEvents(last)
		b.wantUnits("s", 8, 0, 2)
		if l := b.letter("m"); l.ReplayedAs != made.ID {
			b.Errorf("got %+v, want it to tell of %s", l, made.ID)
		}
		if r := b.record(made.ID); r.ReplayOf != (sluice.OrderID{}) {
			b.Errorf("an order that was there before was made from %s", r.ReplayOf)
		}
	}},
	{"AReplayIsRefusedWhereNothingFailed", testReplayRefused},
	{"ManyCallersReplayALetterOnce", testReplayRace},
}

func testLetterPages(b *bench) {
	if got := b.letters(0, 10, true); len(got) != 0 {
		b.Errorf("before there was one: %+v", got)
	}
	b.sale("s", 10)
	for i := range 7 {
		o := order("s", "u", fmt.Sprint(i), 1)
		b.bury(inventory.Letter{Message: fmt.Sprint("m", i), Order: &o})
	}
	all := b.letters(0, 10, true)
	if len(all) != 7 {
		b.Fatalf("got %+v", all)
	}
	var fresh []inventory.Buried
	for i, l := range all {
		if l.Message != fmt.Sprint("m", i) || (i > 0 && l.ID <= all[i-1].ID) {
			b.Errorf("letter %d: got %+v", i, l)
		}
		if i%3 != 0 {
			fresh = append(fresh, l)
			continue
		}
		made := order("s", "u", fmt.Sprint(i, "again"), 1)
		b.replay(l.Message, made)
		all[i].ReplayedAs = made.ID
	}
	for _, c := range []struct {
		all  bool
		want []inventory.Buried
	}{{false, fresh}, {true, all}} {
		for _, limit := range []int{1, 2, 4, 7, 100} {
			var got []inventory.Buried
			for after := int64(0); ; after = got[len(got)-1].ID {
				page := b.letters(after, limit, c.all)
				got = append(got, page...)
				if len(page) < limit {
					break
				}
			}
			if !reflect.DeepEqual(got, c.want) {
				b.Errorf("pages of %d, all %v: got %+v, want %+v", limit, c.all, got, c.want)
			}
		}
	}
}

func testLetterFields(b *bench) {
	o := order("s", "u", "", 1)
	for _, c := range []struct {
		letter inventory.Letter
		want   inventory.Buried
	}{
		{
			inventory.Letter{Message: "m1", Body: []byte("\x00\xffbody"), Order: &o, Attempts: 5, Error: "bad\nluck"},
			inventory.Buried{Message: "m1", Body: []byte("\x00\xffbody"), Order: o.ID, Attempts: 5, Error: "bad\nluck"},
		},
		{inventory.Letter{Message: "m2"}, inventory.Buried{Message: "m2", Body: []byte{}}},
		{
			inventory.Letter{Message: "m\x003", Body: bytes.Repeat([]byte("x"), 2*inventory.MaxLetterBytes), Error: "\xff"},
			inventory.Buried{Message: "m\ufffd3", Body: bytes.Repeat([]byte("x"), inventory.MaxLetterBytes), Error: "\ufffd"},
		},
	} {
		at := b.bury(c.letter).Now
		b.bury(inventory.Letter{Message: c.letter.Message, Body: []byte("another"), Error: "another"}) // the first one stands
		got := b.letter(c.letter.Message)
		c.want.ID, c.want.At = got.ID, at
		if got.ID < 1 || !reflect.DeepEqual(got, c.want) {
			b.Errorf("got %+v, want %+v", got, c.want)
		}
	}
}

func testReplay(b *bench) {
	b.sale("s", 10)
	o, made := order("s", "u", "", 2), order("s", "u", "again", 2)
	made.Attempt, made.Attributes = 1, []byte(`{"a":1}`)
	b.bury(inventory.Letter{Message: "m", Body: []byte("body"), Order: &o})
	want, last := b.letter("m"), b.newest()
	c := b.replay("m", made)
	b.wantChanges(c, sluice.Held, 2)
	if len(c.Sales) != 1 || c.Sales[0].Held != 2 || c.Sales[0].Version != 2 {
		b.Errorf("sale: got %+v", c.Sales)
	}
	status := c.Statuses[0]
	if r := b.record(made.ID); !reflect.DeepEqual(r, inventory.Record{Order: made, Status: status, ReleaseAt: status.PayBy, ReplayOf: o.ID}) {
		b.Errorf("got %+v, want it made from %s", r, o.ID)
	}
	want.ReplayedAs = made.ID
	if l := b.letter("m"); !reflect.DeepEqual(l, want) {
		b.Errorf("got %+v, want %+v", l, want)
	}
	b.wantState(b.status(o.ID), sluice.Failed, "") // P10

	b.pay(made.ID, "ref")
	for i := range 3 { // again, and by somebody who makes another order of it
		c := b.replay("m", order("s", "u", fmt.Sprint("again", i), 1))
		b.wantChanges(c, sluice.Paid, 3)
		if c.Statuses[0].Order != made.ID {
			b.Errorf("got the status of %s, want that of %s", c.Statuses[0].Order, made.ID)
		}
	}
	b.wantEvents(last, "order.held u 2", "order.paid u 3")
	for _, e := range b.orderEvents(made.ID) {
		if e.ReplayOf != o.ID || string(e.Attributes) != `{"a":1}` {
			b.Errorf("got %+v, want the failed order in it", e)
		}
	}
	b.bury(inventory.Letter{Message: "m", Order: &o}) // the message comes once more
	if l := b.letter("m"); !reflect.DeepEqual(l, want) {
		b.Errorf("got %+v, want %+v", l, want)
	}
	b.wantUnits("s", 8, 0, 2)
}

// testReplayOutcomes replays letters of orders that end otherwise, and of one that nobody could read.
func testReplayOutcomes(b *bench) {
	b.sale("s", 1, limit(1))
	b.hold(order("s", "a", "", 1))
	b.sale("now", 9, limit(1), window(0))
	for i, c := range []struct {
		sale, user string
		lost       bool // the body could not be read
		want       string
	}{
		{"s", "b", false, "rejected sold_out"},
		{"s", "a", false, "rejected user_limit"},
		{"nowhere", "a", false, "rejected unknown_sale"},
		{"now", "a", false, "paid"},
		{"now", "b", true, "paid"},
	} {
		message, o, made := fmt.Sprint("m", i), order(c.sale, c.user, "failed", 1), order(c.sale, c.user, "again", 1)
		letter := inventory.Letter{Message: message, Order: &o}
		if c.lost {
			letter.Order, o.ID = nil, sluice.OrderID{}
		}
		b.bury(letter)
		for range 2 {
			b.wantStates(b.replay(message, made).Statuses, c.want)
		}
		if l, r := b.letter(message), b.record(made.ID); l.ReplayedAs != made.ID || r.ReplayOf != o.ID {
			b.Errorf("%s: the letter tells of %s, the order of %s; want %s and %s", message, l.ReplayedAs, r.ReplayOf, made.ID, o.ID)
		}
		if e := b.orderEvents(made.ID); len(e) != 1 || e[0].ReplayOf != o.ID {
			b.Errorf("%s: got events %+v", message, e)
		}
	}
	b.wantUnits("s", 0, 1, 0)
	b.wantUnits("now", 7, 0, 2)
}

func testReplayRefused(b *bench) {
	b.sale("s", 10)
	o, held := order("s", "u", "", 2), order("s", "v", "", 1)
	b.hold(held)
	b.bury(inventory.Letter{Message: "m", Order: &o})
	b.bury(inventory.Letter{Message: "settled", Order: &held}) // it was settled all the same; only its answer was lost
	last := b.newest()
	for _, c := range []struct {
		message string
		order   sluice.Order
	}{{"m", o}, {"settled", order("s", "v", "again", 1)}, {"settled", held}} {
		got, err := b.store.Replay(b.Context(), c.message, c.order)
		b.wantRefused(err, sluice.BadRequest)
		if l := b.letter(c.message); !got.Empty() || l.ReplayedAs != (sluice.OrderID{}) {
			b.Errorf("a refusal came with %+v and left %+v", got, l)
		}
	}
	b.wantState(b.status(o.ID), sluice.Failed, "")
	b.wantEvents(last)
	b.wantUnits("s", 9, 1, 0)
	b.wantChanges(b.replay("m", order("s", "u", "again", 2)), sluice.Held, 2)
}

// testReplayRace has many callers replay each letter at once, each with an order of its own, while the message comes again.
func testReplayRace(b *bench) {
	const letters, callers = 6, 6
	b.sale("s", 100)
	b.sale("s2", 100)
	stores := []inventory.Store{b.store, b.open()}
	for i := range letters {
		o := order("s", "u", fmt.Sprint(i), 1)
		b.bury(inventory.Letter{Message: fmt.Sprint("m", i), Order: &o})
	}
	var made [letters][callers]sluice.OrderID
	together(callers+1, func(k int) {
		for i := range letters {
			message := fmt.Sprint("m", i)
			if k == callers {
				o := order("s", "u", fmt.Sprint(i), 1)
				if _, err := b.store.Bury(b.Context(), inventory.Letter{Message: message, Order: &o}); err != nil {
					b.Error(err)
				}
				continue
			}
			sale := []string{"s", "s2"}[k/2%2] // another sale is another lock
			c, err := stores[k%2].Replay(b.Context(), message, order(sale, "u", fmt.Sprint(i, "-", k/2), 1))
			if err != nil || len(c.Statuses) != 1 {
				b.Errorf("replay: got %+v, %v", c, err)
				return
			}
			made[i][k] = c.Statuses[0].Order
		}
	})
	for i, got := range made {
		for _, id := range got {
			if id != got[0] {
				b.Errorf("letter %d was replayed as %s and as %s", i, got[0], id)
			}
		}
		if l := b.letter(fmt.Sprint("m", i)); l.ReplayedAs != got[0] {
			b.Errorf("letter %d tells of %s, want %s", i, l.ReplayedAs, got[0])
		}
	}
	if n := len(b.query("SELECT id FROM orders WHERE state = 'held'")); n != letters {
		b.Errorf("%d orders were made of %d letters", n, letters)
	}
	b.wantBalanced()
}

func (b *bench) bury(l inventory.Letter) sluice.Changes {
	b.Helper()
	c, err := b.store.Bury(b.Context(), l)
	if err != nil || c.Now.IsZero() {
		b.Fatalf("bury %q: %+v, %v", l.Message, c, err)
	}
	return c
}

func (b *bench) letter(message string) inventory.Buried {
	b.Helper()
	l, err := b.store.Letter(b.Context(), message)
	if err != nil {
		b.Fatalf("letter %q: %v", message, err)
	}
	return l
}

func (b *bench) letters(after int64, limit int, all bool) []inventory.Buried {
	b.Helper()
	got, err := b.store.Letters(b.Context(), after, limit, all)
	if err != nil || len(got) > limit {
		b.Fatalf("letters after %d: got %+v, %v", after, got, err)
	}
	return got
}

// replay settles an order that was made of a letter, which must work.
func (b *bench) replay(message string, o sluice.Order) sluice.Changes {
	b.Helper()
	c, err := b.store.Replay(b.Context(), message, o)
	if err != nil || len(c.Statuses) != 1 || c.Now.IsZero() {
		b.Fatalf("replay %q: got %+v, %v", message, c, err)
	}
	return c
}
