package sluice

import (
	"encoding/json"
	"time"
)

// DeliveryState says what will become of a delivery.
type DeliveryState string

// The states of a delivery.
const (
	DeliveryWaiting DeliveryState = "waiting" // it will be tried again
	DeliveryAgain   DeliveryState = "again"   // it was dead, and an operator wants it to be tried again
	DeliveryDead    DeliveryState = "dead"    // it was given up, until an operator has it replayed
)

// Delivery is an event that a webhook's endpoint has not taken yet.
type Delivery struct {
	Seq       int64           `json:"seq"` // the event's
	Key       string          `json:"key"` // the order, or "sale:" and the sale; events of one key are delivered in their order
	Type      EventType       `json:"type"`
	At        time.Time       `json:"at"` // of the event
	State     DeliveryState   `json:"state"`
	Attempts  int             `json:"attempts"`          // that failed; none: it waits behind another one of its key
	FirstAt   time.Time       `json:"first_at,omitzero"` // of the first attempt
	NextAt    time.Time       `json:"next_at,omitzero"`  // of the next attempt, by the clock of the worker that delivers
	LastError string          `json:"last_error"`        // of the last attempt
	Body      json.RawMessage `json:"body,omitempty"`    // as it is posted; lists leave it out
}

// Webhook is an endpoint and how it does.
type Webhook struct {
	Name     string    `json:"name"`
	Address  string    `json:"address"`            // scheme, host and port of its URL; the rest may be a secret
	SeenAt   time.Time `json:"seen_at"`            // when a worker last had it among its endpoints
	Behind   *int64    `json:"behind,omitempty"`   // events after the last one that is delivered or kept below; nil: unknown
	Waiting  int       `json:"waiting"`            // events that are kept to be tried again
	Dead     int       `json:"dead"`               // events that were given up
	Disabled bool      `json:"disabled,omitempty"` // it answered 410, and nothing is sent until an operator resumes it
	WebhookHealth
}

// WebhookHealth is how an endpoint's latest deliveries went.
type WebhookHealth struct {
	FailingSince time.Time `json:"failing_since,omitzero"` // zero: it is not
	LastError    string    `json:"last_error,omitempty"`
}
