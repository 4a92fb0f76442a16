package inventory

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"sluice"
)

// Document is something that operators set while the service runs, as stores keep it: one JSON text under a name, and a
// version that counts its changes.
type Document[T any] struct {
	Name    string // in the stores' table of documents, and in errors
	Version func(*T) *int64

	validate func(*T) error
	tidy     func(now time.Time, v *T) // drops what is over
}

// LimitsDocument is what operators set for the doors.
var LimitsDocument = Document[sluice.Limits]{
	Name:     "limits",
	Version:  func(l *sluice.Limits) *int64 { return &l.Version },
	validate: (*sluice.Limits).Validate,
	tidy:     dropOverdue,
}

// PoolsDocument is what operators set for the workers.
var PoolsDocument = Document[sluice.Pools]{
	Name:     "pools",
	Version:  func(p *sluice.Pools) *int64 { return &p.Version },
	validate: (*sluice.Pools).Validate,
	tidy:     func(time.Time, *sluice.Pools) {},
}

// Decide changes what a text holds, and answers it with the text to write. What it answers shares nothing with what
// change may have kept.
func (d *Document[T]) Decide(now time.Time, text []byte, change func(*T) error) (T, []byte, error) {
	var none T
	v, err := d.Decode(text)
	if err != nil {
		return none, nil, err
	}
	version := *d.Version(&v)
	d.tidy(now, &v) // first, too: what is over must not stand in the way of something new
	if err := change(&v); err != nil {
		return none, nil, err
	}
	if err := d.validate(&v); err != nil {
		return none, nil, err // a *sluice.Error is the caller's answer as it is
	}
	d.tidy(now, &v)
	*d.Version(&v) = version + 1
	if text, err = json.Marshal(v); err != nil {
		return none, nil, fmt.Errorf("write the %s: %w", d.Name, err)
	}
	v, err = d.Decode(text)
	return v, text, err
}

// Decode reads a text that Decide wrote, here or in a later version: names that this version does not know are ignored.
func (d *Document[T]) Decode(text []byte) (v T, err error) {
	if err := json.Unmarshal(text, &v); err != nil {
		var none T
		return none, fmt.Errorf("read the stored %s: %w", d.Name, err)
	}
	return v, nil
}

func dropOverdue(now time.Time, l *sluice.Limits) {
	l.Blocks = slices.DeleteFunc(l.Blocks, func(b sluice.Block) bool { return !b.Until.IsZero() && !now.Before(b.Until) })
}
