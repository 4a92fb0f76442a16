package faulttest

import "sluice/faulttest/check"

// What the checker calls things.
type (
	Event     = check.Event
	Facts     = check.Facts
	History   = check.History
	Status    = check.Status
	OrderRow  = check.OrderRow
	SaleRow   = check.SaleRow
	Happening = check.Happening
	asker     = check.Asker
)

const (
	Ask    = check.Ask
	Answer = check.Answer
	Place  = check.Place
	Follow = check.Follow
	Pay    = check.Pay
	Cancel = check.Cancel
)

var (
	NewHistory = check.NewHistory
	Check      = check.Check
	Events     = check.Events
	doubtful   = check.Doubtful
)
