package sluice

import (
	"bytes"
	"strings"
	"testing"

	"sluice/internal/race"
)

func testKey(t testing.TB, seed string) *IDKey {
	t.Helper()
	k, err := NewIDKey(bytes.Repeat([]byte(seed), MinIDKeyBytes))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestIDKey_DerivesTheSameIDForARepeatOnEveryDoor(t *testing.T) {
	one, two := testKey(t, "a"), testKey(t, "a")
	id := one.ID([]byte("demo"), []byte("u1"), []byte("k"), 0)
	if again := two.ID([]byte("demo"), []byte("u1"), []byte("k"), 0); again != id {
		t.Errorf("another door derives %v, want %v", again, id)
	}
	if id[6]>>4 != 8 || id[8]>>6 != 2 {
		t.Errorf("%v is not a UUIDv8", id)
	}
	if !two.Genuine(id) {
		t.Errorf("%v is not recognised", id)
	}
}

func TestIDKey_GivesEveryDifferentInputAnotherID(t *testing.T) {
	k := testKey(t, "a")
	seen := map[OrderID]string{}
	for _, in := range []struct {
		sale, user, key string
		attempt         int
	}{
		{"demo", "u1", "k", 0},
		{"demo", "u1", "k", 1},
		{"demo", "u1", "", 0},
		{"demo", "u1k", "", 0},
		{"demou", "1", "k", 0},
		{"dem", "ou1", "k", 0},
		{"demo", "u", "1k", 0},
		{"", "demou1", "k", 0},
	} {
		id := k.ID([]byte(in.sale), []byte(in.user), []byte(in.key), in.attempt)
		name := in.sale + "|" + in.user + "|" + in.key
		if other, ok := seen[id]; ok {
			t.Errorf("%q and %q share %v", name, other, id)
		}
		seen[id] = name
	}
}

func TestIDKey_KnowsAnInventedIDWithoutALookUp(t *testing.T) {
	k := testKey(t, "a")
	id := k.ID([]byte("demo"), []byte("u1"), nil, 0)
	for bit := range 128 {
		forged := id
		forged[bit/8] ^= 1 << (bit % 8)
		if k.Genuine(forged) {
			t.Errorf("%v, one bit off %v, counts as genuine", forged, id)
		}
	}
	if testKey(t, "b").Genuine(id) {
		t.Error("an id of another shop's key counts as genuine")
	}
}

func TestIDKey_KnowsWhoseOrderAnIDWasIssuedFor(t *testing.T) {
	k := testKey(t, "a")
	mine := Order{Sale: "demo", User: "u1", Key: "k", Attempt: 1, Quantity: 2}
	mine.ID = k.ID([]byte("demo"), []byte("u1"), []byte("k"), 1)
	if !k.Issued(&mine) {
		t.Errorf("%+v counts as forged", mine)
	}
	for name, forge := range map[string]func(o *Order){
		"another sale":                func(o *Order) { o.Sale = "other" },
		"another buyer":               func(o *Order) { o.User = "u2" },
		"another key":                 func(o *Order) { o.Key = "l" },
		"no key":                      func(o *Order) { o.Key = "" },
		"another attempt":             func(o *Order) { o.Attempt = 0 },
		"an attempt below 0":          func(o *Order) { o.Attempt -= 1 << 32 },
		"an attempt that is too high": func(o *Order) { o.Attempt += 1 << 32 },
		"another order's id":          func(o *Order) { o.ID = k.ID([]byte("demo"), []byte("u2"), nil, 0) },
		"another shop's id":           func(o *Order) { o.ID = testKey(t, "b").ID([]byte("demo"), []byte("u1"), []byte("k"), 1) },
	} {
		forged := mine
		if forge(&forged); k.Issued(&forged) {
			t.Errorf("%s: %+v counts as issued", name, forged)
		}
	}
}

func TestIDKey_NeedsEnoughSecret(t *testing.T) {
	if _, err := NewIDKey(make([]byte, MinIDKeyBytes-1)); err == nil || !strings.Contains(err.Error(), "at least 32") {
		t.Errorf("NewIDKey with a short secret = %v", err)
	}
}

func TestIDKey_AllocatesNothing(t *testing.T) {
	if race.Enabled {
		t.Skip("allocations can't be counted under the race detector")
	}
	k := testKey(t, "a")
	sale, user, key := []byte("demo"), []byte("u1"), []byte("k")
	var id OrderID
	if n := testing.AllocsPerRun(1000, func() { id = k.ID(sale, user, key, 0) }); n != 0 {
		t.Errorf("ID allocates %v times", n)
	}
	if n := testing.AllocsPerRun(1000, func() { k.Genuine(id) }); n != 0 {
		t.Errorf("Genuine allocates %v times", n)
	}
	o := Order{ID: id, Sale: "demo", User: "u1", Key: "k"}
	if n := testing.AllocsPerRun(1000, func() { k.Issued(&o) }); n != 0 {
		t.Errorf("Issued allocates %v times", n)
	}
}

func TestParseOrderID_TakesCanonicalUUIDsOnly(t *testing.T) {
	id := testKey(t, "a").ID([]byte("demo"), []byte("u1"), nil, 0)
	if got, err := ParseOrderID(id.String()); err != nil || got != id {
		t.Errorf("ParseOrderID(%q) = %v, %v", id, got, err)
	}
	for _, bad := range []string{
		"", "x", id.String()[:35], id.String() + "0", strings.ReplaceAll(id.String(), "-", "0"),
		strings.Replace(id.String(), "-", "_", 1), "g" + id.String()[1:], "{" + id.String()[1:],
	} {
		if got, err := ParseOrderID(bad); err == nil {
			t.Errorf("ParseOrderID(%q) = %v, want an error", bad, got)
		}
	}
}

func FuzzParseOrderID(f *testing.F) {
	f.Add("5a46f2c0-0fce-814f-920e-caf5b0d6fdba")
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := ParseOrderID(s); err == nil && id.String() != strings.ToLower(s) {
			t.Errorf("%q reads as %v", s, id)
		}
	})
}

func BenchmarkID(b *testing.B) {
	k := testKey(b, "a")
	sale, user, key := []byte("demo"), []byte("buyer-000001"), []byte("5a46f2c0-0fce-814f-920e-caf5b0d6fdba")
	b.ReportAllocs()
	for b.Loop() {
		k.ID(sale, user, key, 0)
	}
}

// The worker's check of each order.
func BenchmarkIssued(b *testing.B) {
	k := testKey(b, "a")
	o := Order{Sale: "demo", User: "buyer-000001", Key: "5a46f2c0-0fce-814f-920e-caf5b0d6fdba"}
	o.ID = k.ID([]byte(o.Sale), []byte(o.User), []byte(o.Key), 0)
	b.ReportAllocs()
	for b.Loop() {
		if !k.Issued(&o) {
			b.Fatal("not issued")
		}
	}
}

func TestFingerprint_TellsKeysApart(t *testing.T) {
	a, again, b := testKey(t, "a"), testKey(t, "a"), testKey(t, "b")
	if a.Fingerprint() != again.Fingerprint() || a.Fingerprint() == b.Fingerprint() || len(a.Fingerprint()) != 16 {
		t.Errorf("fingerprints %s, %s and %s", a.Fingerprint(), again.Fingerprint(), b.Fingerprint())
	}
}
