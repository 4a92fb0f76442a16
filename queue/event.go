package queue

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"sluice"
)

// TopicEvents is where events leave for whoever listens. Its channels are the shop's own.
const TopicEvents = "events"

// maxEventBytes is what one event takes at the most.
const maxEventBytes = 4 << 10

// AppendEvent appends the message of e to dst: its version, and behind it the event as sluice.Event has it, flat. It
// allocates nothing beyond dst. Attributes must be valid JSON.
func AppendEvent(dst []byte, e *sluice.Event) []byte {
	dst = append(dst, `{"v":1,"seq":`...)
	dst = strconv.AppendInt(dst, e.Seq, 10)
	dst = appendField(dst, "type", string(e.Type))
	dst = appendTime(dst, "at", e.At)
	dst = appendField(dst, "sale", e.Sale)
	dst = appendCount(dst, "version", e.Version)
	dst = appendOrderID(dst, "order", e.Order)
	dst = appendField(dst, "user", e.User)
	if e.Units != 0 {
		dst = appendCount(dst, "units", int64(e.Units))
	}
	dst = appendField(dst, "reason", string(e.Reason))
	if !e.PayBy.IsZero() {
		dst = appendTime(dst, "pay_by", e.PayBy)
	}
	dst = appendField(dst, "payment_ref", e.PaymentRef)
	dst = appendField(dst, "refund_reason", e.RefundReason)
	dst = appendOrderID(dst, "replay_of", e.ReplayOf)
	if len(e.Attributes) > 0 {
		dst = append(dst, `,"attributes":`...)
		dst = append(dst, e.Attributes...)
	}
	if e.Trace.Parent != "" {
		dst = append(dst, `,"trace":{"traceparent":`...)
		dst = append(appendString(dst, e.Trace.Parent), '}')
	}
	if c := e.Counters; c != nil {
		dst = appendCount(dst, "stock", c.Stock)
		dst = appendCount(dst, "topups", c.TopUps)
		dst = appendCount(dst, "free", c.Free)
		dst = appendCount(dst, "held", c.Held)
		dst = appendCount(dst, "sold", c.Sold)
	}
	return append(dst, '}')
}

func appendName(dst []byte, name string) []byte {
	dst = append(dst, ',', '"')
	dst = append(dst, name...)
	return append(dst, '"', ':')
}

// appendField appends a text that is not empty.
func appendField(dst []byte, name, text string) []byte {
	if text == "" {
		return dst
	}
	return appendString(appendName(dst, name), text)
}

func appendCount(dst []byte, name string, n int64) []byte {
	return strconv.AppendInt(appendName(dst, name), n, 10)
}

func appendTime(dst []byte, name string, at time.Time) []byte {
	dst = append(appendName(dst, name), '"')
	dst = at.UTC().AppendFormat(dst, time.RFC3339Nano)
	return append(dst, '"')
}

func appendOrderID(dst []byte, name string, id sluice.OrderID) []byte {
	if id == (sluice.OrderID{}) {
		return dst
	}
	dst = append(appendName(dst, name), '"')
	return append(id.AppendTo(dst), '"')
}

// eventEnvelope hides the event's type and attributes behind its own, which are read otherwise.
type eventEnvelope struct {
	V    int    `json:"v"`
	Type string `json:"type"`
	sluice.Event
	Attributes jsontext.Value `json:"attributes"`
}

func (e *eventEnvelope) kind() (int, string) { return e.V, e.Type }

// typeEvent stands for all types of events.
const typeEvent = "event"

// isA reports whether a message of type kind is one of those that are wanted.
func isA(kind, want string) bool {
	if want == typeEvent {
		return slices.Contains(sluice.EventTypes(), sluice.EventType(kind))
	}
	return kind == want
}

// DecodeEvent reads an event message. The error names what is wrong: the version, the type or the field.
func DecodeEvent(body []byte) (sluice.Event, error) {
	var e eventEnvelope
	if err := decode(body, &e, typeEvent); err != nil {
		return sluice.Event{}, err
	}
	if string(e.Attributes) == "null" {
		e.Attributes = nil
	}
	e.Event.Type, e.Event.Attributes = sluice.EventType(e.Type), []byte(e.Attributes)
	if err := e.check(); err != nil {
		return sluice.Event{}, fmt.Errorf("event message: %w", err)
	}
	return e.Event, nil
}

func (e *eventEnvelope) check() error {
	switch {
	case e.Seq < 1:
		return fmt.Errorf("seq %d: want 1 or more", e.Seq)
	case e.At.IsZero() || !writable(e.At.UTC()):
		return fmt.Errorf("at %v: is no time of ours", e.At)
	case !writable(e.PayBy.UTC()):
		return fmt.Errorf("pay_by %v: is no time of ours", e.PayBy)
	case !sluice.ValidSaleID(e.Sale):
		return fmt.Errorf("sale %.80q: is not a sale id", e.Sale)
	case e.Version < 0:
		return fmt.Errorf("version %d: want 0 or more", e.Version)
	case e.Order != (sluice.OrderID{}) && !sluice.PlainText([]byte(e.User), sluice.MaxUserBytes):
		return fmt.Errorf("user %.80q: want 1 to %d bytes of plain text", e.User, sluice.MaxUserBytes)
	case e.Units < 0 || e.Units > sluice.MaxQuantity:
		return fmt.Errorf("units %d: want 0 to %d", e.Units, sluice.MaxQuantity)
	case len(e.Attributes) > sluice.MaxAttributesBytes:
		return fmt.Errorf("attributes: has %d bytes; at most %d are taken", len(e.Attributes), sluice.MaxAttributesBytes)
	case len(e.Attributes) > 0 && e.Attributes.Kind() != jsontext.KindBeginObject:
		return errors.New("attributes: want a JSON object")
	}
	return nil
}
