package transcode

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"sluice"
	apiv1 "sluice/api/v1"
)

var noon = time.Date(2027, 3, 1, 12, 0, 0, 250_000_000, time.UTC)

func TestMarshal_WritesTheContractsJSON(t *testing.T) {
	for what, c := range map[string]struct {
		message proto.Message
		want    string
	}{
		"zeros are written, what is not set is not": {
			&apiv1.Sale{Id: "s", PaymentWindow: durationpb.New(0)},
			`{"id":"s","sku":"","stock":0,"per_user_limit":0,"payment_window":"0s","over_admission":0,"topups":0,"free":0,"held":0,"sold":0,"version":0}`,
		},
		"what is set is written, zero or not": {
			&apiv1.SalePatch{Id: "s", Paused: new(false), CheckoutUrl: new(""), StartsAt: timestamppb.New(time.Time{})},
			`{"id":"s","starts_at":"0001-01-01T00:00:00Z","checkout_url":"","paused":false}`,
		},
		"64 bits are a number": {&apiv1.TopUp{Units: -1 << 63}, `{"id":"","units":-9223372036854775808}`},
		"times and durations are text": {
			&apiv1.Limits{MaxWait: durationpb.New(90 * time.Minute), Blocks: []*apiv1.BlockEntry{{User: new("ä\"<"), Until: timestamppb.New(noon)}}},
			`{"version":0,"max_wait":"1h30m0s","blocks":[{"user":"ä\"<","until":"2027-03-01T12:00:00.25Z"}]}`,
		},
		"maps are in order": {&apiv1.Limits{Bounds: map[string]int64{"b": 2, "a": 1, "c": 3}}, `{"version":0,"bounds":{"a":1,"b":2,"c":3}}`},
		"some lists and maps are always there": {
			&apiv1.Ledger{Sales: []*apiv1.SaleLedger{{Id: "s"}}},
			`{"balanced":false,"sales":[{"id":"s","stock":0,"topups":0,"free":0,"held":0,"sold":0,"orders":{}}]}`,
		},
		"raw bytes are JSON as it came": {
			&apiv1.Event{Attributes: []byte(`{"big":12345678901234567890, "x":1,"x":2}`)},
			`{"seq":0,"type":"","sale":"","version":0,"attributes":{"big":12345678901234567890,"x":1,"x":2}}`,
		},
		"other bytes are base64":      {&apiv1.DeadLetter{Body: []byte("{}\xff")}, `{"id":0,"message":"","body":"e33/","attempts":0,"error":""}`},
		"broken text is replaced":     {&apiv1.DeadLetter{Error: "\xff"}, `{"id":0,"message":"","attempts":0,"error":"` + "\ufffd" + `"}`},
		"nothing is an empty object":  {&apiv1.Nothing{}, `{}`},
		"a message may be in another": {&apiv1.BlockChange{Version: 2, Block: &apiv1.BlockEntry{Network: new("10.0.0.0/8")}}, `{"version":2,"block":{"network":"10.0.0.0/8"}}`},
	} {
		got, err := Marshal(c.message)
		if err != nil || strings.TrimSuffix(string(got), "\n") != c.want {
			t.Errorf("%s:\n got %s, %v\nwant %s", what, got, err, c.want)
		}
	}
}

func TestMarshal_FailsOnRawBytesThatAreNoJSON(t *testing.T) {
	if got, err := Marshal(&apiv1.Event{Attributes: []byte(`{"x":`)}); err == nil {
		t.Errorf("wrote %s", got)
	}
}

func TestUnmarshal_ReadsWhatMarshalWrites(t *testing.T) {
	for _, want := range []proto.Message{
		&apiv1.NewSale{Id: "s", Stock: 1 << 40, PerUserLimit: new(int32(3)), StartsAt: timestamppb.New(noon), MaxAge: durationpb.New(time.Second), OverAdmission: new(1.25)},
		&apiv1.SalePatch{Id: "s", Paused: new(true), Sku: new(""), EndsAt: timestamppb.New(time.Time{})},
		&apiv1.Limits{Bounds: map[string]int64{"a": 1, "ü": 0}, Blocks: []*apiv1.BlockEntry{{User: new("u")}, {}}},
		&apiv1.Ledger{Sales: []*apiv1.SaleLedger{{Orders: map[string]int64{"paid": 3}, Differences: []string{"a", ""}}}},
		&apiv1.DeadLetter{Body: []byte{0, 255}}, &apiv1.Event{Attributes: []byte(`{"a":[1,{}]}`), Free: new(int64(0))},
	} {
		text, err := Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		got := want.ProtoReflect().New().Interface()
		if err := Unmarshal(text, got); err != nil || !proto.Equal(got, want) {
			t.Errorf("%s became %v, %v", text, got, err)
		}
	}
}

func TestUnmarshal_TakesNoTimeForTheZeroTime(t *testing.T) {
	for _, text := range []string{`{"starts_at":null}`, `{"starts_at":""}`} {
		var m apiv1.SalePatch
		if err := Unmarshal([]byte(text), &m); err != nil || m.GetStartsAt() == nil || !m.GetStartsAt().AsTime().IsZero() || m.GetEndsAt() != nil {
			t.Errorf("%s: %v, %v", text, &m, err)
		}
	}
}

// Every error says what is wrong and, where the text does not show it, what is wanted; none speaks of Go.
func TestUnmarshal_SaysWhatIsWrong(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{`{"colour":"red"}`, `unknown field "colour": want id, sku, stock, per_user_limit,`},
		{`{"STOCK":1}`, `unknown field "STOCK"`},
		{`{"stock":1,"stock":2}`, `field "stock" comes twice`},
		{`{"stock":"1"}`, `stock: want a number, not text`},
		{`{"stock":null}`, `stock: want a number, not null`},
		{`{"stock":1.5}`, `stock: "1.5": want a whole number`},
		{`{"stock":1e3}`, `stock: "1e3": want a whole number`},
		{`{"stock":9223372036854775808}`, `stock: 9223372036854775808 is out of range`},
		{`{"per_user_limit":2147483648}`, `per_user_limit: 2147483648 is out of range`},
		{`{"over_admission":"2"}`, `over_admission: want a number, not text`},
		{`{"over_admission":1e999}`, `over_admission: "1e999": want a number`},
		{`{"id":7}`, `id: want text, not a number`},
		{`{"id":{}}`, `id: want text, not an object`},
		{`{"id":true}`, `id: want text, not true or false`},
		{`{"starts_at":"tomorrow"}`, `starts_at: "tomorrow": want a time such as`},
		{`{"starts_at":"0000-01-01T00:00:00Z"}`, `want a time such as`},
		{`{"starts_at":[]}`, `starts_at: want text, not a list`},
		{`{"max_age":"soon"}`, `max_age: "soon": want a duration such as "90s"`},
		{`{"max_age":5}`, `max_age: want text, not a number`},
		{`{"max_age":null}`, `max_age: want text, not null`},
		{`[]`, `want an object, not a list`},
		{`null`, `want an object, not null`},
		{`{} {}`, `something follows`},
		{`{}x`, `is no JSON at byte 2`},
		{`{"stock":1`, `ends too early`},
		{`{"stock":`, `ends too early`},
		{``, `ends too early`},
		{`{"stock":1,}`, `is no JSON at byte`},
		{`{'id':1}`, `is no JSON at byte`},
		{"{\"id\":\"\xff\"}", `is no JSON at byte`},
	} {
		err := Unmarshal([]byte(c.text), &apiv1.NewSale{})
		refused, ok := errors.AsType[*sluice.Error](err)
		if !ok || refused.Refusal != sluice.BadRequest || !strings.Contains(refused.Detail, c.want) {
			t.Errorf("%s: %v\nwant %s", c.text, err, c.want)
		}
		if ok && inside(refused.Detail) {
			t.Errorf("%s: %s: speaks of what is inside", c.text, refused.Detail)
		}
	}
	for _, c := range []struct {
		text string
		into proto.Message
		want string
	}{
		{`{"bounds":{"a":1,"a":2}}`, &apiv1.Limits{}, `bounds: "a" comes twice`},
		{`{"bounds":{"a":"1"}}`, &apiv1.Limits{}, `bounds: "a": want a number, not text`},
		{`{"bounds":[]}`, &apiv1.Limits{}, `bounds: want an object, not a list`},
		{`{"blocks":[{},{"colour":1}]}`, &apiv1.Limits{}, `blocks: number 2: unknown field "colour": want user, network, until, note`},
		{`{"blocks":{}}`, &apiv1.Limits{}, `blocks: want a list, not an object`},
		{`{"block":[]}`, &apiv1.BlockChange{}, `block: want an object, not a list`},
		{`{"paused":1}`, &apiv1.SalePatch{}, `paused: want true or false, not a number`},
		{`{"body":"%"}`, &apiv1.DeadLetter{}, `body: want base64`},
		{`{"x":1}`, &apiv1.Nothing{}, `unknown field "x": want none`},
	} {
		if err := Unmarshal([]byte(c.text), c.into); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v\nwant %s", c.text, err, c.want)
		}
	}
}

// inside reports whether a text speaks of the program instead of the request.
func inside(text string) bool {
	for _, word := range []string{"json:", "jsontext", "Go ", "proto", "struct", "strconv", "unmarshal"} {
		if strings.Contains(text, word) {
			return true
		}
	}
	return false
}

// Whatever comes: what is taken is JSON, means the same when it is written again, and errors are the caller's.
func FuzzUnmarshal(f *testing.F) {
	for _, seed := range []string{
		`{"version":7,"bounds":{"a":1},"max_wait":"1m","buyer_rate":1e-3,"connections":5,"blocks":[{"user":"u","until":"2027-03-01T12:00:00Z"}]}`,
		`{"version":-1,"blocks":[{"until":null}]}`, `{"max_wait":"1h1m1.5s"}`, `{}`, `{"bounds":{}}`, `{"x":1}`, `[`, "{\"\x00\":1}", `{"blocks":[[]]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var m apiv1.Limits
		if err := Unmarshal(text, &m); err != nil {
			if refused, ok := errors.AsType[*sluice.Error](err); !ok || refused.Refusal != sluice.BadRequest {
				t.Fatalf("%q: %v is not the caller's fault", text, err)
			}
			return
		}
		if !json.Valid(text) {
			t.Fatalf("%q was taken", text)
		}
		again, err := Marshal(&m)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		var same apiv1.Limits
		if err := Unmarshal(again, &same); err != nil || !proto.Equal(&m, &same) {
			t.Fatalf("%q became %s, which is %v, %v", text, again, &same, err)
		}
	})
}

func BenchmarkMarshal(b *testing.B) {
	list := &apiv1.OrderList{}
	for range 1000 {
		list.Orders = append(list.Orders, &apiv1.Order{Order: "5a46f2c0-0fce-814f-920e-caf5b0d6fdba", Sale: "spring", User: "alice", Status: "held", PayBy: timestamppb.New(noon)})
	}
	for b.Loop() {
		if _, err := Marshal(list); err != nil {
			b.Fatal(err)
		}
	}
}
