package sluice

import (
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Bounds and defaults of a sale.
const (
	MaxStock             = 1_000_000_000
	DefaultPerUserLimit  = 1
	DefaultOverAdmission = 1.5
	DefaultPaymentWindow = Duration(30 * time.Minute)
	MaxPaymentWindow     = Duration(10 * 366 * 24 * time.Hour) // ten years: any window a shop may mean, and no slip of the pen
	MaxPaymentGrace      = Duration(7 * 24 * time.Hour)
	MaxReservedShare     = 0.9
	MaxClassBytes        = 64
)

// ValidSaleID reports whether id is 1 to 64 of a-z, 0-9, dot, dash and underscore, beginning with a letter or digit.
func ValidSaleID[T string | []byte](id T) bool {
	if len(id) == 0 || len(id) > MaxSaleBytes {
		return false
	}
	for i := range len(id) {
		c := id[i]
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
		case i > 0 && (c == '.' || c == '-' || c == '_'):
		default:
			return false
		}
	}
	return true
}

// PlainText reports whether b is 1 to most bytes of UTF-8 without control characters: what a buyer's name and an
// idempotency key may be.
func PlainText(b []byte, most int) bool {
	if len(b) == 0 || len(b) > most {
		return false
	}
	for i := 0; i < len(b); {
		if c := b[i]; c < utf8.RuneSelf { // nearly always
			if c < ' ' || c == 0x7f {
				return false
			}
			i++
			continue
		}
		r, size := utf8.DecodeRune(b[i:])
		if (r == utf8.RuneError && size == 1) || unicode.IsControl(r) {
			return false
		}
		i += size
	}
	return true
}

// Validate checks a sale as an operator may create it and names the first field that is wrong.
func (s *Sale) Validate() error {
	switch {
	case !ValidSaleID(s.ID):
		return Refuse(BadRequest, "id %.80q: want 1 to %d of a-z, 0-9, '.', '-', '_', beginning with a letter or digit", s.ID, MaxSaleBytes)
	case len(s.SKU) > MaxUserBytes || (s.SKU != "" && !PlainText([]byte(s.SKU), MaxUserBytes)):
		return Refuse(BadRequest, "sku: want at most %d bytes without control characters", MaxUserBytes)
	case s.Stock < 0 || s.Stock > MaxStock:
		return Refuse(BadRequest, "stock %d: want 0 to %d", s.Stock, MaxStock)
	case s.PerUserLimit < 1 || s.PerUserLimit > MaxQuantity:
		return Refuse(BadRequest, "per_user_limit %d: want 1 to %d", s.PerUserLimit, MaxQuantity)
	case s.PaymentWindow < 0 || s.PaymentWindow > MaxPaymentWindow:
		return Refuse(BadRequest, "payment_window %v: want 0s to %v", time.Duration(s.PaymentWindow), time.Duration(MaxPaymentWindow))
	case s.PaymentGrace < 0 || s.PaymentGrace > MaxPaymentGrace:
		return Refuse(BadRequest, "payment_grace %v: want 0s to %v", time.Duration(s.PaymentGrace), time.Duration(MaxPaymentGrace))
	case s.MaxAge < 0:
		return Refuse(BadRequest, "max_age %v: want 0s or more", time.Duration(s.MaxAge))
	case !(s.OverAdmission >= 1 && s.OverAdmission <= 100): // written so that NaN fails
		return Refuse(BadRequest, "over_admission %v: want 1 to 100", s.OverAdmission)
	case !(s.ReservedShare >= 0 && s.ReservedShare <= MaxReservedShare):
		return Refuse(BadRequest, "reserved_share %v: want 0 to %v", s.ReservedShare, MaxReservedShare)
	case (s.ReservedShare > 0) != (s.ReservedFor != "") || (s.ReservedFor != "" && !PlainText([]byte(s.ReservedFor), MaxClassBytes)):
		return Refuse(BadRequest, "reserved_for %.80q, reserved_share %v: want both or none, and a class of at most %d bytes", s.ReservedFor, s.ReservedShare, MaxClassBytes)
	case !s.EndsAt.IsZero() && !s.EndsAt.After(s.StartsAt):
		return Refuse(BadRequest, "ends_at %s: want a time after starts_at", s.EndsAt.Format(time.RFC3339))
	}
	return validCheckoutURL(s.CheckoutURL)
}

func validCheckoutURL(template string) error {
	if template == "" {
		return nil
	}
	u, err := url.Parse(strings.ReplaceAll(template, "{order}", "x"))
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || len(template) > 2048 {
		return Refuse(BadRequest, "checkout_url %.100q: want an http or https URL of at most 2048 bytes, with {order} where the order id goes", template)
	}
	return nil
}

// ValidTraceparent reports whether v is a traceparent as W3C's Trace Context has them since its first version: version, trace,
// parent and flags in lower-case hexadecimal, with neither id all zeros. What later versions may append is not taken.
func ValidTraceparent[T string | []byte](v T) bool {
	const form = "00-00000000000000000000000000000000-0000000000000000-00"
	if len(v) != len(form) || string(v[:2]) == "ff" {
		return false
	}
	for i := range len(v) {
		hex := v[i] >= '0' && v[i] <= '9' || v[i] >= 'a' && v[i] <= 'f'
		if form[i] == '-' && v[i] != '-' || form[i] == '0' && !hex {
			return false
		}
	}
	return string(v[3:35]) != form[3:35] && string(v[36:52]) != form[36:52]
}
