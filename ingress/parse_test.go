package ingress

import (
	"encoding/json"
	"sync/atomic"
	"testing"

	"sluice"
)

// counter gives each caller another number.
type counter struct{ n atomic.Int64 }

func (c *counter) next() int { return int(c.n.Add(1)) }

// FuzzOrder checks the parser against encoding/json: what it takes, that takes too and reads alike.
func FuzzOrder(f *testing.F) {
	for _, seed := range []string{
		`{"user":"u1","quantity":1}`, `{"user":"Zo\u00eb","attributes":{"a":[1,{"b":null}]}}`, ` { "quantity" : 10000 , "user" : "x" } `,
		`{"user":"u1","quantity":1e3}`, `{"\u0075ser":"u1"}`, `{"user":"\ud800"}`, `{}`, `[]`, `null`, `{"user":"u1"}x`, "{\"user\":\"\x00\"}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r := requests.Get().(*request)
		defer requests.Put(r)
		r.user, r.key, r.attributes, r.quantity = r.user[:0], r.key[:0], r.attributes[:0], 1
		if err := r.parseBody(body); err != nil {
			return
		}
		want := struct {
			User       string          `json:"user"`
			Quantity   int             `json:"quantity"`
			Attributes json.RawMessage `json:"attributes"`
		}{Quantity: 1}
		if err := json.Unmarshal(body, &want); err != nil {
			t.Fatalf("%q is taken, but encoding/json says %v", body, err)
		}
		if string(r.user) != want.User || r.quantity != want.Quantity || string(r.attributes) != string(want.Attributes) {
			t.Errorf("%q reads as %q %d %q; encoding/json has %+v", body, r.user, r.quantity, r.attributes, want)
		}
		if len(r.user) > 0 && !sluice.PlainText(r.user, sluice.MaxUserBytes) || r.quantity < 1 || r.quantity > sluice.MaxQuantity {
			t.Errorf("%q is taken with user %q, quantity %d", body, r.user, r.quantity)
		}
	})
}
