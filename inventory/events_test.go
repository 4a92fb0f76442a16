package inventory_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice"
	"sluice/inventory"
)

func TestAnnounce_SaysEachPhaseOnce(t *testing.T) {
	const (
		planned, open, soldOut, ended = inventory.PhasePlanned, inventory.PhaseOpen, inventory.PhaseSoldOut, inventory.PhaseEnded
	)
	past, future, none := now.Add(-time.Hour), now.Add(time.Hour), time.Time{}
	free := sluice.Sale{ID: "s", Free: 1}
	held, sold := sluice.Sale{ID: "s", Held: 1}, sluice.Sale{ID: "s", Sold: 1}
	times := func(s sluice.Sale, start, end time.Time) sluice.Sale {
		s.StartsAt, s.EndsAt = start, end
		return s
	}
	for _, c := range []struct {
		name  string
		said  inventory.Phase
		sale  sluice.Sale
		want  string
		phase inventory.Phase
	}{
		{"planned", planned, times(free, future, none), "", planned},
		{"at its start", planned, times(free, now, none), "sale.opened", open},
		{"without a start", planned, free, "sale.opened", open},
		{"all held at its start", planned, times(held, past, none), "sale.opened", open},
		{"sold at its start", planned, times(sold, past, none), "sale.opened sale.sold_out", soldOut},
		{"start and end went by", planned, times(free, past.Add(-1), past), "sale.opened sale.ended", ended},
		{"ended before its start", planned, times(free, future, past), "sale.ended", ended},
		{"goes on", open, times(free, past, future), "", open},
		{"all held", open, held, "", open},
		{"sold", open, sold, "sale.sold_out", soldOut},
		{"at its end", open, times(free, past, now), "sale.ended", ended},
		{"just before its end", open, times(free, past, now.Add(1)), "", open},
		{"sold as it ends", open, times(sold, past, now), "sale.ended", ended},
		{"its start was moved", open, times(free, future, none), "", open},
		{"sold while it waits again", open, times(sold, future, none), "", open},
		{"stays sold", soldOut, sold, "", soldOut},
		{"units were added", soldOut, free, "sale.reopened", open},
		{"units were added while it waits again", soldOut, times(free, future, none), "", soldOut},
		{"its end after it was sold", soldOut, times(sold, past, now), "sale.ended", ended},
		{"stays ended", ended, times(free, past, now), "", ended},
		{"sold after its end", ended, times(sold, past, now), "", ended},
		{"its end was moved", ended, times(free, past, future), "sale.reopened", open},
		{"its end was moved with all sold", ended, times(sold, past, none), "sale.sold_out", soldOut},
		{"its start and end were moved", ended, times(free, future, none), "", ended},
	} {
		t.Run(c.name, func(t *testing.T) {
			types, phase := inventory.Announce(now, c.said, c.sale)
			var got []string
			for _, e := range types {
				got = append(got, string(e))
			}
			if strings.Join(got, " ") != c.want || phase != c.phase {
				t.Errorf("got %q and %q, want %q and %q", got, phase, c.want, c.phase)
			}
			if again, phase := inventory.Announce(now, phase, c.sale); len(again) != 0 || phase != c.phase {
				t.Errorf("again: got %q and %q", again, phase)
			}
		})
	}
}

func TestWritten_MakesOneEventOfEachStep(t *testing.T) {
	stored := func(state sluice.State, version int64, payBy time.Time) inventory.Stored {
		return inventory.Stored{
			Attributes: json.RawMessage(`{"a":1}`), ReplayOf: id(7), PaymentRef: "ref",
			Status: sluice.Status{Order: id(1), Sale: "s", User: "u", State: state, Version: version, Units: 2, PayBy: payBy},
		}
	}
	event := func(typ sluice.EventType, version int64) sluice.Event {
		return sluice.Event{
			Type: typ, At: now, Sale: "s", Version: version, Order: id(1), User: "u", Units: 2,
			ReplayOf: id(7), Attributes: json.RawMessage(`{"a":1}`),
		}
	}
	held, paid, expired := stored(sluice.Held, 2, now), stored(sluice.Paid, 3, now), stored(sluice.Expired, 3, now)
	later := stored(sluice.Held, 3, now.Add(1))
	paidEvent, dueEvent, heldEvent := event(sluice.EventPaid, 3), event(sluice.EventRefundDue, 3), event(sluice.EventHeld, 3)
	paidEvent.PaymentRef, heldEvent.PayBy = "ref", now.Add(1)
	dueEvent.PaymentRef, dueEvent.RefundReason = "x", "too_late"
	for _, c := range []struct {
		name  string
		write func(*inventory.Written)
		want  []sluice.Event
	}{
		{"nothing", func(*inventory.Written) {}, nil},
		{"the same as before", func(w *inventory.Written) { w.Updated(paid, paid) }, nil},
		{"paid", func(w *inventory.Written) { w.Updated(held, paid) }, []sluice.Event{paidEvent}},
		{"a deadline that is moved", func(w *inventory.Written) { w.Updated(held, later) }, []sluice.Event{heldEvent}},
		{"paid late", func(w *inventory.Written) {
			w.Updated(held, expired)
			w.RefundDue(expired, "x", inventory.RefundTooLate)
		}, []sluice.Event{event(sluice.EventExpired, 3), dueEvent}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var w inventory.Written
			c.write(&w)
			got, phases, err := w.Events(now)
			if err != nil || !reflect.DeepEqual(got, c.want) || len(phases) != 0 {
				t.Errorf("got %+v, %v, %v, want %+v", got, phases, err, c.want)
			}
		})
	}
}

func TestWritten_FindsASaleThatWasNotReadAndAClockThatWasNot(t *testing.T) {
	var w inventory.Written
	w.Moved(inventory.Delta{Sale: "s", Free: -1, Held: 1})
	if _, _, err := w.Events(now); err == nil || !strings.Contains(err.Error(), "sale s ") {
		t.Errorf("moved without having been read: got %v", err)
	}
	w = inventory.Written{}
	w.Locked(sluice.Sale{ID: "s", Free: 1}, inventory.PhaseOpen)
	w.Moved(inventory.Delta{Sale: "s", Free: -1, Sold: 1})
	w.Locked(sluice.Sale{ID: "s", Free: 9}, inventory.PhaseOpen) // read again, as it was written
	events, phases, err := w.Events(now)
	if err != nil || len(events) != 1 || events[0].Type != sluice.EventSoldOut || events[0].Sold != 1 || phases["s"] != inventory.PhaseSoldOut {
		t.Errorf("got %+v, %v, %v", events, phases, err)
	}
	if _, _, err := w.Events(time.Time{}); err == nil || !strings.Contains(err.Error(), "clock") {
		t.Errorf("without the time: got %v", err)
	}
}

// No field of an event may be lost on its way through a store, those to come included.
func TestEvents_KeepEveryField(t *testing.T) {
	whole := sluice.Event{
		Seq: 7, Type: sluice.EventPaid, At: now, Sale: "s", Version: 3, Order: id(1), User: "<u>\x00😀", Units: 2, Reason: "r",
		PayBy: now.Add(1000), PaymentRef: "ref", RefundReason: "why", ReplayOf: id(2), Attributes: json.RawMessage(`{"a":"<&>","n":1e999}`),
		Trace: sluice.TraceContext{Parent: "00-1-2-01"}, Counters: &sluice.Counters{Stock: 1, TopUps: 2, Free: 3, Held: 4, Sold: 5},
	}
	for v, i := reflect.ValueOf(whole), 0; i < v.NumField(); i++ {
		if v.Field(i).IsZero() {
			t.Fatalf("the test's event has no %s", v.Type().Field(i).Name)
		}
	}
	broken := sluice.Event{Type: sluice.EventFailed, At: now, Order: id(1), Attributes: json.RawMessage("{\x00")}
	bodies, err := inventory.EncodeEvents([]sluice.Event{whole, broken})
	if err != nil {
		t.Fatal(err)
	}
	got, err := inventory.DecodeEvent(7, id(1), now, []byte(bodies[0]))
	if err != nil || !reflect.DeepEqual(got, whole) {
		t.Errorf("got %+v, %v, want %+v", got, err, whole)
	}
	for _, column := range []string{`"seq"`, `"at"`, `"order"`, "\n"} {
		if strings.Contains(bodies[0], column) {
			t.Errorf("%s is kept twice: %s", column, bodies[0])
		}
	}
	broken.Attributes = nil
	if got, err := inventory.DecodeEvent(0, id(1), now, []byte(bodies[1])); err != nil || !reflect.DeepEqual(got, broken) {
		t.Errorf("attributes that are no JSON: got %+v, %v", got, err)
	}
	if _, err := inventory.DecodeEvent(1, id(1), now, []byte("{")); err == nil {
		t.Error("a broken body was read")
	}
}

func TestEventTypes_ThereIsOneForEachStateOfAStoredOrder(t *testing.T) {
	for _, s := range []sluice.State{sluice.Held, sluice.Paid, sluice.Expired, sluice.Cancelled, sluice.Rejected, sluice.Failed} {
		var w inventory.Written
		w.Inserted(inventory.Row{Status: sluice.Status{State: s, Version: 2}})
		events, _, err := w.Events(now)
		if err != nil || string(events[0].Type) != "order."+string(s) || !slices.Contains(sluice.EventTypes(), events[0].Type) {
			t.Errorf("%s: got %+v, %v", s, events, err)
		}
	}
}
