package figure

import "testing"

func TestNumber_HasTheDigitsThatMeanSomething(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 1: "1", 14560.4: "14,560", 999.6: "1,000", 123.4: "123", 12.34: "12.3", 1.204: "1.20", 0.1234: "0.123", 0.00001234: "0.000012", -1234567: "-1,234,567",
	} {
		if got := Number(v); got != want {
			t.Errorf("Number(%v) is %q, want %q", v, got, want)
		}
	}
}

func TestChange_HasASign(t *testing.T) {
	for v, want := range map[float64]string{0: "+0.0 %", 0.0512: "+5.1 %", -0.5: "-50.0 %", 12: "+1,200.0 %"} {
		if got := Change(v); got != want {
			t.Errorf("Change(%v) is %q, want %q", v, got, want)
		}
	}
}
