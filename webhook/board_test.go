package webhook

import (
	"testing"
	"time"

	"sluice"
)

// bench is a board with the few words that its stories are told in.
type bench struct {
	*testing.T
	*board
	now time.Time
}

func newBench(t *testing.T, width int) *bench {
	t.Helper()
	return &bench{t, newBoard(0, width, defaultMaxAge), time.Date(2027, 3, 1, 18, 0, 0, 0, time.UTC)}
}

func (b *bench) event(seq int64, order int) {
	b.add(&sluice.Event{Seq: seq, Type: sluice.EventHeld, At: b.now, Order: orderID(order)}, []byte("{}"), b.now)
}

// sent answers what may be sent now.
func (b *bench) sent() (items []*item) {
	for it := b.next(b.now); it != nil; it = b.next(b.now) {
		items = append(items, it)
	}
	return items
}

func (b *bench) wantSent(want ...int64) []*item {
	b.Helper()
	items := b.sent()
	var got []int64
	for _, it := range items {
		got = append(got, it.seq)
	}
	wantSeqs(b.T, got, want)
	return items
}

func (b *bench) ends(it *item, o outcome) { b.done(it, verdict{outcome: o, err: "no"}, b.now) }

func (b *bench) save() (put []sluice.Delivery, done []int64) {
	put, done = b.rows()
	b.kept()
	return put, done
}

func TestBoard_SendsOneOfAnOrderAtATime(t *testing.T) {
	b := newBench(t, 10)
	for seq, order := range []int{1, 1, 2, 1} {
		b.event(int64(seq+1), order)
	}
	items := b.wantSent(1, 3)
	b.ends(items[1], delivered)
	b.wantSent()
	if b.position() != 0 {
		t.Errorf("the position is %d before the first is done", b.position())
	}
	b.ends(items[0], delivered)
	b.wantSent(2)
	if b.position() != 1 {
		t.Errorf("the position is %d", b.position())
	}
}

func TestBoard_WhatWaitsIsStoredWithAllBehindItAndTheOthersOvertake(t *testing.T) {
	b := newBench(t, 10)
	b.event(1, 1)
	b.event(2, 1)
	b.event(3, 2)
	items := b.wantSent(1, 3)
	b.ends(items[0], failed)
	b.ends(items[1], delivered)
	b.event(4, 1) // behind it, too
	if put, _ := b.save(); len(put) != 3 || put[0].Attempts != 1 || put[1].Attempts != 0 || put[2].Seq != 4 || b.position() != 4 || b.unsaved != 0 {
		t.Fatalf("stored %+v, position %d, %d unsaved", put, b.position(), b.unsaved)
	}
	b.now = b.now.Add(6 * time.Second)
	for want := range int64(2) { // 1, 2: from the store, in their order
		it := b.wantSent(want + 1)[0]
		if it.body != nil {
			t.Error("a stored event is in memory as well")
		}
		b.ends(it, delivered)
	}
	if put, done := b.save(); len(put) != 0 || len(done) != 2 {
		t.Errorf("stored %v, forgotten %v", put, done)
	}
}

func TestBoard_AnOutageIsNoAttemptOfAnyEvent(t *testing.T) {
	b := newBench(t, 100)
	for n := range 50 {
		b.event(int64(n+1), n)
	}
	for _, it := range b.sent() {
		b.ends(it, failed)
	}
	put, _ := b.save()
	if !b.open || len(put) != tellingFailures-1 {
		t.Fatalf("open %v, %d stored; want those before it was known: %d", b.open, len(put), tellingFailures-1)
	}
	probes := map[int64]bool{}
	for range 45 {
		b.wantSent() // not before its time
		b.now = b.now.Add(lastProbe + lastProbe/10)
		items := b.sent()
		if len(items) != 1 {
			t.Fatalf("%d probes at once", len(items))
		}
		b.ends(items[0], failed)
		probes[items[0].seq] = true
	}
	if len(probes) < 40 { // no bad event is the only probe
		t.Errorf("only %d events were probes", len(probes))
	}
	b.event(51, 51) // new ones are asked first
	b.now = b.now.Add(lastProbe + lastProbe/10)
	b.ends(b.wantSent(51)[0], delivered)
	if n := len(b.sent()); b.open || n != 50 {
		t.Errorf("after the outage %d of 50 are sent at once, open %v", n, b.open)
	}
	if put, _ := b.rows(); len(put) != 0 {
		t.Errorf("the outage cost %d rows more", len(put))
	}
}

func TestBoard_NothingIsHastenedTwice(t *testing.T) {
	b := newBench(t, 10)
	b.event(1, 1)
	b.ends(b.wantSent(1)[0], failed)
	b.now = b.now.Add(6 * time.Second)
	b.ends(b.wantSent(1)[0], failed) // five minutes now
	b.event(2, 2)
	b.ends(b.wantSent(2)[0], delivered) // the streak lasted six seconds
	b.ends(b.wantSent(1)[0], failed)    // half an hour now
	b.now = b.now.Add(time.Minute)
	b.event(3, 3)
	b.ends(b.wantSent(3)[0], delivered)
	b.wantSent()
}

func TestBoard_AReplayedEventGoesFirstButInterruptsNothing(t *testing.T) {
	b := newBench(t, 10)
	b.event(5, 1)
	b.event(6, 1)
	it := b.wantSent(5)[0]
	b.restore(sluice.Delivery{Seq: 3, Key: orderID(1).String()})
	b.restore(sluice.Delivery{Seq: 3, Key: orderID(1).String()}) // seen again before it is done
	b.ends(it, delivered)
	b.ends(b.wantSent(3)[0], delivered)
	b.ends(b.wantSent(6)[0], delivered)
	if _, done := b.save(); len(done) != 1 || b.position() != 6 || len(b.lines) != 0 {
		t.Errorf("forgotten %v, position %d, %d lines", done, b.position(), len(b.lines))
	}
}

func TestBoard_ADeadEventIsKeptBeforeThePositionPassesIt(t *testing.T) {
	b := newBench(t, 10)
	b.maxAge = time.Second
	b.event(1, 1)
	b.event(2, 1)
	b.ends(b.wantSent(1)[0], failed) // five seconds are too long
	if b.position() != 0 {
		t.Errorf("the position %d passes a dead event that is nowhere", b.position())
	}
	put, done := b.save()
	if len(put) != 1 || put[0].State != sluice.DeliveryDead || len(put[0].Body) == 0 || len(done) != 0 || b.position() != 1 {
		t.Errorf("kept %+v, forgotten %v, position %d", put, done, b.position())
	}
	b.wantSent(2)
}
