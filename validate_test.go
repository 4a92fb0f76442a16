package sluice

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"
)

func TestSale_ValidateNamesTheFieldThatIsWrong(t *testing.T) {
	good := func() Sale {
		return Sale{ID: "spring-1", Stock: 10, PerUserLimit: 1, OverAdmission: 1.5, PaymentWindow: DefaultPaymentWindow}
	}
	if s := good(); s.Validate() != nil {
		t.Fatalf("a good sale: %v", s.Validate())
	}
	for field, spoil := range map[string]func(*Sale){
		"id":              func(s *Sale) { s.ID = "Spring" },
		"id ":             func(s *Sale) { s.ID = strings.Repeat("a", 65) },
		"sku":             func(s *Sale) { s.SKU = "a\nb" },
		"stock":           func(s *Sale) { s.Stock = -1 },
		"per_user_limit":  func(s *Sale) { s.PerUserLimit = 0 },
		"payment_window":  func(s *Sale) { s.PaymentWindow = -1 },
		"payment_window ": func(s *Sale) { s.PaymentWindow = MaxPaymentWindow + 1 },
		"payment_grace":   func(s *Sale) { s.PaymentGrace = -1 },
		"payment_grace ":  func(s *Sale) { s.PaymentGrace = MaxPaymentGrace + 1 },
		"max_age":         func(s *Sale) { s.MaxAge = -1 },
		"over_admission":  func(s *Sale) { s.OverAdmission = math.NaN() },
		"ends_at":         func(s *Sale) { s.StartsAt = time.Unix(2, 0); s.EndsAt = time.Unix(1, 0) },
		"checkout_url":    func(s *Sale) { s.CheckoutURL = "javascript:alert(1)" },
	} {
		s := good()
		spoil(&s)
		err := s.Validate()
		if err == nil || RefusalOf(err) != BadRequest || !strings.Contains(err.Error(), strings.TrimSpace(field)) {
			t.Errorf("%s: Validate = %v; want bad-request that names it", field, err)
		}
	}
}

func TestPlainText(t *testing.T) {
	for text, want := range map[string]bool{
		"u1": true, "Zoë 漢字": true, "": false, "a\x00b": false, "a\nb": false, "a\u0085b": false, "\xff": false,
		strings.Repeat("x", 128): true, strings.Repeat("x", 129): false, "\x7f": false,
	} {
		if got := PlainText([]byte(text), 128); got != want {
			t.Errorf("PlainText(%q) = %t, want %t", text, got, want)
		}
	}
}

func TestRefusals_EachHasAStatusAndATitle(t *testing.T) {
	for _, r := range Refusals() {
		if r.Status() < 400 || r.Title() == "" {
			t.Errorf("%s: status %d, title %q", r, r.Status(), r.Title())
		}
	}
	if Refusal("made-up").Status() != 500 {
		t.Error("an unknown refusal is not a 500")
	}
}

func TestRefusalOf_FindsTheReasonInsideAnError(t *testing.T) {
	err := errors.Join(errors.New("while paying"), Refuse(TooLate, "the hold of %s is over", "x"))
	if got := RefusalOf(err); got != TooLate {
		t.Errorf("RefusalOf = %q", got)
	}
	if got := RefusalOf(errors.New("disk")); got != Internal {
		t.Errorf("RefusalOf of something else = %q", got)
	}
}

func TestDuration_ReadsAndWritesAsText(t *testing.T) {
	var s Sale
	if err := json.Unmarshal([]byte(`{"payment_window":"90s"}`), &s); err != nil || s.PaymentWindow != Duration(90*time.Second) {
		t.Errorf("read %v, %v", time.Duration(s.PaymentWindow), err)
	}
	b, err := json.Marshal(s)
	if err != nil || !strings.Contains(string(b), `"payment_window":"1m30s"`) {
		t.Errorf("wrote %s, %v", b, err)
	}
	if err := json.Unmarshal([]byte(`{"payment_window":"soon"}`), &s); err == nil || !strings.Contains(err.Error(), `"soon" is not a duration`) {
		t.Errorf("a bad duration = %v", err)
	}
}

func TestValidTraceparent(t *testing.T) {
	const good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for v, want := range map[string]bool{
		good: true, "cc" + good[2:]: true,
		"": false, good[1:]: false, good + "-": false, "ff" + good[2:]: false, strings.ToUpper(good): false,
		strings.Replace(good, "-", "0", 1):                        false,
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01": false,
		"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01": false,
		"00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01": false,
	} {
		if got := ValidTraceparent(v); got != want {
			t.Errorf("%q: %t, want %t", v, got, want)
		}
	}
}
