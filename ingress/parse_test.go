package ingress

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"sluice"
)

// counter gives each caller another number.
type counter struct{ n atomic.Int64 }

func (c *counter) next() int { return int(c.n.Add(1)) }

// readOrder parses a body as the door does.
func readOrder(body []byte) (*request, error) {
	r := requests.Get().(*request)
	r.user, r.key, r.attributes, r.quantity = r.user[:0], r.key[:0], r.attributes[:0], 1
	if err := r.parseBody(body); err != nil {
		return r, err
	}
	if err := r.sign(&anybody, nil); err != nil { // without an identity the order names the buyer
		return r, err
	}
	return r, nil
}

// isOrder says by other means than the parser's whether a body is an order: an object with known names, each once, of
// which each value is allowed.
func isOrder(body []byte) bool {
	var members map[string]jsontext.Value // repeated names and what is not UTF-8 are errors
	if err := jsonv2.Unmarshal(body, &members); err != nil || members == nil {
		return false
	}
	var user string
	if err := json.Unmarshal(members["user"], &user); err != nil || !sluice.PlainText([]byte(user), sluice.MaxUserBytes) {
		return false
	}
	for name, value := range members {
		text := string(value)
		switch name {
		case "user":
		case "quantity":
			if n, err := strconv.ParseUint(text, 10, 16); err != nil || n < 1 || n > sluice.MaxQuantity {
				return false
			}
		case "attributes":
			if !strings.HasPrefix(text, "{") || len(text) > sluice.MaxAttributesBytes {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// FuzzOrder checks the parser against two others: it takes what is an order and nothing else, and reads what encoding/json
// reads. What it has read, written as an order, reads the same.
func FuzzOrder(f *testing.F) {
	for _, seed := range []string{
		`{"user":"u1","quantity":1}`, `{"user":"Zo\u00eb","attributes":{"a":[1,{"b":null}]}}`, ` { "quantity" : 10000 , "user" : "x" } `,
		`{"user":"u1","quantity":1e3}`, `{"\u0075ser":"u1"}`, `{"user":"\ud800"}`, `{}`, `[]`, `null`, `{"user":"u1"}x`, "{\"user\":\"\x00\"}",
		`{"user":null}`, `{"user":"u","quantity":null}`, `{"user":"u","quantity":-0}`, `{"user":"u","quantity":1.0}`, `{"user":"u","quantity":01}`,
		`{"user":"u","attributes":null}`, `{"user":"u","attributes":{"a":1,"a":2}}`, `{"User":"u"}`, "\ufeff{\"user\":\"u\"}", `{"user":"u",}`,
		`{"user":"` + strings.Repeat("é", sluice.MaxUserBytes/2) + `"}`, `{"user":"u","attributes":{"a":"` + strings.Repeat("x", sluice.MaxAttributesBytes) + `"}}`,
		`{"user":"u","attributes":` + strings.Repeat(`{"a":`, 200) + `1` + strings.Repeat(`}`, 200) + `}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		body = body[:min(len(body), maxBodyBytes)]
		r, err := readOrder(body)
		defer requests.Put(r)
		if is := isOrder(body); is != (err == nil) {
			t.Fatalf("%q is an order: %t; the parser says %v", body, is, err)
		}
		if err != nil {
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
		if !sluice.PlainText(r.user, sluice.MaxUserBytes) || r.quantity < 1 || r.quantity > sluice.MaxQuantity || len(r.attributes) > sluice.MaxAttributesBytes {
			t.Errorf("%q is taken with user %q, quantity %d, attributes %q", body, r.user, r.quantity, r.attributes)
		}
		again := writeOrder(r)
		second, err := readOrder(again)
		defer requests.Put(second)
		if err != nil || !bytes.Equal(second.user, r.user) || second.quantity != r.quantity || !bytes.Equal(second.attributes, r.attributes) {
			t.Errorf("%q, written as %q, reads as %q %d %q, %v", body, again, second.user, second.quantity, second.attributes, err)
		}
	})
}

func writeOrder(r *request) []byte {
	b := appendText([]byte(`{"user":`), string(r.user))
	b = strconv.AppendInt(append(b, `,"quantity":`...), int64(r.quantity), 10)
	if len(r.attributes) > 0 {
		b = append(append(b, `,"attributes":`...), r.attributes...)
	}
	return append(b, '}')
}
