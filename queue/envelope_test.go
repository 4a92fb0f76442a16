package queue

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"sluice"
)

func sampleOrder() sluice.Order {
	return sluice.Order{
		ID: ref(77), Sale: "sneaker-01", User: "buyer \"ü\" \\ 4711", Key: "k-1", Attempt: 2, Quantity: 3,
		Attributes: json.RawMessage(`{"size":"42","gift":true}`),
		AcceptedAt: time.Date(2026, 11, 27, 8, 0, 0, 123456789, time.UTC),
		Trace:      sluice.TraceContext{Parent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
	}
}

func sampleChanges() sluice.Changes {
	at := time.Date(2026, 11, 27, 8, 0, 0, 0, time.UTC)
	return sluice.Changes{
		Now: at,
		Statuses: []sluice.Status{
			{Order: ref(1), Sale: "s", User: "u", State: sluice.Held, Version: 2, Units: 1, PayBy: at.Add(time.Hour), SettledAt: at},
			{Order: ref(2), Sale: "s", User: "v", State: sluice.Rejected, Reason: sluice.SoldOut, Version: 2, SettledAt: at},
		},
		Sales: []sluice.Sale{{
			ID: "s", SKU: "x", Stock: 10, PerUserLimit: 1, PaymentWindow: sluice.DefaultPaymentWindow,
			OverAdmission: 1.5, Free: 9, Held: 1, Version: 5,
		}},
	}
}

func sameOrder(a, b sluice.Order) bool {
	same := a.AcceptedAt.Equal(b.AcceptedAt) && string(a.Attributes) == string(b.Attributes)
	a.AcceptedAt, b.AcceptedAt, a.Attributes, b.Attributes = time.Time{}, time.Time{}, nil, nil
	return same && reflect.DeepEqual(a, b)
}

func TestOrderMessage_ReadsAsTheContractSays(t *testing.T) {
	got := string(AppendOrder([]byte("before "), sampleOrder()))
	want := `before {"v":1,"type":"order","id":"00004d00-0000-0000-0000-000000000000","sale":"sneaker-01",` +
		`"user":"buyer \"ü\" \\ 4711","key":"k-1","attempt":2,"quantity":3,"attributes":{"size":"42","gift":true},` +
		`"accepted_at":"2026-11-27T08:00:00.123456789Z","trace":{"traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestOrderMessage_ComesBackAsItWas(t *testing.T) {
	for name, o := range map[string]sluice.Order{
		"full":    sampleOrder(),
		"minimal": {ID: ref(1), Sale: "s", User: "u", Quantity: 1},
		"edges": {
			ID: ref(2), Sale: strings.Repeat("s", sluice.MaxSaleBytes), User: strings.Repeat("ü", sluice.MaxUserBytes/2),
			Key: strings.Repeat(`"`, sluice.MaxKeyBytes), Attempt: 1 << 30, Quantity: sluice.MaxQuantity,
			AcceptedAt: time.Date(2026, 1, 1, 0, 0, 0, 1, time.FixedZone("", 3600)),
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := DecodeOrder(AppendOrder(nil, o))
			if err != nil || !sameOrder(got, o) {
				t.Errorf("got %+v, %v\nwant %+v", got, err, o)
			}
		})
	}
}

func TestOrderMessage_CostsNoAllocation(t *testing.T) {
	o := sampleOrder()
	buf := make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(100, func() { buf = AppendOrder(buf[:0], o) }); n != 0 {
		t.Errorf("AppendOrder allocates %v times", n)
	}
}

func TestDecodeOrder_NamesWhatIsWrong(t *testing.T) {
	good := string(AppendOrder(nil, sampleOrder()))
	for _, c := range []struct{ name, old, now, want string }{
		{"later version", `"v":1`, `"v":2`, "version 2"},
		{"later version of other fields", `"v":1,"type":"order","id":"`, `"v":3,"type":"order","id":7,"x":"`, "version 3"},
		{"no version", `"v":1,`, ``, "version 0"},
		{"other type", `"type":"order"`, `"type":"changes"`, `"changes"`},
		{"bad id", `"id":"0000`, `"id":"xyz0`, "id"},
		{"no id", `"id":"00004d00-0000-0000-0000-000000000000",`, ``, "id"},
		{"bad sale", `"sneaker-01"`, `"Sneaker 01"`, "sale"},
		{"no sale", `"sale":"sneaker-01",`, ``, "sale"},
		{"control character in user", `4711`, `\u0007`, "user"},
		{"long user", `4711`, strings.Repeat("1", 200), "user"},
		{"long key", `k-1`, strings.Repeat("1", 200), "key"},
		{"negative attempt", `"attempt":2`, `"attempt":-2`, "attempt"},
		{"no units", `"quantity":3`, `"quantity":0`, "quantity"},
		{"too many units", `"quantity":3`, `"quantity":10001`, "quantity"},
		{"half a unit", `"quantity":3`, `"quantity":0.5`, "quantity"},
		{"attributes no object", `{"size":"42","gift":true}`, `[1]`, "attributes"},
		{"long attributes", `"42"`, `"` + strings.Repeat("4", 1100) + `"`, "attributes"},
		{"not JSON", `{"v":1`, `v=1`, "order message"},
		{"cut off", `}}`, ``, "order message"},
	} {
		t.Run(c.name, func(t *testing.T) {
			body := strings.Replace(good, c.old, c.now, 1)
			if c.name == "cut off" {
				body = good[:len(good)/2]
			} else if body == good {
				t.Fatalf("%q does not occur in %s", c.old, good)
			}
			if o, err := DecodeOrder([]byte(body)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("DecodeOrder(%s) = %+v, %v; want an error with %q", body, o, err, c.want)
			}
		})
	}
}

func TestDecode_IgnoresFieldsThatItDoesNotKnow(t *testing.T) {
	body := strings.Replace(string(AppendOrder(nil, sampleOrder())), `"v":1`, `"new":{"deep":[1]},"v":1`, 1)
	if o, err := DecodeOrder([]byte(body)); err != nil || !sameOrder(o, sampleOrder()) {
		t.Errorf("got %+v, %v", o, err)
	}
	encoded, err := EncodeChanges(sampleChanges())
	if err != nil {
		t.Fatal(err)
	}
	body = strings.Replace(string(encoded), `"status":`, `"new":1,"status":`, 1)
	if _, err := DecodeChanges([]byte(body)); err != nil {
		t.Errorf("%s: %v", body, err)
	}
}

func TestChangesMessage_ComesBackAsItWas(t *testing.T) {
	body, err := EncodeChanges(sampleChanges())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(body), `{"v":1,"type":"changes","now":"2026-11-27T08:00:00Z","statuses":[{"order":"`) {
		t.Errorf("the message begins %.120s", body)
	}
	got, err := DecodeChanges(body)
	if err != nil || !reflect.DeepEqual(got, sampleChanges()) {
		t.Errorf("got  %+v, %v\nwant %+v", got, err, sampleChanges())
	}
}

func TestDecodeChanges_NamesWhatIsWrong(t *testing.T) {
	encoded, err := EncodeChanges(sampleChanges())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, old, now, want string }{
		{"later version", `"v":1`, `"v":2`, "version 2"},
		{"other type", `"changes"`, `"order"`, `"order"`},
		{"bad state", `"held"`, `"hold"`, "statuses[0]: status"},
		{"no version", `"version":2`, `"version":0`, "statuses[0]: version"},
		{"no user", `"user":"v"`, `"user":""`, "statuses[1]: user"},
		{"bad sale", `"sale":"s"`, `"sale":"S"`, "statuses[0]: sale"},
		{"negative units", `"units":1`, `"units":-1`, "statuses[0]: units"},
		{"bad sale id", `"id":"s"`, `"id":""`, "sales[0]: id"},
	} {
		t.Run(c.name, func(t *testing.T) {
			body := strings.Replace(string(encoded), c.old, c.now, 1)
			if _, err := DecodeChanges([]byte(body)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("DecodeChanges(%s) = %v; want an error with %q", body, err, c.want)
			}
		})
	}
}

func TestEncodeChanges_RefusesWhatNsqdWould(t *testing.T) {
	c := sampleChanges()
	for len(c.Statuses) < 20_000 {
		c.Statuses = append(c.Statuses, c.Statuses...)
	}
	if _, err := EncodeChanges(c); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("%d statuses: %v", len(c.Statuses), err)
	}
	c.Statuses = c.Statuses[:3000]
	if body, err := EncodeChanges(c); err != nil {
		t.Errorf("3000 statuses: %v (%d bytes)", err, len(body))
	}
}

func TestDoorChannel_IsANameThatNsqdTakes(t *testing.T) {
	if got, err := DoorChannel("door_7.eu"); err != nil || got != "door-door_7.eu#ephemeral" {
		t.Errorf("DoorChannel = %q, %v", got, err)
	}
	longest, err := DoorChannel(strings.Repeat("x", MaxDoorName))
	if err != nil || len(longest) != 64 {
		t.Errorf("the longest name: %q, %v", longest, err)
	}
	for _, bad := range []string{"", "a b", "ü", "a#ephemeral", "a/b", strings.Repeat("x", MaxDoorName+1)} {
		if got, err := DoorChannel(bad); err == nil || !strings.Contains(err.Error(), "door name") {
			t.Errorf("DoorChannel(%q) = %q, %v; want an error", bad, got, err)
		}
	}
}

// What decodes is valid, and survives the way back.
func FuzzDecodeOrder(f *testing.F) {
	f.Add(AppendOrder(nil, sampleOrder()))
	f.Add(AppendOrder(nil, sluice.Order{ID: ref(1), Sale: "s", User: "u", Quantity: 1}))
	f.Add([]byte(`{"v":1,"type":"order"}`))
	f.Add([]byte(`{"v":2,"type":7}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		o, err := DecodeOrder(body)
		if err != nil {
			return
		}
		if !sluice.ValidSaleID(o.Sale) || o.Quantity < 1 || o.Quantity > sluice.MaxQuantity {
			t.Fatalf("%q decoded to the invalid %+v", body, o)
		}
		again, err := DecodeOrder(AppendOrder(nil, o))
		if err != nil || !sameOrder(o, again) {
			t.Fatalf("%q\nonce  %+v\ntwice %+v, %v", body, o, again, err)
		}
	})
}

// Every valid order survives the way there and back.
func FuzzOrder_RoundTrip(f *testing.F) {
	f.Add("sale", "user", "key", 1, 1, int64(1), "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	f.Add("s", "\u2028 \"\\/ \U0001F600", "", 0, 10_000, int64(-1), "")
	f.Fuzz(func(t *testing.T, sale, user, key string, attempt, quantity int, nanos int64, trace string) {
		o := sluice.Order{
			ID: ref(1), Sale: sale, User: user, Key: key, Attempt: attempt, Quantity: quantity,
			AcceptedAt: time.Unix(0, nanos).UTC(),
		}
		valid := sluice.ValidSaleID(sale) && sluice.PlainText([]byte(user), sluice.MaxUserBytes) &&
			(key == "" || sluice.PlainText([]byte(key), sluice.MaxKeyBytes)) &&
			attempt >= 0 && quantity >= 1 && quantity <= sluice.MaxQuantity
		if sluice.ValidTraceparent(trace) {
			o.Trace.Parent = trace
		}
		got, err := DecodeOrder(AppendOrder(nil, o))
		if valid && (err != nil || !sameOrder(got, o)) {
			t.Fatalf("%+v came back as %+v, %v", o, got, err)
		}
	})
}

func FuzzDecodeChanges(f *testing.F) {
	body, err := EncodeChanges(sampleChanges())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Add([]byte(`{"v":1,"type":"changes","now":"0001-01-01T00:00:00Z"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		c, err := DecodeChanges(body)
		if err != nil {
			return
		}
		encoded, err := EncodeChanges(c)
		if err != nil {
			return // times before year 0 by their zone, or grown beyond a message by defaults
		}
		if again, err := DecodeChanges(encoded); err != nil || len(again.Statuses) != len(c.Statuses) {
			t.Fatalf("%q\nonce  %+v\ntwice %+v, %v", body, c, again, err)
		}
	})
}

func BenchmarkAppendOrder(b *testing.B) {
	o := sampleOrder()
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendOrder(buf[:0], o)
	}
}

func BenchmarkDecodeOrder(b *testing.B) {
	body := AppendOrder(nil, sampleOrder())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeOrder(body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeChanges(b *testing.B) {
	c := sampleChanges()
	for len(c.Statuses) < 500 {
		c.Statuses = append(c.Statuses, c.Statuses[0])
	}
	body, err := EncodeChanges(c)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if _, err := DecodeChanges(body); err != nil {
			b.Fatal(err)
		}
	}
}
