// Package api holds the published contract of the operations API: its paths, bodies and a client. It decides nothing.
// api/v1 has the same for gRPC, generated from v1/operations.proto by `make api`.
package api

import (
	"time"

	"sluice"
)

// Paths of the operations API. {id} stands for a sale or an order.
const (
	PathSales    = "/v1/sales"
	PathOrders   = "/v1/orders"
	PathAudit    = "/v1/audit"
	PathEvents   = "/v1/events"
	PathRefunds  = "/v1/refunds"
	PathLetters  = "/v1/deadletters"
	PathLimits   = "/v1/limits"
	PathBlocks   = "/v1/blocks"
	PathFacts    = "/v1/doors/facts"
	PathStatuses = "/v1/doors/statuses"
	PathWebhooks = "/v1/webhooks"
)

// HeaderAPI names the API on every answer of a worker: a front door answers some of the same paths, with other bodies.
const (
	HeaderAPI  = "Sluice-Api"
	Operations = "operations"
)

// ContentProblem is the media type of every error (RFC 9457).
const ContentProblem = "application/problem+json"

// ContentMergePatch is the media type of the body that changes limits (RFC 7396).
const ContentMergePatch = "application/merge-patch+json"

// Problem is an error as RFC 9457 has it, with the refusal as its reason.
type Problem struct {
	Type   string          `json:"type"`
	Title  string          `json:"title"`
	Status int             `json:"status"`
	Detail string          `json:"detail,omitempty"`
	Reason sluice.Refusal  `json:"reason"`
	Order  *sluice.OrderID `json:"order,omitempty"`

	// RetryAfterMS is the header Retry-After, where the answer has it, in milliseconds.
	RetryAfterMS int64 `json:"retry_after_ms,omitempty"`
}

// ProblemOf describes a refusal.
func ProblemOf(e *sluice.Error) Problem {
	return Problem{
		Type: "urn:sluice:refusal:" + string(e.Refusal), Title: e.Refusal.Title(), Status: e.Refusal.Status(),
		Detail: e.Detail, Reason: e.Refusal,
	}
}

// NewSale is the body that creates a sale. What is left out takes the default.
type NewSale struct {
	ID            string           `json:"id"`
	SKU           string           `json:"sku,omitempty"`
	Stock         int64            `json:"stock"`
	PerUserLimit  *int             `json:"per_user_limit,omitempty"`
	StartsAt      time.Time        `json:"starts_at,omitzero"`
	EndsAt        time.Time        `json:"ends_at,omitzero"`
	PaymentWindow *sluice.Duration `json:"payment_window,omitempty"`
	PaymentGrace  sluice.Duration  `json:"payment_grace,omitzero"`
	MaxAge        sluice.Duration  `json:"max_age,omitzero"`
	CheckoutURL   string           `json:"checkout_url,omitempty"`
	OverAdmission *float64         `json:"over_admission,omitempty"`
	ReservedFor   string           `json:"reserved_for,omitempty"`
	ReservedShare float64          `json:"reserved_share,omitempty"`
}

// Sale fills in the defaults.
func (n NewSale) Sale() sluice.Sale {
	return sluice.Sale{
		ID: n.ID, SKU: n.SKU, Stock: n.Stock, StartsAt: n.StartsAt, EndsAt: n.EndsAt, MaxAge: n.MaxAge, PaymentGrace: n.PaymentGrace,
		CheckoutURL: n.CheckoutURL, ReservedFor: n.ReservedFor, ReservedShare: n.ReservedShare,
		PerUserLimit:  or(n.PerUserLimit, sluice.DefaultPerUserLimit),
		PaymentWindow: or(n.PaymentWindow, sluice.DefaultPaymentWindow),
		OverAdmission: or(n.OverAdmission, sluice.DefaultOverAdmission),
	}
}

func or[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

// TopUp is the body that adds units to a sale, or takes free ones away.
type TopUp struct {
	Units int64 `json:"units"`
}

// Pay is the body that pays an order.
type Pay struct {
	PaymentRef string `json:"payment_ref"`
}

// Extension is the body that extends the holds of a sale: none falls due earlier than For from now.
type Extension struct {
	For sluice.Duration `json:"for"`
}

// Extended answers it.
type Extended struct {
	Extended int64     `json:"extended"` // holds whose deadline was moved
	Until    time.Time `json:"until"`
}

// EndedSalesKept is how long after its end a sale stays among the facts: buyers who come late hear that it has ended.
const EndedSalesKept = 24 * time.Hour

// Facts is what doors poll: every sale that has not ended EndedSalesKept ago, the store's time, and the
// pace that the worker is set to.
type Facts struct {
	sluice.Changes
	sluice.Pace
	Limits *sluice.Limits `json:"limits,omitempty"` // nil: the door has the present ones
}

// Door is the body with which a door polls the facts.
type Door struct {
	Door  string `json:"door"`
	Bound int64  `json:"bound"`

	// LimitsVersion is of the limits that the door goes by; 0 where it has heard of none.
	LimitsVersion int64 `json:"limits_version,omitempty"`

	IDKey    string `json:"id_key,omitempty"`   // the fingerprint of its id key, which must be the worker's; empty: it does not tell
	Instance string `json:"instance,omitempty"` // tells this run of the door from every other one; empty: it does not tell
	Leaving  bool   `json:"leaving,omitempty"`  // it stops, and lets go of its name

	// Journal is the door's journal, which one process at a time has, and Life how often it was opened: a door that died comes back to
	// its own name with the same one and the next number. Empty: it does not tell.
	Journal string `json:"journal,omitempty"`
	Life    uint64 `json:"life,omitempty"`
}

// MaxInstanceBytes bounds what tells one run of a door from another, and one journal from another.
const MaxInstanceBytes = 64

// NameHeld is how long a door that has fallen silent keeps its name from another one.
const NameHeld = 5 * time.Second

// NewBlock is the body that blocks a buyer or a network.
type NewBlock struct {
	User    string          `json:"user,omitempty"`
	Network string          `json:"network,omitempty"` // such as 203.0.113.0/24; an address alone is that one, or its /64
	For     sluice.Duration `json:"for,omitzero"`      // from now on; zero: until it is lifted
	Note    string          `json:"note,omitempty"`
}

// BlockChange answers a call that blocked, or lifted a block.
type BlockChange struct {
	Version int64        `json:"version"` // of the limits that have it
	Block   sluice.Block `json:"block"`
}

// Statuses is the body with which doors ask after orders.
type Statuses struct {
	Orders []sluice.OrderID `json:"orders"`
}

// MaxStatuses is the most orders that one question may name.
const MaxStatuses = 1000
