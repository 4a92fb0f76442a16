package queue

import (
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"sluice"
)

// The envelope: one JSON object with a version, a type and the business fields at the top level, so that nsq_tail and
// any JSON subscriber can read it. Readers ignore fields that they do not know; a change that they could not ignore
// gets a new version.
const (
	envelopeVersion = 1
	typeOrder       = "order"
	typeChanges     = "changes"
)

// AppendOrder appends the message of o to dst, its trace included, since NSQ has no headers. It allocates nothing beyond dst.
// Attributes must be valid JSON.
func AppendOrder(dst []byte, o sluice.Order) []byte {
	dst = append(dst, `{"v":1,"type":"order","id":"`...)
	dst = o.ID.AppendTo(dst)
	dst = append(dst, `","sale":`...)
	dst = appendString(dst, o.Sale)
	dst = append(dst, `,"user":`...)
	dst = appendString(dst, o.User)
	if o.Key != "" {
		dst = append(dst, `,"key":`...)
		dst = appendString(dst, o.Key)
	}
	if o.Attempt != 0 {
		dst = append(dst, `,"attempt":`...)
		dst = strconv.AppendInt(dst, int64(o.Attempt), 10)
	}
	dst = append(dst, `,"quantity":`...)
	dst = strconv.AppendInt(dst, int64(o.Quantity), 10)
	if len(o.Attributes) > 0 {
		dst = append(dst, `,"attributes":`...)
		dst = append(dst, o.Attributes...)
	}
	if at := o.AcceptedAt.UTC(); !at.IsZero() && writable(at) {
		dst = append(dst, `,"accepted_at":"`...)
		dst = at.AppendFormat(dst, time.RFC3339Nano)
		dst = append(dst, '"')
	}
	if o.Trace.Parent != "" {
		dst = append(dst, `,"trace":{"traceparent":`...)
		dst = appendString(dst, o.Trace.Parent)
		dst = append(dst, '}')
	}
	return append(dst, '}')
}

// writable reports whether RFC 3339 has a way to write at.
func writable(at time.Time) bool { return at.Year() >= 0 && at.Year() <= 9999 }

// appendString quotes s as JSON. Bytes that are not UTF-8 become the replacement character.
func appendString(dst []byte, s string) []byte {
	const digits = "0123456789abcdef"
	dst = append(dst, '"')
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
			i++
		case c < ' ':
			dst = append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
			i++
		case c < utf8.RuneSelf:
			dst = append(dst, c)
			i++
		default:
			r, size := utf8.DecodeRuneInString(s[i:])
			dst = utf8.AppendRune(dst, r)
			i += size
		}
	}
	return append(dst, '"')
}

type orderEnvelope struct {
	V          int                 `json:"v"`
	Type       string              `json:"type"`
	ID         sluice.OrderID      `json:"id"`
	Sale       string              `json:"sale"`
	User       string              `json:"user"`
	Key        string              `json:"key"`
	Attempt    int                 `json:"attempt"`
	Quantity   int                 `json:"quantity"`
	Attributes jsontext.Value      `json:"attributes"`
	AcceptedAt time.Time           `json:"accepted_at"`
	Trace      sluice.TraceContext `json:"trace"`
}

// DecodeOrder reads an order message. The error names what is wrong: the version, the type or the field. A trace that is
// none is left out.
func DecodeOrder(body []byte) (sluice.Order, error) {
	var e orderEnvelope
	if err := decode(body, &e, typeOrder); err != nil {
		return sluice.Order{}, err
	}
	if !sluice.ValidTraceparent(e.Trace.Parent) {
		e.Trace = sluice.TraceContext{}
	}
	if string(e.Attributes) == "null" {
		e.Attributes = nil
	}
	if err := e.check(); err != nil {
		return sluice.Order{}, fmt.Errorf("order message: %w", err)
	}
	return sluice.Order{
		ID: e.ID, Sale: e.Sale, User: e.User, Key: e.Key, Attempt: e.Attempt, Quantity: e.Quantity,
		Attributes: []byte(e.Attributes), AcceptedAt: e.AcceptedAt, Trace: e.Trace,
	}, nil
}

func (e *orderEnvelope) check() error {
	switch {
	case e.ID == sluice.OrderID{}:
		return errors.New("id: is missing")
	case !sluice.ValidSaleID(e.Sale):
		return fmt.Errorf("sale %.80q: is not a sale id", e.Sale)
	case !sluice.PlainText([]byte(e.User), sluice.MaxUserBytes):
		return fmt.Errorf("user %.80q: want 1 to %d bytes of plain text", e.User, sluice.MaxUserBytes)
	case e.Key != "" && !sluice.PlainText([]byte(e.Key), sluice.MaxKeyBytes):
		return fmt.Errorf("key %.80q: want at most %d bytes of plain text", e.Key, sluice.MaxKeyBytes)
	case e.Attempt < 0:
		return fmt.Errorf("attempt %d: want 0 or more", e.Attempt)
	case e.Quantity < 1 || e.Quantity > sluice.MaxQuantity:
		return fmt.Errorf("quantity %d: want 1 to %d", e.Quantity, sluice.MaxQuantity)
	case len(e.Attributes) > sluice.MaxAttributesBytes:
		return fmt.Errorf("attributes: has %d bytes; at most %d are taken", len(e.Attributes), sluice.MaxAttributesBytes)
	case len(e.Attributes) > 0 && e.Attributes.Kind() != jsontext.KindBeginObject:
		return errors.New("attributes: want a JSON object")
	case !writable(e.AcceptedAt.UTC()):
		return fmt.Errorf("accepted_at %v: is no time of ours", e.AcceptedAt)
	}
	return nil
}

type changesEnvelope struct {
	V    int    `json:"v"`
	Type string `json:"type"`
	sluice.Changes
}

// EncodeChanges makes the message of c. It fails where that would be longer than MaxMessageBytes (some 3,000
// statuses), so whoever announces more splits them; the parts carry the same facts about sales.
func EncodeChanges(c sluice.Changes) ([]byte, error) {
	body, err := json.Marshal(changesEnvelope{V: envelopeVersion, Type: typeChanges, Changes: c})
	if err != nil {
		return nil, fmt.Errorf("encode changes: %w", err)
	}
	if len(body) > MaxMessageBytes {
		return nil, fmt.Errorf("changes message: %d statuses and %d sales make %d bytes; at most %d are carried",
			len(c.Statuses), len(c.Sales), len(body), MaxMessageBytes)
	}
	return body, nil
}

// DecodeChanges reads a changes message. The error names what is wrong: the version, the type or the field.
func DecodeChanges(body []byte) (sluice.Changes, error) {
	var e changesEnvelope
	if err := decode(body, &e, typeChanges); err != nil {
		return sluice.Changes{}, err
	}
	for i := range e.Statuses {
		if err := checkStatus(&e.Statuses[i]); err != nil {
			return sluice.Changes{}, fmt.Errorf("changes message: statuses[%d]: %w", i, err)
		}
	}
	for i := range e.Sales {
		if !sluice.ValidSaleID(e.Sales[i].ID) {
			return sluice.Changes{}, fmt.Errorf("changes message: sales[%d]: id %.80q is not a sale id", i, e.Sales[i].ID)
		}
	}
	return e.Changes, nil
}

func checkStatus(s *sluice.Status) error {
	switch {
	case s.Order == sluice.OrderID{}:
		return errors.New("order: is missing")
	case !sluice.ValidSaleID(s.Sale):
		return fmt.Errorf("sale %.80q: is not a sale id", s.Sale)
	case !sluice.PlainText([]byte(s.User), sluice.MaxUserBytes):
		return fmt.Errorf("user %.80q: want 1 to %d bytes of plain text", s.User, sluice.MaxUserBytes)
	case !s.State.Valid():
		return fmt.Errorf("status %.40q: is not a state", s.State)
	case s.Version < 1:
		return fmt.Errorf("version %d: want 1 or more", s.Version)
	case s.Units < 0 || s.Units > sluice.MaxQuantity:
		return fmt.Errorf("units %d: want 0 to %d", s.Units, sluice.MaxQuantity)
	}
	return nil
}

// decode reads body into e and checks that it is a want of our version.
func decode[E envelope](body []byte, e E, want string) error {
	err := json.Unmarshal(body, e)
	v, kind := e.kind()
	if err != nil {
		// A later version may have changed the fields themselves: that is then the thing to say.
		var k struct {
			V    int    `json:"v"`
			Type string `json:"type"`
		}
		if json.Unmarshal(body, &k) != nil {
			return fmt.Errorf("%s message: %w", want, err)
		}
		v, kind = k.V, k.Type
	}
	switch {
	case v != envelopeVersion:
		return fmt.Errorf("%s message: version %d is unknown; want %d", want, v, envelopeVersion)
	case !isA(kind, want):
		return fmt.Errorf("message of type %.40q where %q is expected", kind, want)
	case err != nil:
		return fmt.Errorf("%s message: %w", want, err)
	}
	return nil
}

type envelope interface{ kind() (int, string) }

func (e *orderEnvelope) kind() (int, string)   { return e.V, e.Type }
func (e *changesEnvelope) kind() (int, string) { return e.V, e.Type }
