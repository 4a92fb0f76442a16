package queue

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"sluice"
)

// TopicEvents carries what happened to orders and sales: one message an event.
const TopicEvents = "events"

// AppendEvent appends the message of an event to dst: one flat JSON object, with the event's own type in the place of the
// envelope's.
func AppendEvent(dst []byte, e *sluice.Event) ([]byte, error) {
	buf := bytes.NewBuffer(append(dst, `{"v":1,`...))
	at := buf.Len()
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		return dst, fmt.Errorf("write event %d: %w", e.Seq, err)
	}
	out := buf.Bytes()
	out = append(out[:at], out[at+1:]...) // the object's own brace
	return bytes.TrimSuffix(out, []byte("\n")), nil
}

// DecodeEvent reads an event's message. The error names what is wrong: the version, the type or the field. Fields that
// this version does not know are ignored.
func DecodeEvent(body []byte) (sluice.Event, error) {
	var e struct {
		V int `json:"v"`
		sluice.Event
	}
	if err := json.Unmarshal(body, &e); err != nil {
		return sluice.Event{}, fmt.Errorf("event message: %w", err)
	}
	switch {
	case e.V != envelopeVersion:
		return sluice.Event{}, fmt.Errorf("event message: version %d is unknown; want %d", e.V, envelopeVersion)
	case !slices.Contains(sluice.EventTypes(), e.Type):
		return sluice.Event{}, fmt.Errorf("event message: type %.40q is unknown", e.Type)
	case e.Seq < 1:
		return sluice.Event{}, fmt.Errorf("event message: seq %d: want 1 or more", e.Seq)
	case !sluice.ValidSaleID(e.Sale) && e.Order == sluice.OrderID{}:
		return sluice.Event{}, fmt.Errorf("event message: it is of no order, and sale %.80q is not a sale id", e.Sale)
	}
	return e.Event, nil
}
