package queue

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"sluice"
)

func sampleEvent() sluice.Event {
	at := time.Date(2026, 11, 27, 8, 0, 0, 123456000, time.UTC)
	return sluice.Event{
		Seq: 4711, Type: sluice.EventHeld, At: at, Sale: "sneaker-01", Version: 2,
		Order: ref(77), User: "buyer \"ü\" \\ 4711", Units: 3, Reason: sluice.SoldOut, PayBy: at.Add(time.Hour),
		PaymentRef: "pay-1", RefundReason: "late", ReplayOf: ref(76), Attributes: json.RawMessage(`{"size":"42","gift":true}`),
		Trace:    sluice.TraceContext{Parent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
		Counters: &sluice.Counters{Stock: 10, TopUps: -1, Free: 0, Held: 4, Sold: 5},
	}
}

func saleEvent() sluice.Event {
	e := sampleEvent()
	return sluice.Event{Seq: 1, Type: sluice.EventSoldOut, At: e.At, Sale: "s", Counters: e.Counters}
}

func sameEvent(a, b sluice.Event) bool {
	same := a.At.Equal(b.At) && a.PayBy.Equal(b.PayBy) && string(a.Attributes) == string(b.Attributes)
	a.At, b.At, a.PayBy, b.PayBy, a.Attributes, b.Attributes = time.Time{}, time.Time{}, time.Time{}, time.Time{}, nil, nil
	return same && reflect.DeepEqual(a, b)
}

// What AppendEvent writes by hand is what the type's own tags say, behind the version.
func TestEventMessage_IsTheEventAsItsTypeHasIt(t *testing.T) {
	for name, e := range map[string]sluice.Event{
		"everything": sampleEvent(),
		"a sale's":   saleEvent(),
		"an order's": {Seq: 2, Type: sluice.EventPaid, At: sampleEvent().At, Sale: "s", Version: 3, Order: ref(1), User: "u", Units: 1},
	} {
		t.Run(name, func(t *testing.T) {
			var own bytes.Buffer
			enc := json.NewEncoder(&own)
			enc.SetEscapeHTML(false)
			if err := enc.Encode(&e); err != nil {
				t.Fatal(err)
			}
			want := `before {"v":1,` + strings.TrimSpace(own.String())[1:]
			if got := string(AppendEvent([]byte("before "), &e)); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
	// A field that is added to the type must be in the sample, or the comparison above says nothing of it.
	for v := range fields(reflect.ValueOf(sampleEvent())) {
		if v == "" {
			t.Error("a field of sluice.Event is not set in the sample")
		}
	}
}

// fields are the names of all fields, empty where one is not set. Free is 0 on purpose: counters are never left out.
func fields(v reflect.Value) map[string]bool {
	names := map[string]bool{}
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if v.Field(i).IsZero() {
			name = ""
		}
		names[name] = true
	}
	return names
}

func TestEventMessage_ComesBackAsItWas(t *testing.T) {
	longest := sampleEvent()
	longest.Sale, longest.User = strings.Repeat("s", sluice.MaxSaleBytes), strings.Repeat(`"`, sluice.MaxUserBytes)
	longest.PaymentRef = strings.Repeat("\\", 256)
	longest.Attributes = json.RawMessage(`{"a":"` + strings.Repeat("x", sluice.MaxAttributesBytes-8) + `"}`)
	for name, e := range map[string]sluice.Event{"full": sampleEvent(), "a sale's": saleEvent(), "longest": longest} {
		t.Run(name, func(t *testing.T) {
			body := AppendEvent(nil, &e)
			if len(body) > maxEventBytes {
				t.Errorf("%d bytes; want at most %d", len(body), maxEventBytes)
			}
			if got, err := DecodeEvent(body); err != nil || !sameEvent(got, e) {
				t.Errorf("got  %+v, %v\nwant %+v", got, err, e)
			}
		})
	}
	for _, kind := range sluice.EventTypes() {
		e := saleEvent()
		e.Type = kind
		if got, err := DecodeEvent(AppendEvent(nil, &e)); err != nil || got.Type != kind {
			t.Errorf("type %s came back as %s, %v", kind, got.Type, err)
		}
	}
}

func TestEventMessage_CostsNoAllocation(t *testing.T) {
	e := sampleEvent()
	buf := make([]byte, 0, maxEventBytes)
	if n := testing.AllocsPerRun(100, func() { buf = AppendEvent(buf[:0], &e) }); n != 0 {
		t.Errorf("AppendEvent allocates %v times", n)
	}
}

func TestDecodeEvent_NamesWhatIsWrong(t *testing.T) {
	e := sampleEvent()
	good := string(AppendEvent(nil, &e))
	for _, c := range []struct{ name, old, now, want string }{
		{"later version", `"v":1`, `"v":2`, "version 2"},
		{"later version of other fields", `"v":1,"seq":4711`, `"v":3,"seq":"x"`, "version 3"},
		{"no version", `"v":1,`, ``, "version 0"},
		{"other type", `"order.held"`, `"order"`, `"order" where "event"`},
		{"the name of all types", `"order.held"`, `"event"`, `"event"`},
		{"no type", `"type":"order.held",`, ``, `type ""`},
		{"no number", `"seq":4711,`, ``, "seq 0"},
		{"number as text", `"seq":4711,`, `"seq":"4711",`, "event message"},
		{"no time", `"at":"2026-11-27T08:00:00.123456Z",`, ``, "at "},
		{"bad sale", `"sneaker-01"`, `"Sneaker 01"`, "sale"},
		{"negative version", `"version":2`, `"version":-2`, "version -2"},
		{"bad order", `"order":"0000`, `"order":"xyz0`, "order"},
		{"no user", `"user":"buyer \"ü\" \\ 4711",`, ``, "user"},
		{"long user", `4711",`, strings.Repeat("1", 200) + `",`, "user"},
		{"too many units", `"units":3`, `"units":10001`, "units"},
		{"attributes no object", `{"size":"42","gift":true}`, `[1]`, "attributes"},
		{"long attributes", `"42"`, `"` + strings.Repeat("4", 1100) + `"`, "attributes"},
		{"not JSON", `{"v":1`, `v=1`, "event message"},
	} {
		t.Run(c.name, func(t *testing.T) {
			body := strings.Replace(good, c.old, c.now, 1)
			if body == good {
				t.Fatalf("%q does not occur in %s", c.old, good)
			}
			if e, err := DecodeEvent([]byte(body)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("DecodeEvent(%s) = %+v, %v; want an error with %q", body, e, err, c.want)
			}
		})
	}
	if _, err := DecodeEvent([]byte(strings.Replace(good, `"v":1`, `"v":1,"news":[1]`, 1))); err != nil {
		t.Errorf("a field that is not known: %v", err)
	}
}

// What decodes is valid, and survives the way back.
func FuzzDecodeEvent(f *testing.F) {
	full, sale := sampleEvent(), saleEvent()
	f.Add(AppendEvent(nil, &full))
	f.Add(AppendEvent(nil, &sale))
	f.Add([]byte(`{"v":1,"type":"sale.ended"}`))
	f.Add([]byte(`{"v":2,"type":7}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := DecodeEvent(body)
		if err != nil {
			return
		}
		if !sluice.ValidSaleID(e.Sale) || e.Seq < 1 || len(e.Attributes) > sluice.MaxAttributesBytes {
			t.Fatalf("%q decoded to the invalid %+v", body, e)
		}
		if again, err := DecodeEvent(AppendEvent(nil, &e)); err != nil || !sameEvent(e, again) {
			t.Fatalf("%q\nonce  %+v\ntwice %+v, %v", body, e, again, err)
		}
	})
}

func BenchmarkAppendEvent(b *testing.B) {
	e := sampleEvent()
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendEvent(buf[:0], &e)
	}
}

func BenchmarkDecodeEvent(b *testing.B) {
	e := sampleEvent()
	body := AppendEvent(nil, &e)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeEvent(body); err != nil {
			b.Fatal(err)
		}
	}
}
