package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"sluice"
)

// Records are one version byte, fixed-width numbers, then length-prefixed texts. Times are microseconds since 1970,
// 0 for none.
const recordVersion = 1

var errRecord = errors.New("the record is damaged or of another version")

const orderFixed = 1 + 8 + 4 + 4

func orderBytes(o *sluice.Order) int {
	return orderFixed + textBytes(o.Sale) + textBytes(o.User) + textBytes(o.Key) + textBytes(string(o.Attributes))
}

func putOrder(b []byte, o *sluice.Order) {
	b[0] = recordVersion
	binary.BigEndian.PutUint64(b[1:], micros(o.AcceptedAt))
	binary.BigEndian.PutUint32(b[9:], uint32(o.Attempt))
	binary.BigEndian.PutUint32(b[13:], uint32(o.Quantity))
	b = putText(b[orderFixed:], o.Sale)
	b = putText(b, o.User)
	b = putText(b, o.Key)
	putText(b, string(o.Attributes))
}

func readOrder(id sluice.OrderID, b []byte) (sluice.Order, error) {
	if len(b) < orderFixed || b[0] != recordVersion {
		return sluice.Order{}, fmt.Errorf("order %v: %w", id, errRecord)
	}
	o := sluice.Order{
		ID:         id,
		AcceptedAt: timeOf(binary.BigEndian.Uint64(b[1:])),
		Attempt:    int(binary.BigEndian.Uint32(b[9:])),
		Quantity:   int(binary.BigEndian.Uint32(b[13:])),
	}
	r := textReader{rest: b[orderFixed:]}
	o.Sale, o.User, o.Key = r.text(), r.text(), r.text()
	if attributes := r.text(); attributes != "" {
		o.Attributes = []byte(attributes)
	}
	if r.bad || len(r.rest) != 0 {
		return sluice.Order{}, fmt.Errorf("order %v: %w", id, errRecord)
	}
	return o, nil
}

const statusFixed = 1 + 8 + 4 + 8 + 8

func statusBytes(s *sluice.Status) int {
	return statusFixed + textBytes(string(s.State)) + textBytes(string(s.Reason)) + textBytes(s.Sale) + textBytes(s.User)
}

func putStatus(b []byte, s *sluice.Status) {
	b[0] = recordVersion
	binary.BigEndian.PutUint64(b[1:], uint64(s.Version))
	binary.BigEndian.PutUint32(b[9:], uint32(s.Units))
	binary.BigEndian.PutUint64(b[13:], micros(s.PayBy))
	binary.BigEndian.PutUint64(b[21:], micros(s.SettledAt))
	b = putText(b[statusFixed:], string(s.State))
	b = putText(b, string(s.Reason))
	b = putText(b, s.Sale)
	putText(b, s.User)
}

func readStatus(id sluice.OrderID, b []byte) (sluice.Status, error) {
	if len(b) < statusFixed || b[0] != recordVersion {
		return sluice.Status{}, fmt.Errorf("status of %v: %w", id, errRecord)
	}
	s := sluice.Status{
		Order:     id,
		Version:   int64(binary.BigEndian.Uint64(b[1:])),
		Units:     int(binary.BigEndian.Uint32(b[9:])),
		PayBy:     timeOf(binary.BigEndian.Uint64(b[13:])),
		SettledAt: timeOf(binary.BigEndian.Uint64(b[21:])),
	}
	r := textReader{rest: b[statusFixed:]}
	s.State, s.Reason = sluice.State(r.text()), sluice.Reason(r.text())
	s.Sale, s.User = r.text(), r.text()
	if r.bad || len(r.rest) != 0 || !s.State.Valid() {
		return sluice.Status{}, fmt.Errorf("status of %v: %w", id, errRecord)
	}
	return s, nil
}

func putAttempt(n int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }

func readAttempt(b []byte) (int, error) {
	if len(b) != 4 {
		return 0, fmt.Errorf("attempt: %w", errRecord)
	}
	return int(binary.BigEndian.Uint32(b)), nil
}

// textBytes is the room that putText needs. Texts are short: the domain bounds them to about a kilobyte.
func textBytes(s string) int { return 2 + len(s) }

func putText(b []byte, s string) (rest []byte) {
	binary.BigEndian.PutUint16(b, uint16(len(s)))
	copy(b[2:], s)
	return b[2+len(s):]
}

// textReader reads texts one after another; bad stays set once one does not fit.
type textReader struct {
	rest []byte
	bad  bool
}

func (r *textReader) text() string {
	if len(r.rest) < 2 {
		r.bad = true
		return ""
	}
	n := int(binary.BigEndian.Uint16(r.rest))
	if len(r.rest) < 2+n {
		r.bad = true
		return ""
	}
	s := string(r.rest[2 : 2+n])
	r.rest = r.rest[2+n:]
	return s
}

func micros(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(t.UnixMicro())
}

func timeOf(micros uint64) time.Time {
	if micros == 0 {
		return time.Time{}
	}
	return time.UnixMicro(int64(micros)).UTC()
}
