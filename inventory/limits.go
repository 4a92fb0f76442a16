package inventory

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"sluice"
)

// DecideLimits changes the limits that a document holds, and answers them with the document to write. What it answers
// shares nothing with what change may have kept.
func DecideLimits(now time.Time, document []byte, change func(*sluice.Limits) error) (sluice.Limits, []byte, error) {
	l, err := DecodeLimits(document)
	if err != nil {
		return sluice.Limits{}, nil, err
	}
	version := l.Version
	dropOverdue(now, &l) // first, too: blocks that are over must not stand in the way of new ones
	if err := change(&l); err != nil {
		return sluice.Limits{}, nil, err
	}
	if err := l.Validate(); err != nil {
		return sluice.Limits{}, nil, err //nolint:wrapcheck // a *sluice.Error is the caller's answer as it is
	}
	dropOverdue(now, &l)
	l.Version = version + 1
	if document, err = json.Marshal(l); err != nil {
		return sluice.Limits{}, nil, fmt.Errorf("write the limits: %w", err)
	}
	l, err = DecodeLimits(document)
	return l, document, err
}

// DecodeLimits reads a document that DecideLimits wrote, here or in a later version: names that this version does not
// know are ignored.
func DecodeLimits(document []byte) (l sluice.Limits, err error) {
	if err := json.Unmarshal(document, &l); err != nil {
		return sluice.Limits{}, fmt.Errorf("read the stored limits: %w", err)
	}
	return l, nil
}

func dropOverdue(now time.Time, l *sluice.Limits) {
	l.Blocks = slices.DeleteFunc(l.Blocks, func(b sluice.Block) bool { return !b.Until.IsZero() && !now.Before(b.Until) })
}
