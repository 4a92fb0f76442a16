package sluice

import "time"

// SalePatch changes a sale. What is nil stays.
type SalePatch struct {
	SKU           *string    `json:"sku,omitempty"`
	PerUserLimit  *int       `json:"per_user_limit,omitempty"`
	StartsAt      *time.Time `json:"starts_at,omitempty"` // the zero time: now
	EndsAt        *time.Time `json:"ends_at,omitempty"`   // the zero time: open until ended by hand
	PaymentWindow *Duration  `json:"payment_window,omitempty"`
	PaymentGrace  *Duration  `json:"payment_grace,omitempty"`
	MaxAge        *Duration  `json:"max_age,omitempty"`
	CheckoutURL   *string    `json:"checkout_url,omitempty"`
	OverAdmission *float64   `json:"over_admission,omitempty"`
	ReservedFor   *string    `json:"reserved_for,omitempty"`
	ReservedShare *float64   `json:"reserved_share,omitempty"`
	Paused        *bool      `json:"paused,omitempty"`
}
